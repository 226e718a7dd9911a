// The figures of the running gateway, read from its maps, as JSON; and the text made from that
// JSON, so that people and programs are told the same.
#include "cli/report.h"

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "core/blocks.h"
#include "core/flows.h"
#include "core/slow.h"
#include "gateway/gateway.h"
#include "gateway/holder.h"
#include "gateway/netlink.h"
#include "gateway/rights.h"
#include "gateway/rule_keeper.h"
#include "gateway/state.h"
#include "gateway/user_tables.h"

namespace masq {
namespace {

using nlohmann::json;

struct Named {
  const char* name;
  const char* sentence;
};

constexpr Named kReasons[] = {{"none", ""},
#define X(name, sentence) {#name, sentence},
                              MASQ_REASONS(X)
#undef X
};
constexpr Named kTraffic[] = {
#define X(name, sentence) {#name, sentence},
    MASQ_TRAFFIC(X)
#undef X
};
constexpr Named kUserFigures[] = {
#define X(name, sentence) {#name, sentence},
    MASQ_USER_COUNTERS(X)
#undef X
};
static_assert(std::size(kReasons) == kReasonCount && std::size(kTraffic) == kTrafficCount);

}  // namespace

const char* reason_name(Reason reason) {
  return kReasons[static_cast<u32>(reason)].name;
}

const char* reason_sentence(Reason reason) {
  return kReasons[static_cast<u32>(reason)].sentence;
}

std::string protocol_name(u8 protocol) {
  switch (protocol) {
    case kProtocolTcp:
      return "tcp";
    case kProtocolUdp:
      return "udp";
    case kProtocolIcmp:
      return "icmp";
    default:
      return fmt::format("{}", protocol);
  }
}

std::string state_name(State state) {
  switch (state) {
    case State::udp:
      return "udp";
    case State::icmp:
      return "icmp";
    case State::tcp_opening:
      return "opening";
    case State::tcp_established:
      return "established";
    case State::tcp_fin_out:
      return "closed-inside";
    case State::tcp_fin_in:
      return "closed-outside";
    case State::tcp_closing:
      return "closing";
    case State::tcp_transitory:
      return "reset";
    default:
      return "none";
  }
}

namespace {

// 1234567 as "1 234 567".
std::string number(u64 value) {
  std::string digits = fmt::format("{}", value), grouped;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) grouped += ' ';
    grouped += digits[i];
  }
  return grouped;
}

// The records that `wanted` says yes to, each copied once, by internal endpoint.
template <class Wanted>
std::vector<Record> sorted_records(const AnyDatapath& datapath, Wanted wanted) {
  const Tables& t = datapath.tables();
  std::vector<Record> found;
  for (u32 word = 0; word < t.records_max / 64; ++word) {
    u64 used = t.record_used[word];
    for (; used != 0; used &= used - 1) {
      Record r = t.records[word * 64 + static_cast<u32>(__builtin_ctzll(used))];
      if (wanted(r)) found.push_back(r);
    }
  }
  auto key = [](const Record& r) {
    return std::tuple(to_host(r.internal_address), r.protocol, to_host(r.internal_port),
                      to_host(r.remote_address), to_host(r.remote_port));
  };
  std::sort(found.begin(), found.end(),
            [&](const Record& a, const Record& b) { return key(a) < key(b); });
  return found;
}

}  // namespace

json traffic_json(const CounterTotals& totals) {
  json out;
  for (u32 i = 0; i < kTrafficCount; ++i) out[kTraffic[i].name] = totals.traffic[i];
  return out;
}

json dropped_json(const CounterTotals& totals) {
  json out;
  for (u32 i = 1; i < kReasonCount; ++i) out[kReasons[i].name] = totals.reasons[i];
  return out;
}

std::string refused_text(const json& dropped) {
  std::string text;
  for (u32 i = 1; i < kReasonCount; ++i) {
    u64 count = dropped[kReasons[i].name];
    if (count == 0) continue;
    if (text.empty()) text = "\nRefused packets, and why:\n";
    text +=
        fmt::format("  {:>10}  {}: {}\n", number(count), kReasons[i].name, kReasons[i].sentence);
  }
  return text;
}

namespace {

bool has_address(const NetworkState& network, const Link& link, Ipv4 address) {
  return std::any_of(network.addresses.begin(), network.addresses.end(), [&](const Address& each) {
    return each.ifindex == link.ifindex && same(each.address, address);
  });
}

// The external addresses of an interface that inner hosts get.
json shared_addresses(const NetworkState& network, const Settings& s, const Link& link) {
  json out = json::array();
  for (const External& e : s.externals)
    if (e.state == kExternalLive && e.serves && e.ifindex == link.ifindex &&
        has_address(network, link, e.address))
      out.push_back(to_text(e.address));
  return out;
}

// As the programs know it, beside how it is at this moment: the daemon may be away.
json interface_json(const NetworkState& network, const Settings& settings, const Link& link,
                    const Interface& interface) {
  bool address = interface.address.be != 0 && has_address(network, link, interface.address);
  return {{"name", link.name},
          {"zone", interface.zone == Zone::outside ? "external" : "internal"},
          {"state", !link.up       ? "down"
                    : link.running ? "up"
                                   : "no carrier"},
          {"mtu", interface.mtu},
          {"address", address ? json(to_text(interface.address)) : json(nullptr)},
          {"shared_addresses", shared_addresses(network, settings, link)}};
}

// Those that are there, and those of which only the name is left.
json interfaces_json(const AnyDatapath& datapath, const NetworkState& network,
                     const OurInterfaces& ours) {
  json out = json::array();
  std::vector<u32> there;
  for (const Interface& interface : datapath.interfaces()) {
    const Link* link = network.link_at(interface.ifindex);
    if (link == nullptr) continue;
    there.push_back(link->ifindex);
    out.push_back(interface_json(network, datapath.settings(), *link, interface));
  }
  auto is_there = [&](const std::string& name) {
    const Link* link = network.link_named(name);
    if (link == nullptr) link = link_known_as(network, ours, name);
    return link != nullptr && std::count(there.begin(), there.end(), link->ifindex) != 0;
  };
  auto add = [&](const std::string& name, const char* zone, const char* state) {
    out.push_back({{"name", name},
                   {"zone", zone},
                   {"state", state},
                   {"mtu", nullptr},
                   {"address", nullptr},
                   {"shared_addresses", json::array()}});
  };
  for (const std::string& name : ours.external)
    if (!is_there(name)) add(name, "external", "gone");
  for (const std::string& name : ours.internal)
    if (!is_there(name)) add(name, "internal", "gone");
  for (const std::string& name : ours.closed) add(name, "closed", "closed");
  return out;
}

// The networks whose inner hosts have blocks of ports, and where in the pool these lie.
json port_blocks_json(const Settings& s) {
  json out = json::array();
  for (const PortBlocks& blocks : s.port_blocks) {
    if (blocks.words == 0) continue;
    json runs = json::array();
    u32 host = 0;
    for (const BlockRun& run : blocks.runs) {
      if (run.blocks == 0) continue;
      runs.push_back({{"first_host", to_text(ipv4_from_host(to_host(blocks.network) + host))},
                      {"first_port", run.first * kWordPorts},
                      {"last_port", (run.first + run.blocks * blocks.words) * kWordPorts - 1}});
      host += run.blocks;
    }
    out.push_back(
        {{"network", fmt::format("{}/{}", to_text(blocks.network), std::popcount(blocks.mask.be))},
         {"ports_per_host", blocks.words * kWordPorts},
         {"hosts", host},
         {"ranges", runs}});
  }
  return out;
}

bool can_carry(const json& interface) {
  return interface["state"] == "up" && !interface["address"].is_null();
}

// What keeps an interface from carrying packets, or nothing.
std::string trouble_of(const json& interface) {
  std::string state = interface["state"];
  if (state == "gone") return "has gone";
  if (state == "closed") return "since a default route leads there";
  if (state == "down") return "is down";
  if (state == "no carrier") return "has no carrier";
  return interface["address"].is_null() ? "has no address" : "";
}

// Where the best default route leads, if that is not the outside; else nothing.
std::string misled_to(const AnyDatapath& datapath, const NetworkState& network) {
  const DefaultRoute* best = nullptr;
  for (const DefaultRoute& route : network.default_routes) {
    if (best != nullptr && route.metric > best->metric) continue;
    const Interface* to = find_interface(datapath.settings(), route.ifindex);
    bool outside = to != nullptr && to->zone == Zone::outside;
    if (best == nullptr || route.metric < best->metric || outside) best = &route;
  }
  if (best == nullptr) return "";
  const Interface* to = find_interface(datapath.settings(), best->ifindex);
  const Link* link = network.link_at(best->ifindex);
  return link == nullptr || (to != nullptr && to->zone == Zone::outside) ? "" : link->name;
}

}  // namespace

json status_json(const AnyDatapath& datapath) {
  const Settings& s = datapath.settings();
  Result<NetworkState> read = read_network();
  NetworkState network = read ? *read : NetworkState{};
  int daemon = daemon_process();
  Result<SavedState> state = load_state();
  json out;
  out["running"] = true;
  out["daemon"] = {{"alive", daemon > 0}, {"process", daemon > 0 ? json(daemon) : json(nullptr)}};
  out["sweeper_held"] = daemon > 0 || (datapath.outlives_daemon() &&
                                       holder_lives(state ? state->holder : find_holder()));
  out["datapath"] = datapath.name();
  out["slow_path"] = s.slow_ifindex != 0 &&
                     !elapsed(datapath.now(), datapath.tables().shared->slow_beat, kSlowFresh);
  out["filtering"] = filtering_name(static_cast<Filtering>(s.filtering));
  out["filtering_for"] = json::array();
  for (const FilterRule& rule : s.filters)
    if (rule.used)
      out["filtering_for"].push_back(
          {{"network", fmt::format("{}/{}", to_text(rule.network), std::popcount(rule.mask.be))},
           {"filtering", filtering_name(static_cast<Filtering>(rule.filtering))}});
  out["port_blocks"] = port_blocks_json(s);
  out["ports_without_block"] = shared_ports(s, words_behind_blocks(s, true));
  out["forwarding"] = datapath.forwards();
  const Result<KeptRules> kept = load_rules(nullptr);
  out["switches"] = kept ? json(kept->switches) : json::object();
  out["ipv6"] = s.block_ipv6 ? "blocked" : "left";
  out["interfaces"] =
      interfaces_json(datapath, network, state ? state->interfaces : OurInterfaces{});
  out["translating"] =
      (daemon != 0 || datapath.outlives_daemon()) &&
      std::any_of(out["interfaces"].begin(), out["interfaces"].end(),
                  [](const json& each) { return each["zone"] == "external" && can_carry(each); });
  std::string misled = misled_to(datapath, network);
  out["default_route_not_external"] = misled.empty() ? json(nullptr) : json(misled);
  const Shared& shared = *datapath.tables().shared;
  out["flows"] = {{"now", shared.flows}, {"max", s.flows_max}};
  out["mappings"] = {{"now", shared.mappings}};
  auto limit = [](u32 value) { return value == 0 ? json(nullptr) : json(value); };
  out["host_limits"] = {{"flows", limit(s.host_flows)},
                        {"ports", limit(s.host_ports)},
                        {"opening", limit(s.host_opening)},
                        {"new_per_s", limit(s.host_new_per_s)},
                        {"new_burst", limit(s.host_new_per_s == 0 ? 0 : s.host_new_burst)}};
  out["timeouts_s"] = {{"tcp_established", seconds_from_ticks(s.tcp_established)},
                       {"tcp_opening", seconds_from_ticks(s.tcp_opening)},
                       {"tcp_closing", seconds_from_ticks(s.tcp_closing)},
                       {"udp", seconds_from_ticks(s.udp)},
                       {"dns", seconds_from_ticks(s.dns)},
                       {"icmp", seconds_from_ticks(s.icmp)}};
  CounterTotals totals = datapath.counters();
  out["traffic"] = traffic_json(totals);
  out["dropped"] = dropped_json(totals);
  const PacketLog& log = datapath.tables().rules->log;
  const u32 waiting = log.written - log.taken;
  out["packet_log"] = {{"noted", log.written},
                       {"lost", log.lost + (waiting > kLoggedMax ? waiting - kLoggedMax : 0)},
                       {"left_out", log.left_out}};
  for (const auto& [name, figure] : datapath.own_figures()) out["user"][name] = figure;
  return out;
}

json flows_json(const AnyDatapath& datapath) {
  json out = json::array();
  const Settings& s = datapath.settings();
  Ticks now = datapath.now();
  auto wanted = [&](const Record& r) { return r.state >= State::udp && in_force(s, r, now); };
  for (const Record& r : sorted_records(datapath, wanted)) {
    Ipv4 external = s.externals[r.external % kExternalsMax].address;
    out.push_back({{"protocol", protocol_name(r.protocol)},
                   {"internal", to_text(r.internal_address, r.internal_port)},
                   {"external", to_text(external, r.external_port)},
                   {"remote", to_text(r.remote_address, r.remote_port)},
                   {"state", state_name(r.state)},
                   {"gateway", (r.flags & kFlagLocal) != 0},
                   {"shares_port", r.mapping == kNoRecord && r.forward == 0},
                   {"forward", r.forward == 0 ? json(nullptr) : json(r.forward - 1)},
                   {"expires_s", expires_s(s, r, now)}});
  }
  return out;
}

json mappings_json(const AnyDatapath& datapath) {
  json out = json::array();
  const Settings& s = datapath.settings();
  Ticks now = datapath.now();
  auto wanted = [&](const Record& r) { return r.state == State::mapping && in_force(s, r, now); };
  auto is_flow = [&](const Record& r) { return r.state >= State::udp && in_force(s, r, now); };
  auto endpoint = [](const Record& r) {
    return std::tuple(r.protocol, r.internal_address.be, r.internal_port.be, r.external);
  };
  std::map<std::tuple<u8, u32, u16, u16>, u32> flows;
  for (const Record& r : sorted_records(datapath, is_flow)) flows[endpoint(r)] += 1;
  for (const Record& r : sorted_records(datapath, wanted)) {
    Ipv4 external = s.externals[r.external % kExternalsMax].address;
    out.push_back({{"protocol", protocol_name(r.protocol)},
                   {"internal", to_text(r.internal_address, r.internal_port)},
                   {"external", to_text(external, r.external_port)},
                   {"filtering", filtering_name(filtering_of_flags(r.flags))},
                   {"flows", flows[endpoint(r)]}});
  }
  return out;
}

json hosts_json(const AnyDatapath& datapath) {
  const Tables& t = datapath.tables();
  std::map<u32, Host> hosts;
  for (u32 place = 0; place < hosts_max(t.records_max); ++place) {
    Host host = t.hosts[place];
    u32 address_be = static_cast<u32>(host.flows);
    if (address_be != 0 && host_count(host.flows) != 0) hosts[to_host(Ipv4{address_be})] = host;
  }
  json out = json::array();
  for (const auto& [address, host] : hosts)
    // What a forward lets in has an address that no host can have (host_of_forward).
    out.push_back({{"host", address <= kForwardsMax ? fmt::format("forward {}", address - 1)
                                                    : to_text(ipv4_from_host(address))},
                   {"flows", host_count(host.flows)},
                   {"mappings", host.mappings},
                   {"opening", host.opening},
                   {"refused", host.refused}});
  return out;
}

std::string headline(const json& status) {
  if (status["datapath"] == "user" && !status["daemon"]["alive"].get<bool>())
    return "masq is up and closed: the daemon is not running. `masq up` starts it, with the flows.";
  if (!status["translating"].get<bool>()) {
    std::vector<std::string> troubles;
    for (const json& each : status["interfaces"])
      if (each["zone"] == "external")
        troubles.push_back(each["name"].get<std::string>() + " " + trouble_of(each));
    return fmt::format("masq is up and closed, waiting: {}.",
                       troubles.empty() ? "there is no external interface"
                                        : fmt::format("{}", fmt::join(troubles, ", ")));
  }
  if (!status["forwarding"].get<bool>())
    return "masq is up, and forwarding is off (ip_forward is 0): nothing passes between inside and "
           "outside.";
  const json& misled = status["default_route_not_external"];
  if (!misled.is_null())
    return fmt::format(
        "masq is up, but the default route leads to {}, which is not external: what follows it is "
        "not translated.",
        misled.get<std::string>());
  return "masq is translating.";
}

namespace {

// The network, and for each range the formula that leads from a port to its host.
std::string port_blocks_text(const json& blocks) {
  const u32 each = blocks["ports_per_host"];
  std::string text =
      fmt::format("  blocks    {}, {} ports for each of {} hosts\n",
                  blocks["network"].get<std::string>(), each, blocks["hosts"].get<u32>());
  for (const json& range : blocks["ranges"])
    text += fmt::format("            ports {0} to {1}: host = {2} + (port - {0}) / {3}\n",
                        range["first_port"].get<u32>(), range["last_port"].get<u32>(),
                        range["first_host"].get<std::string>(), each);
  return text;
}

std::string interface_text(const json& interface) {
  std::string trouble = trouble_of(interface);
  const auto shared = interface["shared_addresses"].get<std::vector<std::string>>();
  if (trouble.empty() && !shared.empty() &&
      (shared.size() > 1 || json(shared.front()) != interface["address"]))
    trouble = fmt::format("shared: {}", fmt::join(shared, ", "));
  return fmt::format(
      "  {:<9} {:<12} {:<16} mtu {:<6} {}", interface["zone"].get<std::string>(),
      interface["name"].get<std::string>(),
      interface["address"].is_null() ? "-" : interface["address"].get<std::string>(),
      interface["mtu"].is_null() ? "-" : fmt::format("{}", interface["mtu"].get<u32>()), trouble);
}

// "at most 65 535 flows, ...".
std::string host_limits_text(const json& limits) {
  std::vector<std::string> parts;
  auto part = [&](const char* name, const char* what) {
    if (!limits[name].is_null()) parts.push_back(number(limits[name]) + what);
  };
  part("flows", " flows");
  part("ports", " external ports");
  part("opening", " opening connections");
  part("new_per_s", " new flows a second");
  return parts.empty() ? "no limits" : fmt::format("at most {}", fmt::join(parts, ", "));
}

}  // namespace

std::string status_text(const json& status) {
  std::string text;
  auto line = [&](const std::string& one) {
    text += one.substr(0, one.find_last_not_of(' ') + 1) + "\n";
  };
  bool alive = status["daemon"]["alive"], in_user_space = status["datapath"] == "user";
  line(headline(status));
  if (!alive && !in_user_space)
    line(status["sweeper_held"]
             ? "The daemon is not running; traffic goes on without it. `masq up` starts it again."
             : "Neither the daemon nor the process that keeps the sweeper going is running; `masq "
               "up` "
               "starts them again.");
  line("");
  for (const json& each : status["interfaces"]) line(interface_text(each));
  line("");
  line(fmt::format("  flows     {} of {}", number(status["flows"]["now"]),
                   number(status["flows"]["max"])));
  line(fmt::format("  mappings  {}", number(status["mappings"]["now"])));
  line("  per host  " + host_limits_text(status["host_limits"]));
  line(fmt::format("  datapath  {}", status["datapath"].get<std::string>()));
  if (!status["slow_path"].get<bool>())
    line("  slow path is not there: fragments out of order and what must be cut are refused");
  line(fmt::format("  filtering {}", status["filtering"].get<std::string>()));
  for (const json& rule : status["filtering_for"])
    line(fmt::format("            {} for {}", rule["filtering"].get<std::string>(),
                     rule["network"].get<std::string>()));
  for (const json& blocks : status["port_blocks"]) text += port_blocks_text(blocks);
  if (!status["port_blocks"].empty())
    line(fmt::format("            all others share {} ports from 1024 up",
                     number(status["ports_without_block"])));
  if (!status["forwarding"].get<bool>()) line("  forwarding is off: ip_forward is 0");
  for (const auto& [name, value] : status["switches"].items())
    if (name != kForwardingSwitch)
      line(fmt::format("  switch    {} {}", name.substr(name.rfind('/') + 1),
                       value.get<std::string>()));
  line(fmt::format("  IPv6      {}", status["ipv6"] == "left"
                                         ? "left to the kernel"
                                         : "blocked between inside and outside"));
  if (status["daemon"]["process"].is_number())
    line(fmt::format("  masqd     process {}", status["daemon"]["process"].get<int>()));
  const json& traffic = status["traffic"];
  line(fmt::format("  out       {} packets, {} bytes", number(traffic["translated_out"]),
                   number(traffic["translated_out_bytes"])));
  line(fmt::format("  in        {} packets, {} bytes", number(traffic["translated_in"]),
                   number(traffic["translated_in_bytes"])));
  if (traffic["flows_sharing_port"] != 0)
    line(fmt::format("  shared    {} TCP flows made that share their external port",
                     number(traffic["flows_sharing_port"])));
  if (const json& log = status["packet_log"]; log["noted"] != 0)
    line(fmt::format("  log       {} packets for rules with -l, of which {} are not written down",
                     number(log["noted"]), log["lost"].get<u64>() + log["left_out"].get<u64>()));
  for (const Named& each : kUserFigures)
    if (in_user_space && status["user"][each.name] != 0)
      line(fmt::format("  {:>10}  {}: {}", number(status["user"][each.name]), each.name,
                       each.sentence));
  return text + refused_text(status["dropped"]);
}

std::string flows_text(const json& flows) {
  std::string text = fmt::format("{:<5} {:<22} {:<22} {:<22} {:<15} {:>9}\n", "", "internal",
                                 "external", "remote", "state", "expires");
  for (const json& f : flows)
    text += fmt::format("{:<5} {:<22} {:<22} {:<22} {:<15} {:>7} s\n",
                        f["protocol"].get<std::string>(), f["internal"].get<std::string>(),
                        f["external"].get<std::string>(), f["remote"].get<std::string>(),
                        f["state"].get<std::string>(), f["expires_s"].get<u32>());
  return text;
}

std::string mappings_text(const json& mappings) {
  std::string text =
      fmt::format("{:<5} {:<22} {:<22} {:>6}\n", "", "internal", "external", "flows");
  for (const json& m : mappings)
    text += fmt::format("{:<5} {:<22} {:<22} {:>6}\n", m["protocol"].get<std::string>(),
                        m["internal"].get<std::string>(), m["external"].get<std::string>(),
                        m["flows"].get<u32>());
  return text;
}

std::string hosts_text(const json& hosts) {
  std::string text = fmt::format("{:<16} {:>9} {:>9} {:>9} {:>9}\n", "host", "flows", "mappings",
                                 "opening", "refused");
  for (const json& h : hosts)
    text += fmt::format("{:<16} {:>9} {:>9} {:>9} {:>9}\n", h["host"].get<std::string>(),
                        h["flows"].get<u32>(), h["mappings"].get<u32>(), h["opening"].get<u32>(),
                        h["refused"].get<u32>());
  return text;
}

}  // namespace masq
