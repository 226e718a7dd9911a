// The RST that ends a connection towards its inner host: the refused segment is turned round in its
// place. It goes back only where the segment came from, if the route to its sender leads there: an
// inner host cannot have it sent to somebody else. It counts against the limit of ICMP errors.
#pragma once

#include "bpf/checksum_state.h"
#include "bpf/sending.h"
#include "core/rewrite.h"

namespace masq::bpf {

extern "C" {

// The way back to the sender of the packet in the scratch, into the verdict there; 0 if there is
// none by the interface where it came in. (A function of its own, for the sake of the stack.)
__attribute__((noinline)) u32 masq_find_way_back(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  Route back;
  w.route(scratch->packet.source, scratch->packet.destination, back);
  scratch->verdict.ifindex = back.ifindex;
  scratch->verdict.next_hop = back.next_hop;
  return back.kind == RouteKind::forward && back.zone == Zone::inside &&
         back.ifindex == came_in(skb, *scratch);
}

// To where masq_find_way_back has found.
__attribute__((noinline)) u32 masq_send_reset(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kTcShot;
  const Packet& p = scratch->packet;
  u32 l3 = p.l3;
  if (l3 > kEthernetHeaderLength || !answer_allowed(read_clock(*settings))) return kTcShot;
  bool partial = checksum_state(skb) == Checksum::partial;
  if (change_tail(skb, l3 + kResetLength, 0)) return kTcShot;
  make_readable(skb, l3, kResetLength);
  Bytes bytes = bytes_of(skb);
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, l3);
  TcpHeader* tcp = header_at<TcpHeader>(bytes, l3 + sizeof(Ipv4Header));
  if (ip == nullptr || tcp == nullptr) return kTcShot;
  fill_reset(*ip, *tcp, p, !partial);
  count(Traffic::resets_sent, 1);
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  return send_to(skb, w, l3, scratch->verdict.ifindex, scratch->verdict.next_hop);
}

}  // extern "C"

}  // namespace masq::bpf
