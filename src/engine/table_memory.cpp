// One piece of memory for all of a table, cut into its parts.
#include "engine/table_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "core/fragments.h"
#include "core/hosts.h"

namespace masq {

namespace {

// A wrong size is a mistake of the program that uses the engine, not of the traffic.
[[noreturn]] void refuse_to_start(const char* why) {
  std::fprintf(stderr, "masq engine: %s\n", why);
  std::abort();
}

// Where each part begins; the same for everybody who looks at the memory.
struct Layout {
  explicit Layout(u32 records_max) {
    const std::size_t slots = std::size_t{bucket_mask(records_max) + 1} * kBucketSlots;
    beside = place(sizeof(Companion));
    records = place(std::size_t{records_max} * sizeof(Record));
    inner = place(slots * sizeof(u32));
    outer = place(slots * sizeof(u32));
    used = place(records_max / 64 * sizeof(u64));
    full = place(records_max / 4096 * sizeof(u64));
    ports = place(sizeof(PortPool) * kExternalsMax * kPoolProtocols);
    fragments = place(sizeof(Fragment) * kFragmentsMax);
    hosts = place(std::size_t{hosts_max(records_max)} * sizeof(Host));
    shared = place(sizeof(Shared));
    rules = place(sizeof(RuleTable));
    paths = place(sizeof(RulePaths));
    forwards = place(sizeof(ForwardMemory));
  }

  std::size_t place(std::size_t bytes) {
    const std::size_t at = size;
    size += (bytes + 63) & ~std::size_t{63};
    return at;
  }

  std::size_t beside, records, inner, outer, used, full, ports, fragments, hosts, shared, rules,
      paths, forwards;
  std::size_t size = 0;
};

void check_size(u32 records_max) {
  if (records_max < kRecordsMin || records_max > kRecordsMax ||
      (records_max & (records_max - 1)) != 0)
    refuse_to_start("the number of records must be a power of two within its limits");
}

}  // namespace

TableMemory::TableMemory(u32 records_max) {
  check_size(records_max);
  size_ = size_for(records_max);
  memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) refuse_to_start("there is not enough memory for the table");
  divide(memory_, records_max);
  pool_take(tables_.record_used, tables_.record_full, kNoRecord);
}

TableMemory::TableMemory(void* memory, u32 records_max) {
  check_size(records_max);
  divide(memory, records_max);
}

TableMemory::~TableMemory() {
  if (memory_ != nullptr) munmap(memory_, size_);
}

std::size_t TableMemory::size_for(u32 records_max) {
  return Layout(records_max).size;
}

void TableMemory::divide(void* memory, u32 records_max) {
  const Layout layout(records_max);
  u8* base = static_cast<u8*>(memory);
  beside_ = reinterpret_cast<Companion*>(base + layout.beside);
  tables_.records = reinterpret_cast<Record*>(base + layout.records);
  tables_.inner_slots = reinterpret_cast<u32*>(base + layout.inner);
  tables_.outer_slots = reinterpret_cast<u32*>(base + layout.outer);
  tables_.record_used = reinterpret_cast<u64*>(base + layout.used);
  tables_.record_full = reinterpret_cast<u64*>(base + layout.full);
  tables_.ports = reinterpret_cast<PortPool*>(base + layout.ports);
  tables_.fragments = reinterpret_cast<Fragment*>(base + layout.fragments);
  tables_.hosts = reinterpret_cast<Host*>(base + layout.hosts);
  tables_.shared = reinterpret_cast<Shared*>(base + layout.shared);
  tables_.rules = reinterpret_cast<RuleTable*>(base + layout.rules);
  tables_.paths = reinterpret_cast<RulePaths*>(base + layout.paths);
  tables_.forwards = reinterpret_cast<ForwardMemory*>(base + layout.forwards);
  tables_.records_max = records_max;
}

bool is_mappable(const Settings& settings, u32 pool_protocol_index, u32 port) {
  return pool_protocol_index == 2 || in_pool(settings, port);
}

void TableMemory::exclude_ports(const Settings& settings) {
  for (u32 external = 0; external < kExternalsMax; ++external)
    for (u32 protocol = 0; protocol < kPoolProtocols; ++protocol) {
      PortPool& pool = tables_.ports[external * kPoolProtocols + protocol];
      for (u32 port = 0; port < 65536; ++port)
        if (!is_mappable(settings, protocol, port)) port_take(pool, static_cast<u16>(port));
    }
}

}  // namespace masq
