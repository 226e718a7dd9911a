// The layout of what kernel programs and daemon share beside the core's own types: names of maps
// and programs, and the values of the small maps. Included by both sides.
#pragma once

#include "core/drops.h"
#include "core/reasons.h"
#include "core/table.h"
#include "core/traffic.h"

namespace masq {

// The maps; the name in the kernel is "mq_" and this. A map that is not here is made anew with each
// program that is loaded later, and what programs tell each other by it is lost.
// clang-format off
#define MASQ_MAPS(X)                                                                              \
  X(records) X(inner) X(outer) X(used) X(full) X(ports) X(fragments) X(shared) X(settings)        \
  X(stripes) X(sweeper) X(own) X(counters) X(again) X(drops) X(hosts)                             \
  X(routes) X(scratch) X(home) X(rules) X(paths) X(slot_counts) X(path_counts)     \
  X(forwards)
// clang-format on

enum class MapName : u32 {
#define X(name) name,
  MASQ_MAPS(X)
#undef X
      count
};

}  // namespace masq

namespace masq::bpf {

inline constexpr u32 kOwnAddressesMax = 1024;
inline constexpr const char* kHomeMap = "mq_home";

// What an address of the gateway, or a broadcast address on one of its links, is for us.
enum OwnAddress : u32 { kOwnOther = 1, kOwnOuter };

// Changes with every change of what a map holds.
inline constexpr u32 kLayoutVersion = 17;

// Which program goes on with a packet.
enum Again : u32 { kAgainOutside = 0, kAgainInside, kAgainForwarded, kAgainPlaces };

// Known when the programs are loaded and never changed after.
struct Constants {
  u32 layout;  // kLayoutVersion: whoever takes running programs over must know what they mean
  u32 records_max;
  u32 loopback_ifindex;
};

// What the kernel says of a route.
enum class FibAnswer : u32 {
  none,           // no route, or none that we can use
  not_forwarded,  // an address of the gateway's own, or no route: the kernel does not say which
  forward,        // params.ifindex and params.ipv4_dst say where to
};

// A question to the kernel, and its answer: what lies in the test packet of masq_ask, behind the
// link header. For a socket: would a packet from `source` to `destination` find one?
struct Question {
  u32 about_socket;  // else about the route from `source` to `destination`
  u32 loopback_ifindex;
  Ipv4 destination;
  Ipv4 source;
  Port destination_port;
  Port source_port;
  u8 protocol;
  u8 reserved[3];
  u32 answer;   // a FibAnswer; of a socket: 0 or 1
  u32 ifindex;  // where the route leads
  Ipv4 next_hop;
};

static_assert(sizeof(Question) == 36);

// Per processor.
struct Counters {
  u64 reasons[kReasonCount];
  u64 traffic[kTrafficCount];
  u32 icmp_tokens;
  Ticks icmp_refilled;
};

}  // namespace masq::bpf
