// Forwards: what comes from outside to an endpoint of the gateway and is an inner host's all the
// same. What the packet path looks up; policy/forwards.h makes it.
//
// Everything that can be looked for is a range of ports under a key, and all ranges lie in one
// array, ascending: an external endpoint (protocol, address, port), a mark, a control port, an
// inner host that has an external address of its own, a remote port towards which source ports are
// kept. Ranges of one key never overlap, so the last one that begins no later than what is looked
// for is the only one that can hold it. It is found in a fixed number of steps that branch on
// nothing.
//
// A forward of a fixed external address comes before one of whatever address the external interface
// has (kAnyExternal). Which addresses these are, the caller knows: only those of the gateway may be
// looked for.
//
// A forward that is not for the sender of a packet is none for it. One with several targets lets
// each serve `preference` new flows, then the next one, round and round; with preference 0 a target
// stays. A *triggered* forward gives its ports to the last inner host that sent something to its
// control port, for `window` after that, and only to the outside address that it sent to.
//
// What the packet path must keep to: a mapping may not get a port that a forward has at the same
// external address; flows outlive the forward that made them, so a forward is looked for only where
// no flow is found; the source port is kept only where no other mapping has it.
//
// The table is read-only for the packet path: whoever changes it writes a whole other one and then
// says which is in force. ForwardState is the packet path's, one for each forward, and stays;
// whoever gives a place to another forward sets it to what state_of (policy/forwards.h) says, and
// closes what windows_to_close names there.
//
// Limits: kForwardsMax forwards, kForwardRangesMax ranges, kForwardTargetsMax targets in all,
// kForwardSourcesMax networks of senders for each.
#pragma once

#include "core/atomic.h"
#include "core/clock.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kForwardsMax = 256;          // as many as their masks and one byte allow
inline constexpr u32 kForwardRangePlaces = 1024;  // a power of two, for the search
inline constexpr u32 kForwardRangesMax = kForwardRangePlaces - 1;
inline constexpr u32 kForwardTargetsMax = 1024;
inline constexpr u32 kForwardSourcesMax = 4;
inline constexpr u32 kForwardTurnTries = 4;  // then a flow is served without being counted
inline constexpr u32 kNoForward = kForwardsMax;
// How far a processor's clock may be behind the one that wrote the time.
inline constexpr Ticks kForwardClockSlack = ticks_from_s(1);
inline constexpr Ipv4 kAnyExternal{0};

// What a range is found under.
enum ForwardSearch : u32 {
  kForwardEndpoint = 0,  // protocol, external address, external port
  kForwardMark,          // the mark in the address's place
  kForwardControl,       // protocol, remote port: opens the triggered forwards
  kForwardKeepsPort,     // protocol, remote port: the source port is kept
  kForwardInner,         // inner address: leaves by the external address of its forward
};

enum class ForwardKind : u8 {
  none = 0,    // no forward has this place
  plain,       //
  one_to_one,  // every port of an external address, both ways
  marked,      //
  triggered,   //
  keeps_port,  //
};

// 16 bytes; places that are not used have the greatest key.
struct ForwardRange {
  u64 key;      // forward_key of its first port
  u16 last;     // its last port
  u16 forward;  // for a control port: the place whose ForwardState knows who asked
  u32 reserved;
};
static_assert(sizeof(ForwardRange) == 16);

struct ForwardSource {
  Ipv4 network, mask;
};

inline constexpr u8 kForwardAnyOutside = 0x01;  // triggered: not only the outside address asked
inline constexpr u8 kForwardOnePort = 0x02;     // a target's port is that of every external one

struct ForwardEntry {
  ForwardKind kind;
  u8 flags;
  u8 sources;  // how many of them; 0: from everywhere
  u8 reserved;
  u16 first_target;  // in ForwardTable::targets
  u16 targets;
  u16 first_port;  // external, host order
  u16 control;     // triggered: the place whose ForwardState knows who asked
  Ticks window;    // triggered; 0: for ever
  Ipv4 external;   // one_to_one: what the inner host leaves by
  u32 reserved_too;
  ForwardSource source[kForwardSourcesMax];
};
static_assert(sizeof(ForwardEntry) == 56);
static_assert(__builtin_offsetof(ForwardEntry, source) == 24);

struct ForwardTarget {
  Ipv4 address;
  u16 port;        // host order, for the forward's first port; 0: as outside
  u16 preference;  // new flows before the next target; 0: no end
};
static_assert(sizeof(ForwardTarget) == 8);

struct ForwardTable {
  u32 ranges_used;  // 0: nothing need be looked for
  u32 generation;
  u32 marks;     // may a mark lead to a forward?
  u32 controls;  // may inner hosts open forwards by what they send?
  ForwardRange ranges[kForwardRangePlaces];
  ForwardEntry entries[kForwardsMax];
  ForwardTarget targets[kForwardTargetsMax];
};
static_assert(sizeof(ForwardTable) == 16 + 16 * 1024 + 56 * 256 + 8 * 1024);

struct ForwardState {
  u64 asked;    // of a control port: the inner host above, the outside address below; 0: nobody
  u32 turn;     // which target above, the flows that it still serves below; 0 of these: all
  Ticks seen;   // when it was asked last
  u64 flows;    // made by this forward
  u64 refused;  // packets that it was not for
};
static_assert(sizeof(ForwardState) == 32);

// One half is in force, the other one is for the next change.
inline constexpr u32 kForwardHalves = 2;
struct ForwardMemory {
  ForwardTable halves[kForwardHalves];
  ForwardState states[kForwardsMax];
};

inline constexpr u64 kNoForwardKey = ~0ull >> 1;

// `address` in network order, for the order of keys is nobody's business.
MASQ_INLINE constexpr u64 forward_key(u32 search, u32 protocol, u32 address, u32 port) {
  return (static_cast<u64>(search << 8 | protocol) << 48) | (static_cast<u64>(address) << 16) |
         port;
}

// The forward of the range that holds the port, or kNoForward.
MASQ_INLINE u32 find_range(const ForwardTable& t, u64 wanted) {
  u32 at = 0;  // ranges that begin no later
#pragma clang loop unroll(disable)
  for (u32 step = kForwardRangePlaces / 2; step != 0; step >>= 1) {
    u64 key = t.ranges[(at + step - 1) & (kForwardRangePlaces - 1)].key;
    u32 is_behind = opaque(static_cast<u32>((wanted - key) >> 63));  // keys have 63 bits
    at += step & (is_behind - 1);
  }
  const ForwardRange& range = t.ranges[(at - 1) & (kForwardRangePlaces - 1)];
  bool holds = at != 0 && (range.key >> 16) == (wanted >> 16) && (wanted & 0xffff) <= range.last;
  return holds ? range.forward & (kForwardsMax - 1) : kNoForward;
}

// Those in force; null only where there are none.
template <class World>
MASQ_INLINE const ForwardTable* forwards_in_force(World& w) {
  ForwardMemory* memory = w.forwards();
  return memory == nullptr ? nullptr
                           : &memory->halves[w.settings.forwards_generation % kForwardHalves];
}

template <class World>
MASQ_INLINE ForwardKind forward_kind(World& w, u32 place) {
  const ForwardTable* table = forwards_in_force(w);
  return table == nullptr ? ForwardKind::none : table->entries[place & (kForwardsMax - 1)].kind;
}

// What follows looks in a table, or asks a World for the ranges of the one in force (world.h).
template <class World>
requires requires(World& w) {
  w.find_range(u64{});
}
MASQ_INLINE u32 find_range(World& w, u64 wanted) {
  return w.find_range(wanted);
}

// By an external endpoint; a query of ICMP has its identifier as the port, which is host order.
template <class Where>
MASQ_INLINE u32 find_forward(Where& t, u8 protocol, Ipv4 external, u16 port) {
  u32 found = find_range(t, forward_key(kForwardEndpoint, protocol, external.be, port));
  if (found != kNoForward) return found;
  return find_range(t, forward_key(kForwardEndpoint, protocol, kAnyExternal.be, port));
}

template <class Where>
MASQ_INLINE u32 find_marked(Where& t, u32 mark) {
  return find_range(t, forward_key(kForwardMark, 0, mark, 0));
}

// The place whose state is told that an inner host sends to this remote port.
template <class Where>
MASQ_INLINE u32 find_control(Where& t, u8 protocol, u16 remote_port) {
  return find_range(t, forward_key(kForwardControl, protocol, 0, remote_port));
}

template <class Where>
MASQ_INLINE bool keeps_source_port(Where& t, u8 protocol, u16 remote_port) {
  return find_range(t, forward_key(kForwardKeepsPort, protocol, 0, remote_port)) != kNoForward;
}

template <class Where>
MASQ_INLINE u32 find_inner_host(Where& t, Ipv4 internal) {
  return find_range(t, forward_key(kForwardInner, 0, internal.be, 0));
}

// Is the forward for this sender?
MASQ_INLINE bool forward_admits(const ForwardEntry& e, Ipv4 remote) {
  u32 fits = e.sources == 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kForwardSourcesMax; ++i)
    fits |= (i < e.sources) & ((remote.be & e.source[i].mask.be) == e.source[i].network.be);
  return fits != 0;
}

// The target of a new flow, by its place in ForwardTable::targets; counts it.
MASQ_INLINE u32 take_target(const ForwardTable& t, const ForwardEntry& e, ForwardState& s) {
  u32 place = e.first_target & (kForwardTargetsMax - 1);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kForwardTurnTries; ++i) {
    u32 turn = atomic_load(&s.turn);
    u32 at = turn >> 16, left = turn & 0xffff;
    if (at >= e.targets) at = left = 0;
    place = (e.first_target + at) & (kForwardTargetsMax - 1);
    u32 preference = t.targets[place].preference;
    if (preference == 0) break;
    if (left == 0 || left > preference) left = preference;
    left -= 1;
    if (left == 0) at = at + 1u < e.targets ? at + 1 : 0;
    if (atomic_exchange_if(&s.turn, turn, at << 16 | left) == turn) break;
  }
  atomic_add(&s.flows, 1);
  return place;
}

// Where the forward's external port leads at that target; host order.
MASQ_INLINE u16 target_port(const ForwardEntry& e, const ForwardTarget& target, u16 port) {
  u32 offset = (e.flags & kForwardOnePort) ? 0u : static_cast<u32>(port - e.first_port);
  return target.port == 0 ? port : static_cast<u16>(target.port + offset);
}

// An inner host sends something to a control port; `s` is the state that find_control named.
MASQ_INLINE void forward_ask(ForwardState& s, Ipv4 internal, Ipv4 remote, Ticks now) {
  u64 asked = static_cast<u64>(internal.be) << 32 | remote.be;
  // In one piece, and before the time: nobody may see one host with another's outside address.
  if (atomic_load(&s.asked) != asked) atomic_store(&s.asked, asked);
  atomic_store(&s.seen, now);
}

// Which inner host has the ports of a triggered forward, if this remote address may send there.
// `s` is the state of its control place. Ages are taken unsigned, so the clock's coming round opens
// an old window for its seconds once in 52 days, and not for half of them.
MASQ_INLINE bool forward_asked(const ForwardEntry& e, const ForwardState& s, Ipv4 remote, Ticks now,
                               Ipv4& internal) {
  Ticks seen = atomic_load(&s.seen);
  u64 asked = atomic_load(&s.asked);
  if (asked == 0) return false;
  if (e.window != 0 && now - seen + kForwardClockSlack >= e.window + kForwardClockSlack)
    return false;
  if (!(e.flags & kForwardAnyOutside) && static_cast<u32>(asked) != remote.be) return false;
  internal.be = static_cast<u32>(asked >> 32);
  return true;
}

}  // namespace masq
