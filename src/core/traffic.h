// What was carried, per direction and kind: the counters beside the reasons. One source, as for
// those.
#pragma once

#include "wire/types.h"

namespace masq {

#define MASQ_TRAFFIC(X)                                                         \
  X(translated_out, "packets translated from inside to outside")                \
  X(translated_in, "packets translated from outside to inside")                 \
  X(translated_out_bytes, "their bytes")                                        \
  X(translated_in_bytes, "their bytes")                                         \
  X(routed, "packets routed between inner interfaces")                          \
  X(local, "packets given to the gateway's own stack")                          \
  X(local_translated, "packets of the gateway itself that use a mapping")       \
  X(flows_sharing_port, "TCP flows made that share their external port")        \
  X(icmp_errors_sent, "ICMP errors sent by the gateway for refused packets")    \
  X(resets_sent, "TCP connections ended towards inner hosts by a RST")          \
  X(slow_path, "packets that took the slow path")                               \
  X(fragments_ordered, "of these, fragments that waited for their first one")   \
  X(cut, "of these, datagrams cut to the size of the next link")                \
  X(fragments_displaced, "fragmented datagrams forgotten early, for others")    \
  X(rules_unremembered, "packets of flows that rules had to be asked for anew") \
  X(icmp_errors_limited, "ICMP errors not sent, to keep within the rate limit")

enum class Traffic : u32 {
#define X(name, sentence) name,
  MASQ_TRAFFIC(X)
#undef X
      count
};

inline constexpr u32 kTrafficCount = static_cast<u32>(Traffic::count);

}  // namespace masq
