// Reading a packet script and playing it to a gateway, line by line.
#include "packets/script.h"

#include <cstring>
#include <fstream>
#include <functional>

#include "core/blocks.h"
#include "core/flows.h"
#include "core/fragments.h"
#include "engine/verify.h"
#include "packets/script_rules.h"

namespace masq::test {

namespace {

constexpr const char* kReasonNames[] = {"none",
#define X(name, sentence) #name,
                                        MASQ_REASONS(X)
#undef X
};
constexpr const char* kTrafficNames[] = {
#define X(name, sentence) #name,
    MASQ_TRAFFIC(X)
#undef X
};
constexpr const char* kStateNames[] = {
    "free",        "ending",     "dead",        "claiming",      "mapping",
    "permission",  "udp",        "icmp",        "tcp_opening",   "tcp_established",
    "tcp_fin_out", "tcp_fin_in", "tcp_closing", "tcp_transitory"};
static_assert(std::size(kStateNames) == static_cast<u32>(State::count));

using Counts = std::map<std::string, u64>;

std::string text_of(const Counts& counts) {
  std::string text;
  for (const auto& [name, n] : counts) text += " " + name + " " + std::to_string(n);
  return text.empty() ? " nothing" : text;
}

Counts difference(const Totals& before, const Totals& after) {
  Counts counts;
  for (u32 i = 0; i < kReasonCount; ++i)
    if (after.reasons[i] != before.reasons[i])
      counts[kReasonNames[i]] = after.reasons[i] - before.reasons[i];
  for (u32 i = 0; i < kTrafficCount; ++i)
    if (after.traffic[i] != before.traffic[i])
      counts[kTrafficNames[i]] = after.traffic[i] - before.traffic[i];
  return counts;
}

const char* name_of(Fate fate) {
  constexpr const char* kNames[] = {"sent", "given to the stack", "dropped",
                                    "given to the slow path"};
  return kNames[static_cast<u32>(fate)];
}

SlowKind slow_kind(const std::string& word) {
  const std::map<std::string, SlowKind> kinds = {{"asked", kSlowAsked},
                                                 {"ordered", kSlowOrdered},
                                                 {"piece_first", kSlowPieceFirst},
                                                 {"piece", kSlowPiece},
                                                 {"full", kSlowFull}};
  const auto at = kinds.find(word);
  if (at == kinds.end()) throw TextError{"no way back from the slow path: " + word};
  return at->second;
}

bool is_atomic(const Spec& spec) {
  const auto has = [&](const char* option) { return spec.options.count(option) != 0; };
  return has("df") && !has("mf") && !has("offset") && !has("slice");
}

Settings default_settings(const Plan& plan) {
  Settings s{};
  s.secret[0] = 0x0706050403020100ull;
  s.secret[1] = 0x0f0e0d0c0b0a0908ull;
  s.passed = 0x1716151413121110ull;
  s.tcp_established = ticks_from_s(7440);
  s.tcp_opening = s.tcp_closing = ticks_from_s(240);
  s.udp = ticks_from_s(300);
  s.dns = ticks_from_s(30);
  s.icmp = ticks_from_s(60);
  s.refresh = 0;
  s.flows_max = 1000;
  s.pool[0] = {600, 1023};
  s.pool[1] = {30000, 65535};
  s.pool[2] = s.pool[3] = {1, 0};
  s.block_ipv6 = 1;
  s.resets_replaced = 1;
  s.externals[0] = {address_of(plan[2].address), plan[2].ifindex, kExternalLive, 1};
  s.externals[1] = {address_of(plan[3].address), plan[3].ifindex, kExternalLive, 1};
  return s;
}

class Player {
 public:
  Player(const Plan& plan, Worlds worlds)
      : plan_(plan), worlds_(worlds), settings_(default_settings(plan)) {
    for (const PortPlan& port : plan_)
      interfaces_[port.name] = {port.ifindex,
                                port.zone,
                                kEthernetHeaderLength,
                                {0},
                                static_cast<u8>(1 + interfaces_.size()),
                                port.external,
                                address_of(port.address),
                                1500};
  }

  u32 play(const std::vector<Line>& lines) {
    for (const Line& line : lines) {
      try {
        play_line(line);
      } catch (const TextError& e) {
        throw Failure{"line " + std::to_string(line.number) + ": " + e.what};
      } catch (const Failure& e) {
        throw Failure{"line " + std::to_string(line.number) + ": " + e.what};
      }
    }
    start();
    audit();
    return packets_;
  }

 private:
  void start() {
    if (!gateways_.empty()) return;
    const u8 link = worlds_ == Worlds::engine_without_link_header ? 0 : kEthernetHeaderLength;
    const bool kernel = worlds_ == Worlds::engine_and_kernel || worlds_ == Worlds::kernel;
    if (worlds_ != Worlds::kernel) gateways_.push_back(make_engine(settings_, plan_, link));
    if (kernel) gateways_.push_back(make_kernel(settings_, plan_));
    for (auto& gateway : gateways_) {
      for (const PortPlan& port : plan_)
        if (port.zone != Zone::other) gateway->set_interface(interfaces_[port.name]);
      for (u32 i : {2u, 3u}) {
        gateway->add_outer_address(address_of(plan_[i].address));
      }
    }
  }

  void for_all(const std::function<void(Gateway&)>& action) {
    start();
    for (auto& gateway : gateways_) action(*gateway);
  }

  const PortPlan& port_of(const std::string& name) const {
    for (const PortPlan& port : plan_)
      if (name == port.name) return port;
    throw TextError{"no such interface: " + name};
  }

  u32 number(const std::string& word) const { return number_of(word, variables_); }
  static const std::string& word(const Line& line, std::size_t i) {
    if (i >= line.words.size()) throw TextError{"a word is missing"};
    return line.words[i];
  }

  static bool is_time(const std::string& w) {
    return !w.empty() && (w[0] == '+' || (w[0] >= '0' && w[0] <= '9'));
  }

  void set_time(const std::string& w) {
    const double seconds = std::stod(w[0] == '+' ? w.substr(1) : w);
    const u64 ns = static_cast<u64>(seconds * 1e9 + 0.5);
    time_ns_ = w[0] == '+' ? time_ns_ + ns : ns;
    for_all([&](Gateway& g) { g.set_time((base_ticks_ << kTickShift) + time_ns_); });
  }

  void beat() {
    set_time("+0");
    for_all([](Gateway& g) { g.slow_beat(); });
  }

  void play_line(const Line& line) {
    const std::string& first = word(line, 0);
    if (is_time(first)) {
      set_time(first);
      play_packet(line);
    } else if (first == "at") {
      set_time(word(line, 1));
    } else if (first == "pool" || first == "ports" || first == "flows_max" || first == "clock") {
      if (!gateways_.empty()) throw TextError{first + " must stand before the first packet"};
      before_start(line);
    } else if (first == "host_limit") {
      play_host_limit(line);
    } else if (first == "host") {
      play_host(line);
    } else if (first == "settings") {
      play_settings(line);
    } else if (first == "filter") {
      play_filter(line);
    } else if (first == "ipchains" || first == "ip_forward") {
      if (first == "ipchains")
        rules_.change({line.words.begin() + 1, line.words.end()});
      else
        rules_.set_forwarding(word(line, 1) == "1");
      std::vector<RuleInterface> named;
      for (const PortPlan& port : plan_)
        named.push_back({port.name, interfaces_[port.name].rule_bit - 1u});
      for_all([&](Gateway& g) { rules_.install(g, named); });
    } else if (first == "forward" || first == "ipmasqadm") {
      const std::vector<std::string> rest(line.words.begin() + 1, line.words.end());
      first == "forward" ? forwards_.change(rest) : forwards_.change_by_ipmasqadm(rest);
      for_all([&](Gateway& g) { forwards_.install(g); });
    } else if (first == "sweep") {
      for_all([](Gateway& g) { g.sweep(); });
      compare_tables();
      audit();
    } else if (first == "slow") {
      const u32 ifindex = word(line, 1) == "on" ? port_of("vpn").ifindex : 0;
      for_all([&](Gateway& g) { g.settings().slow_ifindex = ifindex; });
      if (ifindex != 0) beat();
    } else if (first == "beat") {
      beat();
    } else if (first == "socket") {
      Spec spec;
      const std::string& at = word(line, 2);
      const std::size_t colon = at.find(':');
      const u8 protocol = word(line, 1) == "tcp" ? kProtocolTcp : kProtocolUdp;
      for_all([&](Gateway& g) {
        g.open_socket(protocol, address_of(at.substr(0, colon)),
                      static_cast<u16>(number(at.substr(colon + 1))));
      });
    } else if (first == "expect") {
      play_expect(line);
    } else if (first == "state") {
      play_state(line);
    } else if (first == "check") {
      play_check(line);
    } else {
      play_interface(line);
    }
  }

  void before_start(const Line& line) {
    if (line.words[0] == "clock") {
      base_ticks_ = number(word(line, 1));
    } else if (line.words[0] == "flows_max") {
      settings_.flows_max = number(word(line, 1));
    } else if (line.words[0] == "ports") {
      lay_out(word(line, 1));
    } else {
      for (u32 i = 0; i < kPoolRangesMax; ++i) {
        settings_.pool[i] = {1, 0};
        if (i + 1 < line.words.size()) settings_.pool[i] = range_of(line.words[i + 1]);
      }
    }
  }

  PortRange range_of(const std::string& w) const {
    const std::size_t dash = w.find('-');
    return {static_cast<u16>(number(w.substr(0, dash))),
            static_cast<u16>(number(w.substr(dash + 1)))};
  }

  // "192.168.2.0/24=128": blocks of external ports for its hosts; after the pool.
  void lay_out(const std::string& blocks) {
    const std::size_t equals = blocks.find('=');
    const u16 words = static_cast<u16>(number(blocks.substr(equals + 1)) / kWordPorts);
    const auto [network, mask] = network_of(blocks.substr(0, equals));
    settings_.port_blocks[blocks_++] = {network, mask, words, 0, {}};
    if (lay_blocks(settings_) != kPortBlocksMax) throw TextError{"there is no room for " + blocks};
  }

  std::pair<Ipv4, Ipv4> network_of(const std::string& w) const {
    const std::size_t slash = w.find('/');
    const u32 length = number(w.substr(slash + 1));
    return {address_of(w.substr(0, slash)), Ipv4{length == 0 ? 0 : swap32(~0u << (32 - length))}};
  }

  void play_settings(const Line& line) {
    const std::string& name = word(line, 1);
    const u32 value = number(word(line, 2));
    const std::map<std::string, Ticks Settings::*> timers = {
        {"tcp_established", &Settings::tcp_established},
        {"tcp_opening", &Settings::tcp_opening},
        {"tcp_closing", &Settings::tcp_closing},
        {"udp", &Settings::udp},
        {"dns", &Settings::dns},
        {"icmp", &Settings::icmp},
        {"refresh", &Settings::refresh}};
    const std::map<std::string, u8 Settings::*> switches = {
        {"udp_refresh_inbound", &Settings::udp_refresh_inbound},
        {"block_ipv6", &Settings::block_ipv6},
        {"takes_streams", &Settings::takes_streams},
        {"resets_replaced", &Settings::resets_replaced},
        {"filtering", &Settings::filtering}};
    if (name == "udp_loose")
      return for_all([&](Gateway& g) {
        g.settings().udp_loose = g.settings().filters_open = static_cast<u8>(value);
      });
    if (name == "mss_clamp")
      return for_all([&](Gateway& g) { g.settings().mss_clamp = static_cast<u16>(value); });
    for_all([&](Gateway& g) {
      if (auto t = timers.find(name); t != timers.end())
        g.settings().*(t->second) = ticks_from_s(value);
      else if (auto s = switches.find(name); s != switches.end())
        g.settings().*(s->second) = static_cast<u8>(value);
      else
        throw TextError{"no such setting: " + name};
    });
  }

  void play_host_limit(const Line& line) {
    const std::map<std::string, u32 Settings::*> limits = {
        {"flows", &Settings::host_flows},
        {"ports", &Settings::host_ports},
        {"opening", &Settings::host_opening},
        {"new_per_s", &Settings::host_new_per_s},
        {"new_burst", &Settings::host_new_burst}};
    const auto limit = limits.find(word(line, 1));
    if (limit == limits.end()) throw TextError{"no such limit: " + word(line, 1)};
    for_all([&](Gateway& g) { g.settings().*(limit->second) = number(word(line, 2)); });
  }

  void play_host(const Line& line) {
    const Ipv4 address = address_of(word(line, 1));
    for_all([&](Gateway& g) {
      const Tables& t = g.tables();
      const Host* host = host_at(t, host_find(t, address, host_hash(g.settings(), address)));
      if (word(line, 2) == "none") {
        if (host != nullptr) throw Failure{"the host has an entry"};
        return;
      }
      if (host == nullptr) throw Failure{"the host has no entry"};
      const Counts is = {{"flows", host_count(host->flows)},
                         {"mappings", host->mappings},
                         {"opening", host->opening},
                         {"refused", host->refused}};
      for (std::size_t i = 2; i < line.words.size(); i += 2) {
        if (!is.contains(line.words[i])) throw TextError{"no such count: " + line.words[i]};
        if (is.at(line.words[i]) != number(word(line, i + 1)))
          throw Failure{"the host has" + text_of(is)};
      }
    });
  }

  void play_filter(const Line& line) {
    const auto [network, mask] = network_of(word(line, 1));
    const std::string& mode = word(line, 2);
    const u8 filtering = mode == "eif"   ? kFilterNone
                         : mode == "adf" ? kFilterAddress
                                         : kFilterAddressAndPort;
    for_all([&](Gateway& g) {
      FilterRule& rule = g.settings().filters[filters_];
      rule = {network, mask, 1, filtering, {}};
      g.settings().filters_open = 1;
    });
    ++filters_;
  }

  void play_interface(const Line& line) {
    const std::string& what = line.words[0];
    const std::string& name = word(line, 1);
    const std::string& value = word(line, 2);
    const PortPlan& port = port_of(name);
    Interface& interface = interfaces_[name];
    if (what == "mtu") {
      interface.mtu = number(value);
    } else if (what == "zone") {
      interface.zone = value == "inside"    ? Zone::inside
                       : value == "outside" ? Zone::outside
                                            : Zone::other;
    } else if (what == "address") {
      interface.address = value == "none" ? Ipv4{0} : address_of(value);
    } else if (what == "kernel_forwards") {
      interface.kernel.forwards = static_cast<u8>(number(value));
    } else if (what == "external") {
      play_external(port, interface, value);
    } else {
      throw TextError{"unknown line: " + what};
    }
    for_all([&](Gateway& g) { g.set_interface(interface); });
  }

  Ticks now() const { return ticks_from_ns((base_ticks_ << kTickShift) + time_ns_); }

  // "leaves", "replaced": at this moment; "gone": long ago.
  // Another address takes slot 2, in place of the interface's first, which comes back in its own.
  // With a sign, one more takes slot 3: "+" serves inner hosts, "-" serves none that is new.
  void play_external(const PortPlan& port, Interface& interface, const std::string& value) {
    if (value == "none") {
      interface.external = kExternalsMax;
    } else if (value == "gone" || value == "live" || value == "leaves" || value == "replaced") {
      for_all([&](Gateway& g) {
        Settings& s = g.settings();
        s.externals[port.external].state = value == "live"       ? kExternalLive
                                           : value == "replaced" ? kExternalReplaced
                                                                 : kExternalGone;
        s.gone_at[port.external] = value == "gone" ? 0 : now();
      });
    } else if (value == port.address) {
      interface.external = port.external;
      for_all([&](Gateway& g) {
        g.settings().externals[port.external].state = kExternalLive;
        if (g.settings().externals[2].state == kExternalLive)
          g.settings().externals[2].state = kExternalGone;
      });
    } else if (value[0] == '+' || value[0] == '-') {
      const External one{address_of(value.substr(1)), port.ifindex, kExternalLive, value[0] == '+'};
      for_all([&](Gateway& g) {
        const bool is_new = g.settings().externals[3].state == kExternalFree;
        g.settings().externals[3] = one;
        if (is_new) g.add_outer_address(one.address);
      });
    } else {
      interface.external = 2;
      for_all([&](Gateway& g) {
        g.settings().externals[2] = {address_of(value), port.ifindex, kExternalLive, 1};
        g.add_outer_address(address_of(value));
      });
    }
  }

  // --- one packet --------------------------------------------------------------------------------

  struct Expected {
    Fate fate = Fate::drop;
    bool untouched = false;
    bool compare = false;
    bool any_id = false;  // the identification is the gateway's choice
    u32 slow_hold = 0, slow_mtu = 0;
    Spec spec;
    Counts counts;
  };

  void play_packet(const Line& line) {
    std::size_t at = 1;
    const std::string direction = word(line, at++);
    std::string where = word(line, at++);
    u32 times = 1;
    if (const std::size_t star = where.find('*'); star != std::string::npos) {
      times = number(where.substr(star + 1));
      where.resize(star);
    }
    const PortPlan& port = port_of(where);
    u32 from = 0;
    if (at < line.words.size() && line.words[at] == "from") {
      from = port_of(word(line, at + 1)).ifindex;
      at += 2;
    }
    back_ = kSlowAsked;
    const bool back = at < line.words.size() && line.words[at] == "back";
    if (back) {
      back_ = slow_kind(word(line, at + 1));
      at += 2;
    }
    const bool inner = port.zone == Zone::inside;
    Hook hook = Hook::in_lan;
    if (direction == "in")
      hook = inner ? Hook::in_lan : Hook::in_wan;
    else if (direction == "out")
      hook = inner ? Hook::out_lan : Hook::out_wan;
    else
      throw TextError{"in or out expected"};
    Spec spec = parse_packet(line.words, at);
    if (at != line.words.size()) throw TextError{"not understood: " + line.words[at]};
    settle_checksum(spec, variables_);
    outward_ = hook == Hook::in_lan;
    if (back) hook = Hook::from_slow;
    for (u32 i = 0; i < times; ++i) pass(line, hook, port, from, spec);
    ++packets_;
  }

  static u16 ether_type_of(const Spec& spec) {
    return spec.protocol == "arp" ? 0x0806 : spec.protocol == "ipv6" ? 0x86dd : 0x0800;
  }

  void pass(const Line& line, Hook hook, const PortPlan& port, u32 from, const Spec& spec) {
    start();
    const Data packet = build_packet(spec, variables_, {});
    u32 segment_size = 0, segments = 0;
    if (auto gso = spec.options.find("gso"); gso != spec.options.end()) {
      segment_size = number(gso->second);
      segments = (static_cast<u32>(packet.size()) - 40 + segment_size - 1) / segment_size;
    }
    Passed first{};
    Counts first_counts;
    for (auto& gateway : gateways_) {
      const Totals before = gateway->totals();
      const Passed passed = gateway->pass(hook, port.ifindex, from, ether_type_of(spec), packet,
                                          segment_size, segments, back_);
      const Counts counts = difference(before, gateway->totals());
      if (gateway == gateways_.front()) {
        first = passed;
        first_counts = counts;
        continue;
      }
      if (passed.fate != first.fate)
        throw Failure{std::string("the kernel has ") + name_of(passed.fate) +
                      " the packet, the engine has " + name_of(first.fate) + " it\n    kernel:" +
                      text_of(counts) + "\n    engine:" + text_of(first_counts)};
      if (std::memcmp(&passed.slow, &first.slow, sizeof(passed.slow)) != 0)
        throw Failure{"kernel and engine tell the slow path something else"};
      if (passed.fate != Fate::drop && passed.packet != first.packet)
        throw Failure{"kernel and engine differ in bytes\n    kernel:" + hex_dump(passed.packet) +
                      "\n    engine:" + hex_dump(first.packet)};
      if (counts != first_counts)
        throw Failure{"the kernel counts" + text_of(counts) + ", the engine" +
                      text_of(first_counts)};
    }
    compare(line, hook, spec, packet, first, first_counts, segments);
    compare_tables();
  }

  void compare(const Line& line, Hook hook, const Spec& spec, const Data& packet,
               const Passed& passed, const Counts& counts, u32 segments) {
    Expected expected = expectation(line, hook, spec, packet, segments);
    const std::string counted = "\n    counted:" + text_of(counts);
    if (passed.fate != expected.fate)
      throw Failure{std::string("should have been ") + name_of(expected.fate) + ", was " +
                    name_of(passed.fate) + counted};
    if (expected.untouched && passed.packet != packet)
      throw Failure{"was changed on its way to the stack\n    before:" + hex_dump(packet) +
                    "\n    after:" + hex_dump(passed.packet)};
    if (passed.fate == Fate::slow &&
        (passed.slow.hold != expected.slow_hold || passed.slow.mtu != expected.slow_mtu))
      throw Failure{"asked of the slow path: hold " + std::to_string(passed.slow.hold) + " mtu " +
                    std::to_string(passed.slow.mtu)};
    if (expected.any_id)
      expected.spec.options["id"] = std::to_string(passed.packet[4] * 256u + passed.packet[5]);
    if (expected.compare) {
      learn(expected.spec, passed.packet);
      const Data wanted = build_packet(expected.spec, variables_, packet);
      if (passed.packet != wanted)
        throw Failure{"wrong bytes\n    expected:" + hex_dump(wanted) +
                      "\n    came out:" + hex_dump(passed.packet)};
    }
    if (counts != expected.counts)
      throw Failure{"should have counted" + text_of(expected.counts) + counted};
  }

  Expected expectation(const Line& line, Hook hook, const Spec& spec, const Data& packet,
                       u32 segments) {
    if (line.below.empty()) throw TextError{"what must happen is not said"};
    const Words& words = line.below[0].words;
    const std::string& verb = words[0];
    Expected e;
    const u64 packets = segments > 1 ? segments : 1;
    std::size_t at = 1;
    if (verb == "forward" || verb == "route") {
      e.fate = Fate::forward;
      e.compare = true;
      Spec base = spec;
      auto ttl = base.options.find("ttl");
      base.options["ttl"] =
          std::to_string((ttl == base.options.end() ? 64 : number(ttl->second)) - 1);
      const bool out = outward_;
      const bool new_id = out && verb == "forward" && !is_atomic(base);
      if (new_id) base.options.erase("id");
      e.spec = parse_difference(base, words, at);
      e.any_id = new_id && e.spec.options.count("id") == 0;
      if (verb == "route") {
        e.counts["routed"] = packets;
      } else {
        e.counts[out ? "translated_out" : "translated_in"] = packets;
        e.counts[out ? "translated_out_bytes" : "translated_in_bytes"] = packet.size();
      }
    } else if (verb == "stack" || verb == "pass") {
      e.fate = Fate::stack;
      e.untouched = words.size() == 1;
      e.compare = !e.untouched;
      if (e.compare) {
        Spec base = spec;
        const bool new_id = hook == Hook::out_wan && !is_atomic(base);
        if (new_id) base.options.erase("id");
        e.spec = parse_difference(base, words, at);
        e.any_id = new_id && e.spec.options.count("id") == 0;
      }
      if (verb == "stack") e.counts[e.compare ? "local_translated" : "local"] = 1;
    } else if (verb == "slow") {
      e.fate = Fate::slow;
      e.untouched = true;
      e.counts["slow_path"] = 1;
      for (; at < words.size(); ++at) {
        if (words[at] == "hold")
          e.slow_hold = 1;
        else if (words[at] == "mtu")
          e.slow_mtu = number(word(line.below[0], ++at));
        else
          break;
      }
    } else if (verb == "drop") {
      e.counts[word(line.below[0], at++)] = 1;
    } else if (verb == "error" || verb == "reset") {
      e.fate = Fate::forward;
      e.compare = true;
      e.counts[word(line.below[0], at++)] = 1;
      e.counts[verb == "error" ? "icmp_errors_sent" : "resets_sent"] = 1;
      e.spec = parse_packet(words, at);
    } else {
      throw TextError{"unknown expectation: " + verb};
    }
    if (at != words.size()) throw TextError{"not understood: " + words[at]};
    for (std::size_t i = 1; i < line.below.size(); ++i) read_counts(line.below[i].words, e.counts);
    return e;
  }

  void read_counts(const Words& words, Counts& counts) const {
    if (words[0] != "count") throw TextError{"count expected"};
    counts.clear();
    for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
      std::string n = words[i + 1];
      if (n.back() == ',') n.pop_back();
      counts[words[i]] = number(n);
    }
  }

  // Gives values to the names that the expected packet uses for the first time.
  void learn(const Spec& spec, const Data& packet) {
    if (packet.size() < 28) return;
    const std::size_t l4 = (packet[0] & 15) * 4u;
    const auto bind = [&](const std::string& name, std::size_t at) {
      if (!name.empty() && name[0] == '$' && at + 1 < packet.size())
        variables_.emplace(name, packet[at] * 256u + packet[at + 1]);
    };
    if (auto id = spec.options.find("id"); id != spec.options.end()) bind(id->second, 4);
    bind(spec.source_port, l4);
    bind(spec.destination_port, l4 + 2);
    if (auto query = spec.options.find("query"); query != spec.options.end())
      bind(query->second, l4 + 4);
  }

  // --- the tables --------------------------------------------------------------------------------

  void play_expect(const Line& line) {
    for_all([&](Gateway& g) {
      for (std::size_t i = 1; i + 1 < line.words.size(); i += 2) {
        const u32 has =
            line.words[i] == "flows" ? g.tables().shared->flows : g.tables().shared->mappings;
        if (has != number(line.words[i + 1]))
          throw Failure{"there are " + std::to_string(has) + " " + line.words[i]};
      }
    });
  }

  void play_state(const Line& line) {
    std::size_t at = 1;
    const Spec spec = parse_packet(line.words, at);
    const std::string& wanted = word(line, at);
    const u8 protocol = spec.protocol == "tcp"   ? kProtocolTcp
                        : spec.protocol == "udp" ? kProtocolUdp
                                                 : kProtocolIcmp;
    const auto port = [&](const std::string& w) {
      return w.empty() ? Port{0} : port_from_host(static_cast<u16>(number(w)));
    };
    const Key key{address_of(spec.source), address_of(spec.destination), port(spec.source_port),
                  port(spec.destination_port), protocol};
    for_all([&](Gateway& g) {
      const u32 index = find_inner(g.tables(), key, key_hash(g.settings(), key, kOut));
      std::string is = "none";
      if (index != kNoRecord && in_force(g.settings(), g.tables().records[index], now()))
        is = kStateNames[static_cast<u32>(g.tables().records[index].state)];
      if (is != wanted) throw Failure{"is in state " + is};
    });
  }

  void play_check(const Line& line) {
    const u32 a = number(word(line, 1));
    const std::string& how = word(line, 2);
    bool holds = false;
    if (how == "even" || how == "odd") {
      holds = (a & 1) == (how == "odd");
    } else if (how == "low" || how == "high") {
      holds = (a < 1024) == (how == "low");
    } else if (how == "in") {
      const PortRange range = range_of(word(line, 3));
      holds = a >= range.first && a <= range.last;
    } else {
      u32 b = number(word(line, 3));
      if (line.words.size() > 5 && line.words[4] == "plus")
        b = (b + number(line.words[5])) & 0xffff;
      holds = (a == b) == (how == "==");
    }
    if (!holds) throw Failure{line.words[1] + " is " + std::to_string(a)};
  }

  void compare_tables() {
    if (gateways_.size() < 2) return;
    test::compare_tables(gateways_[0]->tables(), gateways_[1]->tables());
    compare_drops(gateways_[0]->drops(), gateways_[1]->drops());
  }

  static void compare_drops(const Drops& a, const Drops& b) {
    for (u32 i = 0; i < std::size(a.drops); ++i)
      if (std::memcmp(&a.drops[i], &b.drops[i], sizeof(Drop)) != 0)
        throw Failure{"drop " + std::to_string(i) + " is remembered differently\n    engine:" +
                      dump(a.drops[i]) + "\n    kernel:" + dump(b.drops[i])};
    if (std::memcmp(a.written, b.written, sizeof(a.written)) != 0)
      throw Failure{"the counts of remembered drops differ"};
  }

  template <class T>
  static std::string dump(const T& r) {
    const u8* bytes = reinterpret_cast<const u8*>(&r);
    return hex_dump(Data(bytes, bytes + sizeof(r)));
  }

  void audit() {
    for_all([&](Gateway& g) {
      // Expired flows may stand until the next sweep; everything else must hold at any time.
      const auto violations = verify(g.tables(), g.settings(), now(), ticks_from_s(kTimeoutMax_s));
      if (!violations.empty()) throw Failure{"the table is broken\n" + describe(violations)};
    });
  }

  const Plan& plan_;
  const Worlds worlds_;
  Settings settings_;
  std::map<std::string, Interface> interfaces_;
  std::vector<std::unique_ptr<Gateway>> gateways_;
  Variables variables_;
  ScriptRules rules_;
  ScriptForwards forwards_;
  u64 base_ticks_ = 1000000000;
  u64 time_ns_ = 0;
  u32 packets_ = 0;
  u32 filters_ = 0, blocks_ = 0;
  SlowKind back_ = kSlowAsked;  // of the packet at hand, if it comes back from the slow path
  bool outward_ = false;        // it came in inside
};

}  // namespace

std::vector<Line> read_script(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw TextError{"cannot read " + path};
  std::vector<Line> lines;
  std::string text;
  for (u32 number = 1; std::getline(in, text); ++number) {
    Words words = split_words(text);
    if (words.empty()) continue;
    Line line{number, std::move(words), {}};
    if (text[0] != ' ')
      lines.push_back(std::move(line));
    else if (lines.empty())
      throw TextError{"line " + std::to_string(number) + " belongs to nothing"};
    else if (line.words[0] == "{")  // a quoted packet on a line of its own
      for (std::string& w : line.words)
        (lines.back().below.empty() ? lines.back().words : lines.back().below.back().words)
            .push_back(std::move(w));
    else
      lines.back().below.push_back(std::move(line));
  }
  return lines;
}

namespace {

std::string dump(const Record& r) {
  const u8* bytes = reinterpret_cast<const u8*>(&r);
  return hex_dump(Data(bytes, bytes + sizeof(r)));
}

}  // namespace

void compare_tables(const Tables& a, const Tables& b) {
  if (a.records_max != b.records_max) throw Failure{"the tables differ in size"};
  for (u32 i = 0; i < a.records_max; ++i)
    if (std::memcmp(&a.records[i], &b.records[i], sizeof(Record)) != 0)
      throw Failure{"record " + std::to_string(i) + " differs\n    engine:" + dump(a.records[i]) +
                    "\n    kernel:" + dump(b.records[i])};
  const std::size_t slots = (bucket_mask(a.records_max) + 1) * std::size_t{kBucketSlots} * 4;
  const auto same_bytes = [](const char* what, const void* x, const void* y, std::size_t n) {
    if (std::memcmp(x, y, n) != 0)
      throw Failure{std::string("kernel and engine differ in their ") + what};
  };
  same_bytes("inner index", a.inner_slots, b.inner_slots, slots);
  same_bytes("outer index", a.outer_slots, b.outer_slots, slots);
  same_bytes("places", a.record_used, b.record_used, a.records_max / 8);
  same_bytes("hints", a.record_full, b.record_full, a.records_max / 512);
  same_bytes("ports", a.ports, b.ports, sizeof(PortPool) * kExternalsMax * kPoolProtocols);
  same_bytes("fragments", a.fragments, b.fragments, sizeof(Fragment) * kFragmentsMax);
  same_bytes("hosts", a.hosts, b.hosts, sizeof(Host) * hosts_max(a.records_max));
  same_bytes("forwards' states", a.forwards->states, b.forwards->states,
             sizeof(a.forwards->states));
  same_bytes("counts", a.shared, b.shared, 3 * sizeof(u32));
  same_bytes("identifications", a.shared->ids, b.shared->ids, sizeof(a.shared->ids));
  same_bytes("lanes to the slow path", a.shared->slow_lanes, b.shared->slow_lanes,
             sizeof(a.shared->slow_lanes));
}

u32 play(const std::string& path, const Plan& plan, Worlds worlds) {
  return Player(plan, worlds).play(read_script(path));
}

std::set<std::string> reasons_of(const std::string& path) {
  std::set<std::string> reasons;
  for (const Line& line : read_script(path))
    for (const Line& below : line.below)
      if (below.words.size() > 1 &&
          (below.words[0] == "drop" || below.words[0] == "error" || below.words[0] == "reset"))
        reasons.insert(below.words[1]);
  return reasons;
}

}  // namespace masq::test
