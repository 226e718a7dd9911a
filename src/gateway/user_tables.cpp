// The file of the tables: made, found, mapped and read.
#include "gateway/user_tables.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <ctime>

#include "gateway/state.h"

namespace masq {
namespace {

constexpr char kMagic[16] = "masq tables";
constexpr std::size_t kHeaderBytes = 4096;
static_assert(sizeof(UserHeader) <= kHeaderBytes);

// Changes whenever something in the file is elsewhere or means something else.
constexpr u64 kLayout =
    static_cast<u64>(bpf::kLayoutVersion) << 48 | static_cast<u64>(sizeof(Settings)) << 24 |
    static_cast<u64>(kReasonCount) << 16 | kTrafficCount << 8 | sizeof(UserCounters) / 8;

std::string path_of_tables() {
  return run_file("tables");
}

Result<UserMemory> map_file(const Fd& fd, std::size_t bytes, bool to_write) {
  void* at =
      mmap(nullptr, bytes, to_write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return error("A table cannot be mapped into memory ({}).", strerror(errno));
  UserMemory memory;
  memory.mapping = Mapping(at, bytes);
  memory.header = static_cast<UserHeader*>(at);
  memory.tables = static_cast<char*>(at) + kHeaderBytes;
  return memory;
}

// Reads the first page; false if it is not of this namespace and this boot.
bool read_header(const Fd& fd, UserHeader& header) {
  return fd && pread(fd.get(), &header, sizeof header, 0) == sizeof header &&
         memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
         header.namespace_cookie == namespace_cookie() &&
         strnlen(header.boot, sizeof header.boot) < sizeof header.boot &&
         header.boot == boot_id().substr(0, sizeof header.boot - 1);
}

bool is_plausible(const Fd& fd, const UserHeader& header) {
  struct stat file {};
  return header.layout == kLayout && header.records_max >= kRecordsMin &&
         header.records_max <= kRecordsMax &&
         (header.records_max & (header.records_max - 1)) == 0 &&
         header.bytes == kHeaderBytes + TableMemory::size_for(header.records_max) &&
         fstat(fd.get(), &file) == 0 && static_cast<u64>(file.st_size) == header.bytes;
}

}  // namespace

u64 monotonic_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1000000000ull + static_cast<u64>(time.tv_nsec);
}

bool user_tables_exist() {
  Fd fd(open(path_of_tables().c_str(), O_RDONLY | O_CLOEXEC));
  UserHeader header{};
  return read_header(fd, header);
}

Result<UserMemory> make_user_tables(u32 records_max) {
  // Under another name until it is whole.
  std::string path = path_of_tables(), fresh = path + ".new";
  unlink(fresh.c_str());
  Fd fd(open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return error("{} cannot be made ({}).", fresh, strerror(errno));
  const std::size_t bytes = kHeaderBytes + TableMemory::size_for(records_max);
  if (int code = posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes)); code != 0) {
    unlink(fresh.c_str());
    return error("The table needs {} MB under /run/masq ({}); choose a smaller --flows-max.",
                 (bytes + 999999) / 1000000, strerror(code));
  }
  Result<UserMemory> memory = map_file(fd, bytes, true);
  if (!memory) return memory.error();
  UserHeader& header = *memory->header;
  memcpy(header.magic, kMagic, sizeof kMagic);
  header.layout = kLayout;
  header.namespace_cookie = namespace_cookie();
  boot_id().copy(header.boot, sizeof header.boot - 1);
  header.records_max = records_max;
  header.bytes = bytes;
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be made ({}).", path, strerror(errno));
  return memory;
}

Result<UserMemory> open_user_tables(bool to_write) {
  Fd fd(open(path_of_tables().c_str(), (to_write ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  UserHeader header{};
  if (!read_header(fd, header))
    return error("There are no tables of a gateway in user space here.");
  if (!is_plausible(fd, header))
    return error("{} belongs to another version of masq; `masq down` ends what runs here.",
                 path_of_tables());
  return map_file(fd, header.bytes, to_write);
}

void remove_user_tables() {
  unlink(path_of_tables().c_str());
  unlink((path_of_tables() + ".new").c_str());
}

UserTables::UserTables(UserMemory memory)
    : memory_(std::move(memory)), parts_(memory_.tables, memory_.header->records_max) {
  settings_ = &parts_.beside().settings;
  drops_ = &parts_.beside().drops;
  tables_ = parts_.tables();
}

Result<std::unique_ptr<AnyDatapath>> UserTables::look(bool to_write) {
  Result<UserMemory> memory = open_user_tables(to_write);
  if (!memory) return memory.error();
  return std::unique_ptr<AnyDatapath>(new UserTables(std::move(*memory)));
}

CounterTotals UserTables::counters() const {
  CounterTotals totals;
  const SharedCounters& shared = parts_.beside().counters;
  for (u32 i = 0; i < kReasonCount; ++i) totals.reasons[i] = shared.reasons[i];
  for (u32 i = 0; i < kTrafficCount; ++i) totals.traffic[i] = shared.traffic[i];
  return totals;
}

RuleTotals UserTables::rule_totals(u32 half) const {
  const RuleCounters& counters = parts_.beside().rule_counters;
  RuleTotals totals(counters.slots[half], counters.slots[half] + kRuleSlotsMax);
  add_paths(totals, tables_.paths->halves[half], counters.paths[half]);
  return totals;
}

void UserTables::clear_rule_totals(u32 half) {
  RuleCounters& counters = parts_.beside().rule_counters;
  std::memset(counters.slots[half], 0, sizeof counters.slots[half]);
  std::memset(counters.paths[half], 0, sizeof counters.paths[half]);
}

// The thread that passes packets looks at the generation with each of them; none takes so long.
void UserTables::wait_for_readers() {
  timespec pause{0, 50 * 1000 * 1000};
  nanosleep(&pause, nullptr);
}

void UserTables::forget_judgements() {
  for (u32 i = 0; i < tables_.records_max; ++i) atomic_store(&tables_.records[i].judged, 0u);
}

Ticks UserTables::now() const {
  return ticks_from_ns(monotonic_ns() + settings().time_offset_ns);
}

std::vector<std::pair<const char*, u64>> UserTables::own_figures() const {
  const UserCounters& counters = memory_.header->counters;
  return {
#define X(name, sentence) {#name, counters.name},
      MASQ_USER_COUNTERS(X)
#undef X
  };
}

}  // namespace masq
