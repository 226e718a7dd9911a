// Loading, adopting and reading the kernel programs and their maps, through libbpf.
#include "gateway/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <ctime>

#include "core/hosts.h"
#include "gateway/attach.h"
#include "gateway/state.h"
#include "wire/headers.h"

extern "C" {
extern const char masq_kernel_object_begin[];
extern const char masq_kernel_object_end[];
}

namespace masq {
namespace {

constexpr const char* kMapNames[] = {
#define X(name) "mq_" #name,
    MASQ_MAPS(X)
#undef X
};
constexpr const char* kProgramNames[] = {"masq_inside",   "masq_outside",     "masq_leaving",
                                         "masq_entering", "masq_sweep_start", "masq_sweep_all",
                                         "masq_clock",    "masq_from_slow",   "masq_forwarded"};
static_assert(std::size(kMapNames) == static_cast<u32>(MapName::count));
static_assert(std::size(kProgramNames) == static_cast<u32>(Program::count));
// Those that are seen through memory mappings.
constexpr MapName kTables[] = {
    MapName::records, MapName::inner,     MapName::outer,  MapName::used,     MapName::full,
    MapName::ports,   MapName::fragments, MapName::shared, MapName::settings, MapName::drops,
    MapName::hosts,   MapName::rules,     MapName::paths,  MapName::forwards};
constexpr const char* kConstantsMap = ".rodata.masq";

// What libbpf has said since the last load, for the sentence that explains a failure.
std::string libbpf_said;

int remember_libbpf(libbpf_print_level level, const char* format, va_list args) {
  if (level != LIBBPF_WARN || libbpf_said.size() > 2000) return 0;
  char line[512];
  vsnprintf(line, sizeof line, format, args);
  libbpf_said += line;
  return 0;
}

// From the start of the program: libbpf's warnings are not for our users' eyes.
[[maybe_unused]] const libbpf_print_fn_t print_before = libbpf_set_print(remember_libbpf);

struct ObjectCloser {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, ObjectCloser>;

Result<Object> open_object() {
  libbpf_said.clear();
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "masq");
  std::size_t size = static_cast<std::size_t>(masq_kernel_object_end - masq_kernel_object_begin);
  Object object(bpf_object__open_mem(masq_kernel_object_begin, size, &options));
  if (!object)
    return error("The kernel programs inside this binary cannot be read ({}).", strerror(errno));
  return object;
}

Error load_error(int code) {
  if (code == -EPERM)
    return error("The kernel does not let this process load BPF programs; run masq as root.");
  if (code == -ENOMEM || code == -E2BIG)
    return error(
        "There is not enough memory for a table of this size; choose a smaller --flows-max.");
  std::string last = libbpf_said.substr(0, libbpf_said.find('\n'));
  return error("The kernel refused the programs ({}): {}", strerror(-code), last);
}

const char* map_name(MapName name) {
  return kMapNames[static_cast<u32>(name)];
}

Result<bpf::Constants> read_constants(int fd) {
  u32 zero = 0;
  bpf::Constants constants{};
  if (bpf_map_lookup_elem(fd, &zero, &constants) != 0)
    return error("The running programs' constants cannot be read ({}).", strerror(errno));
  return constants;
}

Result<Mapping> map_value(int fd, std::size_t length, int protection) {
  std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  length = (length + page - 1) / page * page;
  void* at = mmap(nullptr, length, protection, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return error("A table cannot be mapped into memory ({}).", strerror(errno));
  return Mapping(at, length);
}

Result<std::size_t> value_size(int fd) {
  bpf_map_info info{};
  u32 length = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0)
    return error("A map of the running programs cannot be read ({}).", strerror(errno));
  return static_cast<std::size_t>(info.value_size);
}

u64 coarse_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
  return static_cast<u64>(time.tv_sec) * 1000000000ull + static_cast<u64>(time.tv_nsec);
}

Status run_once(int program_fd, const char* what) {
  char frame[64] = {};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof frame,
              .repeat = 1);
  int result = bpf_prog_test_run_opts(program_fd, &options);
  if (result != 0 || options.retval != 0)
    return error("{} could not be started ({}).", what, strerror(result != 0 ? errno : EINVAL));
  return Done{};
}

}  // namespace

u32 records_for(u32 flows_max) {
  u64 wanted = std::bit_ceil((static_cast<u64>(flows_max) + kFlowsOwn) * 2 + 1);
  if (wanted < kRecordsMin) return kRecordsMin;
  return wanted > kRecordsMax ? kRecordsMax : static_cast<u32>(wanted);
}

TableSizes table_sizes(u32 records_max) {
  u32 slots = (bucket_mask(records_max) + 1) * kBucketSlots * 4;
  return {records_max * static_cast<u32>(sizeof(Record)), slots, records_max / 8,
          records_max / 4096 * 8, hosts_max(records_max) * static_cast<u32>(sizeof(Host))};
}

std::string Datapath::why_no_programs() {
  // r0 = 0; exit
  const bpf_insn nothing[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
                              {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  Fd fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "masq_probe", "GPL", nothing, std::size(nothing),
                      nullptr));
  return fd ? "" : strerror(errno);
}

Result<Datapath> Datapath::load(const Settings& settings) {
  Result<Object> object = open_object();
  if (!object) return object.error();
  u32 records_max = records_for(settings.flows_max);
  TableSizes sizes = table_sizes(records_max);
  const std::pair<MapName, u32> sized[] = {
      {MapName::records, sizes.records}, {MapName::inner, sizes.slots},
      {MapName::outer, sizes.slots},     {MapName::used, sizes.used},
      {MapName::full, sizes.full},       {MapName::hosts, sizes.hosts}};
  for (auto [name, size] : sized) {
    bpf_map* map = bpf_object__find_map_by_name(object->get(), map_name(name));
    if (map == nullptr || bpf_map__set_value_size(map, size) != 0)
      return error("The table cannot be given its size.");
  }
  bpf_map* constants_map = bpf_object__find_map_by_name(object->get(), kConstantsMap);
  bpf::Constants constants{bpf::kLayoutVersion, records_max, if_nametoindex("lo")};
  if (constants_map == nullptr ||
      bpf_map__set_initial_value(constants_map, &constants, sizeof constants) != 0)
    return error("The programs' constants cannot be set.");
  if (int code = bpf_object__load(object->get()); code != 0) return load_error(code);

  Datapath datapath;
  for (u32 i = 0; i < static_cast<u32>(Program::count); ++i) {
    bpf_program* program = bpf_object__find_program_by_name(object->get(), kProgramNames[i]);
    datapath.programs_[i] = Fd(dup(bpf_program__fd(program)));
  }
  for (u32 i = 0; i < static_cast<u32>(MapName::count); ++i)
    datapath.maps_[i] = Fd(dup(bpf_object__find_map_fd_by_name(object->get(), kMapNames[i])));
  datapath.tables_.records_max = records_max;
  if (Status status = datapath.map_tables(); !status) return status.error();
  datapath.settings() = settings;
  if (Status status = datapath.link_programs(); !status) return status.error();
  if (Status status = datapath.bind_maps(); !status) return status.error();
  if (Status status = datapath.set_clock(); !status) return status.error();
  if (Status status = datapath.prepare_pools(); !status) return status.error();
  return datapath;
}

Result<Datapath> Datapath::adopt(std::span<const u32> program_ids) {
  Datapath datapath;
  if (Status status = datapath.open_running(program_ids); !status) return status.error();
  if (Status status = datapath.load_missing(); !status) return status.error();
  if (Status status = datapath.link_programs(); !status) return status.error();
  if (Status status = datapath.bind_maps(); !status) return status.error();
  if (Status status = datapath.map_tables(); !status) return status.error();
  return datapath;
}

Result<Datapath> Datapath::look(std::span<const u32> program_ids) {
  Datapath datapath;
  if (Status status = datapath.open_running(program_ids); !status) return status.error();
  if (Status status = datapath.map_tables(); !status) return status.error();
  return datapath;
}

bool Datapath::is_remnant(std::span<const u32> program_ids) {
  Datapath datapath;
  if (program_ids.empty() || !datapath.open_programs(program_ids)) return false;
  if (!datapath.constants_) return true;
  Result<bpf::Constants> constants = read_constants(datapath.constants_.get());
  if (!constants || constants->layout != bpf::kLayoutVersion) return false;
  return std::any_of(std::begin(kTables), std::end(kTables),
                     [&](MapName name) { return !datapath.maps_[static_cast<u32>(name)]; });
}

Status Datapath::open_programs(std::span<const u32> program_ids) {
  for (u32 id : program_ids) {
    Fd fd(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    u32 length = sizeof info;
    if (!fd || bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0)
      return error("The running programs cannot be read ({}).", strerror(errno));
    if (Status status = open_maps_of(fd.get()); !status) return status;
    for (u32 i = 0; i < static_cast<u32>(Program::count); ++i)
      if (fd && strncmp(info.name, kProgramNames[i], BPF_OBJ_NAME_LEN - 1) == 0)
        programs_[i] = std::move(fd);
  }
  return Done{};
}

Status Datapath::open_running(std::span<const u32> program_ids) {
  if (is_remnant(program_ids))
    return error(
        "What is left of a gateway here is without its tables; `masq up` takes it off and starts "
        "anew.");
  if (Status status = open_programs(program_ids); !status) return status;
  Result<bpf::Constants> constants = read_constants(constants_.get());
  if (!constants) return constants.error();
  if (constants->layout != bpf::kLayoutVersion)
    return error(
        "The programs that run here belong to another version of masq; `masq down` ends them.");
  tables_.records_max = constants->records_max;
  return Done{};
}

// The maps that a program uses, by the names that they have in the kernel.
Status Datapath::open_maps_of(int program_fd) {
  Result<std::vector<NamedMap>> maps = maps_of(program_fd);
  if (!maps) return maps.error();
  for (NamedMap& map : *maps) {
    if (strncmp(map.name.c_str(), kConstantsMap, BPF_OBJ_NAME_LEN - 1) == 0)
      constants_ = std::move(map.fd);
    for (u32 m = 0; m < static_cast<u32>(MapName::count); ++m)
      if (map.fd && strncmp(map.name.c_str(), kMapNames[m], BPF_OBJ_NAME_LEN - 1) == 0)
        maps_[m] = std::move(map.fd);
  }
  return Done{};
}

// Loads the programs that are not running over the maps of those that are.
Status Datapath::load_missing() {
  Result<Object> object = open_object();
  if (!object) return object.error();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object->get()) {
    int fd = -1;
    for (u32 m = 0; m < static_cast<u32>(MapName::count); ++m)
      if (strcmp(bpf_map__name(map), kMapNames[m]) == 0) fd = maps_[m].get();
    if (strcmp(bpf_map__name(map), kConstantsMap) == 0) fd = constants_.get();
    if (fd >= 0 && bpf_map__reuse_fd(map, fd) != 0)
      return error("The running table does not fit this version of masq; `masq down` ends it.");
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object->get()) {
    bool running = false;
    for (u32 i = 0; i < static_cast<u32>(Program::count); ++i)
      if (programs_[i] && strcmp(bpf_program__name(program), kProgramNames[i]) == 0) running = true;
    bpf_program__set_autoload(program, !running);
  }
  if (int code = bpf_object__load(object->get()); code != 0) return load_error(code);
  for (u32 i = 0; i < static_cast<u32>(Program::count); ++i) {
    if (programs_[i]) continue;
    program = bpf_object__find_program_by_name(object->get(), kProgramNames[i]);
    programs_[i] = Fd(dup(bpf_program__fd(program)));
  }
  for (u32 m = 0; m < static_cast<u32>(MapName::count); ++m) {
    if (maps_[m]) continue;
    found_all_maps_ = false;
    maps_[m] = Fd(dup(bpf_object__find_map_fd_by_name(object->get(), kMapNames[m])));
  }
  return Done{};
}

// What goes on as if it came from outside or inside goes on in the programs there, and what a
// forward may lead on in a program of its own.
Status Datapath::link_programs() {
  for (auto [place, program] : {std::pair{bpf::kAgainOutside, Program::outside},
                                std::pair{bpf::kAgainInside, Program::inside},
                                std::pair{bpf::kAgainForwarded, Program::forwarded}}) {
    u32 key = place;
    int fd = program_fd(program);
    if (bpf_map_update_elem(maps_[static_cast<u32>(MapName::again)].get(), &key, &fd, BPF_ANY) != 0)
      return error("The programs cannot be linked with each other ({}).", strerror(errno));
  }
  return Done{};
}

// Every program knows every map, whether it uses it or not, so that whichever of them is left on an
// interface leads to all: a second sweeper beside the first would hand places out twice. (libbpf
// does the same for the constants.) One of the maps says in which network namespace they belong.
Status Datapath::bind_maps() {
  u32 zero = 0;
  u64 home = namespace_cookie();
  if (bpf_map_update_elem(maps_[static_cast<u32>(MapName::home)].get(), &zero, &home, 0) != 0)
    return error("The programs cannot be told where they belong ({}).", strerror(errno));
  for (const Fd& program : programs_)
    for (const Fd& map : maps_)
      if (bpf_prog_bind_map(program.get(), map.get(), nullptr) != 0)
        return error("The programs cannot be kept with their maps ({}).", strerror(errno));
  return Done{};
}

Status Datapath::map_tables() {
  auto view = [&](MapName name, int protection) -> Result<void*> {
    int fd = maps_[static_cast<u32>(name)].get();
    Result<std::size_t> size = value_size(fd);
    if (!size) return size.error();
    Result<Mapping> mapping = map_value(fd, *size, protection);
    if (!mapping) return mapping.error();
    mappings_.push_back(std::move(*mapping));
    return mappings_.back().get();
  };
  void* at[std::size(kTables)];
  for (u32 i = 0; i < std::size(kTables); ++i) {
    bool write = kTables[i] == MapName::settings || kTables[i] == MapName::rules ||
                 kTables[i] == MapName::paths || kTables[i] == MapName::forwards;
    Result<void*> result = view(kTables[i], write ? PROT_READ | PROT_WRITE : PROT_READ);
    if (!result) return result.error();
    at[i] = *result;
  }
  tables_.records = static_cast<Record*>(at[0]);
  tables_.inner_slots = static_cast<u32*>(at[1]);
  tables_.outer_slots = static_cast<u32*>(at[2]);
  tables_.record_used = static_cast<u64*>(at[3]);
  tables_.record_full = static_cast<u64*>(at[4]);
  tables_.ports = static_cast<PortPool*>(at[5]);
  tables_.fragments = static_cast<Fragment*>(at[6]);
  tables_.shared = static_cast<Shared*>(at[7]);
  settings_ = static_cast<Settings*>(at[8]);
  drops_ = static_cast<const Drops*>(at[9]);
  tables_.hosts = static_cast<Host*>(at[10]);
  tables_.rules = static_cast<RuleTable*>(at[11]);
  tables_.paths = static_cast<RulePaths*>(at[12]);
  tables_.forwards = static_cast<ForwardMemory*>(at[13]);
  return Done{};
}

// Before the first packet: record 0 is never used, ports outside the pool are taken.
Status Datapath::prepare_pools() {
  Result<Mapping> used = map_value(maps_[static_cast<u32>(MapName::used)].get(),
                                   table_sizes(tables_.records_max).used, PROT_READ | PROT_WRITE);
  if (!used) return used.error();
  static_cast<u64*>(used->get())[0] |= 1;
  Result<Mapping> ports =
      map_value(maps_[static_cast<u32>(MapName::ports)].get(),
                sizeof(PortPool) * kExternalsMax * kPoolProtocols, PROT_READ | PROT_WRITE);
  if (!ports) return ports.error();
  PortPool excluded{};
  for (u32 port = 0; port < 65536; ++port)
    if (!in_pool(settings(), port)) port_take(excluded, static_cast<u16>(port));
  PortPool* pools = static_cast<PortPool*>(ports->get());
  for (u32 external = 0; external < kExternalsMax; ++external)
    for (u8 protocol : {kProtocolTcp, kProtocolUdp})
      pools[external * kPoolProtocols + pool_protocol(protocol)] = excluded;
  return Done{};
}

std::vector<int> Datapath::map_fds() const {
  std::vector<int> fds;
  for (const Fd& map : maps_) fds.push_back(map.get());
  return fds;
}

std::optional<bpf::OwnAddress> Datapath::own_address(Ipv4 address) const {
  u32 kind = 0;
  int fd = maps_[static_cast<u32>(MapName::own)].get();
  if (bpf_map_lookup_elem(fd, &address.be, &kind) != 0) return std::nullopt;
  return static_cast<bpf::OwnAddress>(kind);
}

Status Datapath::set_own_addresses(const OwnAddresses& by_importance) {
  int fd = maps_[static_cast<u32>(MapName::own)].get();
  std::map<u32, u32> known;
  u32 key = 0, value = 0;
  for (u32* previous = nullptr; bpf_map_get_next_key(fd, previous, &key) == 0; previous = &key)
    if (bpf_map_lookup_elem(fd, &key, &value) == 0) known[key] = value;
  const std::size_t fitting = std::min(by_importance.size(), std::size_t{bpf::kOwnAddressesMax});
  const std::map<u32, u32> wanted(by_importance.begin(), by_importance.begin() + fitting);
  for (const auto& [address, unused] : known)
    if (!wanted.contains(address)) bpf_map_delete_elem(fd, &address);
  Status result = Done{};
  if (fitting < by_importance.size())
    result = error(
        "The gateway has {} addresses and broadcast addresses, and masq knows {} at most: what is "
        "for the others is refused.",
        by_importance.size(), bpf::kOwnAddressesMax);
  for (const auto& [address, kind] : wanted) {
    if (known.contains(address) && known[address] == kind) continue;
    if (bpf_map_update_elem(fd, &address, &kind, 0) != 0)
      result = error("An address of the gateway cannot be entered in the programs' map ({}).",
                     strerror(errno));
  }
  return result;
}

// The programs count jiffies; this makes them CLOCK_MONOTONIC as it stands now.
Status Datapath::set_clock() {
  timespec tick{};
  // The coarse clock's resolution is the length of a jiffy.
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_sec != 0 || tick.tv_nsec <= 0)
    return error("The kernel does not say how long a jiffy is ({}).", strerror(errno));
  if (Status status = run_once(program_fd(Program::clock), "The clock"); !status) return status;
  settings().jiffy_ns = static_cast<u32>(tick.tv_nsec);
  settings().clock_base_ns = coarse_ns() - tables_.shared->jiffies * settings().jiffy_ns;
  return Done{};
}

// The kernel takes memory for the timer without waiting for any, so on a busy machine it may find
// none at once.
Status Datapath::start_sweeper() {
  constexpr int kTries = 10, kPause_us = 10000;
  for (int tries = 1;; ++tries) {
    Status status = run_once(program_fd(Program::sweep_start), "The sweeper");
    if (status || tries == kTries) return status;
    usleep(kPause_us);
  }
}

CounterTotals Datapath::counters() const {
  CounterTotals totals;
  int processors = libbpf_num_possible_cpus();
  if (processors <= 0) return totals;
  // The kernel rounds each processor's value up to eight bytes.
  std::size_t stride = (sizeof(bpf::Counters) + 7) / 8 * 8;
  std::vector<u64> raw(stride / 8 * static_cast<std::size_t>(processors));
  u32 zero = 0;
  if (bpf_map_lookup_elem(maps_[static_cast<u32>(MapName::counters)].get(), &zero, raw.data()) != 0)
    return totals;
  for (int cpu = 0; cpu < processors; ++cpu) {
    const auto* counters = reinterpret_cast<const bpf::Counters*>(
        reinterpret_cast<const char*>(raw.data()) + stride * static_cast<std::size_t>(cpu));
    for (u32 i = 0; i < kReasonCount; ++i) totals.reasons[i] += counters->reasons[i];
    for (u32 i = 0; i < kTrafficCount; ++i) totals.traffic[i] += counters->traffic[i];
  }
  return totals;
}

namespace {

// One half of a map with a value of T for each processor, summed up by `add`.
template <class T, class Add>
void sum_up(int fd, u32 first, u32 count, const Add& add) {
  const int processors = libbpf_num_possible_cpus();
  if (processors <= 0) return;
  std::vector<T> values(static_cast<std::size_t>(processors));
  for (u32 i = 0; i < count; ++i) {
    u32 key = first + i;
    if (bpf_map_lookup_elem(fd, &key, values.data()) != 0) return;
    for (const T& value : values) add(i, value);
  }
}

template <class T>
void clear_all(int fd, u32 first, u32 count) {
  const int processors = libbpf_num_possible_cpus();
  if (processors <= 0) return;
  const std::vector<T> zeros(static_cast<std::size_t>(processors));
  for (u32 i = 0; i < count; ++i) {
    u32 key = first + i;
    bpf_map_update_elem(fd, &key, zeros.data(), 0);
  }
}

}  // namespace

RuleTotals Datapath::rule_totals(u32 half) const {
  RuleTotals totals(kRuleSlotsMax);
  std::vector<RulePathCount> paths(kRulePathsMax);
  sum_up<RuleCount>(maps_[static_cast<u32>(MapName::slot_counts)].get(), half * kRuleSlotsMax,
                    kRuleSlotsMax, [&](u32 i, const RuleCount& one) {
                      totals[i].packets += one.packets;
                      totals[i].bytes += one.bytes;
                    });
  sum_up<RulePathCount>(maps_[static_cast<u32>(MapName::path_counts)].get(), half * kRulePathsMax,
                        kRulePathsMax, [&](u32 i, const RulePathCount& one) {
                          for (u32 direction = 0; direction < 2; ++direction) {
                            paths[i].sides[direction].packets += one.sides[direction].packets;
                            paths[i].sides[direction].bytes += one.sides[direction].bytes;
                          }
                        });
  add_paths(totals, tables_.paths->halves[half], paths.data());
  return totals;
}

void Datapath::clear_rule_totals(u32 half) {
  clear_all<RuleCount>(maps_[static_cast<u32>(MapName::slot_counts)].get(), half * kRuleSlotsMax,
                       kRuleSlotsMax);
  clear_all<RulePathCount>(maps_[static_cast<u32>(MapName::path_counts)].get(),
                           half * kRulePathsMax, kRulePathsMax);
}

// The programs run under RCU, and the call waits for all who do.
void Datapath::wait_for_readers() {
  syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

void Datapath::forget_judgements() {
  Result<Mapping> records =
      map_value(maps_[static_cast<u32>(MapName::records)].get(),
                table_sizes(tables_.records_max).records, PROT_READ | PROT_WRITE);
  if (!records) return;
  for (u32 i = 0; i < tables_.records_max; ++i)
    atomic_store(&static_cast<Record*>(records->get())[i].judged, 0u);
}

Ticks Datapath::now() const {
  return ticks_from_ns(coarse_ns() + settings().time_offset_ns);
}

}  // namespace masq
