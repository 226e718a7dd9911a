// What comes from outside and has no flow, but a forward (forwards.h) that leads it to an inner
// host: which forward, to whom, and what the rules say of it.
//
// Such a packet makes a flow at once, for with several targets its next packet must find the same.
// The flow has no mapping: its external endpoint is the forward's, which no mapping gets. Its
// answers go out by it, and only they have the forward chain to pass, which must say MASQ. It is
// counted as if the forward were a host (hosts.h), by an address that none can have: so strangers
// use up what one forward may have, and neither the table nor what the inner host itself may open.
//
// TCP begins with a SYN of which nothing is believed but that it came: the inner host's answer
// begins the connection (tcp.h). UDP begins with any packet. One-to-one forwards let in ICMP
// queries too; but what goes to a port that mappings could have and a socket of the gateway's own
// has stays the gateway's.
//
// The gateway's DHCP client keeps its answers whatever forwards say.
#pragma once

#include "core/flows.h"
#include "core/judge.h"
#include "core/packet.h"

namespace masq {

// Where a forward leads a packet.
struct ForwardChoice {
  Ipv4 address;
  u16 port;   // host order
  u16 place;  // of the forward
};

// The external port that it is about; of a query of ICMP the identifier. Host order.
MASQ_INLINE u16 forwarded_port(const Packet& p) {
  return to_host(p.kind == Kind::icmp_query ? p.source_port : p.destination_port);
}

// May this packet begin a flow from outside?
MASQ_INLINE bool may_begin_outside(const Packet& p) {
  if (p.kind == Kind::tcp)
    return (p.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == kTcpSyn;
  bool to_dhcp_client = p.source_port.be == swap16(67) && p.destination_port.be == swap16(68);
  return p.kind == Kind::icmp_query || (p.kind == Kind::udp && !to_dhcp_client);
}

// Is the forward for a packet of this sender? Counts those that it is not for.
template <class World>
MASQ_INLINE bool forward_takes(World& w, const Packet& p, Ipv4 source, u32 place) {
  ForwardMemory* memory = w.forwards();
  if (memory == nullptr) return false;
  const ForwardTable& t = memory->halves[w.settings.forwards_generation % kForwardHalves];
  const ForwardEntry& e = t.entries[place & (kForwardsMax - 1)];
  ForwardState& state = memory->states[place & (kForwardsMax - 1)];
  bool takes = forward_admits(e, source);
  Ipv4 asked{};
  if (takes && e.kind == ForwardKind::triggered)
    takes = forward_asked(e, memory->states[e.control & (kForwardsMax - 1)], source, w.now, asked);
  if (!takes) atomic_add(&state.refused, 1);
  if (!takes || e.kind != ForwardKind::one_to_one || p.kind == Kind::icmp_query) return takes;
  return !in_pool(w.settings, to_host(p.destination_port)) ||
         !w.port_has_socket(p.protocol, p.destination, p.destination_port, p.source, p.source_port);
}

// The forward that leads on what this `source` sends to the external endpoint, or kNoForward.
template <class World>
MASQ_INLINE u32 forward_of_endpoint(World& w, const Packet& p, Ipv4 source) {
  if (w.settings.forwards_generation == 0 || !may_begin_outside(p)) return kNoForward;
  u32 place = find_forward(w, p.protocol, p.destination, forwarded_port(p));
  return place != kNoForward && forward_takes(w, p, source, place) ? place : kNoForward;
}

// Likewise by the mark that the input chain gives to the packet.
template <class World>
MASQ_INLINE u32 forward_of_mark(World& w, const Packet& p) {
  const ForwardTable* table = forwards_in_force(w);
  if (table == nullptr || table->marks == 0 || w.rules().generation == 0) return kNoForward;
  if (!may_begin_outside(p) || !w.marks_arrival(p)) return kNoForward;
  u32 place = find_marked(w, w.rules().said.mark);
  return place != kNoForward && forward_takes(w, p, p.source, place) ? place : kNoForward;
}

// The forward of a packet from outside for which there is no flow, and whose destination is an
// external address. kNoForward: none leads it anywhere.
template <class World>
MASQ_INLINE u32 forward_of(World& w, const Packet& p) {
  u32 place = forward_of_endpoint(w, p, p.source);
  return place != kNoForward ? place : forward_of_mark(w, p);
}

// To which inner host, and which of its ports. Counts the flow as made.
template <class World>
MASQ_INLINE void choose_target(World& w, const Packet& p, u32 place, ForwardChoice& choice) {
  choice = ForwardChoice{};
  ForwardMemory* memory = w.forwards();
  if (memory == nullptr) return;
  place &= kForwardsMax - 1;
  const ForwardTable& t = memory->halves[w.settings.forwards_generation % kForwardHalves];
  const ForwardEntry& e = t.entries[place];
  ForwardState& state = memory->states[place];
  choice.place = static_cast<u16>(place);
  choice.port = forwarded_port(p);
  if (e.kind == ForwardKind::triggered) {
    const ForwardState& control = memory->states[e.control & (kForwardsMax - 1)];
    if (forward_asked(e, control, p.source, w.now, choice.address)) atomic_add(&state.flows, 1);
    return;
  }
  const ForwardTarget& target = t.targets[take_target(t, e, state) & (kForwardTargetsMax - 1)];
  choice.address = target.address;
  choice.port = target_port(e, target, choice.port);
}

// Does the input chain let it pass with a mark? Counts nothing: it will be asked again.
template <class World>
MASQ_INLINE bool marks_arrival(World& w, const Packet& p) {
  rules_begin(w.rules().walk);
  w.rules().walk.view = view_of(p);
  if (!pass_chain(w, kChainInput, w.rule_bit(w.ifindex), true)) return false;
  take_down(w.rules().walk, w.rules().said);
  return w.rules().said.mark != 0;
}

// What the rules say of a packet that a forward would lead in, before a flow is made for it, which
// is judged in turn: what is refused takes no place in the table.
template <class World>
MASQ_INLINE Reason judge_forwarded(World& w, const Packet& p, u32 inner_ifindex) {
  const ForwardChoice& to = w.forward_choice();
  rules_begin(w.rules().walk);
  RuleView& view = w.rules().walk.view;
  view = view_of(p);
  if (pass_chain(w, kChainInput, w.rule_bit(w.ifindex), true) && may_be_forwarded(w)) {
    view.destination = to.address;
    if (p.kind != Kind::icmp_query) view.destination_port = to.port;
    pass_chain(w, kChainOutput, w.rule_bit(inner_ifindex), true);
  }
  take_down(w.rules().walk, w.rules().said);
  if (w.rules().said.reason != Reason::none) w.count_slots(p);
  return w.rules().said.reason;
}

// Makes the flow of a packet that a forward leads to w.forward_choice(): then w.making.flow.
template <class World>
MASQ_INLINE Reason make_forwarded(World& w, const Packet& p, u32 external) {
  const ForwardChoice& to = w.forward_choice();
  NewFlow& n = w.new_flow;
  bool query = p.kind == Kind::icmp_query;
  Port inner_port = port_from_host(to.port);
  n = NewFlow{};
  n.inner = Key{to.address, p.source, inner_port, query ? Port{0} : p.source_port, p.protocol};
  n.external = external;
  n.state = p.kind == Kind::tcp ? State::tcp_opening : query ? State::icmp : State::udp;
  n.forward = static_cast<u16>(to.place + 1);
  n.forward_port = port_from_host(forwarded_port(p));
  if (!is_plain_unicast(p.source) || !is_flow_key(n.inner)) return Reason::malformed;
  // A flow that has expired may still have the same remote endpoint.
  Key outer{p.destination, p.source, n.forward_port, n.inner.remote_port, p.protocol};
  u32 before = find_outer(w.tables, w.settings, outer, key_hash(w.settings, outer, kIn));
  if (before != kNoRecord) w.take_off_flow(before);
  w.making.hash = key_hash(w.settings, n.inner, kOut);
  return make_flow(w);
}

// An inner host sends something outside: does that open a forward for it?
template <class World>
MASQ_INLINE void note_control(World& w, const Packet& p) {
  ForwardMemory* memory = w.forwards();
  if (memory == nullptr || (p.kind != Kind::tcp && p.kind != Kind::udp)) return;
  u32 place = find_control(w, p.protocol, to_host(p.destination_port));
  if (place == kNoForward) return;
  forward_ask(memory->states[place & (kForwardsMax - 1)], p.source, p.destination, w.now);
}

// Which external address a host's new mapping gets on the interface of `external`: that of its
// one-to-one forward, if it has one there.
template <class World>
MASQ_INLINE u32 external_for(World& w, Ipv4 host, u32 external) {
  if (w.settings.forwards_generation != 0) {
    u32 place = find_inner_host(w, host);
    const ForwardTable* table = forwards_in_force(w);
    if (place != kNoForward && table != nullptr) {
      Ipv4 address = table->entries[place & (kForwardsMax - 1)].external;
      u32 ifindex = w.settings.externals[external & (kExternalsMax - 1)].ifindex;
      u32 own = external_of(w.settings, address, ifindex);
      if (own < kExternalsMax) return own;
    }
  }
  return paired_external(w, host, external);
}

// Should the new flow w.new_flow have its internal port outside?
template <class World>
MASQ_INLINE bool keeps_port(World& w) {
  if (w.settings.forwards_generation == 0) return false;
  const Key& key = w.new_flow.inner;
  return find_inner_host(w, key.near_address) != kNoForward ||
         keeps_source_port(w, key.protocol, to_host(key.remote_port));
}

}  // namespace masq
