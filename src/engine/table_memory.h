// The memory of one table in user space: what the kernel's half keeps in its maps, in one
// allocation made at the start. Nothing is allocated afterwards.
//
// `records_max` must be a power of two between kRecordsMin and kRecordsMax. The pages are zero, so
// they cost nothing until they are used.
#pragma once

#include <cstddef>

#include "core/settings.h"
#include "core/table.h"

namespace masq {

class TableMemory {
 public:
  explicit TableMemory(u32 records_max);
  ~TableMemory();
  TableMemory(const TableMemory&) = delete;
  TableMemory& operator=(const TableMemory&) = delete;

  const Tables& tables() const { return tables_; }

  // Takes out of the pools what no mapping may have. Once, before the first packet.
  void exclude_ports(const Settings& settings);

 private:
  Tables tables_{};
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

// May a mapping of this pool (0 TCP, 1 UDP, 2 ICMP) have this port or identifier? Identifiers are
// not restricted: nothing else on the gateway owns any.
bool is_mappable(const Settings& settings, u32 pool_protocol_index, u32 port);

}  // namespace masq
