// The tables of the datapath in user space, in a file of the run folder that masqd works on and the
// commands look at. They outlive masqd: the next one goes on with the same flows.
//
// In front lies a page that says what the rest is. A file counts only in the network namespace and
// the boot in which it was made, which the page names (a namespace's inode number may be another's
// later; its cookie never is), and for this version of the layout. All of it is given its room when
// it is made, so a full file system is a sentence at the start and not a death later.
#pragma once

#include <memory>

#include "engine/table_memory.h"
#include "gateway/any_datapath.h"
#include "gateway/fd.h"

namespace masq {

// What the datapath in user space counts beside the core: frames that the core never saw, or that
// were not sent although it said so. Changed by masqd only.
#define MASQ_USER_COUNTERS(X)                                                             \
  X(frames_missed, "frames that came faster than masqd could take them")                  \
  X(frames_not_sent, "frames that the interface did not take")                            \
  X(neighbour_waits, "frames that waited until the next hop's address was known")         \
  X(neighbour_unknown, "frames lost because the next hop's address did not become known") \
  X(neighbour_full, "frames lost because too many waited for a next hop's address")

struct UserCounters {
#define X(name, sentence) u64 name;
  MASQ_USER_COUNTERS(X)
#undef X
};

struct UserHeader {
  char magic[16];
  u64 layout;
  u64 namespace_cookie;
  char boot[40];
  u32 records_max;
  u32 reserved;
  u64 bytes;  // of the whole file
  UserCounters counters;
};

// The file, mapped.
struct UserMemory {
  Mapping mapping;
  UserHeader* header = nullptr;
  void* tables = nullptr;
};

// Is there one for this namespace?
bool user_tables_exist();
// Makes it anew, for so many records. All zero.
Result<UserMemory> make_user_tables(u32 records_max);
// Opens what is there.
Result<UserMemory> open_user_tables(bool to_write);
void remove_user_tables();

u64 monotonic_ns();

// The tables as the commands see them.
class UserTables : public AnyDatapath {
 public:
  static Result<std::unique_ptr<AnyDatapath>> look(bool to_write = false);

  const char* name() const override { return "user"; }
  bool outlives_daemon() const override { return false; }
  bool sees_own_packets() const override { return false; }
  CounterTotals counters() const override;
  Ticks now() const override;
  std::vector<std::pair<const char*, u64>> own_figures() const override;
  RuleTotals rule_totals(u32 half) const override;
  void clear_rule_totals(u32 half) override;
  void wait_for_readers() override;
  void forget_judgements() override;
  // Only the datapath itself does these.
  Status set_own_addresses(const OwnAddresses&) override { return Done{}; }
  Status set_clock() override { return Done{}; }
  Status start_sweeper() override { return Done{}; }

 protected:
  explicit UserTables(UserMemory memory);

  UserMemory memory_;
  TableMemory parts_;
};

}  // namespace masq
