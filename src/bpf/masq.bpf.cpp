// The tc programs: the kernel's shell round the core.
//
//   masq_inside    ingress of inner interfaces      masq_outside   ingress of external interfaces
//   masq_leaving   egress of external interfaces    masq_entering  egress of inner interfaces
//   masq_from_slow  ingress of the device that leads to the slow path (core/slow.h): what comes
//                   back goes on in masq_inside or masq_outside, as if it came in where it first
//                   did
//   masq_sweep_start   run once by the daemon: starts the timer that sweeps the table
//
// Every packet that is sent on passes one last check (`last_check`): towards outside its source
// must be an external address. The egress programs check again what comes on the kernel's own path.
// License: Apache-2.0 or GPL-2.0, at your choice; the kernel wants to be told the latter.
#include "bpf/checksum_state.h"
#include "bpf/forwarding.h"
#include "bpf/judging.h"
#include "bpf/resetting.h"
#include "bpf/sending.h"
#include "core/rewrite.h"

namespace masq::bpf {

inline constexpr u32 kHeadersUsual = 40;  // IPv4 and TCP without options
inline constexpr u32 kHeadersMost = 168;  // IPv4, ICMP, quoted IPv4 with options, quoted TCP
inline constexpr u32 kSweepTurn_ms = 4000;
inline constexpr u32 kSweepTick_ms = 16;

extern "C" {
u32 masq_to_slow(__sk_buff* skb, u32 hook);
u32 masq_lower_mss(__sk_buff* skb, u32 hook);
}

MASQ_INLINE Reason read_packet(__sk_buff* skb, u32 l3, Packet& p) {
  make_readable(skb, l3, kHeadersUsual);
  Bytes bytes = bytes_of(skb);
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, l3);
  if (ip == nullptr) return Reason::malformed;
  bool more = ip->protocol == kProtocolIcmp || ip->version_ihl != 0x45;
  TcpHeader* tcp = header_at<TcpHeader>(bytes, l3 + sizeof(Ipv4Header));
  bool syn = ip->protocol == kProtocolTcp && tcp != nullptr && (tcp->flags & kTcpSyn);
  if (more || syn) make_readable(skb, l3, kHeadersMost);
  Reason reason = parse(bytes_of(skb), l3, skb->len, p);
  p.segments = skb->gso_segs > 1 ? static_cast<u16>(skb->gso_segs) : 1;
  p.window_scale = 0xff;
  if (reason == Reason::none && syn && !p.options) read_syn_options(bytes_of(skb), p);
  return reason;
}

MASQ_INLINE bool translate_transport(__sk_buff* skb, const Packet& p, const Verdict& v) {
  if (p.kind == Kind::fragment) return true;
  if (p.kind == Kind::icmp_query || p.kind == Kind::icmp_reply)
    return rewrite_icmp_id(bytes_of(skb), p, v);
  if (p.kind == Kind::icmp_error) return rewrite_quoted(bytes_of(skb), p, v);
  Checksum state = checksum_state(skb);
  if (state == Checksum::none || state == Checksum::unnecessary)
    return rewrite_transport(bytes_of(skb), p, v, true);
  // The kernel must learn of the change: the pseudo header's part holds for a partial checksum as
  // well, the port's part does not, since that is summed up later. The helper knows.
  if (!rewrite_transport(bytes_of(skb), p, v, false)) return false;
  bool tcp = p.kind == Kind::tcp;
  u32 checksum = p.l4 + (tcp ? 16 : 6);
  u64 flags = tcp ? 0 : BPF_F_MARK_MANGLED_0;
  Ipv4 old_address = v.direction == kOut ? p.source : p.destination;
  Port old_port = v.direction == kOut ? p.source_port : p.destination_port;
  if (l4_checksum_replace(skb, checksum, old_address.be, v.address.be,
                          BPF_F_PSEUDO_HDR | flags | 4))
    return false;
  if (state == Checksum::partial) return true;
  return l4_checksum_replace(skb, checksum, old_port.be, v.port.be, flags | 2) == 0;
}

MASQ_INLINE bool translate(__sk_buff* skb, u32 hook, const Packet& p, const Verdict& v) {
  if (!rewrite_ipv4(bytes_of(skb), p, v)) return false;
  if (v.mss_most != 0 && masq_lower_mss(skb, hook)) return false;
  return !v.translate || translate_transport(skb, p, v);
}

// Turns the packet into the ICMP error about itself and sends it back where it came from.
MASQ_INLINE u32 send_icmp_error(__sk_buff* skb, KernelWorld& w, const Packet& p, const Verdict& v) {
  drop(skb, w.hook, v.reason);
  if (!answer_allowed(read_clock(w.settings))) return kTcShot;
  u32 l3 = p.l3;
  u32 quoted = p.total_length > kQuoteMax ? kQuoteMax : p.total_length;
  bool partial = checksum_state(skb) == Checksum::partial;
  if (change_tail(skb, l3 + quoted, 0)) return kTcShot;
  make_readable(skb, l3, quoted);
  u32 headers = p.l4 - p.l3;
  u16 sum;
  if (partial && (p.kind == Kind::tcp || p.kind == Kind::udp)) {
    // The kernel will fill in the quoted transport checksum over what is left of the packet. Then
    // that part sums up to the complement of the pseudo header's sum, which is in the field now.
    u16* field = header_at<u16>(bytes_of(skb), p.l4 + (p.kind == Kind::tcp ? 16 : 6));
    if (field == nullptr) return kTcShot;
    u16 pseudo = *field;
    sum = checksum_fold(static_cast<u64>(quote_sum(bytes_of(skb), l3, headers)) +
                        static_cast<u16>(~pseudo));
  } else {
    sum = quote_sum(bytes_of(skb), l3, quoted);
  }
  if (adjust_room(skb, kIcmpErrorHeaders, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
    return kTcShot;
  make_readable(skb, l3, kIcmpErrorHeaders);
  Bytes bytes = bytes_of(skb);
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, l3);
  IcmpHeader* icmp = header_at<IcmpHeader>(bytes, l3 + sizeof(Ipv4Header));
  if (ip == nullptr || icmp == nullptr) return kTcShot;
  fill_icmp_error(*ip, *icmp, p, v, quoted, sum);
  Route back;
  w.route(p.source, v.icmp_source, back);
  // The error goes to the external address that an inner host has lent.
  if (w.scratch.hairpin_ifindex != 0) {
    count(Traffic::icmp_errors_sent, 1);
    return again(skb, w.settings, w.ifindex);
  }
  if (back.kind != RouteKind::forward || back.ifindex != w.ifindex) return kTcShot;
  if (back.zone != Zone::inside &&
      external_of(w.settings, v.icmp_source, back.ifindex) == kExternalsMax)
    return drop(skb, w.hook, Reason::egress_guard);
  count(Traffic::icmp_errors_sent, 1);
  return send_to(skb, w, l3, back.ifindex, back.next_hop);
}

MASQ_INLINE void count_translated(__sk_buff* skb, const Verdict& v, u32 l3) {
  Counters* c = counters();
  if (c == nullptr) return;
  bool out = v.direction == kOut;
  Traffic what = !v.translate ? Traffic::routed
                 : out        ? Traffic::translated_out
                              : Traffic::translated_in;
  Traffic its_bytes = out ? Traffic::translated_out_bytes : Traffic::translated_in_bytes;
  c->traffic[static_cast<u32>(what)] += skb->gso_segs > 1 ? skb->gso_segs : 1;
  if (v.translate) c->traffic[static_cast<u32>(its_bytes)] += skb->len - l3;
}

MASQ_INLINE u32 carry_out(__sk_buff* skb, KernelWorld& w, const Packet& p, const Verdict& v) {
  if (w.rules().generation != 0 &&
      (v.action == Action::to_stack || v.action == Action::forward || v.action == Action::hairpin))
    masq_do_as_said(skb, w.hook);
  switch (v.action) {
    case Action::to_stack:
      if (w.scratch.slow_ifindex != 0) return drop(skb, w.hook, reason_of_nobodys(p));
      if (!v.translate) {
        count(Traffic::local, 1);
        return kTcOk;
      }
      count(Traffic::local_translated, 1);
      return translate(skb, w.hook, p, v) ? kTcOk : drop(skb, w.hook, Reason::internal_error);
    case Action::forward:
    case Action::hairpin:
      break;
    case Action::icmp_error:
      return send_icmp_error(skb, w, p, v);
    case Action::reset:
      drop(skb, w.hook, v.reason);
      return masq_find_way_back(skb, w.hook) ? masq_send_reset(skb, w.hook) : kTcShot;
    case Action::slow:
    case Action::stack_and_slow:
      return masq_to_slow(skb, w.hook);
    default:
      return drop(skb, w.hook, v.reason);
  }
  if (!translate(skb, w.hook, p, v)) return drop(skb, w.hook, Reason::internal_error);
  if (!last_check(skb, w.settings, p.l3, v)) return drop(skb, w.hook, Reason::egress_guard);
  count_translated(skb, v, p.l3);
  if (v.action == Action::hairpin) return again(skb, w.settings, v.ifindex);
  return forward_to(skb, w, p.l3, v);
}

// A frame with a VLAN tag belongs to the VLAN's own interface. But the tag of VLAN 0 only carries a
// priority, and the kernel takes such a frame for an untagged one (IEEE 802.1Q section 6.9.1): so
// do we, without the tag.
MASQ_INLINE bool is_of_a_vlan(__sk_buff* skb) {
  if (!skb->vlan_present) return false;
  if ((skb->vlan_tci & 0x0fff) != 0) return true;
  return vlan_pop(skb) != 0;
}

// A promiscuous interface shows what is between other hosts too. The kernel's stack loses it.
MASQ_INLINE bool is_for_others(const __sk_buff* skb) {
  if (skb->pkt_type != kPacketToOthers) return false;
  const Settings* settings = first_of<Settings>(mq_settings);
  return settings == nullptr || skb->ifindex != settings->slow_ifindex;
}

MASQ_INLINE bool is_arp_for_others(__sk_buff* skb, u32 l3, bool leaving) {
  make_readable(skb, l3, sizeof(ArpIpv4));
  ArpIpv4* arp = header_at<ArpIpv4>(bytes_of(skb), l3);
  if (arp == nullptr) return true;
  u32 asked = leaving ? arp->sender.be : arp->target.be;
  if (asked == 0) return false;  // a probe before an address is taken (RFC 5227)
  if (!leaving && (arp->operation != kArpRequest || same(arp->sender, arp->target))) return false;
  return own_address(Ipv4{asked}) != kOwnOuter;
}

// Functions of their own: the verifier walks each once, not once per way that leads to it. They
// find everything in the scratch of their hook.
extern "C" {

__attribute__((noinline)) u32 masq_read(__sk_buff* skb, u32 hook, u32 l3) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr || l3 > kEthernetHeaderLength)
    return static_cast<u32>(Reason::internal_error);
  rules_clear(*settings, scratch->rules, came_in(skb, *scratch));
  return static_cast<u32>(read_packet(skb, l3, scratch->packet));
}

// 0 if all went well, also where there was nothing to lower.
__attribute__((noinline)) u32 masq_lower_mss(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  if (scratch == nullptr) return 1;
  const Packet& p = scratch->packet;
  u16 before = 0, now = 0;
  if (!lower_mss(bytes_of(skb), p, scratch->verdict, before, now)) return 0;
  Checksum state = checksum_state(skb);
  if (state == Checksum::partial) return 0;  // it is summed up later
  if (state == Checksum::none || state == Checksum::unnecessary) {
    change_tcp_checksum(bytes_of(skb), p, before, now);
    return 0;
  }
  return l4_checksum_replace(skb, p.l4 + 16u, before, now, 2) != 0;
}

__attribute__((noinline)) u32 masq_drop(__sk_buff* skb, u32 hook, u32 reason) {
  count(static_cast<Reason>(reason));
  const Settings* settings = first_of<Settings>(mq_settings);
  Drops* drops = first_of<Drops>(mq_drops);
  Scratch* scratch = scratch_of(hook);
  if (settings == nullptr || drops == nullptr || scratch == nullptr) return kTcShot;
  u32 ifindex = came_in(skb, *scratch);
  const Interface* interface = find_interface(*settings, ifindex);
  if (interface == nullptr || reason >= kReasonCount) return kTcShot;
  note_drop(*drops, scratch->packet, static_cast<Reason>(reason),
            drop_side(interface->zone, hook == kEgress), ifindex, static_cast<u16>(skb->protocol),
            read_clock(*settings));
  return kTcShot;
}

__attribute__((noinline)) u32 masq_drop_unread(__sk_buff* skb, u32 hook, u32 reason) {
  const Settings* settings = first_of<Settings>(mq_settings);
  Scratch* scratch = scratch_of(hook);
  if (settings == nullptr || scratch == nullptr) return kTcShot;
  const Interface* interface = find_interface(*settings, skb->ifindex);
  u32 l3 = interface == nullptr ? 0 : interface->link_header_length;
  if (scratch->slow_ifindex != 0) l3 = kEthernetHeaderLength;
  if (l3 > kEthernetHeaderLength) return kTcShot;
  scratch->packet = Packet{};
  if (skb->protocol == kEtherTypeIpv4) masq_read(skb, hook, l3);
  if (skb->protocol == kEtherTypeArp) read_arp(bytes_of(skb), l3, scratch->packet);
  return masq_drop(skb, hook, reason);
}

__attribute__((noinline)) u32 masq_prepare_flow(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  if (!open_tables<kRecords | kInnerSlots | kPlaces | kPorts | kHosts | kShared>(w.tables))
    return static_cast<u32>(Reason::internal_error);
  return static_cast<u32>(prepare_flow(w));
}

__attribute__((noinline)) u32 masq_find_port_words(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  find_port_words(w);
  return 0;
}

__attribute__((noinline)) u32 masq_choose_port(u32 hook, u32 i) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kNothing;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return kNothing;
  return choose_port(w, i);
}

__attribute__((noinline)) u32 masq_take_chosen(__sk_buff* skb, u32 hook, u32 i, u32 chosen) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kNothing;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return kNothing;
  return take_chosen(w, i, chosen);
}

__attribute__((noinline)) u32 masq_choose_shared_port(__sk_buff* skb, u32 hook, u32 i) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kNothing;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return kNothing;
  return choose_shared_port(w, i);
}

__attribute__((noinline)) u32 masq_is_taken_outside(u32 hook, u32 port) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 1;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables<kRecords | kOuterSlots>(w.tables)) return 1;
  return is_taken_outside(w, port);
}

__attribute__((noinline)) u32 masq_take_record(u32 start_bit) {
  Tables tables{};
  return open_tables(tables) ? record_take(tables, start_bit) : kNoRecord;
}

__attribute__((noinline)) u32 masq_link_flow(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return static_cast<u32>(Reason::internal_error);
  Reason reason = link_flow(w);
  if (is_shared_now(w.new_flow, w.making)) count(Traffic::flows_sharing_port, 1);
  return static_cast<u32>(reason);
}

__attribute__((noinline)) u64 masq_rank_external(u32 place, u32 host, u32 external, u32 i) {
  const Settings* settings = first_of<Settings>(mq_settings);
  Tables tables{};
  if (settings == nullptr || !open_tables<kHosts>(tables)) return 0;
  return rank_external(tables, *settings, place, Ipv4{host}, external,
                       opaque(i) & (kExternalsMax - 1));
}

__attribute__((noinline)) u32 masq_external_for(u32 hook, u32 host, u32 external) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return external;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return open_tables<kHosts>(w.tables) ? external_for(w, Ipv4{host}, external) : external;
}

__attribute__((noinline)) u32 masq_hold_host(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return static_cast<u32>(Reason::internal_error);
  return static_cast<u32>(hold_host(w));
}

__attribute__((noinline)) u32 masq_settle_host(u32 hook, u32 reason) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return static_cast<u32>(Reason::internal_error);
  settle_host(w, static_cast<Reason>(reason));
  return reason;
}

__attribute__((noinline)) u32 masq_may_open(__sk_buff* skb, u32 hook, u32 ifindex) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(skb, *settings, *scratch, hook, ifindex);
  if (!open_tables(w.tables)) return static_cast<u32>(Reason::internal_error);
  return static_cast<u32>(may_open(w, scratch->packet));
}

__attribute__((noinline)) u32 masq_hairpin_external(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kExternalsMax;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  if (!open_tables(w.tables)) return kExternalsMax;
  return hairpin_external(w, scratch->packet);
}

__attribute__((noinline)) u32 masq_no_way() {
  const Settings* settings = first_of<Settings>(mq_settings);
  return static_cast<u32>(settings == nullptr ? Reason::internal_error : no_way(*settings));
}

__attribute__((noinline)) u32 masq_awaits_address() {
  const Settings* settings = first_of<Settings>(mq_settings);
  return settings != nullptr && awaits_address(*settings, read_clock(*settings));
}

__attribute__((noinline)) u32 masq_is_forged(__sk_buff* skb, u32 hook, u32 wrong) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 1;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  return is_forged(w, scratch->packet, static_cast<Zone>(wrong));
}

__attribute__((noinline)) u32 masq_has_own_flow(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return open_tables<kRecords | kInnerSlots>(w.tables) && has_own_flow(w, scratch->packet);
}

__attribute__((noinline)) u32 masq_follow(u32 hook, u32 index, u32 direction) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables<kRecords | kFragments | kHosts | kShared>(w.tables))
    return static_cast<u32>(Reason::internal_error);
  u32 reason = static_cast<u32>(follow(w, scratch->packet, index, direction & 1, scratch->verdict));
  if (scratch->packet.first_fragment && scratch->fragment.displaced)
    count(Traffic::fragments_displaced, 1);
  return reason;
}

__attribute__((noinline)) u32 masq_find_fragment(u32 hook, u32 direction) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kNoRecord;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return open_tables(w.tables) ? fragment_find(w, scratch->packet, direction & 1) : kNoRecord;
}

// The answer is the scratch's verdict.
__attribute__((noinline)) u32 masq_hand_over(u32 hook, u32 mtu, u32 otherwise) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  scratch->verdict = refuse(Reason::internal_error);
  if (open_tables(w.tables))
    scratch->verdict =
        hand_over(w, scratch->packet, static_cast<u16>(mtu), static_cast<Reason>(otherwise));
  return 0;
}

// The addresses of the link header say what the frame is about. For the stack they are put back.
__attribute__((noinline)) u32 masq_to_slow(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kTcShot;
  const Verdict& v = scratch->verdict;
  u32 from = came_in(skb, *scratch);
  const Interface* interface = find_interface(*settings, from);
  bool inside = interface != nullptr && interface->zone == Zone::inside;
  bool bare = scratch->packet.l3 == 0;
  if (bare && change_head(skb, kEthernetHeaderLength, 0))
    return drop(skb, hook, Reason::internal_error);
  EthernetHeader* at = header_at<EthernetHeader>(bytes_of(skb), 0);
  if (at == nullptr) return drop(skb, hook, Reason::internal_error);
  EthernetHeader before = *at;
  SlowHeader h = slow_question(v.slow_mtu, v.slow_hold, inside, from);
  if (store_bytes(skb, 0, &h, sizeof(h), 0)) return drop(skb, hook, Reason::internal_error);
  count(Traffic::slow_path, 1);
  // What came without a link header cannot be given to the stack any more.
  if (v.action != Action::stack_and_slow || bare)
    return static_cast<u32>(redirect(settings->slow_ifindex, 0));
  clone_redirect(skb, settings->slow_ifindex, 0);
  count(Traffic::local, 1);
  return store_bytes(skb, 0, &before, sizeof(before), 0) ? kTcShot : kTcOk;
}

__attribute__((noinline)) u32 masq_carry_out(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kTcShot;
  u32 ifindex = seen_on(skb, *scratch);
  KernelWorld w = world_of(skb, *settings, *scratch, hook, ifindex);
  if (scratch->rules.generation != 0) {
    const Interface* interface = find_interface(*settings, ifindex);
    if (interface == nullptr) return drop(skb, hook, Reason::internal_error);
    KernelWorld at = world_of(skb, *settings, *scratch, hook, ifindex, *interface);
    u32 chain = hook == kEgress ? kChainOutput : kChainInput;
    scratch->verdict = unless_refused(at, scratch->packet, chain, scratch->verdict);
    if (scratch->rules.to_log) masq_log_slots(hook);
  }
  return carry_out(skb, w, scratch->packet, scratch->verdict);
}

// What is left to do after masq_carry_out; here, because only a program itself may go on as
// another.
MASQ_INLINE int finish(__sk_buff* skb, u32 code) {
  if (code != kAgain) return static_cast<int>(code);
  tail_call(skb, &mq_again, kAgainOutside);
  return static_cast<int>(drop(skb, kIngress, Reason::hairpin));
}

// At the beginning of a packet's way: does it come from the slow path?
MASQ_INLINE void note_origin(const __sk_buff* skb, const Settings& s, Scratch& scratch) {
  scratch.fragment = FragmentFound{};
  if (skb->ifindex == s.slow_ifindex && s.slow_ifindex != 0) return;  // noted by masq_from_slow
  scratch.slow_ifindex = 0;
  scratch.slow = kMayGoSlow;
}

SEC("tc") int masq_inside(__sk_buff* skb) {
  if (is_of_a_vlan(skb) || skb->protocol != kEtherTypeIpv4 || is_for_others(skb)) return kTcOk;
  const Settings* settings = first_of<Settings>(mq_settings);
  Scratch* scratch = scratch_of(kIngress);
  if (settings == nullptr || scratch == nullptr) return kTcShot;
  note_origin(skb, *settings, *scratch);
  u32 ifindex = came_in(skb, *scratch);
  const Interface* interface = find_interface(*settings, ifindex);
  if (interface == nullptr) return kTcShot;
  u32 l3 = scratch->slow_ifindex != 0 ? kEthernetHeaderLength : interface->link_header_length;
  KernelWorld w = world_of(skb, *settings, *scratch, kIngress, ifindex, *interface);
  if (!open_tables<kRecords | kInnerSlots>(w.tables)) return kTcShot;
  Packet& p = scratch->packet;
  scratch->hairpin_ifindex = 0;
  Reason parsed = static_cast<Reason>(masq_read(skb, kIngress, l3));
  scratch->verdict = step_inside(w, p, parsed);
  return finish(skb, masq_carry_out(skb, kIngress));
}

SEC("tc") int masq_outside(__sk_buff* skb) {
  if (is_of_a_vlan(skb) || is_for_others(skb)) return kTcOk;
  const Settings* settings = first_of<Settings>(mq_settings);
  Scratch* scratch = scratch_of(kIngress);
  if (settings == nullptr || scratch == nullptr) return kTcShot;
  note_origin(skb, *settings, *scratch);
  const Interface* interface = find_interface(*settings, came_in(skb, *scratch));
  if (interface == nullptr) return kTcShot;
  u32 l3 = scratch->slow_ifindex != 0 ? kEthernetHeaderLength : interface->link_header_length;
  if (skb->protocol == kEtherTypeArp)
    return is_arp_for_others(skb, l3, false) ? drop_unread(skb, kIngress, Reason::arp_not_external)
                                             : kTcOk;
  if (skb->protocol != kEtherTypeIpv4) return kTcOk;
  scratch->hairpin_ifindex = has_passed(skb, *settings) ? skb->cb[2] : 0;
  if (scratch->hairpin_ifindex != 0) {
    interface = find_interface(*settings, scratch->hairpin_ifindex);
    if (interface == nullptr) return drop_unread(skb, kIngress, Reason::wrong_zone);
    scratch->slow = SlowSide{};  // that is done with before the first half
  }
  KernelWorld w = world_of(skb, *settings, *scratch, kIngress, interface->ifindex, *interface);
  if (!open_tables<kRecords | kOuterSlots>(w.tables)) return kTcShot;
  Packet& p = scratch->packet;
  Reason parsed = static_cast<Reason>(masq_read(skb, kIngress, l3));
  Verdict v = step_outside(w, p, parsed);
  if (v.action == Action::forwards) {
    tail_call(skb, &mq_again, kAgainForwarded);
    return static_cast<int>(drop(skb, kIngress, Reason::hairpin));
  }
  scratch->verdict = scratch->hairpin_ifindex != 0 ? stay_inside(v) : v;
  return finish(skb, masq_carry_out(skb, kIngress));
}

// Goes on with what masq_outside has read, and found no flow for.
SEC("tc") int masq_forwarded(__sk_buff* skb) {
  const Settings* settings = first_of<Settings>(mq_settings);
  Scratch* scratch = scratch_of(kIngress);
  if (settings == nullptr || scratch == nullptr) return kTcShot;
  const Interface* interface = find_interface(*settings, seen_on(skb, *scratch));
  if (interface == nullptr) return kTcShot;
  KernelWorld w = world_of(skb, *settings, *scratch, kIngress, interface->ifindex, *interface);
  if (!open_tables<kRecords | kShared>(w.tables)) return kTcShot;
  Verdict v = step_forwarded(w, scratch->packet);
  scratch->verdict = scratch->hairpin_ifindex != 0 ? stay_inside(v) : v;
  return finish(skb, masq_carry_out(skb, kIngress));
}

// Of the process behind the device nothing is believed but which interface a frame came in on, and
// that only as far as it is one of ours. Nothing reaches the stack.
SEC("tc") int masq_from_slow(__sk_buff* skb) {
  const Settings* settings = first_of<Settings>(mq_settings);
  Shared* shared = first_of<Shared>(mq_shared);
  Scratch* scratch = scratch_of(kIngress);
  if (settings == nullptr || shared == nullptr || scratch == nullptr) return kTcShot;
  if (settings->slow_ifindex == 0 || skb->ifindex != settings->slow_ifindex) return kTcShot;
  SlowHeader* h = header_at<SlowHeader>(bytes_of(skb), 0);
  if (h == nullptr) return kTcShot;
  u32 kind = h->kind, ifindex = h->ifindex;
  if (kind == kSlowBeat) {
    atomic_store(&shared->slow_beat, read_clock(*settings));
    return kTcShot;
  }
  const Interface* interface = find_interface(*settings, ifindex);
  if (interface == nullptr || h->ether_type != kEtherTypeIpv4) return kTcShot;
  scratch->slow_ifindex = ifindex;
  scratch->hairpin_ifindex = 0;
  scratch->slow = back_from_slow(kind);
  skb->cb[0] = skb->cb[1] = 0;  // no half of a hairpin
  if (kind == kSlowFull) return drop_unread(skb, kIngress, Reason::slow_path_full);
  if (kind == kSlowOrdered) count(Traffic::fragments_ordered, 1);
  if (kind == kSlowPieceFirst) count(Traffic::cut, 1);
  tail_call(skb, &mq_again, interface->zone == Zone::inside ? kAgainInside : kAgainOutside);
  return static_cast<int>(drop_unread(skb, kIngress, Reason::slow_path_down));
}

SEC("tc") int masq_leaving(__sk_buff* skb) {
  if (is_of_a_vlan(skb)) return kTcOk;
  const Settings* settings = first_of<Settings>(mq_settings);
  if (settings == nullptr) return kTcShot;
  if (has_passed(skb, *settings)) return kTcOk;
  Scratch* scratch = scratch_of(kEgress);
  if (scratch == nullptr) return kTcShot;
  const Interface* interface = find_interface(*settings, skb->ifindex);
  if (interface == nullptr) return kTcShot;
  u32 l3 = interface->link_header_length;
  if (skb->protocol == kEtherTypeArp)
    return is_arp_for_others(skb, l3, true) ? drop_unread(skb, kEgress, Reason::arp_not_external)
                                            : kTcOk;
  u32 from = skb->ingress_ifindex;
  const Interface* origin = find_interface(*settings, from);
  if (skb->protocol == kEtherTypeIpv6) {
    bool blocked = settings->block_ipv6 && origin != nullptr && origin->zone == Zone::inside;
    return blocked ? drop_unread(skb, kEgress, Reason::ipv6_blocked) : kTcOk;
  }
  if (skb->protocol != kEtherTypeIpv4) return kTcOk;
  make_readable(skb, l3, sizeof(Ipv4Header));
  Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(skb), l3);
  if (ip == nullptr) return drop_unread(skb, kEgress, Reason::egress_guard);
  u32 external = external_of(*settings, ip->source, skb->ifindex);
  // From an interface of ours, but not by our hand.
  if (origin != nullptr)
    return external < kExternalsMax ? kTcOk : drop_unread(skb, kEgress, Reason::egress_guard);
  // A host that has no address yet asks for one (RFC 2131).
  if (from == 0 && ip->source.be == 0 && is_broadcast(ip->destination) &&
      ip->protocol == kProtocolUdp)
    return kTcOk;
  scratch->slow = SlowSide{};
  scratch->fragment = FragmentFound{};
  KernelWorld w = world_of(skb, *settings, *scratch, kEgress, skb->ifindex, *interface);
  if (!open_tables(w.tables)) return kTcShot;
  Packet& p = scratch->packet;
  Reason parsed = static_cast<Reason>(masq_read(skb, kEgress, l3));
  // Forwarded by the kernel for an interface that is not ours: its own addresses may pass, ours
  // not.
  if (from != 0 && external == kExternalsMax) {
    Route back;
    w.route(p.source, p.destination, back);
    bool foreign = back.kind == RouteKind::forward && back.zone == Zone::other;
    return foreign ? kTcOk : drop(skb, kEgress, Reason::egress_guard);
  }
  scratch->verdict = step_leaving(w, p, parsed, external);
  return static_cast<int>(masq_carry_out(skb, kEgress));
}

// What the gateway itself sends inside has the output chain to pass.
MASQ_INLINE int judge_own(__sk_buff* skb, const Settings& settings) {
  Scratch* scratch = scratch_of(kEgress);
  const Interface* interface = find_interface(settings, skb->ifindex);
  if (skb->protocol != kEtherTypeIpv4 || interface == nullptr || scratch == nullptr) return kTcOk;
  scratch->slow_ifindex = 0;
  masq_read(skb, kEgress, interface->link_header_length);
  Reason reason = static_cast<Reason>(masq_judge_alone(kEgress, kChainOutput));
  if (scratch->rules.to_log) masq_log_slots(kEgress);
  if (reason != Reason::none) return static_cast<int>(drop(skb, kEgress, reason));
  masq_do_as_said(skb, kEgress);
  return kTcOk;
}

SEC("tc") int masq_entering(__sk_buff* skb) {
  const Settings* settings = first_of<Settings>(mq_settings);
  if (settings == nullptr) return kTcShot;
  if (has_passed(skb, *settings)) return kTcOk;
  if (skb->ingress_ifindex == 0 && settings->rules_generation != 0)
    return judge_own(skb, *settings);
  const Interface* origin = find_interface(*settings, skb->ingress_ifindex);
  if (origin == nullptr || origin->zone != Zone::outside) return kTcOk;
  // From outside by the kernel's own path: never.
  if (skb->protocol == kEtherTypeIpv4) return drop_unread(skb, kEgress, Reason::not_for_us);
  if (skb->protocol == kEtherTypeIpv6 && settings->block_ipv6)
    return drop_unread(skb, kEgress, Reason::ipv6_blocked);
  return kTcOk;
}

}  // extern "C"

// --- the sweeper ---------------------------------------------------------------------------------

// A context of the sweeper has no packet; only the members that sweep_record uses are real.
struct SweepWorld {
  Tables tables;
  const Settings& settings;
  Ticks now;
  Stripe* stripe;

  MASQ_INLINE bool lock(u32 number) {
    stripe = static_cast<Stripe*>(map_lookup(&mq_stripes, &number));
    if (stripe == nullptr) return false;
    spin_lock(&stripe->lock);
    return true;
  }
  MASQ_INLINE void unlock() { spin_unlock(&stripe->lock); }
};

static long sweep_one(u32 turn, [[maybe_unused]] void* context) {
  const Settings* settings = first_of<Settings>(mq_settings);
  if (settings == nullptr) return 1;
  SweepWorld w{{}, *settings, read_clock(*settings), nullptr};
  if (!open_tables(w.tables)) return 1;
  u32 at = (w.tables.shared->sweep_cursor + turn) & (constants.records_max - 1);
  // A word of clear bits: 64 places with nothing in them.
  if (w.tables.record_used[at >> 6] == 0) return 0;
  sweep_record(w, at);
  return 0;
}

MASQ_INLINE void sweep(u32 turns) {
  loop(turns, reinterpret_cast<void*>(sweep_one), nullptr, 0);
  Shared* shared = first_of<Shared>(mq_shared);
  if (shared == nullptr) return;
  u32 before = shared->sweep_cursor;
  shared->sweep_cursor = (before + turns) & (constants.records_max - 1);
  if (shared->sweep_cursor <= before) shared->sweep_turns += 1;
}

static int sweep_tick([[maybe_unused]] void* map, [[maybe_unused]] int* key, Sweeper* sweeper) {
  sweep(constants.records_max / (kSweepTurn_ms / kSweepTick_ms) + 1);
  timer_start(&sweeper->timer, kSweepTick_ms * 1000000ull, 0);
  return 0;
}

extern "C" {

// Tells the daemon how the count of jiffies stands.
SEC("tc") int masq_clock([[maybe_unused]] __sk_buff* skb) {
  Shared* shared = first_of<Shared>(mq_shared);
  if (shared != nullptr) shared->jiffies = jiffies64();
  return shared == nullptr;
}

SEC("tc") int masq_sweep_start([[maybe_unused]] __sk_buff* skb) {
  Sweeper* sweeper = first_of<Sweeper>(mq_sweeper);
  if (sweeper == nullptr) return 1;
  // Refused where the timer is there already (EBUSY); then that goes on, with this callback.
  timer_init(&sweeper->timer, &mq_sweeper, 1 /* CLOCK_MONOTONIC */);
  timer_set_callback(&sweeper->timer, reinterpret_cast<void*>(sweep_tick));
  return static_cast<int>(timer_start(&sweeper->timer, kSweepTick_ms * 1000000ull, 0));
}

// One whole pass at once; for tests.
SEC("tc") int masq_sweep_all([[maybe_unused]] __sk_buff* skb) {
  sweep(constants.records_max);
  return 0;
}

}  // extern "C"

}  // namespace masq::bpf
