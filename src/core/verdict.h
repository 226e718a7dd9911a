// What the core says about one packet. The shell carries it out: it changes the bytes, sends, and
// counts. Nothing else leaves the core.
#pragma once

#include "core/packet.h"
#include "core/record.h"
#include "core/settings.h"

namespace masq {

enum class Action : u8 {
  drop,      // with `reason`
  to_stack,  // to the gateway's own stack, or onwards on the kernel's own path; translated if
             // `translate` says so
  hairpin,   // translated, and then looked at as if it came in on the external interface `ifindex`
  forward,   // to `ifindex` by `next_hop`, time to live one less, translated if so said
  icmp_error,      // drop with `reason`, and answer the sender with an ICMP error
  slow,            // to the slow path, as it came
  stack_and_slow,  // a copy there, and to the gateway's own stack: nobody knows yet whose it is
  forwards,        // step_forwarded is to be asked
  reset,           // drop with `reason`, and answer the sender with a RST
};

// Is the sender answered in place of the packet's going on?
MASQ_INLINE bool is_answer(Action action) {
  return action == Action::icmp_error || action == Action::reset;
}

struct Verdict {
  Action action;
  Reason reason;
  bool translate;
  u8 direction;  // kOut: the source becomes external; kIn: the destination becomes internal
  Ipv4 address;  // the new address and port; for ICMP errors also of the quoted packet's
  Port port;     // opposite end
  u8 icmp_type;
  u8 icmp_code;
  union {
    u16 icmp_mtu;  // icmp_error: host order
    u16 new_id;    // else the identification, if `rewrite_id`; network order
  };
  union {
    u16 slow_mtu;  // slow: it is to be cut to this size; 0: fits
    u16 mss_most;  // else, of a SYN: what its MSS option may say at most, host order; 0: anything
  };
  union {
    Ipv4 icmp_source;
    u32 way;  // forward: as in Route
  };
  u32 ifindex;
  Ipv4 next_hop;
  Zone to_zone;    // where `forward` leads
  bool slow_hold;  // slow: it waits for its first fragment
  bool rewrite_id;
};

// A larger one does not fit the stack of the kernel's programs beside all that they call.
static_assert(sizeof(Verdict) == 32);

// Where a destination lies, as the kernel's routing sees it.
enum class RouteKind : u8 { none, local, forward };

struct Route {
  RouteKind kind;
  Zone zone;
  u32 ifindex;
  Ipv4 next_hop;
  u32 external;  // of an outside interface
  u32 mtu;       // 0: unknown
  u32 way;       // the shell's: where it remembers the rest
};

}  // namespace masq
