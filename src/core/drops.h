// The last packets that were refused: when, where, why, and what was read of them.
//
// One ring for each side, reason and lane; a packet's source address chooses the lane. So a scan
// from outside pushes out earlier scans and nothing else, and one host that has gone wild a quarter
// of its own kind at most. Writing costs one atomic addition and a copy, and only on refusals.
//
// Writers take no lock. An entry's number is 0 while it is being written and set last, so a reader
// that finds the same number before and after copying has the whole entry (kDropsPerLane writers
// at the same moment in one lane could still spoil one; then one line of a report is wrong).
#pragma once

#include "core/atomic.h"
#include "core/clock.h"
#include "core/packet.h"
#include "core/reasons.h"
#include "core/settings.h"

namespace masq {

// Where the packet was looked at.
enum class DropSide : u8 {
  inside,    // it came in on an inner interface
  outside,   // it came in on an external one
  leaving,   // it was about to leave on an external interface by the kernel's own path
  entering,  // likewise on an inner one
  count
};

inline constexpr u32 kDropLanes = 4;     // for each side and reason
inline constexpr u32 kDropsPerLane = 8;  // remembered; a power of two
inline constexpr u32 kDropRings = static_cast<u32>(DropSide::count) * kReasonCount * kDropLanes;

struct Drop {
  u32 number;  // counts the drops of its ring from 1; 0: being written, or never
  Ticks when;
  Ipv4 source;
  Ipv4 destination;
  u32 ifindex;
  Port source_port;
  Port destination_port;
  u16 length;      // of the datagram, host order
  u16 ether_type;  // network order
  Reason reason;
  DropSide side;
  u8 protocol;
  Kind kind;
  u8 icmp_type;
  u8 tcp_flags;
  u16 reserved;
};

struct Drops {
  u32 written[kDropRings];
  Drop drops[kDropRings * kDropsPerLane];
};

static_assert(sizeof(Drop) == 36);
static_assert(sizeof(Drops) == kDropRings * (4 + kDropsPerLane * sizeof(Drop)));

MASQ_INLINE constexpr DropSide drop_side(Zone zone, bool egress) {
  if (egress) return zone == Zone::inside ? DropSide::entering : DropSide::leaving;
  return zone == Zone::inside ? DropSide::inside : DropSide::outside;
}

// `p` is what was read of the packet; all zero if nothing could be.
MASQ_INLINE void note_drop(Drops& all, const Packet& p, Reason reason, DropSide side, u32 ifindex,
                           u16 ether_type, Ticks now) {
  u32 ring = (static_cast<u32>(side) * kReasonCount + static_cast<u32>(reason)) * kDropLanes +
             (p.source.be * 0x9e3779b1u >> 30);
  static_assert(kDropLanes == 4);
  ring = opaque(ring);
  if (ring >= kDropRings) return;
  u32 number = atomic_add(&all.written[ring], 1) + 1;
  u32 place = opaque(ring * kDropsPerLane + (number & (kDropsPerLane - 1)));
  if (place >= kDropRings * kDropsPerLane) return;  // for the verifier, which cannot multiply
  Drop& d = all.drops[place];
  atomic_store(&d.number, 0u);
  d.when = now;
  d.source = p.source;
  d.destination = p.destination;
  d.ifindex = ifindex;
  d.source_port = p.source_port;
  d.destination_port = p.destination_port;
  d.length = p.total_length;
  d.ether_type = ether_type;
  d.reason = reason;
  d.side = side;
  d.protocol = p.protocol;
  d.kind = p.kind;
  d.icmp_type = p.icmp_type;
  d.tcp_flags = p.tcp_flags;
  atomic_store(&d.number, number);
}

// What is known of an ARP message that is refused.
MASQ_INLINE void read_arp(Bytes bytes, u32 l3, Packet& p) {
  p = Packet{};
  ArpIpv4* arp = header_at<ArpIpv4>(bytes, l3);
  if (arp == nullptr) return;
  p.source = arp->sender;
  p.destination = arp->target;
}

}  // namespace masq
