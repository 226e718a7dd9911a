// Three readings of one sequence of packets: the engine in user space, the programs in the kernel,
// and the RFCs (rfc_model.h). They must agree on what becomes of each packet, byte for byte; the
// tables of the first two are compared byte for byte too, and the sessions of all three with their
// states, timers and TCP numbers.
//
//   differential --seeds A-B --steps N            the engine and the RFCs
//   differential --kernel --seeds A-B --steps N   and the kernel's programs (needs root)
//
// The sequence comes from a seed: packets by a grammar (of open sessions, of new ones, nearly right
// ones, fragments, ICMP errors, damaged ones), jumps of the clock to just before and just at the
// end of some timer, sweeps, address changes, sockets. Exit code 0 if all agreed.
//
// Long because one random sequence has all kinds of steps, which share what is known of the world.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "core/flows.h"
#include "engine/verify.h"
#include "packets/script.h"
#include "sim/random.h"
#include "sim/rfc_model.h"

namespace masq::test {
namespace {

using sim::Datagram;
using sim::Endpoint;
using sim::kAck;
using sim::kFin;
using sim::kIcmp;
using sim::kRst;
using sim::kSyn;
using sim::kTcp;
using sim::kUdp;

constexpr u32 kSessionsMax = 60;

// Some seeds run with a pool that is soon empty, some with hosts whose filtering is another, some
// with limits for each inner host, some with several external addresses that come and go.
bool has_narrow_pool(u64 seed) {
  return seed % 4 == 1;
}
bool has_limits(u64 seed) {
  return seed % 5 == 2;
}
bool has_open_filters(u64 seed) {
  return seed % 3 == 1;
}
bool has_addresses(u64 seed) {
  return seed % 7 == 0 || seed % 7 == 2;
}
// Of wan, beside the first, each with the place that it has in the settings.
const std::map<u32, u32> kMore = {{sim::address(203, 0, 113, 20), 4},
                                  {sim::address(203, 0, 113, 21), 5}};
const std::map<u32, Filtering> kOpenHosts = {{sim::address(192, 168, 2, 5), kFilterAddress},
                                             {sim::address(192, 168, 2, 6), kFilterNone},
                                             {sim::address(192, 168, 3, 6), kFilterNone}};

Settings settings_for(const Plan& plan, u64 seed) {
  Settings s{};
  s.secret[0] = seed;
  s.secret[1] = 0x0f0e0d0c0b0a0908ull;
  s.passed = 0x1716151413121110ull;
  s.tcp_established = ticks_from_s(7440);
  s.tcp_opening = ticks_from_s(250);
  s.tcp_closing = ticks_from_s(240);
  s.udp = ticks_from_s(300);
  s.dns = ticks_from_s(30);
  s.icmp = ticks_from_s(60);
  s.flows_max = kSessionsMax;
  const bool narrow = has_narrow_pool(seed);
  s.pool[0] = {600, static_cast<u16>(narrow ? 602 : 1023)};
  const u16 last = has_addresses(seed) ? 30002 : 30006;  // at each of them
  s.pool[1] = {30000, narrow ? last : u16{65535}};
  s.pool[2] = s.pool[3] = {1, 0};
  s.block_ipv6 = 1;
  s.udp_refresh_inbound = seed % 3 == 0;
  if (has_limits(seed)) {
    const u64 which = seed / 5 % 3;  // so that each of them is reached
    s.host_flows = which == 0 ? 4 : 0;
    s.host_ports = which == 1 ? 6 : 0;
    s.host_opening = which == 1 ? 3 : 0;
    s.host_new_per_s = which == 2 ? 1 : 0;
    s.host_new_burst = 2;
  }
  if (has_open_filters(seed)) {
    s.filters_open = 1;
    u32 i = 0;
    for (const auto& [host, filtering] : kOpenHosts)
      s.filters[i++] = {ipv4_from_host(host), Ipv4{0xffffffff}, 1, filtering, {0, 0}};
  }
  for (u32 i : {2u, 3u})
    s.externals[plan[i].external] = {address_of(plan[i].address), plan[i].ifindex, kExternalLive,
                                     has_addresses(seed) && i == 2};
  if (has_addresses(seed))
    for (const auto& [address, place] : kMore)
      s.externals[place] = {ipv4_from_host(address), plan[2].ifindex, kExternalLive, 1};
  return s;
}

class Run {
 public:
  Run(u64 seed, const Plan& plan, bool kernel)
      : plan_(plan),
        random_(seed),
        settings_(settings_for(plan, seed)),
        several_(has_addresses(seed)) {
    now_ = random_.chance(300) ? (u64{1} << 32) - random_.below(9000000) : 1000000000;
    gateways_.push_back(make_engine(settings_, plan, kEthernetHeaderLength));
    if (kernel) gateways_.push_back(make_kernel(settings_, plan));
    for (const PortPlan& port : plan) {
      const u32 own = to_host(address_of(port.address));
      if (port.zone == Zone::other) continue;
      const u32 external = port.zone == Zone::outside ? own : 0;
      model_.links.push_back(
          {port.ifindex, own & 0xffffff00, own, port.zone == Zone::inside, external, 1500});
      if (external != 0) model_.outer.push_back(external);
      for (auto& gateway : gateways_) {
        gateway->set_interface(interface_of(port, port.external));
        if (external != 0) gateway->add_outer_address(ipv4_from_host(external));
      }
    }
    if (has_addresses(seed))
      for (const auto& [address, place] : kMore) {
        model_.links[2].more.push_back(address);
        model_.outer.push_back(address);
        for (auto& gateway : gateways_) gateway->add_outer_address(ipv4_from_host(address));
      }
    model_.second_network = sim::address(100, 64, 0, 0);
    model_.pool[0] = settings_.pool[0];
    model_.pool[1] = settings_.pool[1];
    model_.sessions_max = settings_.flows_max;
    model_.absence = kAbsence;
    model_.own_sessions = kFlowsOwn;
    model_.limits = {settings_.host_flows, settings_.host_ports, settings_.host_opening,
                     settings_.host_new_per_s, settings_.host_new_burst};
    if (has_open_filters(seed)) model_.filtering = kOpenHosts;
    model_.prefers = [this](u32 host, u32 link) { return preferred(host, link); };
    model_.udp_refresh_inbound = settings_.udp_refresh_inbound != 0;
    model_.timers = {settings_.tcp_established,
                     settings_.tcp_opening,
                     settings_.tcp_closing,
                     settings_.udp,
                     settings_.dns,
                     settings_.icmp,
                     ticks_from_s(30)};
    set_time();
  }

  // Throws Failure.
  void go(u32 steps) {
    for (step_ = 1; step_ <= steps; ++step_) {
      step();
      compare_sessions();
      if (gateways_.size() > 1) compare_tables(gateways_[0]->tables(), gateways_[1]->tables());
      if (step_ % 256 == 0 || step_ == steps) audit();
    }
  }

  std::string where() const { return "step " + std::to_string(step_) + ": " + doing_; }
  u32 passed() const { return passed_; }
  u32 refused() const { return refused_; }
  // What the sequence was also to show.
  u32 turned() const { return turned_; }
  u32 own() const { return own_; }

 private:
  static Interface interface_of(const PortPlan& port, u32 external) {
    return {
        port.ifindex, port.zone, kEthernetHeaderLength, {0}, 0, external, address_of(port.address),
        1500};
  }

  void set_time() {
    for (auto& gateway : gateways_) gateway->set_time((now_ << kTickShift) + 500000);
  }

  void step() {
    const u32 dice = random_.below(1000);
    if (dice < 60) {
      jump();
    } else if (dice < 90) {
      doing_ = "a sweep";
      sweep();
    } else if (dice < 95) {
      doing_ = "another external address";
      if (several_ && random_.chance(600))
        change_more();
      else
        change_address();
      if (several_) sweep();  // else what comes back finds its flows, and its hosts have two
    } else if (dice < 97 && model_.sockets.size() < 10) {
      open_socket();
    } else {
      now_ += random_.below(3);
      set_time();
      const u32 side = random_.below(1000);
      u32 inner = random_.below(2);
      const u32 outer = 2 + random_.below(2);
      if (side < 470)
        play(Way::outward, inner, make(true, inner));
      else if (side < 550) {
        const sim::Data packet = make_hairpin(inner);
        play(Way::outward, inner, packet);
      } else if (side < 620)
        play(Way::leaving, outer, make_own(outer));
      else
        play(Way::inward, outer, make(false, outer));
    }
  }

  void sweep() {
    for (auto& gateway : gateways_) gateway->sweep();
    model_.sweep(now_);
  }

  // Mostly to the edge of some session's timer.
  void jump() {
    doing_ = "the clock";
    u64 by = random_.between(1, 5000);
    if (!model_.sessions().empty() && random_.chance(700)) {
      auto it = model_.sessions().begin();
      std::advance(it, random_.below(static_cast<u32>(model_.sessions().size())));
      const u64 age = now_ - it->second.last_seen;
      const u64 timer = random_.one_of(std::vector<u64>{
          model_.timers.established, model_.timers.opening, model_.timers.closing,
          model_.timers.udp, model_.timers.dns, model_.timers.icmp, model_.timers.fragment});
      if (timer > age) by = timer - age - random_.below(2);
    }
    now_ += by;
    set_time();
  }

  void open_socket() {
    const u16 port = static_cast<u16>(random_.between(30010, 65535));
    if (std::find(model_.sockets.begin(), model_.sockets.end(), port) != model_.sockets.end())
      return;
    for (const auto& [key, s] : model_.sessions())
      if (s.external.port == port) return;  // then the socket is the later one
    doing_ = "a socket";
    for (auto& gateway : gateways_) gateway->open_socket(kUdp, Ipv4{0}, port);
    model_.sockets.push_back(port);
  }

  // Where a link has several addresses nothing waits for one: its hosts would have two of them.
  void gone(Settings& s, u32 place) {
    s.externals[place].state = kExternalGone;
    s.gone_at[place] = static_cast<Ticks>(now_) - (several_ ? kAbsence : 0);
    if (!several_) model_.gone_since[to_host(s.externals[place].address)] = now_;
  }

  // The first address of wan and one other take turns, in places of their own.
  void change_address() {
    RfcLink& link = model_.links[2];
    const u32 other = sim::address(203, 0, 113, 77);
    const bool back = link.external != link.own;
    link.external = back ? link.own : other;
    if (std::find(model_.outer.begin(), model_.outer.end(), other) == model_.outer.end())
      model_.outer.push_back(other);
    for (auto& gateway : gateways_) {
      Settings& s = gateway->settings();
      gone(s, back ? 2 : 0);
      if (back) {
        s.externals[0].state = kExternalLive;
      } else {
        s.externals[2] = {ipv4_from_host(other), plan_[2].ifindex, kExternalLive, 1};
        if (!changed_) gateway->add_outer_address(ipv4_from_host(other));
      }
      gateway->set_interface(interface_of(plan_[2], back ? 0 : 2));
    }
    changed_ = true;
  }

  // One of the others comes or goes.
  void change_more() {
    auto it = kMore.begin();
    std::advance(it, random_.below(static_cast<u32>(kMore.size())));
    const auto [address, place] = *it;
    std::vector<u32>& more = model_.links[2].more;
    const bool goes = std::erase(more, address) != 0;
    if (!goes) more.push_back(address);
    for (auto& gateway : gateways_)
      if (goes)
        gone(gateway->settings(), place);
      else
        gateway->settings().externals[place].state = kExternalLive;
  }

  // --- one packet --------------------------------------------------------------------------------

  enum class Way { outward, inward, leaving };

  void play(Way way, u32 link, const sim::Data& packet) {
    static const char* kWords[] = {"from ", "to ", "of its own, by "};
    doing_ =
        kWords[static_cast<u32>(way)] + std::string(plan_[link].name) + " " + sim::text_of(packet);
    const Hook hook = way == Way::outward  ? Hook::in_lan
                      : way == Way::inward ? Hook::in_wan
                                           : Hook::out_wan;
    Passed first{};
    for (auto& gateway : gateways_) {
      const Passed p =
          gateway->pass(hook, plan_[link].ifindex, 0, 0x0800, packet, 0, 0, kSlowAsked);
      if (gateway == gateways_.front()) {
        first = p;
      } else if (p.fate != first.fate || (p.fate != Fate::drop && p.packet != first.packet)) {
        throw Failure{"kernel and engine differ: " + words_of(p) + ", and " + words_of(first)};
      }
    }
    const u32 ifindex = plan_[link].ifindex;
    sim::Data wanted = packet;
    std::vector<u32> unsure;
    Answer a = way == Way::outward  ? model_.outward(now_, ifindex, packet)
               : way == Way::inward ? model_.inward(now_, ifindex, packet)
                                    : model_.leaving(now_, ifindex, packet);
    settle(a);
    if (way == Way::leaving) own_ += a.must == Must::stack && a.translate;
    const bool turned = a.must == Must::again;
    if (turned) {
      wanted = changed(wanted, true, a.near, 0, unsure);
      a = model_.inward(now_, a.link, wanted, true);
      turned_ += a.must == Must::pass;
    }
    judge(packet, wanted, turned, a, first, unsure);
  }

  // Which port was chosen, and whether that was legal.
  void settle(Answer& a) {
    if (!a.chooses) return;
    const RfcModel::Key& key = model_.choosing();
    const Tables& t = gateways_[0]->tables();
    for (u32 i = 1; i < t.records_max; ++i) {
      const Record& r = t.records[i];
      if (r.state < State::udp || key_of(r) != key) continue;
      a.near = external_of(r);
      const std::string wrong = model_.chosen(now_, a.near);
      if (!wrong.empty()) throw Failure{"has chosen " + text_of(a.near) + ", " + wrong};
      return;
    }
    throw Failure{std::string("has made no flow, and must have (") + a.why + ")"};
  }

  Endpoint external_of(const Record& r) const {
    return {to_host(gateways_[0]->settings().externals[r.external].address),
            to_host(r.external_port)};
  }

  // The external address of a link that a host without sessions there gets. Of a copy of the hosts:
  // to look at a place may change it.
  u32 preferred(u32 host, u32 link) const {
    Tables t = gateways_[0]->tables();
    std::vector<Host> hosts(t.hosts, t.hosts + hosts_max(t.records_max));
    t.hosts = hosts.data();
    const Settings& s = gateways_[0]->settings();
    const Ipv4 address = ipv4_from_host(host);
    const u32 place = host_find(t, address, host_hash(s, address));
    const u32 at = find_interface(s, link)->external;
    u64 best = at;
    for (u32 i = 0; i < kExternalsMax; ++i)
      best = std::max(best, rank_external(t, s, place, address, at, i));
    return to_host(s.externals[best & (kExternalsMax - 1)].address);
  }

  static RfcModel::Key key_of(const Record& r) {
    return {r.protocol,
            {to_host(r.internal_address), to_host(r.internal_port)},
            {to_host(r.remote_address), to_host(r.remote_port)}};
  }

  // The packet with another endpoint, and as many hops less.
  static sim::Data changed(const sim::Data& packet, bool outward, Endpoint near, u8 hops,
                           std::vector<u32>& unsure) {
    sim::Data out = translated(packet, outward, near, unsure);
    out[8] = static_cast<u8>(packet[8] - hops);
    fill_header_checksum(out);
    return out;
  }

  static std::string words_of(const Passed& p) {
    if (p.fate == Fate::drop) return "dropped";
    return (p.fate == Fate::stack ? "to the stack " : "sent ") + sim::text_of(p.packet);
  }

  static bool is_answer(const sim::Data& to, const sim::Data& packet) {
    Datagram cause, error;
    bool right = false;
    return decode(to, cause, right) && decode(packet, error, right) && right &&
           is_icmp_error(error) && error.destination == cause.source &&
           error.payload.size() <= to.size() &&
           std::equal(error.payload.begin(), error.payload.end(), to.begin());
  }

  // `half`: the packet, or what the first half of a hairpin has made of it (then `turned`).
  void judge(const sim::Data& packet, const sim::Data& half, bool turned, const Answer& a,
             const Passed& p, std::vector<u32>& unsure) {
    const auto fail = [&](const std::string& must) {
      throw Failure{"must be " + must + " (" + a.why + "), was " + words_of(p)};
    };
    (a.must == Must::refuse ? refused_ : passed_) += 1;
    if (a.must == Must::refuse) {
      if (p.fate != Fate::drop && !(p.fate == Fate::forward && is_answer(packet, p.packet)))
        fail("refused");
      return;
    }
    const bool stack = a.must == Must::stack;
    if (p.fate != (stack ? Fate::stack : Fate::forward) || p.packet.size() != packet.size())
      fail(stack ? "given to the stack" : "passed on");
    if (stack && !a.translate) {
      if (p.packet != packet) fail("left as it is");
      return;
    }
    Endpoint near = a.near;
    if (!a.translate) {
      Datagram out;
      bool right = false;
      decode(p.packet, out, right);
      near = {out.source, source_of(out).port};
    }
    sim::Data wanted = changed(half, a.outward, near, stack ? 0 : 1, unsure);
    if (a.translate && (a.outward || turned)) judge_id(packet, p.packet, stack, wanted);
    for (u32 at : unsure)
      for (u32 byte : {at, at + 1})
        if (byte < wanted.size()) wanted[byte] = p.packet[byte];
    if (wanted != p.packet) fail("sent as " + sim::text_of(wanted));
  }

  // RFC 6864: what is or may be cut has an identification of the gateway's, all fragments of a
  // datagram the same, and no two datagrams between the same addresses within 65536. Else it keeps
  // its own. Takes it over into `wanted` if it is a legal one.
  void judge_id(const sim::Data& packet, const sim::Data& sent, bool own, sim::Data& wanted) {
    Datagram d, out;
    bool right = false;
    decode(packet, d, right);
    decode(sent, out, right);
    if ((packet[6] & 0x40) != 0 && !d.more && d.offset == 0) return;
    const std::vector<u32> pair{out.source, out.destination, d.protocol};
    const std::vector<u32> of{d.source, d.destination, d.protocol, d.id};
    // What the gateway itself sends and what keeps its port keeps its identification too.
    if (own && d.offset == 0 && source_of(out) == source_of(d)) {
      sent_as_.erase(of);
      return;
    }
    if (own && d.offset != 0 && sent_as_.count(of) == 0) return;
    if (d.offset != 0) {
      if (sent_as_[of] != out.id) throw Failure{"a fragment has another identification"};
    } else {
      std::set<u16>& known = ids_[pair];
      const bool again = sent_as_.count(of) != 0 && sent_as_[of] == out.id;
      if (!known.insert(out.id).second && !(again && d.more))
        throw Failure{"an identification is used twice"};
      if (d.more) sent_as_[of] = out.id;
    }
    u32 sum = 0;
    for (u32 at = 0; at < 4u * (sent[0] & 15u); at += 2) sum += sent[at] * 256u + sent[at + 1];
    if (sum % 0xffff != 0) throw Failure{"the header's checksum is wrong"};
    for (u32 at : {4u, 5u, 10u, 11u}) wanted[at] = sent[at];
  }

  // --- the grammar -------------------------------------------------------------------------------

  u32 some_inner(u32 link) {
    return sim::address(192, 168, link == 0 ? 2 : 3, random_.between(4, 6));
  }
  u32 some_remote() {
    static const std::vector<u32> kRemotes = {
        sim::address(198, 51, 100, 1), sim::address(198, 51, 100, 2), sim::address(100, 64, 0, 1)};
    return random_.one_of(kRemotes);
  }

  sim::Data make(bool outward, u32 link) {
    static const std::vector<u8> kProtocols = {kTcp, kTcp, kTcp, kUdp, kUdp, kIcmp};
    RfcModel::Key key{
        random_.one_of(kProtocols), {some_inner(link), some_port()}, {some_remote(), 80}};
    if (random_.chance(400)) key.remote.port = 53;
    if (key.protocol == kIcmp) key.remote.port = 0;
    const RfcModel::Session* s = nullptr;
    if (!model_.sessions().empty() && random_.chance(outward ? 700 : 950)) {
      auto it = model_.sessions().begin();
      std::advance(it, random_.below(static_cast<u32>(model_.sessions().size())));
      if (!outward || !it->second.local) {
        key = it->first;
        s = &it->second;
      }
    }
    // Who was not asked, as the filtering of some hosts allows.
    if (!outward && s != nullptr && random_.chance(100)) {
      key.remote = random_.chance(500) ? Endpoint{key.remote.address, some_port()}
                                       : Endpoint{some_remote(), 80};
    }
    return packet_of(key, s, outward, link);
  }

  // From one inner host to the external endpoint of another, by a session of its own or a new one;
  // sets the host's link.
  sim::Data make_hairpin(u32& link) {
    if (model_.sessions().empty()) return make(true, link);
    auto it = model_.sessions().begin();
    std::advance(it, random_.below(static_cast<u32>(model_.sessions().size())));
    const u8 protocol = it->first.protocol;
    RfcModel::Key key{protocol, {some_inner(link), some_port()}, it->second.external};
    // An answer to one who has written to this host's external endpoint.
    for (const auto& [other, its] : model_.sessions()) {
      if (!is_outer(other.remote.address) || !random_.chance(400)) continue;
      for (const auto& [mine, session] : model_.sessions())
        if (mine.protocol == other.protocol && session.external == other.remote)
          key = {mine.protocol, mine.internal, its.external};
    }
    const auto known = model_.sessions().find(key);
    link = key.internal.address >> 8 == sim::address(192, 168, 3, 0) >> 8 ? 1 : 0;
    return packet_of(key, known == model_.sessions().end() ? nullptr : &known->second, true, link);
  }

  // The gateway's own, from an external address.
  sim::Data make_own(u32 link) {
    const std::vector<u32>& more = model_.links[link].more;
    const u32 own =
        more.empty() || random_.chance(500) ? model_.links[link].external : random_.one_of(more);
    static const std::vector<u8> kProtocols = {kTcp, kUdp, kIcmp};
    RfcModel::Key key{random_.one_of(kProtocols), {own, 0}, {some_remote(), 80}};
    static const std::vector<u16> kPorts = {601, 22, 5000, 30001, 30002, 30003};
    key.internal.port = random_.one_of(kPorts);
    if (!model_.sockets.empty() && random_.chance(200))
      key.internal.port = random_.one_of(model_.sockets);
    if (!model_.sessions().empty() && random_.chance(200)) {  // what somebody has already
      auto it = model_.sessions().begin();
      std::advance(it, random_.below(static_cast<u32>(model_.sessions().size())));
      key.internal.port = it->second.external.port;
    }
    if (key.protocol == kIcmp) key.remote.port = 0;
    const RfcModel::Session* s = nullptr;
    for (const auto& [other, its] : model_.sessions())
      if (its.local && other.internal.address == own && random_.chance(500)) {
        key = other;
        s = &its;
      }
    if (random_.chance(30)) key.internal.address = some_inner(0);
    return packet_of(key, s, true, link);
  }

  sim::Data packet_of(RfcModel::Key key, const RfcModel::Session* s, bool outward, u32 link) {
    Datagram d;
    d.protocol = key.protocol;
    Endpoint external = s != nullptr ? s->external : Endpoint{model_.links[link].external, 40000};
    if (random_.chance(60)) perturb(outward, link, key, external);
    const Endpoint from = outward ? key.internal : key.remote;
    const Endpoint to = outward ? key.remote : external;
    if (random_.chance(120)) return error(from, to, d.protocol);
    d.source = from.address;
    d.source_port = from.port;
    d.destination = to.address;
    d.destination_port = to.port;
    d.query = outward ? from.port : to.port;
    d.type = outward ? u8{8} : u8{0};
    if (random_.chance(30)) d.type = static_cast<u8>(random_.below(20));
    if (random_.chance(20)) d.protocol = 47;
    d.ttl = random_.chance(970) ? u8{64} : static_cast<u8>(random_.below(3));
    d.dont_fragment = random_.chance(500);
    d.payload = sim::Data(random_.chance(950) ? random_.below(30) : 1480, 0x55);
    if (d.protocol == kTcp) fill_tcp(d, s, outward ? kOut : kIn);
    if (random_.chance(120)) make_fragment(d);
    sim::Data packet = encode(d);
    if (random_.chance(20)) add_options(packet);
    if (random_.chance(70)) damage(packet, outward);
    if (random_.chance(20)) packet.resize(packet.size() + random_.below(8));
    return packet;
  }

  u16 some_port() {
    return random_.chance(150) ? static_cast<u16>(700 + random_.below(2))
                               : static_cast<u16>(5000 + random_.below(4));
  }

  // One thing is not as it was.
  void perturb(bool outward, u32 link, RfcModel::Key& key, Endpoint& external) {
    switch (random_.below(4)) {
      case 0:
        key.remote.address ^= 3;
        break;
      case 1:
        key.remote.port ^= 1;
        break;
      case 2:
        external.port = static_cast<u16>(random_.next());
        key.internal.port ^= 2;
        break;
      default:
        external.address = random_.one_of(model_.outer);
        key.internal.address = outward ? some_inner(link ^ 1) : key.internal.address;
    }
  }

  void fill_tcp(Datagram& d, const RfcModel::Session* s, u32 direction) {
    static const std::vector<u8> kFlags = {kSyn, kSyn | kAck, kAck, kAck,        kAck,
                                           kAck, kFin | kAck, kRst, kRst | kAck, kSyn | kFin};
    d.flags = s == nullptr && random_.chance(800) ? kSyn : random_.one_of(kFlags);
    d.sequence = static_cast<u32>(random_.next());
    d.acknowledgment = static_cast<u32>(random_.next());
    d.window = static_cast<u16>(random_.chance(900) ? random_.below(2000) : random_.next());
    d.scale = d.flags & kSyn && random_.chance(500) ? static_cast<int>(random_.below(16)) : -1;
    if (s == nullptr || random_.chance(50)) return;
    const RfcModel::Half& mine = s->half[direction];
    const RfcModel::Half& other = s->half[direction ^ 1];
    if (!mine.seen && random_.chance(700)) d.flags = kSyn | kAck;
    if (mine.seen)
      d.sequence = random_.chance(700) ? mine.end : mine.acknowledged + random_.below(3000) - 1000;
    if (other.seen)
      d.acknowledgment = random_.chance(700) ? other.end : other.end - random_.below(100) + 5;
    if (other.seen && random_.chance(30)) d.acknowledgment -= other.window + random_.below(3) - 1;
    // What answers a SYN on an open connection: another one opens, or is refused.
    if (s->syn_again && direction == kIn && random_.chance(300)) {
      d.flags = random_.chance(700) ? kSyn | kAck : kRst | kAck;
      d.acknowledgment = *s->syn_again + (random_.chance(800) ? 0 : 1);
    }
    // The SYN again, with or without its data (TCP fast open).
    if (s->state == State::tcp_opening && direction == kOut && random_.chance(200)) {
      d.flags = kSyn;
      d.sequence = mine.acknowledged;
    }
  }

  void make_fragment(Datagram& d) {
    d.id = static_cast<u16>(random_.below(6));
    d.dont_fragment = false;
    d.more = random_.chance(700);
    if (random_.chance(500)) d.offset = random_.between(1, 6) * 8;
  }

  // An ICMP error about a packet that went the other way.
  sim::Data error(Endpoint from, Endpoint to, u8 protocol) {
    Datagram quoted;
    quoted.protocol = protocol;
    quoted.source = to.address;
    quoted.source_port = to.port;
    quoted.destination = from.address;
    quoted.destination_port = from.port;
    quoted.type = 8;
    quoted.query = from.port != 0 ? from.port : to.port;
    quoted.payload = sim::Data(random_.below(30), 0x66);
    Datagram d;
    static const std::vector<u8> kTypes = {3, 3, 3, 11, 12, 4, 5};
    d.protocol = kIcmp;
    d.type = random_.one_of(kTypes);
    d.code = static_cast<u8>(random_.below(16));
    d.source = random_.chance(700) ? from.address : from.address ^ 1;
    d.destination = random_.chance(950) ? to.address : to.address ^ 3;
    d.payload = encode(quoted);
    if (random_.chance(300)) d.payload.resize(random_.between(18, 40));
    if (random_.chance(50)) d.payload[random_.below(18)] ^= 1;
    return encode(d);
  }

  // Record route, with room for nothing, and the end.
  static void add_options(sim::Data& packet) {
    const sim::Data options = {7, 3, 4, 0};
    packet.insert(packet.begin() + 20, options.begin(), options.end());
    packet[0] = 0x46;
    packet[2] = static_cast<u8>(packet.size() >> 8);
    packet[3] = static_cast<u8>(packet.size());
    fill_header_checksum(packet);
  }

  static void fill_header_checksum(sim::Data& packet) {
    packet[10] = packet[11] = 0;
    const std::size_t end = std::min<std::size_t>((packet[0] & 15) * 4u, packet.size());
    u32 sum = 0;
    for (std::size_t i = 0; i + 1 < end; i += 2) sum += packet[i] * 256u + packet[i + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    packet[10] = static_cast<u8>(~sum >> 8);
    packet[11] = static_cast<u8>(~sum);
  }

  bool is_outer(u32 address) const {
    return std::find(model_.outer.begin(), model_.outer.end(), address) != model_.outer.end();
  }

  void damage(sim::Data& packet, bool outward) {
    u32 at = random_.below(std::min<u32>(static_cast<u32>(packet.size()), 48));
    if (outward && at >= 16 && at < 20) at = 8;  // where it goes stays known
    packet[at] = static_cast<u8>(random_.next());
    // The kernel runs no program on less than an IPv4 header.
    if (random_.chance(200)) packet.resize(random_.between(20, static_cast<u32>(packet.size())));
    if (packet.size() >= 20 && random_.chance(800)) fill_header_checksum(packet);
  }

  // --- afterwards --------------------------------------------------------------------------------

  void compare_sessions() const {
    const Tables& t = gateways_[0]->tables();
    std::size_t linked = 0;
    for (u32 i = 1; i < t.records_max; ++i) {
      const Record& r = t.records[i];
      if (r.state < State::udp) continue;
      linked += 1;
      const RfcModel::Key key = key_of(r);
      const auto at = model_.sessions().find(key);
      if (at == model_.sessions().end())
        throw Failure{"there is a flow that should not be: " + text_of(key.internal) + " <-> " +
                      text_of(key.remote)};
      compare_session(r, key, at->second);
    }
    if (linked != model_.sessions().size())
      throw Failure{std::to_string(linked) + " flows instead of " +
                    std::to_string(model_.sessions().size())};
  }

  void compare_session(const Record& r, const RfcModel::Key& key,
                       const RfcModel::Session& s) const {
    const std::string name = text_of(key.internal) + " <-> " + text_of(key.remote);
    if (r.state != s.state)
      throw Failure{name + " is in state " + std::to_string(static_cast<u32>(r.state)) +
                    ", should be in " + std::to_string(static_cast<u32>(s.state))};
    if (r.last_seen != static_cast<u32>(s.last_seen)) throw Failure{name + ": its timer is wrong"};
    if (((r.flags & kFlagLocal) != 0) != s.local) throw Failure{name + ": whose is it?"};
    if (external_of(r) != s.external) throw Failure{name + ": its external endpoint is wrong"};
    if (r.syn_again != s.syn_again.value_or(0)) throw Failure{name + ": its other SYN is wrong"};
    for (u32 d : {kOut, kIn}) {
      const RfcModel::Half& half = s.half[d];
      if (key.protocol != kTcp || !half.seen) continue;
      if (r.sequence_end[d] != half.end || r.acknowledged[d] != half.acknowledged ||
          r.window[d] != half.window)
        throw Failure{name + ": its TCP numbers of direction " + std::to_string(d) + " are " +
                      std::to_string(r.sequence_end[d]) + ", " + std::to_string(r.acknowledged[d]) +
                      ", " + std::to_string(r.window[d]) + ", should be " +
                      std::to_string(half.end) + ", " + std::to_string(half.acknowledged) + ", " +
                      std::to_string(half.window)};
    }
  }

  void audit() const {
    for (const auto& gateway : gateways_) {
      const auto found = verify(gateway->tables(), gateway->settings(), static_cast<Ticks>(now_),
                                ticks_from_s(kTimeoutMax_s));
      if (!found.empty()) throw Failure{"the table is broken\n" + describe(found)};
    }
  }

  const Plan& plan_;
  sim::Random random_;
  const Settings settings_;
  const bool several_;  // external addresses of wan
  std::vector<std::unique_ptr<Gateway>> gateways_;
  RfcModel model_;
  u64 now_ = 0;
  std::map<std::vector<u32>, std::set<u16>> ids_;  // given to datagrams between two addresses
  std::map<std::vector<u32>, u32> sent_as_;        // that of a datagram in fragments
  u32 step_ = 0, passed_ = 0, refused_ = 0, turned_ = 0, own_ = 0;
  bool changed_ = false;
  std::string doing_;
};

// The kernel's clock may step while a packet passes; then the whole run is made again.
bool run(u64 seed, u32 steps, const Plan& plan, bool kernel) {
  for (u32 tries = 0; tries < 20; ++tries) {
    Run one(seed, plan, kernel);
    try {
      one.go(steps);
      std::printf(
          "seed %llu: %u steps, %u packets go on, %u are refused; %u hairpins, %u of its own\n",
          seed, steps, one.passed(), one.refused(), one.turned(), one.own());
      return true;
    } catch (const Slipped&) {
    } catch (const Failure& e) {
      std::printf("seed %llu, %s\n  %s\nAgain: differential%s --seeds %llu-%llu --steps %u\n", seed,
                  one.where().c_str(), e.what.c_str(), kernel ? " --kernel" : "", seed, seed,
                  steps);
      return false;
    }
  }
  throw CannotRun{"The machine is too busy: the clock has stepped in each of 20 runs."};
}

}  // namespace
}  // namespace masq::test

int main(int argc, char** argv) {
  using namespace masq;
  u64 first = 1, last = 1;
  u32 steps = 1000;
  bool kernel = false;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (name == "--kernel") {
      kernel = true;
    } else if (name == "--seeds" && std::strchr(value, '-') != nullptr) {
      first = std::strtoull(argv[++i], nullptr, 10);
      last = std::strtoull(std::strchr(value, '-') + 1, nullptr, 10);
    } else if (name == "--steps" && i + 1 < argc) {
      steps = static_cast<u32>(std::strtoul(argv[++i], nullptr, 10));
    } else {
      std::fprintf(stderr, "usage: differential [--kernel] [--seeds A-B] [--steps N]\n");
      return 2;
    }
  }
  try {
    test::Plan plan = test::default_plan();
    if (kernel) test::make_namespace(plan);
    bool good = true;
    for (u64 seed = first; seed <= last && good; ++seed)
      good = test::run(seed, steps, plan, kernel);
    if (good) std::printf("%llu runs agreed\n", last - first + 1);
    return good ? 0 : 1;
  } catch (const test::CannotRun& e) {
    std::fprintf(stderr, "%s\n", e.why.c_str());
  }
  return 1;
}
