// Packets through the engine, with the checks that need both sides of it.
#include "sim/gateway.h"

#include <cstring>
#include <numeric>

#include "core/blocks.h"
#include "core/flows.h"
#include "engine/engine.h"
#include "slow/slow_path.h"

namespace masq::sim {

namespace {

struct LinkPlan {
  u32 ifindex;
  u32 own;
  Zone zone;
  u32 external;
};
constexpr LinkPlan kLinks[] = {{kLan, address(192, 168, 2, 1), Zone::inside, kExternalsMax},
                               {kLan2, address(192, 168, 3, 1), Zone::inside, kExternalsMax},
                               {kWan, address(203, 0, 113, 2), Zone::outside, 0},
                               {kWan2, address(192, 0, 2, 2), Zone::outside, 1},
                               {kVpn, address(10, 9, 0, 1), Zone::other, kExternalsMax}};

constexpr u32 kBlockHosts = 32;  // the first addresses of a network

Settings settings_of(const GatewayPlan& plan) {
  Settings s{};
  s.secret[0] = plan.secret;
  s.secret[1] = ~plan.secret * 0x9e3779b97f4a7c15ull;
  s.passed = 0x1716151413121110ull;
  s.tcp_established = ticks_from_s(7440);
  s.tcp_opening = s.tcp_closing = ticks_from_s(240);
  s.udp = ticks_from_s(300);
  s.dns = ticks_from_s(30);
  s.icmp = ticks_from_s(60);
  s.refresh = ticks_from_s(plan.refresh_s);
  s.flows_max = plan.flows_max;
  for (PortRange& r : s.pool) r = {1, 0};
  s.pool[0] = plan.pool[0];
  s.pool[1] = plan.pool[1];
  s.host_flows = plan.host_flows;
  s.host_ports = plan.host_ports;
  s.host_opening = plan.host_opening;
  s.host_new_per_s = plan.host_new_per_s;
  s.host_new_burst = plan.host_new_burst;
  s.mss_clamp = plan.mss_clamp;
  s.slow_ifindex = plan.slow ? kSlowWithin : 0;
  s.block_ipv6 = 1;
  s.resets_replaced = 1;
  s.udp_refresh_inbound = plan.udp_refresh_inbound;
  for (const LinkPlan& link : kLinks)
    if (link.zone == Zone::outside)
      s.externals[link.external] = {ipv4_from_host(link.own), link.ifindex, kExternalLive, 1};
  for (u32 i : {0u, 1u})
    s.port_blocks[i] = {ipv4_from_host(kLinks[i].own & ~255u),
                        ipv4_from_host(~(kBlockHosts - 1)),
                        static_cast<u16>(plan.block_words[i]),
                        0,
                        {}};
  lay_blocks(s);
  return s;
}

u32 records_for(u32 flows_max) {
  u32 records = kRecordsMin;
  while (records < flows_max * 2 + 1) records *= 2;
  return records;
}

masq::Key key_of(u8 protocol, Endpoint internal, Endpoint remote) {
  return masq::Key{ipv4_from_host(internal.address), ipv4_from_host(remote.address),
                   port_from_host(internal.port), port_from_host(remote.port), protocol};
}

u64 sum_of(const EngineCounters& c) {
  return std::accumulate(c.reasons.begin(), c.reasons.end(), u64{0});
}

u64 traffic_of(const EngineCounters& c, Traffic what) {
  return c.traffic[static_cast<u32>(what)];
}

}  // namespace

GatewayNode::GatewayNode(const GatewayPlan& plan, const Modes& modes)
    : engine_(std::make_unique<Engine>(records_for(plan.flows_max), settings_of(plan))),
      l3_(plan.link_header_length),
      clock_ns_(plan.clock_ns),
      ledger_(engine_->settings(), modes) {
  engine_->settings().filtering = modes.filtering;
  engine_->settings().filters_open = modes.filtering != kFilterAddressAndPort;
  for (const LinkPlan& link : kLinks) {
    const Ipv4 own = ipv4_from_host(link.own);
    const u32 network = link.own & 0xffffff00;
    engine_->add_route({ipv4_from_host(network), 24, RouteKind::forward, link.ifindex, Ipv4{0}});
    engine_->add_route({own, 32, RouteKind::local, 0, Ipv4{0}});
    engine_->add_route({ipv4_from_host(network | 255), 32, RouteKind::local, 0, Ipv4{0}});
    const bool outside = link.zone == Zone::outside;
    const u32 mtu = link.ifindex == kWan   ? plan.mtu_wan
                    : link.ifindex == kLan ? plan.mtu_lan
                                           : 1500;
    ledger_.places[link.ifindex] = {link.ifindex,           link.zone, network, link.own, mtu,
                                    outside ? link.own : 0, {}};
    if (link.zone == Zone::other) continue;
    engine_->set_interface(
        {link.ifindex, link.zone, static_cast<u8>(l3_), {0}, 0, link.external, own, mtu});
    if (!outside) continue;
    engine_->add_outer_address(own);
    ledger_.outer[link.own] = true;
  }
  u32 port = (plan.pool[1].first + 127u) / 128 * 128;
  for (u32 i : {0u, 1u}) {
    if (plan.block_words[i] == 0) continue;
    ledger_.blocks.push_back({kLinks[i].own & ~255u, kBlockHosts, port, plan.block_words[i] * 128});
    port = ledger_.blocks.back().end();
  }
  for (u32 i = 0; i + 1 < plan.externals_wan; ++i) {
    engine_->add_outer_address(ipv4_from_host(more_of_wan(i)));
    engine_->add_route({ipv4_from_host(more_of_wan(i)), 32, RouteKind::local, 0, Ipv4{0}});
    change_more(i, true, true);
  }
  engine_->add_route(
      {Ipv4{0}, 0, RouteKind::forward, kWan, ipv4_from_host(address(203, 0, 113, 1))});
  engine_->add_route({ipv4_from_host(address(100, 64, 0, 0)), 16, RouteKind::forward, kWan2,
                      ipv4_from_host(address(192, 0, 2, 1))});
  if (!plan.slow) return;
  ledger_.cuts = true;
  slow_state_ = Slow::serves;
  start_slow();
}

GatewayNode::~GatewayNode() = default;

const Settings& GatewayNode::settings() const {
  return engine_->settings();
}

void GatewayNode::set_time(Nanos now) {
  now_ = now;
  engine_->set_time(clock_ns_ + now);
  look_after_slow();
}

Data GatewayNode::framed(const Data& packet) const {
  Data buffer(l3_);
  if (l3_ != 0) buffer[l3_ - 2] = 8;  // IPv4
  buffer.insert(buffer.end(), packet.begin(), packet.end());
  return buffer;
}

// One frame; what comes out, and whether it was counted exactly once.
Passage GatewayNode::pass(Data buffer, u32 l3, const Data& packet,
                          const std::function<Outcome(Frame&)>& action) {
  const u32 length = static_cast<u32>(buffer.size());
  buffer.resize(length + 64);
  Frame frame{buffer.data(), length, length + 64};
  const EngineCounters before = engine_->counters();
  const Outcome o = action(frame);
  const u64 counted = sum_of(engine_->counters()) - sum_of(before);
  const bool slow = o.action == masq::Action::slow || o.action == masq::Action::stack_and_slow;
  if (slow) slow_frame_.assign(buffer.begin(), buffer.begin() + frame.length);
  Passage p{o.action, o.reason, o.ifindex,
            slow ? packet : Data(buffer.begin() + l3, buffer.begin() + frame.length), false};
  const bool refused = o.action == masq::Action::drop || masq::is_answer(o.action);
  require(!refused || o.reason != Reason::none, Invariant::refused_has_reason,
          [&] { return std::string("none is given"); });
  require(counted == (refused ? 1 : 0), Invariant::refused_has_reason,
          [&] { return std::string("counted " + std::to_string(counted) + " times"); });
  (refused                             ? refused_
   : slow                              ? to_slow_
   : o.action == masq::Action::forward ? forwarded_
                                       : to_stack_) += 1;
  check_counts(p);
  check_legs(packet, p, before);
  return p;
}

static u64 carried_in(const EngineCounters& c) {
  return traffic_of(c, Traffic::translated_out) + traffic_of(c, Traffic::translated_in) +
         traffic_of(c, Traffic::routed);
}

// Every packet that goes on is counted once; a hairpin, and the gateway's error about one, on both
// of its legs.
void GatewayNode::check_legs(const Data& packet, Passage& p, const EngineCounters& before) const {
  const EngineCounters c = engine_->counters();
  Ipv4 destination{};
  if (packet.size() >= sizeof(Ipv4Header))
    std::memcpy(&destination, packet.data() + 16, sizeof(destination));
  const bool hairpin =
      traffic_of(c, Traffic::translated_out) != traffic_of(before, Traffic::translated_out) &&
      masq::external_of(settings(), destination, 0) < kExternalsMax;
  p.turned = hairpin;
  const bool second_leg =
      p.action == masq::Action::forward || (hairpin && p.action == masq::Action::icmp_error);
  const u64 legs = (hairpin ? 1 : 0) + (second_leg ? 1 : 0);
  require(carried_in(c) - carried_in(before) == legs, Invariant::counts_agree, [&] {
    return std::string(std::to_string(legs) + " legs, counted " +
                       std::to_string(carried_in(c) - carried_in(before)));
  });
}

void GatewayNode::check_counts(const Passage& p) const {
  const EngineCounters c = engine_->counters();
  require(sum_of(c) == refused_, Invariant::counts_agree, [&] {
    return std::string(std::to_string(refused_) + " refused, counted " + std::to_string(sum_of(c)));
  });
  require(p.reason != Reason::internal_error, Invariant::refused_has_reason,
          [&] { return std::string("internal_error"); });
  require(flows() <= settings().flows_max + kFlowsOwn, Invariant::counts_agree,
          [&] { return std::string("more flows than allowed"); });
}

// Nothing is said to be full that is not: RFC 6888 REQ-13 in reverse.
void GatewayNode::check_cause(const Data& packet, const Passage& p, u32) const {
  if (p.reason == Reason::slow_path_down)
    require(slow_state_ != Slow::serves && slow_since_ + kSecond - 3 * kMillisecond < now_,
            Invariant::refused_for_cause, [&] { return std::string("the slow path is there"); });
  if (p.reason == Reason::flow_table_full)
    require(flows() * 10 >= settings().flows_max * 9, Invariant::refused_for_cause,
            [&] { return std::string(std::to_string(flows()) + " flows: " + text_of(packet)); });
  if (p.reason != Reason::ports_exhausted) return;
  const bool wan2 = packet[16] == 100 && packet[17] == 64;
  bool is_full = false;
  for (u32 i = 0; i < kExternalsMax; ++i)
    is_full |= settings().externals[i].state == kExternalLive &&
               settings().externals[i].ifindex == (wan2 ? kWan2 : kWan) && has_no_port(packet, i);
  require(is_full, Invariant::refused_for_cause,
          [&] { return std::string("there are ports: " + text_of(packet)); });
}

// Are nearly all ports of this external address taken that the packet's source could get?
bool GatewayNode::has_no_port(const Data& packet, u32 external) const {
  u32 taken = 0, all = 0;
  const u32 pool = pool_protocol(packet[9]);
  // A port from 1024 on never becomes a low one (RFC 4787 REQ-3a). Of the other parity only some
  // are tried, and a socket may have just those.
  const bool icmp = packet[9] == kIcmp, low = icmp || packet[20] < 4;
  const u32 wanted = packet[icmp ? 25 : 21];
  const u32 host = address(packet[12], packet[13], packet[14], packet[15]);
  for (u32 port = low ? 0 : 1024; port < 65536; ++port) {
    if (!ledger_.may_have_port(host, static_cast<u16>(port))) continue;
    if ((port & 1) != (wanted & 1) || !is_mappable(settings(), pool, port)) continue;
    all += 1;
    taken += port_is_used(engine_->tables().ports[external * kPoolProtocols + pool],
                          static_cast<u16>(port));
  }
  return taken * 10 >= all * 9;
}

Passage GatewayNode::inside(u32 ifindex, const Data& packet, const Note& note) {
  const Passage p =
      pass(framed(packet), l3_, packet, [&](Frame& f) { return engine_->inside(f, ifindex); });
  ledger_.judge_outward(now_, ifindex, packet, note, p);
  check_cause(packet, p, ifindex);
  check_overtaking(packet, p);
  return p;
}

Passage GatewayNode::outside(u32 ifindex, const Data& packet, const Note& note) {
  const Passage p =
      pass(framed(packet), l3_, packet, [&](Frame& f) { return engine_->outside(f, ifindex); });
  ledger_.judge_inward(now_, ifindex, packet, note, p);
  check_cause(packet, p, ifindex);
  check_overtaking(packet, p);
  return p;
}

Passage GatewayNode::leaving(u32 ifindex, const Data& packet) {
  const Passage p =
      pass(framed(packet), l3_, packet, [&](Frame& f) { return engine_->leaving(f, ifindex, 0); });
  ledger_.judge_leaving(ifindex, packet, p);
  return p;
}

// What should have been gone by the sweep before must be gone after this one.
void GatewayNode::sweep() {
  engine_->sweep_all();
  ledger_.forget(now_);
  std::erase_if(held_since_, [&](const auto& h) { return waiting_.count(h.first) == 0; });
  std::erase_if(firsts_seen_, [&](const auto& f) { return f.second + 60 * kSecond < now_; });
  const Ticks now = engine_->now();
  const Tables& t = engine_->tables();
  const Ticks overdue = ticks_from_ns(now_ - sweep_before_) + 2;
  for (u32 i = 1; i < t.records_max; ++i) {
    const Record& r = t.records[i];
    if (r.state < State::udp) continue;
    const bool gone = settings().externals[r.external].state != kExternalLive &&
                      !is_kept(settings(), r, now - overdue);
    require(!gone, Invariant::expired_is_gone,
            [&] { return std::string("a flow of an address that is gone"); });
    require(!elapsed(now, r.last_seen, timeout_of(settings(), r) + overdue),
            Invariant::expired_is_gone, [&] { return std::string("record " + std::to_string(i)); });
  }
  sweep_before_ = last_sweep_;
  last_sweep_ = now_;
}

void GatewayNode::audit() {
  const auto found = engine_->verify(ticks_from_ns(now_ - last_sweep_) + 2);
  require(found.empty(), Invariant::table_is_sound, [&] { return std::string(describe(found)); });
}

// The place of an external address: its old one if it had one, else one without records.
u32 GatewayNode::place_for(u32 external) const {
  const Settings& s = settings();
  const Tables& t = engine_->tables();
  u32 place = kExternalsMax;
  for (u32 i = 0; i < kExternalsMax; ++i) {
    if (s.externals[i].state != kExternalFree &&
        same(s.externals[i].address, ipv4_from_host(external)))
      return i;
    bool in_use = s.externals[i].state == kExternalLive || place != kExternalsMax;
    for (u32 r = 1; r < t.records_max && !in_use; ++r)
      in_use = t.records[r].state >= State::mapping && t.records[r].external == i;
    if (!in_use) place = i;
  }
  return place;
}

void GatewayNode::change_external(u32 ifindex, u32 to) {
  Settings& s = engine_->settings();
  Place& place = ledger_.places.at(ifindex);
  if (place.external != 0) {
    const u32 gone = masq::external_of(s, ipv4_from_host(place.external), ifindex);
    s.externals[gone].state = to == 0 ? kExternalGone : kExternalReplaced;
    s.gone_at[gone] = engine_->now();
    ledger_.outer[place.external] = false;
    ledger_.external_gone(place.external);
  }
  place.external = 0;
  const u32 slot = to == 0 ? kExternalsMax : place_for(to);
  if (slot != kExternalsMax) {
    s.externals[slot] = {ipv4_from_host(to), ifindex, kExternalLive, 1};
    place.external = to;
    if (ledger_.outer.count(to) == 0) {
      engine_->add_outer_address(ipv4_from_host(to));
      engine_->add_route({ipv4_from_host(to), 32, RouteKind::local, 0, Ipv4{0}});
    }
    ledger_.outer[to] = true;
  }
  choose_external(ifindex, slot);
}

u32 GatewayNode::more_of_wan(u32 which) {
  return address(203, 0, 113, 20 + which);
}

void GatewayNode::change_more(u32 which, bool live, bool serves) {
  const u32 address = more_of_wan(which), slot = place_for(address);
  if (slot == kExternalsMax) return;
  if (!live) engine_->settings().gone_at[slot] = engine_->now();
  Place& place = ledger_.places.at(kWan);
  std::erase(place.more, address);
  if (live) place.more.push_back(address);
  if (!live) ledger_.external_gone(address);
  ledger_.outer[address] = live;
  engine_->settings().externals[slot] = {ipv4_from_host(address), kWan,
                                         live ? kExternalLive : kExternalGone, serves};
  choose_external(kWan, kExternalsMax);
}

// One that serves stands for all of them; `wanted` if it does. If there are any, one serves.
void GatewayNode::choose_external(u32 ifindex, u32 wanted) {
  Settings& s = engine_->settings();
  Interface interface = *find_interface(s, ifindex);
  const auto serves = [&](u32 i) {
    return i < kExternalsMax && s.externals[i].state == kExternalLive && s.externals[i].serves &&
           s.externals[i].ifindex == ifindex;
  };
  External* first = nullptr;
  bool any = false;
  for (u32 i = kExternalsMax; i-- > 0;) {
    any |= serves(i);
    if (s.externals[i].state == kExternalLive && s.externals[i].ifindex == ifindex)
      first = &s.externals[i];
  }
  if (!any && first != nullptr) first->serves = 1;
  if (serves(wanted)) interface.external = wanted;
  for (u32 i = 0; i < kExternalsMax && !serves(interface.external); ++i)
    if (serves(i)) interface.external = i;
  if (!serves(interface.external)) interface.external = kExternalsMax;
  engine_->set_interface(interface);
}

void GatewayNode::open_socket(u8 protocol, u16 port) {
  engine_->add_socket({protocol, Ipv4{0}, port_from_host(port)});
  ledger_.sockets.emplace_back(protocol, port);
}

std::optional<Record> GatewayNode::record_of(u8 protocol, Endpoint internal,
                                             Endpoint remote) const {
  const masq::Key key = key_of(protocol, internal, remote);
  const u32 index = find_inner(engine_->tables(), key, key_hash(settings(), key, kOut));
  if (index == kNoRecord) return std::nullopt;
  return engine_->tables().records[index];
}

u32 GatewayNode::flows() const {
  return engine_->tables().shared->flows;
}

}  // namespace masq::sim
