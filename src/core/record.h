// The record of a flow or of a mapping: one cache line, one layout for kernel and user space.
//
// A *mapping* (RFC 4787 section 4) ties an internal endpoint to an external one and is a record
// whose remote endpoint is empty. A *flow* (a session in RFC 2663) is a record with a remote
// endpoint; it points to its mapping, and the mapping counts the flows that hold it. Keeping both
// in one table means one index, one allocator and one sweeper.
//
// A TCP flow without a mapping (mapping 0) *shares* its external port: it has it towards its remote
// endpoint alone, and others have it towards theirs (RFC 7857 section 3; flows.h says when).
//
// A flow that a forward has let in (forwarded.h) has no mapping either: its external port is the
// forward's.
#pragma once

#include "core/atomic.h"
#include "wire/types.h"

namespace masq {

// What a record is, and for TCP where its connection stands (RFC 7857 figure 1).
enum class State : u8 {
  free = 0,         // not in use
  ending,           // being unlinked at this moment: out of force already, not yet dead
  dead,             // unlinked; its place is given back after a pause, see table.h
  claiming,         // being linked: in force only once it is known that nobody has its outer key
  mapping,          // no remote endpoint; lives while flows hold it
  permission,       // of a mapping towards a remote address, see flows.h; lives while flows hold it
  udp,              //
  icmp,             // an ICMP query and its replies
  tcp_opening,      // SYN seen from inside
  tcp_established,  // both SYNs seen, and acknowledged
  tcp_fin_out,      // the inner end has closed
  tcp_fin_in,       // the remote end has closed
  tcp_closing,      // both have closed
  tcp_transitory,   // a valid RST was seen
  count
};

// Direction of a packet, and index of the per-direction fields.
inline constexpr u32 kOut = 0;  // from inside to outside
inline constexpr u32 kIn = 1;   // from outside to inside

inline constexpr u32 kNoRecord = 0;  // record 0 is never used

// Bits of Record::flags.
inline constexpr u8 kFlagSeenOut = 0x01;   // a TCP segment from inside has set sequence_end[kOut]
inline constexpr u8 kFlagSeenIn = 0x02;    // likewise from outside
inline constexpr u8 kFlagScaleOut = 0x04;  // the SYN from inside offered window scaling (RFC 7323)
inline constexpr u8 kFlagScaleIn = 0x08;   // likewise from outside
inline constexpr u8 kFlagLocal = 0x10;     // the internal endpoint is the gateway itself
// Of a mapping: who may send to it beside those that its flows name (RFC 4787 section 5).
inline constexpr u8 kFlagOpenToAddress = 0x20;  // the remote addresses that it has permissions for
inline constexpr u8 kFlagOpenToAll = 0x40;

struct Record {
  Ipv4 internal_address;
  Ipv4 remote_address;  // 0.0.0.0 in a mapping
  Port internal_port;
  Port external_port;
  Port remote_port;  // 0 in a mapping and for ICMP
  u8 protocol;
  State state;
  u32 last_seen;  // ticks, see clock.h
  u32 mapping;    // flow: what it holds, its mapping or a permission, kNoRecord if it shares its
                  // external port; mapping and permission: how many hold them
  u32 sequence_end[2];  // highest sequence number sent in each direction, plus one; of a
                        // permission the first is the mapping that it holds
  u32 acknowledged[2];  // how much of each direction the other end has acknowledged
  u16 window[2];        // largest window that each direction has announced, unscaled
  u8 scales;            // window scale of kOut in the low nibble, kIn in the high one
  u8 flags;             //
  u16 external;         // which external address, see settings.h
  u32 syn_again;        // one past the last SYN from inside on an open connection; 0: none
  u32 host;             // of a flow: its inner host and whether it counts as opening, see hosts.h
  u32 judged;           // what the rules say of the flow, see judge.h; 0: nothing yet
  u16 version;          // counts the uses of this place
  u16 forward;          // of a flow that a forward has let in: 1 + its place; else 0
};

static_assert(sizeof(Record) == 64 && alignof(Record) == 4);
static_assert(__builtin_offsetof(Record, last_seen) == 16);
static_assert(__builtin_offsetof(Record, sequence_end) == 24);
static_assert(__builtin_offsetof(Record, window) == 40);
static_assert(__builtin_offsetof(Record, external) == 46);
static_assert(__builtin_offsetof(Record, host) == 52);
static_assert(__builtin_offsetof(Record, judged) == 56);
static_assert(__builtin_offsetof(Record, version) == 60);
static_assert(__builtin_offsetof(Record, forward) == 62);  // and no padding: 62 + 2 = 64

// Others look at a record without a lock, and judge it by its state.
MASQ_INLINE void set_state(Record& r, State state) {
  atomic_store(&r.state, state);
}

}  // namespace masq
