// Passing frames: the same three steps as the tc programs, with the same counts.
#include "engine/engine.h"

#include <sched.h>

#include <cstring>

#include "core/flows.h"
#include "core/rewrite.h"
#include "core/step.h"
#include "wire/checksum.h"

namespace masq {

namespace {

Bytes bytes_of(Frame& frame) {
  return {frame.data, frame.data + frame.length};
}

}  // namespace

u16 ether_type_of(const Frame& frame, u32 l3) {
  if (l3 == 0) {
    return frame.length != 0 && frame.data[0] >> 4 == 6 ? kEtherTypeIpv6 : kEtherTypeIpv4;
  }
  if (frame.length < sizeof(EthernetHeader)) return 0;
  return reinterpret_cast<const EthernetHeader*>(frame.data)->type;
}

Reason read_packet(Frame& frame, u32 l3, Packet& p) {
  const Reason reason = parse(bytes_of(frame), l3, frame.length, p);
  if (frame.segments > 1) p.segments = static_cast<u16>(frame.segments);
  p.window_scale = 0xff;
  if (reason == Reason::none && p.kind == Kind::tcp && (p.tcp_flags & kTcpSyn) && !p.options)
    read_syn_options(bytes_of(frame), p);
  return reason;
}

namespace {

constexpr u32 kAnswerBurst = 50;
constexpr u32 kAnswersPerSecond = 200;

// The field of TCP or UDP that is to be completed later, or null if this packet has a whole one.
u16* partial_checksum(Frame& frame, const Packet& p) {
  const bool transport = p.kind == Kind::tcp || p.kind == Kind::udp;
  if (!transport || frame.checksum_start == 0 || frame.checksum_start != p.l4) return nullptr;
  return header_at<u16>(bytes_of(frame), p.l4 + (p.kind == Kind::tcp ? 16 : 6));
}

bool translate_transport(Frame& frame, const Packet& p, const Verdict& v) {
  const Bytes bytes = bytes_of(frame);
  if (u16* partial = partial_checksum(frame, p); partial != nullptr) {
    // It is the sum itself, not its complement, of the pseudo header alone.
    const Ipv4 old = v.direction == kOut ? p.source : p.destination;
    *partial = checksum_fold(static_cast<u64>(*partial) + checksum_difference(old, v.address));
    return rewrite_transport(bytes, p, v, false);
  }
  if (p.kind == Kind::fragment) return true;
  if (p.kind == Kind::icmp_query || p.kind == Kind::icmp_reply) return rewrite_icmp_id(bytes, p, v);
  if (p.kind == Kind::icmp_error) return rewrite_quoted(bytes, p, v);
  return rewrite_transport(bytes, p, v, true);
}

// A packet that is quoted is quoted as it would have been on the wire.
void complete_checksum(Frame& frame, const Packet& p) {
  u16* partial = partial_checksum(frame, p);
  if (partial == nullptr || frame.segment_size != 0) return;
  const u32 end = p.l3 + p.total_length;
  const u16 whole = static_cast<u16>(~checksum_fold(checksum_sum(frame.data + p.l4, end - p.l4)));
  *partial = whole == 0 && p.kind == Kind::udp ? 0xffff : whole;
  frame.checksum_start = 0;
}

bool translate(Frame& frame, const Packet& p, const Verdict& v) {
  if (!rewrite_ipv4(bytes_of(frame), p, v)) return false;
  u16 before = 0, now = 0;
  if (lower_mss(bytes_of(frame), p, v, before, now) && partial_checksum(frame, p) == nullptr)
    change_tcp_checksum(bytes_of(frame), p, before, now);
  return !v.translate || translate_transport(frame, p, v);
}

// What has no place with us: not counted under any side.
Outcome not_ours() {
  Outcome o{};
  o.action = Action::drop;
  o.reason = Reason::internal_error;
  return o;
}

Outcome untouched() {
  Outcome o{};
  o.action = Action::to_stack;
  return o;
}

}  // namespace

// The engine's side of core/world.h.
struct Engine::Hop {
  Tables tables;
  const Settings& settings;
  Ticks now;
  u32 ifindex;
  Interface interface;
  Engine& engine;
  u32 segment_size = 0;
  bool egress = false;
  u16 ether_type = 0;
  u32 seen_on = 0;  // where it came in; differs from ifindex in the second half of a hairpin
  NewFlow new_flow{};
  Making making{};
  SlowSide slow{};
  FragmentFound fragment{};
  RuleScratch judging{};
  ForwardChoice choice{};
  u32 held = 0;
  bool came_back = false;  // from the slow path

  bool lock(u32 stripe) {
    engine.lock(stripe);
    held = stripe;
    return true;
  }
  void unlock() { engine.unlock(held); }
  void route(Ipv4 destination, Ipv4 source, Route& out) { engine.route(destination, source, out); }
  bool port_has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) {
    return engine.has_socket(protocol, address, port, remote, remote_port);
  }
  bool is_outer_address(Ipv4 address) { return engine.is_outer_address(address); }
  u64 rank_external(u32 place, Ipv4 host, u32 external, u32 i) const {
    return masq::rank_external(tables, settings, place, host, external, i);
  }
  u32 external_for(Ipv4 host, u32 external) { return masq::external_for(*this, host, external); }
  ForwardMemory* forwards() const { return tables.forwards; }
  u32 find_range(u64 wanted) const {
    return masq::find_range(tables.forwards->halves[settings.forwards_generation % kForwardHalves],
                            wanted);
  }
  ForwardChoice& forward_choice() { return choice; }
  void choose_target(const Packet& p, u32 place) { masq::choose_target(*this, p, place, choice); }
  u32 forward_of(const Packet& p) { return masq::forward_of(*this, p); }
  bool marks_arrival(const Packet& p) { return masq::marks_arrival(*this, p); }
  Reason judge_forwarded(const Packet& p, u32 inner_ifindex) {
    return masq::judge_forwarded(*this, p, inner_ifindex);
  }
  Reason make_forwarded(const Packet& p, u32 external) {
    return masq::make_forwarded(*this, p, external);
  }
  void note_control(const Packet& p) { masq::note_control(*this, p); }
  void take_off_flow(u32 index) { masq::take_off_flow(*this, index); }
  void take_off_waiting(u32 index) { masq::take_off_waiting(*this, index); }
  Reason hold_host() { return masq::hold_host(*this); }
  void settle_host(Reason reason) { masq::settle_host(*this, reason); }
  Reason prepare_flow() { return masq::prepare_flow(*this); }
  void find_port_words() { masq::find_port_words(*this); }
  u32 choose_port(u32 i) { return masq::choose_port(*this, i); }
  u32 take_chosen(u32 i, u32 chosen) { return masq::take_chosen(*this, i, chosen); }
  u32 take_record(u32 start_bit) { return record_take(tables, start_bit); }
  u32 choose_shared_port(u32 i) { return masq::choose_shared_port(*this, i); }
  bool is_taken_outside(u32 port) { return masq::is_taken_outside(*this, port); }
  Reason link_flow() {
    const Reason reason = masq::link_flow(*this);
    if (is_shared_now(new_flow, making)) engine.count(Traffic::flows_sharing_port, 1);
    return reason;
  }
  u32 hairpin_external(const Packet& p) { return masq::hairpin_external(*this, p); }
  Reason no_way() { return masq::no_way(settings); }
  bool awaits_address() const { return masq::awaits_address(settings, now); }
  bool is_forged(const Packet& p, Zone wrong) { return masq::is_forged(*this, p, wrong); }
  bool is_second_half() const { return seen_on != 0 && seen_on != ifindex; }
  bool has_own_flow(const Packet& p) { return masq::has_own_flow(*this, p); }
  Reason may_open(const Packet& p) { return masq::may_open(*this, p); }
  Reason follow(const Packet& p, u32 index, u8 direction, u32 inner_ifindex, Verdict& v) {
    Reason reason = Reason::none;
    if (judging.generation != 0)
      reason = masq::judge_flow(*this, p, index, direction, inner_ifindex);
    if (reason != Reason::none) return reason;
    reason = masq::follow(*this, p, index, direction, v);
    if (p.first_fragment && fragment.displaced) engine.count(Traffic::fragments_displaced, 1);
    return reason;
  }
  u32 find_fragment(const Packet& p, u32 direction) { return fragment_find(*this, p, direction); }
  Verdict hand_over(const Packet& p, u16 mtu, Reason otherwise) {
    return masq::hand_over(*this, p, mtu, otherwise);
  }
  RuleScratch& rules() { return judging; }
  void walk_chain(u32 chain) {
    const RuleHalf& half = tables.rules->halves[judging.generation & 1];
    enter_chain(half, judging, chain);
    rules_walk(half.slots, kRuleSlotsMax, judging.walk);
  }
  u32 rule_bit(u32 at) const { return masq::rule_bit(settings, at); }
  void take_down(u32 direction) { masq::take_down(judging, direction); }
  u32 remember_path() { return masq::remember_path(*this); }
  void judge_side(u32 index, u32 direction, u32 inner, bool error) {
    masq::judge_side(*this, index, direction, inner, error);
  }
  Reason judge_alone(const Packet& p, u32 chain) { return masq::judge_alone(*this, p, chain); }
  Reason judge_between(const Packet& p, u32 to) { return masq::judge_between(*this, p, to); }
  Reason judge_new(const Packet& p, u32 external) { return masq::judge_new(*this, p, external); }
  void count_slots(const Packet& p) const {
    RuleCount* counts = engine.beside_.rule_counters.slots[judging.generation & 1];
    for (u32 i = 0; i < judging.walk.fitted && i < kRuleTraceMost; ++i)
      add(counts[judging.walk.trace[i] & (kRuleSlotsMax - 1)], p);
    if (judging.walk.does & kRuleLogs) {
      LogSlots each{*tables.rules, judging, p};
      log_slots(each, *tables.rules, judging, p);
    }
  }
  struct LogSlots {
    RuleTable& rules;
    const RuleScratch& judged;
    const Packet& p;
    void log_slot(u32 i, u8 tos) { masq::log_slot(rules, judged, p, i, tos); }
  };
  void count_path(const Packet& p, u32 path, u32 direction) const {
    add(engine.beside_.rule_counters.paths[judging.generation & 1][path].sides[direction], p);
  }
  void count_unremembered([[maybe_unused]] const Packet& p) const {
    engine.count(Traffic::rules_unremembered, 1);
  }
  static void add(RuleCount& count, const Packet& p) {
    const RuleCount one = rule_count_of(p);
    std::atomic_ref(count.packets).fetch_add(one.packets, std::memory_order_relaxed);
    std::atomic_ref(count.bytes).fetch_add(one.bytes, std::memory_order_relaxed);
  }
  u32 largest_datagram(const Packet& p) const {
    return segment_size == 0 ? p.total_length : p.headers + segment_size;
  }
};

Engine::Engine(u32 records_max, const Settings& settings)
    : Engine(std::make_unique<TableMemory>(records_max), {}) {
  settings_ = settings;
  memory_->exclude_ports(settings_);
}

Engine::Engine(void* memory, u32 records_max, const Settings& settings, EngineAnswers answers)
    : Engine(memory, records_max, std::move(answers)) {
  settings_ = settings;
  pool_take(tables_.record_used, tables_.record_full, kNoRecord);
  memory_->exclude_ports(settings_);
}

Engine::Engine(void* memory, u32 records_max, EngineAnswers answers)
    : Engine(std::make_unique<TableMemory>(memory, records_max), std::move(answers)) {}

Engine::Engine(std::unique_ptr<TableMemory> memory, EngineAnswers answers)
    : memory_(std::move(memory)),
      tables_(memory_->tables()),
      beside_(memory_->beside()),
      settings_(beside_.settings),
      answers_(std::move(answers)),
      stripes_(std::make_unique<std::atomic_flag[]>(kStripes)) {}

Engine::Engine(const Tables& tables, const Settings& settings, EngineAnswers answers)
    : own_(std::make_unique<Companion>()),
      tables_(tables),
      beside_(*own_),
      settings_(beside_.settings),
      answers_(std::move(answers)),
      stripes_(std::make_unique<std::atomic_flag[]>(kStripes)) {
  settings_ = settings;
}

bool Engine::set_interface(const Interface& interface) {
  Interface* free = nullptr;
  for (u32 i = kInterfaceProbes; i-- > 0;) {
    Interface& at = settings_.interfaces[(interface.ifindex + i) & (kInterfacePlaces - 1)];
    if (at.ifindex == 0) free = &at;
  }
  for (Interface& at : settings_.interfaces)
    if (at.ifindex == interface.ifindex) free = &at;
  if (free != nullptr) *free = interface;
  return free != nullptr;
}

void Engine::lock(u32 stripe) {
  while (stripes_[stripe].test_and_set(std::memory_order_acquire)) sched_yield();
}

void Engine::unlock(u32 stripe) {
  stripes_[stripe].clear(std::memory_order_release);
}

EngineRoute Engine::find_route(Ipv4 destination, Ipv4 source) const {
  if (answers_.route) return answers_.route(destination, source);
  const EngineRoute* best = nullptr;
  for (const EngineRoute& r : routes_) {
    const u32 mask = r.length == 0 ? 0 : swap32(~0u << (32 - r.length));
    if ((destination.be & mask) != (r.prefix.be & mask)) continue;
    if (best == nullptr || r.length > best->length) best = &r;
  }
  return best == nullptr ? EngineRoute{} : *best;
}

void Engine::route(Ipv4 destination, Ipv4 source, Route& out) const {
  out = Route{};
  const EngineRoute found = find_route(destination, source);
  out.kind = found.kind;
  if (found.kind != RouteKind::forward) return;
  out.ifindex = found.ifindex;
  out.next_hop = found.next_hop.be == 0 ? destination : found.next_hop;
  out.external = kExternalsMax;
  const Interface* to = find_interface(settings_, found.ifindex);
  if (to == nullptr) return;
  out.zone = to->zone;
  out.external = to->external;
  out.mtu = to->mtu;
}

bool Engine::has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) const {
  if (answers_.socket) return answers_.socket(protocol, address, port, remote, remote_port);
  for (const EngineSocket& s : sockets_)
    if (s.protocol == protocol && same(s.port, port) &&
        (s.address.be == 0 || same(s.address, address)))
      return true;
  return false;
}

bool Engine::is_outer_address(Ipv4 address) const {
  if (answers_.is_outer_address) return answers_.is_outer_address(address);
  for (Ipv4 outer : outer_addresses_)
    if (same(outer, address)) return true;
  return false;
}

void Engine::count(Reason reason, const Hop& hop, const Packet& p) {
  std::atomic_ref(beside_.counters.reasons[static_cast<u32>(reason)])
      .fetch_add(1, std::memory_order_relaxed);
  const Interface* on = find_interface(settings_, hop.seen_on);
  if (on != nullptr)
    note_drop(beside_.drops, p, reason, drop_side(on->zone, hop.egress), hop.seen_on,
              hop.ether_type, hop.now);
}

void Engine::count(Traffic what, u64 n) {
  std::atomic_ref(beside_.counters.traffic[static_cast<u32>(what)])
      .fetch_add(n, std::memory_order_relaxed);
}

EngineCounters Engine::counters() const {
  EngineCounters totals;
  for (u32 i = 0; i < kReasonCount; ++i) totals.reasons[i] = beside_.counters.reasons[i];
  for (u32 i = 0; i < kTrafficCount; ++i) totals.traffic[i] = beside_.counters.traffic[i];
  return totals;
}

Outcome Engine::drop(Reason reason, const Hop& hop, const Packet& p) {
  count(reason, hop, p);
  Outcome o{};
  o.action = Action::drop;
  o.reason = reason;
  return o;
}

// A packet that has not been read.
Outcome Engine::drop_unread(Reason reason, const Hop& hop, Frame& frame) {
  Packet p{};
  const u32 l3 = hop.interface.link_header_length;
  if (hop.ether_type == kEtherTypeIpv4) read_packet(frame, l3, p);
  if (hop.ether_type == kEtherTypeArp) read_arp(bytes_of(frame), l3, p);
  return drop(reason, hop, p);
}

bool Engine::answer_allowed() {
  while (icmp_lock_.test_and_set(std::memory_order_acquire)) sched_yield();
  const u32 passed = now() - icmp_refilled_;
  const u32 earned = passed > 1000 ? kAnswerBurst : passed * kAnswersPerSecond / 1000;
  if (earned != 0) {
    icmp_tokens_ = icmp_tokens_ + earned > kAnswerBurst ? kAnswerBurst : icmp_tokens_ + earned;
    icmp_refilled_ = now();
  }
  const bool allowed = icmp_tokens_ != 0;
  if (allowed) icmp_tokens_ -= 1;
  icmp_lock_.clear(std::memory_order_release);
  if (!allowed) count(Traffic::icmp_errors_limited, 1);
  return allowed;
}

// Turns the frame into the ICMP error about itself, to go back where it came from.
Outcome Engine::send_icmp_error(Frame& frame, Hop& hop, const Packet& p, const Verdict& v) {
  count(v.reason, hop, p);
  Outcome o{};
  o.action = Action::drop;
  o.reason = v.reason;
  o.verdict = v;
  if (!answer_allowed()) return o;
  complete_checksum(frame, p);
  const u32 quoted = p.total_length > kQuoteMax ? kQuoteMax : p.total_length;
  const u32 length = p.l3 + kIcmpErrorHeaders + quoted;
  if (length > frame.capacity) return drop(Reason::internal_error, hop, p);
  const u16 sum = quote_sum(bytes_of(frame), p.l3, quoted);
  std::memmove(frame.data + p.l3 + kIcmpErrorHeaders, frame.data + p.l3, quoted);
  frame.length = length;
  Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(frame), p.l3);
  IcmpHeader* icmp = header_at<IcmpHeader>(bytes_of(frame), p.l3 + sizeof(Ipv4Header));
  if (ip == nullptr || icmp == nullptr) return o;
  fill_icmp_error(*ip, *icmp, p, v, quoted, sum);
  Route back;
  hop.route(p.source, v.icmp_source, back);
  // The error goes to the external address that an inner host has lent.
  if (hop.seen_on != hop.ifindex) {
    count(Traffic::icmp_errors_sent, 1);
    Outcome back_inside = from_outside(frame, hop.ifindex, p.l3, hop.seen_on, hop.slow);
    if (back_inside.action == Action::forward) back_inside.action = Action::icmp_error;
    back_inside.reason = v.reason;
    return back_inside;
  }
  if (back.kind != RouteKind::forward || back.ifindex != hop.ifindex) return o;
  if (back.zone != Zone::inside &&
      external_of(settings_, v.icmp_source, back.ifindex) == kExternalsMax)
    return drop(Reason::egress_guard, hop, p);
  count(Traffic::icmp_errors_sent, 1);
  o.action = Action::icmp_error;
  o.ifindex = back.ifindex;
  o.next_hop = back.next_hop;
  return o;
}

// Turns the frame into the RST that answers it, to go back where it came from.
Outcome Engine::send_reset(Frame& frame, Hop& hop, const Packet& p, const Verdict& v) {
  count(v.reason, hop, p);
  Outcome o{};
  o.action = Action::drop;
  o.reason = v.reason;
  o.verdict = v;
  Route back;
  hop.route(p.source, p.destination, back);
  if (back.kind != RouteKind::forward || back.ifindex != hop.ifindex || back.zone != Zone::inside)
    return o;
  if (!answer_allowed()) return o;
  frame.length = p.l3 + kResetLength;
  Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(frame), p.l3);
  TcpHeader* tcp = header_at<TcpHeader>(bytes_of(frame), p.l3 + sizeof(Ipv4Header));
  if (ip == nullptr || tcp == nullptr) return o;
  fill_reset(*ip, *tcp, p, true);
  count(Traffic::resets_sent, 1);
  o.action = Action::reset;
  o.ifindex = back.ifindex;
  o.next_hop = back.next_hop;
  return o;
}

Outcome Engine::carry_out(Frame& frame, Hop& hop, const Packet& p, const Verdict& said) {
  const Verdict v = unless_refused(hop, p, hop.egress ? kChainOutput : kChainInput, said);
  Outcome o{};
  o.action = v.action;
  o.reason = v.reason;
  o.translated = v.translate;
  o.verdict = v;
  if (hop.judging.generation != 0 &&
      (v.action == Action::to_stack || v.action == Action::forward || v.action == Action::hairpin))
    change_service(bytes_of(frame), p, hop.judging.said.tos_and, hop.judging.said.tos_xor);
  switch (v.action) {
    case Action::to_stack:
      o.redirected = hop.judging.said.reason == kRedirected;
      o.redirect_port = hop.judging.said.redirect_port;
      if (hop.came_back) return drop(reason_of_nobodys(p), hop, p);
      count(v.translate ? Traffic::local_translated : Traffic::local, 1);
      if (v.translate && !translate(frame, p, v)) return drop(Reason::internal_error, hop, p);
      return o;
    case Action::forward:
    case Action::hairpin:
      break;
    case Action::icmp_error:
      return send_icmp_error(frame, hop, p, v);
    case Action::reset:
      return send_reset(frame, hop, p, v);
    case Action::slow:
    case Action::stack_and_slow:
      return to_slow(frame, hop, p, v);
    default:
      count(v.reason, hop, p);
      return o;
  }
  if (!translate(frame, p, v)) return drop(Reason::internal_error, hop, p);
  // The last check: whatever the core said, nothing goes outside but from an external address.
  if (v.to_zone != Zone::inside) {
    const Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(frame), p.l3);
    if (ip == nullptr || external_of(settings_, ip->source, v.ifindex) == kExternalsMax)
      return drop(Reason::egress_guard, hop, p);
  }
  const u64 packets = frame.segments > 1 ? frame.segments : 1;
  if (!v.translate) {
    count(Traffic::routed, packets);
  } else if (v.direction == kOut) {
    count(Traffic::translated_out, packets);
    count(Traffic::translated_out_bytes, frame.length - p.l3);
  } else {
    count(Traffic::translated_in, packets);
    count(Traffic::translated_in_bytes, frame.length - p.l3);
  }
  if (v.action == Action::hairpin)
    return from_outside(frame, v.ifindex, p.l3, hop.ifindex, hop.slow);
  o.ifindex = v.ifindex;
  o.next_hop = v.next_hop;
  return o;
}

Outcome Engine::to_slow(Frame& frame, Hop& hop, const Packet& p, const Verdict& v) {
  Outcome o{};
  o.action = v.action;
  o.verdict = v;
  // A large TCP segment becomes one datagram in many pieces, where the kernel makes many segments.
  if (frame.segment_size != 0 && p.kind != Kind::tcp) return drop(Reason::too_big, hop, p);
  frame.segment_size = 0;
  complete_checksum(frame, p);
  if (p.l3 == 0) {
    if (frame.length + sizeof(SlowHeader) > frame.capacity)
      return drop(Reason::internal_error, hop, p);
    std::memmove(frame.data + sizeof(SlowHeader), frame.data, frame.length);
    frame.length += sizeof(SlowHeader);
  }
  const SlowHeader h =
      slow_question(v.slow_mtu, v.slow_hold, hop.interface.zone == Zone::inside, hop.ifindex);
  std::memcpy(frame.data, &h, sizeof(h));
  count(Traffic::slow_path, 1);
  if (v.action == Action::stack_and_slow) count(Traffic::local, 1);
  return o;
}

Outcome Engine::from_slow(Frame& frame) {
  const SlowHeader* h = header_at<SlowHeader>(bytes_of(frame), 0);
  const Interface* interface = h == nullptr ? nullptr : find_interface(settings_, h->ifindex);
  if (interface == nullptr || h->ether_type != kEtherTypeIpv4) return not_ours();
  const SlowSide slow = back_from_slow(h->kind);
  if (h->kind == kSlowFull) {
    Hop hop = hop_at(frame, h->ifindex, false);
    hop.interface.link_header_length = kEthernetHeaderLength;
    return drop_unread(Reason::slow_path_full, hop, frame);
  }
  if (h->kind == kSlowOrdered) count(Traffic::fragments_ordered, 1);
  if (h->kind == kSlowPieceFirst) count(Traffic::cut, 1);
  if (interface->zone == Zone::inside)
    return from_inside(frame, h->ifindex, kEthernetHeaderLength, slow);
  return from_outside(frame, h->ifindex, kEthernetHeaderLength, h->ifindex, slow);
}

bool Engine::is_arp_for_others(const Frame& frame, u32 l3, bool leaving) const {
  const Bytes bytes{frame.data, frame.data + frame.length};
  const ArpIpv4* arp = header_at<ArpIpv4>(bytes, l3);
  if (arp == nullptr) return true;
  const Ipv4 asked = leaving ? arp->sender : arp->target;
  if (asked.be == 0) return false;  // a probe before an address is taken (RFC 5227)
  if (!leaving && (arp->operation != kArpRequest || same(arp->sender, arp->target))) return false;
  return !is_outer_address(asked);
}

Engine::Hop Engine::hop_at(const Frame& frame, u32 ifindex, bool egress) {
  const Interface* interface = find_interface(settings_, ifindex);
  Hop hop{
      tables(), settings_,          now(), ifindex, interface == nullptr ? Interface{} : *interface,
      *this,    frame.segment_size, egress};
  hop.ether_type = ether_type_of(frame, hop.interface.link_header_length);
  hop.seen_on = ifindex;
  rules_clear(settings_, hop.judging, ifindex);
  return hop;
}

Outcome Engine::inside(Frame& frame, u32 ifindex) {
  Hop hop = hop_at(frame, ifindex, false);
  if (hop.interface.ifindex == 0) return not_ours();
  if (hop.ether_type != kEtherTypeIpv4) return untouched();
  return from_inside(frame, ifindex, hop.interface.link_header_length, kMayGoSlow);
}

Outcome Engine::from_inside(Frame& frame, u32 ifindex, u32 l3, SlowSide slow) {
  Hop hop = hop_at(frame, ifindex, false);
  hop.ether_type = kEtherTypeIpv4;
  hop.slow = slow;
  hop.came_back = !slow.allowed;
  Packet p;
  const Reason parsed = read_packet(frame, l3, p);
  const Verdict v = step_inside(hop, p, parsed);
  return carry_out(frame, hop, p, v);
}

Outcome Engine::outside(Frame& frame, u32 ifindex) {
  Hop hop = hop_at(frame, ifindex, false);
  if (hop.interface.ifindex == 0) return not_ours();
  const u32 l3 = hop.interface.link_header_length;
  if (hop.ether_type == kEtherTypeArp)
    return is_arp_for_others(frame, l3, false) ? drop_unread(Reason::arp_not_external, hop, frame)
                                               : untouched();
  if (hop.ether_type != kEtherTypeIpv4) return untouched();
  return from_outside(frame, ifindex, l3, ifindex, kMayGoSlow);
}

Outcome Engine::from_outside(Frame& frame, u32 ifindex, u32 l3, u32 seen_on, SlowSide slow) {
  Hop hop = hop_at(frame, ifindex, false);
  hop.seen_on = seen_on;
  hop.slow = slow;
  hop.came_back = !slow.allowed;
  // Of a hairpin that is done with before the first half.
  if (seen_on != ifindex) hop.slow = SlowSide{};
  hop.ether_type = kEtherTypeIpv4;  // the link header is that of the other interface
  if (hop.interface.ifindex == 0) return drop_unread(Reason::wrong_zone, hop, frame);
  Packet p;
  const Reason parsed = read_packet(frame, l3, p);
  Verdict v = step_outside(hop, p, parsed);
  if (v.action == Action::forwards) v = step_forwarded(hop, p);
  return carry_out(frame, hop, p, seen_on != ifindex ? stay_inside(v) : v);
}

Outcome Engine::leaving(Frame& frame, u32 ifindex, u32 from) {
  Hop hop = hop_at(frame, ifindex, true);
  if (hop.interface.ifindex == 0) return not_ours();
  const u32 l3 = hop.interface.link_header_length;
  if (hop.ether_type == kEtherTypeArp)
    return is_arp_for_others(frame, l3, true) ? drop_unread(Reason::arp_not_external, hop, frame)
                                              : untouched();
  const Interface* origin = find_interface(settings_, from);
  if (hop.ether_type == kEtherTypeIpv6) {
    const bool blocked = settings_.block_ipv6 && origin != nullptr && origin->zone == Zone::inside;
    return blocked ? drop_unread(Reason::ipv6_blocked, hop, frame) : untouched();
  }
  if (hop.ether_type != kEtherTypeIpv4) return untouched();
  const Ipv4Header* ip = header_at<Ipv4Header>(bytes_of(frame), l3);
  if (ip == nullptr) return drop_unread(Reason::egress_guard, hop, frame);
  const u32 external = external_of(settings_, ip->source, ifindex);
  if (origin != nullptr)  // ours, already checked, or an ICMP error of ours
    return external < kExternalsMax ? untouched() : drop_unread(Reason::egress_guard, hop, frame);
  // A host that has no address yet asks for one (RFC 2131).
  if (from == 0 && ip->source.be == 0 && is_broadcast(ip->destination) &&
      ip->protocol == kProtocolUdp)
    return untouched();
  Packet p;
  const Reason parsed = read_packet(frame, l3, p);
  if (from != 0 && external == kExternalsMax) {
    Route back;
    hop.route(p.source, p.destination, back);
    const bool foreign = back.kind == RouteKind::forward && back.zone == Zone::other;
    return foreign ? untouched() : drop(Reason::egress_guard, hop, p);
  }
  const Verdict v = step_leaving(hop, p, parsed, external);
  return carry_out(frame, hop, p, v);
}

// What the gateway itself sends inside has the output chain to pass.
Outcome Engine::judge_own(Frame& frame, Hop& hop) {
  if (hop.ether_type != kEtherTypeIpv4) return untouched();
  Packet p;
  read_packet(frame, hop.interface.link_header_length, p);
  const Reason reason = hop.judge_alone(p, kChainOutput);
  if (reason != Reason::none) return drop(reason, hop, p);
  change_service(bytes_of(frame), p, hop.judging.said.tos_and, hop.judging.said.tos_xor);
  return untouched();
}

Outcome Engine::entering(Frame& frame, u32 ifindex, u32 from) {
  Hop hop = hop_at(frame, ifindex, true);
  if (from == 0 && hop.judging.generation != 0 && hop.interface.ifindex != 0)
    return judge_own(frame, hop);
  const Interface* origin = find_interface(settings_, from);
  if (hop.interface.ifindex == 0 || origin == nullptr || origin->zone != Zone::outside)
    return untouched();
  // By the kernel's own path: never.
  if (hop.ether_type == kEtherTypeIpv4) return drop_unread(Reason::not_for_us, hop, frame);
  const bool blocked = hop.ether_type == kEtherTypeIpv6 && settings_.block_ipv6;
  return blocked ? drop_unread(Reason::ipv6_blocked, hop, frame) : untouched();
}

void Engine::sweep(u32 places) {
  Hop hop{tables(), settings_, now(), 0, Interface{}, *this};
  Shared& shared = *hop.tables.shared;
  const u32 before = shared.sweep_cursor, mask = hop.tables.records_max - 1;
  for (u32 i = 0; i < places; ++i) {
    const u32 at = (before + i) & mask;
    // A word of clear bits: 64 places with nothing in them.
    if (hop.tables.record_used[at >> 6] != 0) sweep_record(hop, at);
  }
  shared.sweep_cursor = (before + places) & mask;
  if (shared.sweep_cursor <= before) shared.sweep_turns += 1;
}

void Engine::sweep_all() {
  sweep(tables().records_max);
}

}  // namespace masq
