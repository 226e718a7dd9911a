// The translation: one packet, one verdict. Pure but for the table: no clock, no randomness, no
// sending; all of that is the shell's (`World`, see core/world.h).
//
//   step_inside    came in on an inner interface
//   step_outside   came in on an external interface
//   step_forwarded  likewise, where it says so: no flow claims the packet, perhaps a forward does
//   step_leaving   about to leave on an external interface by the kernel's own path: the gateway's
//                  own traffic, and what it forwards for other interfaces
// What an inner host sends to another's external endpoint (hairpinning, RFC 4787 REQ-9) takes two
// steps: step_inside translates its source, then step_outside looks at it as if it came from
// outside.
//
// Inside to outside is translated or refused; inside to inside is routed; whatever is for the
// gateway itself goes to its stack. From outside only what a flow asked for goes in (address- and
// port-dependent filtering, RFC 4787 REQ-8), or what the filtering of its mapping lets in; a port
// of the pool that no socket of the gateway has answers nothing at all (RFC 5382 REQ-4a). RFC 4787,
// 5382 (REQ-8 for hairpinning), 5508 (REQ-3 to REQ-8, REQ-10), 3022.
#pragma once

#include "core/flows.h"
#include "core/forwarded.h"
#include "core/fragments.h"
#include "core/identification.h"
#include "core/judge.h"
#include "core/tcp.h"
#include "core/verdict.h"

namespace masq {

MASQ_INLINE Verdict refuse(Reason reason) {
  Verdict v{};
  v.action = Action::drop;
  v.reason = reason;
  return v;
}

MASQ_INLINE Verdict to_stack() {
  Verdict v{};
  v.action = Action::to_stack;
  return v;
}

// Refuses, and tells the sender, unless RFC 1812 section 4.3.2.7 forbids to answer such a packet.
template <class World>
MASQ_INLINE Verdict refuse_and_tell(World& w, const Packet& p, Reason reason, u8 type, u8 code,
                                    u16 mtu) {
  Verdict v = refuse(reason);
  if (p.kind == Kind::icmp_error || p.kind == Kind::fragment || p.options) return v;
  if (!is_plain_unicast(p.source) || w.interface.address.be == 0) return v;
  v.action = Action::icmp_error;
  v.icmp_type = type;
  v.icmp_code = code;
  v.icmp_mtu = mtu;
  v.icmp_source = w.interface.address;
  return v;
}

// What a rule refuses is told where the rule says so (REJECT). What it redirects goes to the stack.
template <class World>
MASQ_INLINE Verdict refuse_by_rules(World& w, const Packet& p, Reason reason) {
  if (reason == kRedirected) {
    w.rules().done = 1;
    return to_stack();
  }
  u8 tell = w.rules().said.tell;
  if (tell == 0 || reason != Reason::rules_deny) return refuse(reason);
  return refuse_and_tell(w, p, reason, kIcmpUnreachable, static_cast<u8>(tell - 1), 0);
}

// The last word about a step's verdict: what goes to the gateway's own stack, or comes from there
// (`chain` is output), and belongs to no flow has one chain to pass.
template <class World>
MASQ_INLINE Verdict unless_refused(World& w, const Packet& p, u32 chain, Verdict v) {
  bool own = v.action == Action::to_stack || v.action == Action::stack_and_slow;
  if (w.rules().generation == 0 || !own || w.rules().done) return v;
  Reason reason = w.judge_alone(p, chain);
  if (reason == Reason::none) return v;
  return chain == kChainInput ? refuse_by_rules(w, p, reason) : refuse(reason);
}

// To the slow path, if it is there and this packet may go; else it is refused. What is to be cut
// goes with the size of the next link.
template <class World>
MASQ_INLINE Verdict hand_over(World& w, const Packet& p, u16 mtu, Reason otherwise) {
  bool hold = p.kind == Kind::fragment && w.fragment.held;
  bool first = p.first_fragment && w.fragment.held;
  bool allowed = otherwise == Reason::too_big ? w.slow.may_cut : w.slow.allowed;
  if (!allowed || w.settings.slow_ifindex == 0) return refuse(otherwise);
  if (!slow_serves(w)) return refuse(Reason::slow_path_down);
  if (otherwise == Reason::fragment_without_first && !hold && !first)
    return refuse(Reason::fragment_table_full);
  if (!slow_admits(w, p)) return refuse(Reason::slow_path_busy);
  Verdict v{};
  v.action = Action::slow;
  v.slow_mtu = mtu;
  v.slow_hold = hold;
  return v;
}

// Likewise what nobody knows yet: is it for the gateway's own stack or for an inner host?
template <class World>
MASQ_INLINE Verdict to_stack_and_slow(World& w, const Packet& p) {
  if (p.kind != Kind::fragment || !w.fragment.held) return to_stack();
  Verdict v = w.hand_over(p, 0, Reason::fragment_without_first);
  if (v.action != Action::slow) return to_stack();
  v.action = Action::stack_and_slow;
  return v;
}

// A packet that could not be followed.
template <class World>
MASQ_INLINE Verdict not_followed(World& w, const Packet& p, Reason reason) {
  if (reason == Reason::fragment_without_first) return w.hand_over(p, 0, reason);
  return is_of_rules(reason) ? refuse_by_rules(w, p, reason) : refuse(reason);
}

// May this packet take another hop, and does it fit the next link? If not, `v` says what becomes of
// it. Asked before anything is made or remembered for the packet.
template <class World>
MASQ_INLINE bool can_go_on(World& w, const Packet& p, const Route& route, Verdict& v) {
  if (p.ttl <= 1) {
    v = refuse_and_tell(w, p, Reason::ttl_exceeded, kIcmpTimeExceeded, 0, 0);
    return false;
  }
  if (route.mtu == 0 || w.largest_datagram(p) <= route.mtu) return true;
  v = p.dont_fragment ? refuse_and_tell(w, p, Reason::too_big, kIcmpUnreachable,
                                        kIcmpCodeFragmentationNeeded, static_cast<u16>(route.mtu))
      : p.options     ? refuse(Reason::too_big)
                      : w.hand_over(p, static_cast<u16>(route.mtu), Reason::too_big);
  return false;
}

MASQ_INLINE Verdict send(const Route& route, Verdict v) {
  v.action = Action::forward;
  v.ifindex = route.ifindex;
  v.next_hop = route.next_hop;
  v.way = route.way;
  v.to_zone = route.zone;
  return v;
}

MASQ_INLINE Verdict translation(const Settings& s, const Record& r, u8 direction) {
  Verdict v{};
  v.translate = true;
  v.direction = direction;
  v.address = direction == kOut ? s.externals[r.external & (kExternalsMax - 1)].address
                                : r.internal_address;
  v.port = direction == kOut ? r.external_port : r.internal_port;
  return v;
}

// Both ends of a connection learn by the MSS option of the other's SYN how large their segments may
// be (RFC 9293 section 3.7.1). What they send each other passes the interface where the SYN comes
// in and that where it goes out, so it is lowered to the smaller of the two; then nobody depends on
// path MTU discovery (RFC 4459 section 3.2).
template <class World>
MASQ_INLINE u16 mss_most(World& w, const Packet& p, const Route& route) {
  if (p.kind != Kind::tcp || p.mss_at == 0 || w.settings.mss_clamp == kMssLeft) return 0;
  if (w.settings.mss_clamp != kMssByMtu) return w.settings.mss_clamp;
  const u32 headers = sizeof(Ipv4Header) + sizeof(TcpHeader);
  u32 mtu = w.interface.mtu;
  if (mtu == 0 || (route.mtu != 0 && route.mtu < mtu)) mtu = route.mtu;
  return mtu <= headers || mtu > 0xffff ? 0 : static_cast<u16>(mtu - headers);
}

// A packet of a known flow: its state and its timer.
template <class World>
MASQ_INLINE void touch(World& w, Record& r, const Packet& p, u32 direction) {
  if (r.state < State::udp) return;  // let in by a mapping alone: that has no timer
  bool refresh = direction == kOut;
  State before = r.state;
  if (p.kind == Kind::tcp) {
    refresh = tcp_track(r, direction, p, w.settings.filters_open != 0 || r.forward != 0);
    host_follow(w.tables, r, before);
  }
  if (p.kind == Kind::udp && direction == kIn) refresh = w.settings.udp_refresh_inbound != 0;
  // A new state's timer runs from this packet; otherwise the line is left alone for a while.
  if (refresh && (r.state != before || elapsed(w.now, r.last_seen, w.settings.refresh)))
    r.last_seen = w.now;
}

// May this packet begin a flow?
MASQ_INLINE Reason opens_flow(const Packet& p, State& state) {
  switch (p.kind) {
    case Kind::tcp:
      state = State::tcp_opening;
      return (p.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == kTcpSyn
                 ? Reason::none
                 : Reason::tcp_not_syn;
    case Kind::udp:
      state = State::udp;
      return Reason::none;
    case Kind::icmp_query:
      state = State::icmp;
      return Reason::none;
    case Kind::icmp_reply:
      return Reason::no_mapping;
    case Kind::icmp_error:
      return Reason::icmp_orphan;
    case Kind::fragment:
      return Reason::fragment_without_first;
    default:
      return p.protocol == kProtocolIcmp ? Reason::icmp_type : Reason::unsupported_protocol;
  }
}

// Is it from the midst of a connection that inner hosts may have had before the gateway knew any?
// An end is none: there would be nothing left to carry, but a stray RST or FIN to translate.
MASQ_INLINE bool is_midstream(const Packet& p) {
  return p.kind == Kind::tcp && (p.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == kTcpAck;
}

// The key under which an outgoing packet's flow is found. For an ICMP error from inside it is that
// of the quoted packet, which came from outside and was addressed to the inner host.
MASQ_INLINE Key outgoing_key(const Packet& p) {
  if (p.kind == Kind::icmp_error) {
    bool icmp = p.quoted_protocol == kProtocolIcmp;
    return Key{p.quoted_destination, p.quoted_source, p.quoted_destination_port,
               icmp ? Port{0} : p.quoted_source_port, p.quoted_protocol};
  }
  if (p.kind == Kind::icmp_reply)  // to a query that a forward has let in
    return Key{p.source, p.destination, p.destination_port, Port{0}, p.protocol};
  return Key{p.source, p.destination, p.source_port, p.destination_port, p.protocol};
}

// Likewise for a packet from outside; a quoted packet there is one that we sent.
MASQ_INLINE Key incoming_key(const Packet& p) {
  if (p.kind == Kind::icmp_error) {
    bool icmp = p.quoted_protocol == kProtocolIcmp;
    return Key{p.quoted_source, p.quoted_destination, p.quoted_source_port,
               icmp ? Port{0} : p.quoted_destination_port, p.quoted_protocol};
  }
  if (p.kind == Kind::icmp_query)
    return Key{p.destination, p.source, p.source_port, Port{0}, p.protocol};
  return Key{p.destination, p.source, p.destination_port, p.source_port, p.protocol};
}

// Could this be an inner host's answer to what its filtering let in without a flow? Then it makes
// one, or is an error about it.
MASQ_INLINE bool answers_stranger(const Packet& p) {
  return p.kind == Kind::icmp_error ||
         (p.kind == Kind::tcp &&
          (p.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == (kTcpSyn | kTcpAck));
}

// The mapping of an internal endpoint, if it lets in others than those that were asked.
template <class World>
MASQ_INLINE u32 open_mapping_of(World& w, const Key& flow, u32 external) {
  Key key = mapping_key(flow);
  u32 index = find_mapping(w.tables, key, key_hash(w.settings, key, kOut), external);
  Record* m = index == kNoRecord ? nullptr : record_at(w.tables, index);
  return m != nullptr && (m->flags & (kFlagOpenToAddress | kFlagOpenToAll)) ? index : kNoRecord;
}

// Does the connection that this segment belongs to end, because others have replaced its external
// address? A SYN begins it anew, by another address; a RST has ended it already.
template <class World>
MASQ_INLINE bool is_of_replaced(World& w, const Packet& p) {
  u32 before = w.making.before;
  const Record* r = before == kNoRecord ? nullptr : record_at(w.tables, before);
  if (r == nullptr || w.settings.resets_replaced == 0 || p.kind != Kind::tcp) return false;
  return (p.tcp_flags & (kTcpAck | kTcpRst)) == kTcpAck && r->state >= State::tcp_opening &&
         w.settings.externals[r->external & (kExternalsMax - 1)].state == kExternalReplaced;
}

// May the packet begin the flow w.new_flow, whose state and external address this sets? Strictly
// (RFC 3704 section 2.2): only if an answer would go back to where it came from. An error about
// what came in by a mapping alone begins none: w.making.flow is then that mapping.
template <class World>
MASQ_INLINE Reason may_open(World& w, const Packet& p) {
  NewFlow& n = w.new_flow;
  w.making.flow = kNoRecord;
  if (!(n.flags & kFlagLocal) && is_of_replaced(w, p)) return Reason::address_replaced;
  if (!(n.flags & kFlagLocal)) {
    n.external = w.external_for(n.inner.near_address, n.external);
    n.keep_port = keeps_port(w);
  }
  Reason reason = opens_flow(p, n.state);
  if (w.settings.filters_open && answers_stranger(p)) {
    u32 mapping = open_mapping_of(w, n.inner, n.external);
    if (mapping != kNoRecord) reason = Reason::none;
    if (p.kind == Kind::icmp_error) w.making.flow = mapping;
  }
  if (w.settings.takes_streams && !(n.flags & kFlagLocal) && is_midstream(p)) reason = Reason::none;
  if (reason != Reason::none) return reason;
  if (p.options) return Reason::ip_options;  // as in follow(); nothing is made for it
  if (n.flags & kFlagLocal) return Reason::none;
  Route back;
  w.route(p.source, p.destination, back);
  return back.kind == RouteKind::forward && back.zone == Zone::inside &&
                 back.ifindex == w.ifindex && is_plain_unicast(p.source)
             ? Reason::none
             : Reason::spoofed_source;
}

// The mapping by which a packet comes in that belongs to no flow: nothing is made for it, and it
// keeps nothing alive (RFC 4787 REQ-6). An answer makes the flow.
template <class World>
MASQ_INLINE u32 mapping_open_to(World& w, const Packet& p, const Key& flow) {
  if (p.kind != Kind::tcp && p.kind != Kind::udp) return kNoRecord;
  Key key{flow.near_address, Ipv4{0}, flow.near_port, Port{0}, flow.protocol};
  u32 index = find_outer(w.tables, w.settings, key, key_hash(w.settings, key, kIn));
  Record* m = index == kNoRecord ? nullptr : record_at(w.tables, index);
  if (m == nullptr) return kNoRecord;
  if (m->flags & kFlagOpenToAll) return index;
  if (!(m->flags & kFlagOpenToAddress)) return kNoRecord;
  key.remote_address = flow.remote_address;
  u32 permission = find_outer(w.tables, w.settings, key, key_hash(w.settings, key, kIn));
  return permission == kNoRecord ? kNoRecord : index;
}

// Does the flow leave as what has the source or the way out `external` must? An inner host's may
// have any address of that interface, the gateway's own that address alone.
MASQ_INLINE bool leaves_by(const Settings& s, const Record& r, u32 external, u8 flags) {
  if (flags & kFlagLocal) return r.external == external;
  // The verifier before Linux 6.5 forgets how small the number is where it is spilt.
  return s.externals[r.external & (kExternalsMax - 1)].ifindex ==
         s.externals[opaque(external) & (kExternalsMax - 1)].ifindex;
}

// The flow of an outgoing packet, made if need be; kNoRecord with a reason.
template <class World>
MASQ_INLINE Reason outgoing_flow(World& w, const Packet& p, u32 external, u8 flags, u32& index) {
  if (p.kind == Kind::fragment) {
    index = w.fragment.record;
    return index == kNoRecord ? Reason::fragment_without_first : Reason::none;
  }
  // What has no endpoints of its own must not be taken for a flow whose ports are zero too.
  State state = State::udp;
  if (p.kind == Kind::other) return opens_flow(p, state);
  Key key = outgoing_key(p);
  if (!is_flow_key(key)) return Reason::malformed;
  u64 hash = key_hash(w.settings, key, kOut);
  index = find_inner(w.tables, key, hash);
  Record* r = index == kNoRecord ? nullptr : record_at(w.tables, index);
  // An answer of ICMP is one to a query that a forward has let in.
  bool fits = r != nullptr && (p.kind != Kind::icmp_reply || r->forward != 0);
  if (fits && in_force(w.settings, *r, w.now) && leaves_by(w.settings, *r, external, flags))
    return Reason::none;
  w.making.before = index;
  index = kNoRecord;
  begin_new_flow(w.new_flow, key, external, flags);
  w.making.hash = hash;
  Reason reason = w.may_open(p);
  // What is redirected has no flow: so its later segments are asked about too.
  bool asked = reason == Reason::none || reason == Reason::tcp_not_syn;
  if (asked && w.rules().generation != 0 && !(flags & kFlagLocal)) {
    Reason judged = w.judge_new(p, w.new_flow.external);
    if (reason == Reason::none || judged == kRedirected) reason = judged;
  }
  if (reason == Reason::none && w.making.flow == kNoRecord) {
    if (w.making.before != kNoRecord) w.take_off_waiting(w.making.before);
    reason = make_flow(w);
  }
  if (reason != Reason::none) return reason;
  index = w.making.flow;
  r = record_at(w.tables, index);
  if (r != nullptr && p.kind == Kind::tcp && !(r->flags & kFlagSeenOut)) tcp_begin(*r, p);
  return Reason::none;
}

// After the flow is known and the rules have let the packet pass: account for it and say how it
// changes.
template <class World>
MASQ_INLINE Reason follow(World& w, const Packet& p, u32 index, u8 direction, Verdict& v) {
  Record* r = record_at(w.tables, index);
  if (r == nullptr) return Reason::internal_error;
  if (p.options) return Reason::ip_options;
  if (p.kind == Kind::icmp_error) {
    // RFC 5508 REQ-6: says nothing about the session. It must go to the end that the quoted packet
    // came from, else it is a forgery.
    Ipv4 expected = r->state == State::mapping ? p.quoted_source
                    : direction == kOut
                        ? r->remote_address
                        : w.settings.externals[r->external & (kExternalsMax - 1)].address;
    if (!same(p.destination, expected)) return Reason::icmp_orphan;
  } else if (p.kind != Kind::fragment) {
    touch(w, *r, p, direction);
  }
  if (direction == kOut && w.settings.forwards_control) w.note_control(p);
  v = translation(w.settings, *r, direction);
  // What keeps its address and port is the gateway's own, and keeps the kernel's identification.
  v.rewrite_id = direction == kOut && !is_atomic(p) &&
                 !((r->flags & kFlagLocal) && same(r->external_port, r->internal_port));
  if (p.kind == Kind::fragment)
    v.new_id = w.fragment.new_id;
  else if (v.rewrite_id)
    v.new_id = take_identification(w, v.address, p);
  if (!p.first_fragment) return Reason::none;
  return fragment_remember(w, p, direction, index, r->version, v.new_id);
}

// The RST that ends the connection has the number that its sender expects next (RFC 9293 section
// 3.10.7.1), so it takes effect at once (RFC 5961 section 3.2).
MASQ_INLINE Verdict refuse_and_reset(const Packet& p, Reason reason) {
  Verdict v = refuse(reason);
  if (!p.options && is_plain_unicast(p.source)) v.action = Action::reset;
  return v;
}

template <class World>
MASQ_INLINE Verdict cannot_open(World& w, const Packet& p, Reason reason) {
  if (reason == Reason::address_replaced) return refuse_and_reset(p, reason);
  if (is_of_rules(reason)) return refuse_by_rules(w, p, reason);
  // RFC 5508 REQ-8: tell the host when no session can be made for it. These reasons stand together.
  if (reason >= Reason::flow_table_full && reason <= Reason::hosts_full)
    return refuse_and_tell(w, p, reason, kIcmpUnreachable, kIcmpCodeProhibited, 0);
  return refuse(reason);
}

// Is this port of an external address one that a mapping could have, and no socket of ours?
template <class World>
MASQ_INLINE bool is_pool_port(World& w, const Packet& p) {
  if (p.kind != Kind::tcp && p.kind != Kind::udp) return false;
  return in_pool(w.settings, to_host(p.destination_port)) &&
         !w.port_has_socket(p.protocol, p.destination, p.destination_port, p.source, p.source_port);
}

// Does a packet from inside to an external address want to go to an inner host (RFC 4787 REQ-9),
// and not to the gateway itself?
template <class World>
MASQ_INLINE bool is_hairpin(World& w, const Packet& p) {
  if (!w.is_outer_address(p.destination)) return false;
  if (p.kind == Kind::fragment) return w.find_fragment(p, kOut) != kNoRecord;
  // The second half sees it with the external address as its source.
  if (is_pool_port(w, p) || forward_of_endpoint(w, p, p.destination) != kNoForward) return true;
  if (p.kind != Kind::icmp_error && w.settings.forwards_generation == 0) return false;
  Key key = outgoing_key(p);
  if (key.remote_address.be == 0) return false;
  u32 index = find_inner(w.tables, key, key_hash(w.settings, key, kOut));
  const Record* r = index == kNoRecord ? nullptr : record_at(w.tables, index);
  if (r == nullptr || p.kind == Kind::icmp_error) return r != nullptr;
  // Once a forward has led it on, or is answered.
  return in_force(w.settings, *r, w.now) && (p.kind != Kind::icmp_reply || r->forward != 0);
}

// By which external address it does: one without mappings is kExternalsMax, no hairpin kNothing.
template <class World>
MASQ_INLINE u32 hairpin_external(World& w, const Packet& p) {
  return is_hairpin(w, p) ? external_of(w.settings, p.destination, 0) : kNothing;
}

// The way out to an external interface; with `hairpin`, only up to it.
template <class World>
MASQ_INLINE Verdict translate_out(World& w, const Packet& p, const Route& route, bool hairpin) {
  Verdict v{};
  if (route.external >= kExternalsMax) return refuse(Reason::no_external_address);
  if (p.kind == Kind::fragment && !hairpin) w.find_fragment(p, kOut);
  if (!can_go_on(w, p, route, v)) return v;
  u32 flow = kNoRecord;
  Reason reason = outgoing_flow(w, p, route.external, 0, flow);
  if (reason == Reason::fragment_without_first) return w.hand_over(p, 0, reason);
  if (reason != Reason::none) return cannot_open(w, p, reason);
  // A flow of the gateway itself is not an inner host's to use, whatever source it writes.
  const Record* r = record_at(w.tables, flow);
  if (r != nullptr && (r->flags & kFlagLocal)) return refuse(Reason::spoofed_source);
  reason = w.follow(p, flow, kOut, 0, v);
  if (reason != Reason::none) return not_followed(w, p, reason);
  v = send(route, v);
  v.mss_most = mss_most(w, p, route);
  if (hairpin) v.action = Action::hairpin;
  return v;
}

// Why there is no route: with the last external address its routes go too.
MASQ_INLINE Reason no_way(const Settings& s) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kExternalsMax; ++i)
    if (s.externals[i].state == kExternalLive) return Reason::no_route;
  return Reason::no_external_address;
}

// Can its source not be where it came from? It is no host's, one of the gateway's own, or an answer
// would go to the `wrong` side, of which Zone::other is none (RFC 1812 section 5.3.8, RFC 2827).
template <class World>
MASQ_INLINE bool is_forged(World& w, const Packet& p, Zone wrong) {
  if (!is_plain_unicast(p.source)) return true;
  Route back;
  w.route(p.source, p.destination, back);
  if (back.kind != RouteKind::forward || wrong == Zone::other) return back.kind == RouteKind::local;
  return back.zone == wrong;
}

template <class World>
MASQ_INLINE Verdict step_inside(World& w, const Packet& p, Reason parsed) {
  if (parsed == Reason::malformed) return refuse(parsed);
  if (is_multicast(p.destination) || is_broadcast(p.destination)) return to_stack();
  Route route;
  w.route(p.destination, p.source, route);
  u32 hairpin = route.kind == RouteKind::local ? w.hairpin_external(p) : kNothing;
  if (route.kind == RouteKind::local && hairpin == kNothing)
    return w.is_forged(p, Zone::outside) ? refuse(Reason::spoofed_source) : to_stack_and_slow(w, p);
  if (hairpin != kNothing) {
    if (hairpin >= kExternalsMax) return refuse(Reason::no_mapping);
    // The way out ends before the external link, whose size therefore does not matter.
    route.zone = Zone::outside;
    route.external = hairpin;
    route.ifindex = w.settings.externals[hairpin & (kExternalsMax - 1)].ifindex;
  }
  bool other = route.kind == RouteKind::forward && route.zone == Zone::other;
  if (other && w.interface.kernel.forwards) return to_stack();
  if (!other && route.kind == RouteKind::none && w.awaits_address()) return refuse(w.no_way());
  if (other || route.kind == RouteKind::none)
    return refuse_and_tell(w, p, other ? Reason::other_interface : w.no_way(), kIcmpUnreachable,
                           kIcmpCodeNetUnreachable, 0);
  Verdict v{};
  if (route.zone == Zone::inside) {
    if (!can_go_on(w, p, route, v)) return v;
    Reason reason = w.rules().generation == 0 ? Reason::none : w.judge_between(p, route.ifindex);
    return reason == Reason::none ? send(route, v) : refuse_by_rules(w, p, reason);
  }
  if (parsed != Reason::none) return refuse(parsed);
  return translate_out(w, p, route, hairpin != kNothing);
}

MASQ_INLINE bool has_dhcp_reply_ports(const Packet& p) {
  return p.kind == Kind::udp && p.source_port.be == swap16(67) &&
         p.destination_port.be == swap16(68);
}

// A DHCP server answers to the address that the gateway has or is about to get (RFC 2131
// section 4.1), and the client may listen below the sockets. Never to an inner address.
template <class World>
MASQ_INLINE bool is_dhcp_reply(World& w, const Packet& p) {
  if (!has_dhcp_reply_ports(p) || !is_plain_unicast(p.source)) return false;
  if (w.is_outer_address(p.destination)) return true;
  Route route;
  w.route(p.destination, p.source, route);
  if (route.kind == RouteKind::local) return false;  // the inner leg
  return route.kind == RouteKind::none || route.zone != Zone::inside;
}

// A packet from outside that no flow claims: for the gateway itself, or refused.
template <class World>
MASQ_INLINE Verdict unclaimed(World& w, const Packet& p, Reason parsed) {
  if (is_dhcp_reply(w, p)) return to_stack();
  if (!w.is_outer_address(p.destination)) return refuse(Reason::not_for_us);
  if (p.kind == Kind::icmp_reply) return refuse(Reason::no_mapping);
  // An error about something that we sent for an inner host is not for our own sockets.
  if (p.kind == Kind::icmp_error && !same(p.quoted_source, p.destination))
    return refuse(Reason::icmp_orphan);
  if (is_pool_port(w, p)) return refuse(Reason::no_mapping);
  if (parsed == Reason::malformed) return refuse(parsed);
  // Asked last: the question costs a look at the routes, and most strangers are refused by now.
  if (!w.is_second_half() && w.is_forged(p, Zone::inside)) return refuse(Reason::spoofed_source);
  return to_stack_and_slow(w, p);
}

// Is a packet from outside forged that came to a group? A host that has no address yet may speak to
// one (RFC 2131 section 4.1), and so may a provider's DHCP server, whatever address it has: its
// client answers to the broadcast address, or to one that the message names.
template <class World>
MASQ_INLINE bool is_forged_to_group(World& w, const Packet& p) {
  if (p.source.be == 0) return false;
  if (has_dhcp_reply_ports(p)) return !is_plain_unicast(p.source);
  return w.is_forged(p, Zone::inside);
}

// And one that came to a flow, or to a mapping that lets it in? The remote endpoint of a flow is
// one that an inner host has named; only by hairpinning it may be the gateway's own. An error may
// come from anybody on the way (RFC 5508 REQ-4), and providers' routers have private addresses.
template <class World>
MASQ_INLINE bool is_forged_to_record(World& w, const Packet& p, const Record& r) {
  if (w.is_second_half()) return false;
  if (p.kind == Kind::icmp_error) return w.is_forged(p, Zone::other);
  if (r.state >= State::udp) return external_of(w.settings, p.source, 0) < kExternalsMax;
  return w.is_forged(p, Zone::inside);
}

// Could a forward lead it on?
template <class World>
MASQ_INLINE bool asks_forwards(World& w, const Packet& p, Reason parsed) {
  return w.settings.forwards_generation != 0 && parsed == Reason::none && may_begin_outside(p);
}

MASQ_INLINE Verdict ask_forwards() {
  Verdict v{};
  v.action = Action::forwards;
  return v;
}

template <class World>
MASQ_INLINE Verdict step_outside(World& w, const Packet& p, Reason parsed) {
  if (parsed == Reason::malformed) return refuse(parsed);
  if (is_multicast(p.destination) || is_broadcast(p.destination))
    return is_forged_to_group(w, p) ? refuse(Reason::spoofed_source) : to_stack();
  u32 index = kNoRecord;
  if (p.kind == Kind::fragment) {
    if (w.is_outer_address(p.destination)) index = w.find_fragment(p, kIn);
  } else if (parsed == Reason::none && p.kind != Kind::other &&
             (p.kind != Kind::icmp_query || w.settings.forwards_generation != 0)) {
    Key key = incoming_key(p);
    if (is_flow_key(key))
      index = find_outer(w.tables, w.settings, key, key_hash(w.settings, key, kIn));
    Record* found = index == kNoRecord ? nullptr : record_at(w.tables, index);
    if (p.kind == Kind::icmp_query && found != nullptr && found->forward == 0) index = kNoRecord;
    if (w.settings.filters_open && is_flow_key(key) &&
        (found == nullptr || !in_force(w.settings, *found, w.now)))
      index = mapping_open_to(w, p, key);
  }
  Record* r = index == kNoRecord ? nullptr : record_at(w.tables, index);
  if (r == nullptr || !in_force(w.settings, *r, w.now) ||
      w.settings.externals[r->external & (kExternalsMax - 1)].ifindex != w.ifindex)
    return asks_forwards(w, p, parsed) ? ask_forwards() : unclaimed(w, p, parsed);
  if (is_forged_to_record(w, p, *r)) return refuse(Reason::spoofed_source);
  bool local = r->flags & kFlagLocal;
  Verdict v{};
  Route route{};
  if (!local) {
    w.route(r->internal_address, p.source, route);
    if (route.kind != RouteKind::forward || route.zone != Zone::inside)
      return refuse(Reason::wrong_zone);
    if (!can_go_on(w, p, route, v)) return v;
  }
  Reason reason = w.follow(p, index, kIn, route.ifindex, v);
  if (reason != Reason::none) return not_followed(w, p, reason);
  if (!local) {
    v.mss_most = mss_most(w, p, route);
    return send(route, v);
  }
  v.action = Action::to_stack;
  return v;
}

// A packet from outside that no flow claims, where there are forwards.
template <class World>
MASQ_INLINE Verdict step_forwarded(World& w, const Packet& p) {
  u32 external = external_of(w.settings, p.destination, w.ifindex);
  u32 place = external < kExternalsMax ? w.forward_of(p) : kNoForward;
  if (place == kNoForward) return unclaimed(w, p, Reason::none);
  if (!w.is_second_half() && w.is_forged(p, Zone::inside)) return refuse(Reason::spoofed_source);
  if (p.options) return refuse(Reason::ip_options);
  w.choose_target(p, place);
  Verdict v{};
  Route route{};
  w.route(w.forward_choice().address, p.source, route);
  if (route.kind != RouteKind::forward || route.zone != Zone::inside)
    return refuse(Reason::wrong_zone);
  if (!can_go_on(w, p, route, v)) return v;
  Reason reason = w.rules().generation == 0 ? Reason::none : w.judge_forwarded(p, route.ifindex);
  if (reason == Reason::none) reason = w.make_forwarded(p, external);
  if (reason == Reason::none) reason = w.follow(p, w.making.flow, kIn, route.ifindex, v);
  if (reason != Reason::none) return not_followed(w, p, reason);
  v.mss_most = mss_most(w, p, route);
  return send(route, v);
}

// The second half of a hairpin goes back inside or nowhere: the gateway's own stack has nothing to
// do with it.
MASQ_INLINE Verdict stay_inside(Verdict v) {
  return v.action == Action::to_stack ? refuse(Reason::no_mapping) : v;
}

// Is it of a flow of the gateway's own, which has another port outside as long as it lives?
template <class World>
MASQ_INLINE bool has_own_flow(World& w, const Packet& p) {
  Key key = outgoing_key(p);
  u32 index = find_inner(w.tables, key, key_hash(w.settings, key, kOut));
  const Record* r = index == kNoRecord ? nullptr : record_at(w.tables, index);
  return r != nullptr && (r->flags & kFlagLocal) && in_force(w.settings, *r, w.now);
}

// May the gateway itself send this without a mapping? Yes from ports that no mapping can have.
template <class World>
MASQ_INLINE bool needs_mapping(World& w, const Packet& p, u32 external) {
  if (p.kind == Kind::icmp_query) return true;
  if (p.kind == Kind::fragment) return w.find_fragment(p, kOut) != kNoRecord;
  if (p.kind != Kind::tcp && p.kind != Kind::udp) return false;
  u16 port = to_host(p.source_port);
  if (!in_pool(w.settings, port)) return false;
  // A socket keeps its port from being given to others, unless they had it before it was opened.
  if (!w.port_has_socket(p.protocol, p.source, p.source_port, Ipv4{0}, Port{0})) return true;
  if (port_is_used(pool_of(w.tables, external, p.protocol), port)) return true;
  if (w.has_own_flow(p)) return true;
  begin_new_flow(w.new_flow, outgoing_key(p), external, 0);
  return p.kind == Kind::tcp && w.is_taken_outside(port);
}

// `external`: which external address the packet's source is, or kExternalsMax if none.
// Only for packets that masq has not sent itself.
template <class World>
MASQ_INLINE Verdict step_leaving(World& w, const Packet& p, Reason parsed, u32 external) {
  if (external >= kExternalsMax) return refuse(Reason::egress_guard);
  if (parsed != Reason::none || !needs_mapping(w, p, external)) return to_stack();
  u32 flow = kNoRecord;
  Reason reason = outgoing_flow(w, p, external, kFlagLocal, flow);
  // A local server's answer, or the middle of a connection that began before masq did: its port is
  // its own, there is nothing to translate.
  if (reason == Reason::tcp_not_syn) return to_stack();
  if (reason != Reason::none) return refuse(reason);
  Verdict v{};
  reason = w.follow(p, flow, kOut, 0, v);
  if (reason != Reason::none) return refuse(reason);
  v.action = Action::to_stack;
  if (same(v.port, p.source_port)) v.translate = false;
  return v;
}

}  // namespace masq
