// The border to the slow path: what may go there, and how a frame says what it is about.
//
// What needs memory or patience is done by a process without rights (src/slow): it holds fragments
// until the first one of their datagram has come, and cuts datagrams that may be cut. It knows no
// table. A frame goes there untranslated and comes back as if it had just come in on the interface
// where it first came in; then it is translated on the usual way, and never goes there again. So
// the process can do no more than a host on either link.
//
// Serves: it says that it is there every kSlowBeat_ms; after kSlowFresh without that, what needs it
// is refused (slow_path_down). Limit: kSlowLaneMax packets of one source in kSlowWindow, so that
// the queue to the process, kSlowQueue frames long, is never one source's alone (slow_path_busy).
#pragma once

#include "core/atomic.h"
#include "core/clock.h"
#include "core/hash.h"
#include "core/packet.h"
#include "core/settings.h"
#include "core/table.h"

namespace masq {

inline constexpr u32 kSlowBeat_ms = 250;
inline constexpr Ticks kSlowFresh = ticks_from_s(1);  // three beats may be lost on a busy machine

// How long a fragment waits for its first one: FRAGMENT_MIN of RFC 6146 section 4. Reordering on
// real paths is a matter of milliseconds; an attacker's fragments are gone the sooner.
inline constexpr Ticks kHeldLife = ticks_from_s(2);

// 256 packets in 17 ms are 15,000 a second from one source, 180 Mbit/s of datagrams to be cut; the
// process does ten times as many.
inline constexpr u32 kSlowWindowShift = 4;  // ticks, as a power of two
inline constexpr u32 kSlowLaneMax = 256;
inline constexpr u32 kSlowQueue = 4096;  // frames between the kernel and the process
static_assert(kSlowQueue >= 8 * kSlowLaneMax);

enum SlowKind : u8 {
  kSlowAsked = 1,   // to the process; and back, as it went
  kSlowOrdered,     // back, after its first fragment
  kSlowPieceFirst,  // back, the first piece of a datagram that was cut
  kSlowPiece,       // likewise another piece
  kSlowFull,        // back, because there was no room to hold it
  kSlowBeat,        // the process is there
};

// In place of a device's number: the slow path is in the same process.
inline constexpr u32 kSlowWithin = 0xffffffff;

inline constexpr u8 kSlowMark = 0x02;  // an address of a card that nobody has made (IEEE 802)

// Takes the place of the Ethernet header between the kernel and the process.
struct __attribute__((packed)) SlowHeader {
  u8 mark;  // kSlowMark
  u8 kind;  // SlowKind
  u16 mtu;  // to be cut to this size; 0: fits. Host order
  u8 hold;  // wait for the first fragment
  u8 inside;
  u8 mark2;  // kSlowMark
  u8 reserved;
  u32 ifindex;  // where the frame first came in
  u16 ether_type;
};
static_assert(sizeof(SlowHeader) == sizeof(EthernetHeader));

// What a packet that came in on interface `ifindex` is asked for there.
MASQ_INLINE SlowHeader slow_question(u16 mtu, bool hold, bool inside, u32 ifindex) {
  return SlowHeader{kSlowMark, kSlowAsked, mtu,     hold,          inside,
                    kSlowMark, 0,          ifindex, kEtherTypeIpv4};
}

// How the packet at hand stands to the slow path.
struct SlowSide {
  u8 allowed;   // it may go there
  u8 may_cut;   // it may go there to be cut: also what has only waited there
  u8 fresh_id;  // it comes from there, as the beginning of a datagram that was cut
  u8 reserved;
};

// Of what comes in.
inline constexpr SlowSide kMayGoSlow{1, 1, 0, 0};
MASQ_INLINE SlowSide back_from_slow(u32 kind) {
  return SlowSide{0, kind == kSlowAsked || kind == kSlowOrdered, kind == kSlowPieceFirst, 0};
}

// What comes back and is no flow's is nobody's: the gateway's stack has had its copy.
MASQ_INLINE Reason reason_of_nobodys(const Packet& p) {
  return p.kind == Kind::fragment ? Reason::fragment_without_first : Reason::no_mapping;
}

template <class World>
MASQ_INLINE bool slow_serves(const World& w) {
  return !elapsed(w.now, atomic_load(&w.tables.shared->slow_beat), kSlowFresh);
}

template <class World>
MASQ_INLINE bool may_go_slow(const World& w) {
  return w.slow.allowed && w.settings.slow_ifindex != 0 && slow_serves(w);
}

// Is there room for another packet of this source in the present moment? Processors that count at
// the same time may overlook each other: the limit is for floods, not for accounts.
template <class World>
MASQ_INLINE bool slow_admits(World& w, const Packet& p) {
  u64 hash = keyed_hash(w.settings.secret, p.source.be, 1ull << 61);
  u32* lane = &w.tables.shared->slow_lanes[hash & (kSlowLanes - 1)];
  u32 window = w.now >> kSlowWindowShift & 0xffff, before = atomic_load(lane);
  u32 count = (before >> 16 == window ? before & 0xffff : 0) + p.segments;
  if (count > kSlowLaneMax) return false;
  atomic_store(lane, window << 16 | count);
  return true;
}

}  // namespace masq
