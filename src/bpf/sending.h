// The bytes of a packet, and what becomes of it: counted and dropped, or sent on. Every packet that
// is sent passes one last check, and says to the programs at the egress that it has.
#pragma once

#include "bpf/kernel_world.h"

namespace masq::bpf {

// PACKET_HOST and PACKET_OTHERHOST of linux/if_packet.h.
inline constexpr u32 kPacketToUs = 0;
inline constexpr u32 kPacketToOthers = 3;

MASQ_INLINE Bytes bytes_of(__sk_buff* skb) {
  // 64 bits wide from the load on: a packet pointer that has been copied as 32 bits is a number.
  unsigned long begin = skb->data, end = skb->data_end;
  asm volatile("" : "+r"(begin), "+r"(end));
  return Bytes{reinterpret_cast<u8*>(begin), reinterpret_cast<u8*>(end)};
}

MASQ_INLINE Counters* counters() {
  return first_of<Counters>(mq_counters);
}

MASQ_INLINE void count(Reason reason) {
  Counters* c = counters();
  // The compiler would keep six bits of it, and the verifier not see that they are few enough.
  u32 i = opaque(static_cast<u32>(reason));
  if (c != nullptr && i < kReasonCount) c->reasons[i] += 1;
}

MASQ_INLINE void count(Traffic what, u64 n) {
  Counters* c = counters();
  if (c != nullptr) c->traffic[static_cast<u32>(what)] += n;
}

// Answers to what is refused: ICMP errors, and RSTs.
inline constexpr u32 kAnswerBurst = 50;        // at once, per processor
inline constexpr u32 kAnswersPerSecond = 200;  // and on average (RFC 1812 section 4.3.2.8)

MASQ_INLINE bool answer_allowed(Ticks now) {
  Counters* c = counters();
  if (c == nullptr) return false;
  u32 passed = now - c->icmp_refilled;
  u32 earned = passed > 1000 ? kAnswerBurst : passed * kAnswersPerSecond / 1000;
  if (earned != 0) {
    c->icmp_tokens =
        c->icmp_tokens + earned > kAnswerBurst ? kAnswerBurst : c->icmp_tokens + earned;
    c->icmp_refilled = now;
  }
  if (c->icmp_tokens == 0) {
    count(Traffic::icmp_errors_limited, 1);
    return false;
  }
  c->icmp_tokens -= 1;
  return true;
}

extern "C" {
u32 masq_drop(__sk_buff* skb, u32 hook, u32 reason);
u32 masq_drop_unread(__sk_buff* skb, u32 hook, u32 reason);
}

// Counts the packet that is in the hook's scratch, and remembers it for `masq explain --last`.
MASQ_INLINE u32 drop(__sk_buff* skb, u32 hook, Reason reason) {
  return masq_drop(skb, hook, static_cast<u32>(reason));
}

// The same for a packet that has not been read into the scratch.
MASQ_INLINE u32 drop_unread(__sk_buff* skb, u32 hook, Reason reason) {
  return masq_drop_unread(skb, hook, static_cast<u32>(reason));
}

// Makes the first `wanted` bytes behind the link header readable, or as many as there are.
MASQ_INLINE void make_readable(__sk_buff* skb, u32 l3, u32 wanted) {
  u32 whole = l3 + wanted;
  if (whole > skb->len) whole = skb->len;
  Bytes bytes = bytes_of(skb);
  if (bytes.begin + whole > bytes.end) pull_data(skb, whole);
}

// Promise 1: whatever the core said, nothing goes outside but from an external address.
MASQ_INLINE bool last_check(__sk_buff* skb, const Settings& s, u32 l3, const Verdict& v) {
  if (v.to_zone == Zone::inside) return true;
  Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(skb), l3);
  return ip != nullptr && external_of(s, ip->source, v.ifindex) < kExternalsMax;
}

// A packet that has passed the last check says so to the programs at the egress by a secret in
// the control block that tc keeps with it, so that it is not looked at twice. The secret never
// leaves: it is wiped there.
MASQ_INLINE void mark_passed(__sk_buff* skb, const Settings& s) {
  skb->cb[0] = static_cast<u32>(s.passed);
  skb->cb[1] = static_cast<u32>(s.passed >> 32);
}

MASQ_INLINE bool has_passed(__sk_buff* skb, const Settings& s) {
  if (s.passed == 0 || skb->cb[0] != static_cast<u32>(s.passed) ||
      skb->cb[1] != static_cast<u32>(s.passed >> 32))
    return false;
  skb->cb[0] = skb->cb[1] = 0;
  return true;
}

// Has the packet to be looked at again, as if it came in on the external interface cb[2]? It says
// so with the same secret, in place of the redirect.
inline constexpr u32 kAgain = 0xffffffff;

MASQ_INLINE u32 again(__sk_buff* skb, const Settings& s, u32 ifindex) {
  mark_passed(skb, s);
  skb->cb[2] = ifindex;
  return kAgain;
}

// What came without a link header gets an empty one: the redirect takes one off, and loses packets
// that have none.
MASQ_INLINE u32 send_to(__sk_buff* skb, const KernelWorld& w, u32 l3, u32 ifindex, Ipv4 next_hop) {
  if (l3 == 0 && change_head(skb, kEthernetHeaderLength, 0))
    return drop(skb, w.hook, Reason::internal_error);
  mark_passed(skb, w.settings);
  bpf_redir_neigh neighbour = {};
  neighbour.nh_family = kAddressFamilyIpv4;
  neighbour.ipv4_nh = next_hop.be;
  return static_cast<u32>(redirect_neigh(ifindex, &neighbour, sizeof(neighbour), 0));
}

// A frame to a neighbour whose hardware address the kernel has just told goes there at once. The
// first one after each question takes the kernel's own way, so that the kernel sees that the
// neighbour is in use and asks after it (RFC 4861 section 7.3 has the states, Linux uses them for
// ARP too).
MASQ_INLINE u32 forward_to(__sk_buff* skb, const KernelWorld& w, u32 l3, const Verdict& v) {
  u32 way = v.way & (kCachedRoutes - 1);
  auto* known = static_cast<CachedRoute*>(map_lookup(&mq_routes, &way));
  // What came to all on the link is for nobody to forward (RFC 1812 section 5.3.4): the kernel's
  // own way loses it.
  bool is_it = known != nullptr && l3 == kEthernetHeaderLength && skb->pkt_type == kPacketToUs &&
               known->ifindex == v.ifindex && same(known->next_hop, v.next_hop);
  if (!is_it || known->neighbour != kNeighbourUsed) {
    if (is_it && known->neighbour == kNeighbourKnown) known->neighbour = kNeighbourUsed;
    return send_to(skb, w, l3, v.ifindex, v.next_hop);
  }
  EthernetHeader* link = header_at<EthernetHeader>(bytes_of(skb), 0);
  if (link == nullptr) return drop(skb, w.hook, Reason::internal_error);
  __builtin_memcpy(link->destination, known->destination_link, sizeof(link->destination));
  __builtin_memcpy(link->source, known->source_link, sizeof(link->source));
  mark_passed(skb, w.settings);
  return static_cast<u32>(redirect(v.ifindex, 0));
}

}  // namespace masq::bpf
