// The memory of one table in user space: what the kernel's half keeps in its maps, with settings,
// counters and the last refused packets, in one piece. It is allocated at the start, or is the
// caller's: then several processes may look at it, and it outlives the one that works on it.
// Nothing is allocated afterwards.
//
// `records_max` must be a power of two between kRecordsMin and kRecordsMax. The pages are zero, so
// they cost nothing until they are used.
#pragma once

#include <cstddef>

#include "core/drops.h"
#include "core/forwards.h"
#include "core/judge.h"
#include "core/reasons.h"
#include "core/settings.h"
#include "core/table.h"
#include "core/traffic.h"

namespace masq {

// Changed atomically by whoever passes packets; read by anybody.
struct SharedCounters {
  u64 reasons[kReasonCount];
  u64 traffic[kTrafficCount];
};

// What was counted for the rules, in both halves.
struct RuleCounters {
  RuleCount slots[kRuleHalves][kRuleSlotsMax];
  RulePathCount paths[kRuleHalves][kRulePathsMax];
};

// What an engine needs beside the tables.
struct Companion {
  Settings settings;
  SharedCounters counters;
  Drops drops;
  RuleCounters rule_counters;
};

class TableMemory {
 public:
  explicit TableMemory(u32 records_max);
  // In `size_for(records_max)` bytes of the caller's, which are zero or hold such a table already.
  TableMemory(void* memory, u32 records_max);
  ~TableMemory();
  TableMemory(const TableMemory&) = delete;
  TableMemory& operator=(const TableMemory&) = delete;

  static std::size_t size_for(u32 records_max);

  const Tables& tables() const { return tables_; }
  Companion& beside() const { return *beside_; }

  // Takes out of the pools what no mapping may have. Once, before the first packet.
  void exclude_ports(const Settings& settings);

 private:
  void divide(void* memory, u32 records_max);

  Tables tables_{};
  Companion* beside_ = nullptr;
  void* memory_ = nullptr;  // if it is ours
  std::size_t size_ = 0;
};

// May a mapping of this pool (0 TCP, 1 UDP, 2 ICMP) have this port or identifier? Identifiers are
// not restricted: nothing else on the gateway owns any.
bool is_mappable(const Settings& settings, u32 pool_protocol_index, u32 port);

}  // namespace masq
