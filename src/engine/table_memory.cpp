// One allocation for all of a table, cut into its parts.
#include "engine/table_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#include "core/fragments.h"

namespace masq {

namespace {

// A wrong size is a mistake of the program that uses the engine, not of the traffic.
[[noreturn]] void refuse_to_start(const char* why) {
  std::fprintf(stderr, "masq engine: %s\n", why);
  std::abort();
}

class Layout {
 public:
  std::size_t place(std::size_t bytes) {
    std::size_t at = size_;
    size_ += (bytes + 63) & ~std::size_t{63};
    return at;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_ = 0;
};

}  // namespace

TableMemory::TableMemory(u32 records_max) {
  if (records_max < kRecordsMin || records_max > kRecordsMax ||
      (records_max & (records_max - 1)) != 0)
    refuse_to_start("the number of records must be a power of two within its limits");
  const std::size_t slots = std::size_t{bucket_mask(records_max) + 1} * kBucketSlots;
  Layout layout;
  const std::size_t records = layout.place(std::size_t{records_max} * sizeof(Record));
  const std::size_t inner = layout.place(slots * sizeof(u32));
  const std::size_t outer = layout.place(slots * sizeof(u32));
  const std::size_t used = layout.place(records_max / 64 * sizeof(u64));
  const std::size_t full = layout.place(records_max / 4096 * sizeof(u64));
  const std::size_t ports = layout.place(sizeof(PortPool) * kExternalsMax * kPoolProtocols);
  const std::size_t fragments = layout.place(sizeof(Fragment) * kFragmentsMax);
  const std::size_t shared = layout.place(sizeof(Shared));

  size_ = layout.size();
  memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory_ == MAP_FAILED) refuse_to_start("there is not enough memory for the table");
  u8* base = static_cast<u8*>(memory_);
  tables_.records = reinterpret_cast<Record*>(base + records);
  tables_.inner_slots = reinterpret_cast<u32*>(base + inner);
  tables_.outer_slots = reinterpret_cast<u32*>(base + outer);
  tables_.record_used = reinterpret_cast<u64*>(base + used);
  tables_.record_full = reinterpret_cast<u64*>(base + full);
  tables_.ports = reinterpret_cast<PortPool*>(base + ports);
  tables_.fragments = reinterpret_cast<Fragment*>(base + fragments);
  tables_.shared = reinterpret_cast<Shared*>(base + shared);
  tables_.records_max = records_max;
  pool_take(tables_.record_used, tables_.record_full, kNoRecord);
}

TableMemory::~TableMemory() {
  munmap(memory_, size_);
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
