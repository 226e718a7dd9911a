// From the facts of a prediction, and from the remembered drops, to sentences.
#include "cli/explanation.h"

#include <algorithm>

#include "cli/advice.h"
#include "cli/report.h"
#include "core/blocks.h"
#include "core/flows.h"
#include "policy/config.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr std::size_t kColumns = 100;
constexpr std::size_t kLastShown = 40;  // lines of `masq explain --last`; JSON has them all

const char* zone_name(Zone zone) {
  return zone == Zone::inside ? "inside" : zone == Zone::outside ? "outside" : "other";
}

std::string interface_name(const NetworkState& network, u32 ifindex) {
  const Link* link = network.link_at(ifindex);
  return link == nullptr ? fmt::format("interface {}", ifindex) : link->name;
}

std::string protocol_word(u8 protocol) {
  switch (protocol) {
    case 2:
      return "igmp";
    case 47:
      return "gre";
    case 50:
      return "esp";
    case 51:
      return "ah";
    case 132:
      return "sctp";
    case kProtocolTcp:
    case kProtocolUdp:
    case kProtocolIcmp:
      return protocol_name(protocol);
    default:
      return fmt::format("protocol {}", protocol);
  }
}

std::string icmp_word(u8 type) {
  switch (type) {
    case kIcmpEcho:
      return "echo";
    case kIcmpEchoReply:
      return "echo-reply";
    case kIcmpTimestamp:
      return "timestamp";
    case kIcmpTimestampReply:
      return "timestamp-reply";
    case kIcmpUnreachable:
      return "unreachable";
    case kIcmpTimeExceeded:
      return "time-exceeded";
    case kIcmpParameterProblem:
      return "parameter-problem";
    default:
      return fmt::format("type {}", type);
  }
}

std::string flag_letters(u8 flags) {
  const std::string letters = "FSRPAU";
  std::string text;
  for (std::size_t i = 0; i < letters.size(); ++i)
    if (flags >> i & 1) text += letters[i];
  return text.empty() ? "none" : text;
}

// The ends of a packet, with ports where it has any, and what kind of packet it is.
std::string ends(u8 protocol, Kind kind, Ipv4 source, Port source_port, Ipv4 destination,
                 Port destination_port, u8 icmp_type, u8 tcp_flags) {
  std::string word = protocol_word(protocol);
  if (kind == Kind::tcp || kind == Kind::udp) {
    std::string text = fmt::format("{} {} > {}", word, to_text(source, source_port),
                                   to_text(destination, destination_port));
    return kind == Kind::tcp ? text + " flags " + flag_letters(tcp_flags) : text;
  }
  std::string text = fmt::format("{} {} > {}", word, to_text(source), to_text(destination));
  if (kind == Kind::fragment) return text + ", a fragment without a transport header";
  if (kind == Kind::icmp_query || kind == Kind::icmp_reply)
    return fmt::format("{} {} id {}", text, icmp_word(icmp_type),
                       to_host(kind == Kind::icmp_query ? source_port : destination_port));
  return protocol == kProtocolIcmp ? text + " " + icmp_word(icmp_type) : text;
}

std::string ends(const Packet& p) {
  std::string text = ends(p.protocol, p.kind, p.source, p.source_port, p.destination,
                          p.destination_port, p.icmp_type, p.tcp_flags);
  if (p.kind != Kind::icmp_error) return text;
  bool icmp = p.quoted_protocol == kProtocolIcmp;
  bool has_ports = icmp || p.quoted_protocol == kProtocolTcp || p.quoted_protocol == kProtocolUdp;
  if (!has_ports) return text;
  return fmt::format("{} about {} {} > {}", text, protocol_word(p.quoted_protocol),
                     to_text(p.quoted_source, p.quoted_source_port),
                     icmp ? to_text(p.quoted_destination)
                          : to_text(p.quoted_destination, p.quoted_destination_port));
}

std::string in_words(const Prediction& it) {
  const Packet& p = it.packet;
  if (it.ether_type == kEtherTypeArp) return "an ARP message";
  if (it.ether_type == kEtherTypeIpv6) return "an IPv6 packet";
  if (it.ether_type != kEtherTypeIpv4) return "a frame that is neither IPv4, IPv6 nor ARP";
  if (p.source.be == 0 && p.destination.be == 0) return "a packet that cannot be read";
  std::string text = fmt::format("{}, {} bytes, ttl {}", ends(p), p.total_length, p.ttl);
  if (p.dont_fragment) text += ", DF";
  if (p.first_fragment) text += ", more fragments follow";
  if (p.options) text += ", with IP options";
  return text;
}

std::string read_as(const Prediction& it) {
  if (it.ether_type == kEtherTypeArp) return "a question or an answer about a neighbour";
  if (it.ether_type != kEtherTypeIpv4) return "nothing that masq translates";
  if (it.parsed == Reason::malformed) return "damaged: no more is read of it";
  switch (it.packet.kind) {
    case Kind::tcp:
      if ((it.packet.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst | kTcpFin)) == kTcpSyn)
        return "a TCP segment that opens a connection";
      return "a TCP segment that does not open a connection";
    case Kind::udp:
      return "a UDP datagram";
    case Kind::icmp_query:
      return "an ICMP query";
    case Kind::icmp_reply:
      return "the reply to an ICMP query";
    case Kind::icmp_error:
      return "an ICMP error, which belongs to the flow of the packet that it quotes";
    case Kind::fragment:
      return "a fragment, which goes where the first one of its datagram went";
    default:
      return it.packet.protocol == kProtocolIcmp ? "an ICMP message that is not translated"
                                                 : "a protocol that is not translated";
  }
}

json flow_of(const Known& known, const Engine& engine, bool is_new) {
  const Record& r = known.record;
  const Settings& s = engine.settings();
  Ipv4 external = s.externals[r.external % kExternalsMax].address;
  return {{"protocol", protocol_name(r.protocol)},
          {"internal", to_text(r.internal_address, r.internal_port)},
          {"external", to_text(external, r.external_port)},
          {"remote", to_text(r.remote_address, r.remote_port)},
          {"state", state_name(r.state)},
          {"gateway", (r.flags & kFlagLocal) != 0},
          {"expires_s", expires_s(s, r, engine.now())},
          {"in_force", known.in_force},
          {"new", is_new}};
}

json mapping_of(const Known& known, const Engine& engine, bool is_new) {
  const Record& r = known.record;
  Ipv4 external = engine.settings().externals[r.external % kExternalsMax].address;
  return {{"protocol", protocol_name(r.protocol)},
          {"internal", to_text(r.internal_address, r.internal_port)},
          {"external", to_text(external, r.external_port)},
          {"flows", r.mapping},
          {"new", is_new}};
}

bool is_outbound(DropSide side) {
  return side == DropSide::inside || side == DropSide::leaving;
}

// The flow that it belongs to afterwards, or else what was found before.
json flow_json(const Prediction& it, const Engine& engine) {
  bool same = it.flow_before && it.flow_after && it.flow_before->index == it.flow_after->index;
  if (it.flow_before && (same || !it.flow_after)) return flow_of(*it.flow_before, engine, false);
  return it.flow_after ? flow_of(*it.flow_after, engine, true) : json(nullptr);
}

json mapping_json(const Prediction& it, const Engine& engine) {
  if (it.mapping_before) return mapping_of(*it.mapping_before, engine, false);
  return it.mapping_after ? mapping_of(*it.mapping_after, engine, true) : json(nullptr);
}

json filter_json(const Prediction& it, const json& out) {
  if (is_outbound(it.side) || it.packet.kind == Kind::icmp_error) return nullptr;
  // That of the mapping, which may be older than the one that is set now. A flow that shares its
  // port has none, and lets in its remote endpoint alone.
  Filtering filtering = it.mapping_before ? filtering_of_flags(it.mapping_before->record.flags)
                                          : kFilterAddressAndPort;
  std::string mode = filtering_name(filtering);
  bool passed = it.outcome.translated;
  const std::optional<Known>& flow = it.flow_after ? it.flow_after : it.flow_before;
  if (passed && flow && flow->record.forward != 0)
    return fmt::format("let in by forward {} (`masq forward list`)", flow->record.forward - 1);
  if (passed && out["flow"].is_object())
    return fmt::format("lets in {}, whom {} has asked ({})",
                       out["flow"]["remote"].get<std::string>(),
                       out["flow"]["internal"].get<std::string>(), mode);
  if (!out["mapping"].is_object()) return nullptr;
  std::string remote = it.packet.kind == Kind::icmp_reply
                           ? to_text(it.packet.source)
                           : to_text(it.packet.source, it.packet.source_port);
  std::string internal = out["mapping"]["internal"];
  if (passed) return fmt::format("lets in {} to {} ({})", remote, internal, mode);
  return fmt::format("keeps out {}, which {} has not asked ({})", remote, internal, mode);
}

json limit_json(u32 now, u32 max) {
  return {{"now", now}, {"max", max == 0 ? json(nullptr) : json(max)}};
}

// The ports that the host alone has.
json block_json(const Settings& s, Ipv4 host) {
  PortWords block{};
  if (!find_block(s, host, block)) return nullptr;
  u32 first = block.first * kWordPorts;
  return {{"first_port", first}, {"last_port", first + block.count * kWordPorts - 1}};
}

// What the inner host that sends it has, and may have.
json host_json(const Prediction& it, const Settings& s) {
  if (!it.host) return nullptr;
  return {{"address", to_text(it.packet.source)},
          {"flows", limit_json(host_count(it.host->flows), s.host_flows)},
          {"ports", limit_json(it.host->mappings, s.host_ports)},
          {"opening", limit_json(it.host->opening, s.host_opening)},
          {"block", block_json(s, it.packet.source)}};
}

const char* icmp_error_words(const Verdict& v) {
  if (v.icmp_type == kIcmpTimeExceeded) return "time exceeded";
  if (v.icmp_type == kIcmpUnreachable && v.icmp_code == kIcmpCodeFragmentationNeeded)
    return "fragmentation needed";
  if (v.icmp_type == kIcmpUnreachable && v.icmp_code == kIcmpCodeNetUnreachable)
    return "network unreachable";
  if (v.icmp_type == kIcmpUnreachable && v.icmp_code == kIcmpCodeProhibited)
    return "communication administratively prohibited";
  return "of another type";
}

std::string refusal(const Outcome& o) {
  std::string text =
      fmt::format("It is refused ({}): {}.", reason_name(o.reason), reason_sentence(o.reason));
  if (o.verdict.action == Action::reset)
    return text + " The sender gets a RST, so that it begins anew at once.";
  if (o.verdict.action != Action::icmp_error) return text + " The sender is told nothing.";
  text += fmt::format(" The sender gets the ICMP error \"{}\"", icmp_error_words(o.verdict));
  if (o.verdict.icmp_mtu != 0) text += fmt::format(" with MTU {}", o.verdict.icmp_mtu);
  return text + fmt::format(" from {}.", to_text(o.verdict.icmp_source));
}

// What becomes of a packet that masq leaves to the kernel.
std::string left_to_kernel(const Prediction& it, const NetworkState& network) {
  const Packet& p = it.packet;
  if (it.ether_type == kEtherTypeArp)
    return "It is left to the kernel, which answers for its own addresses.";
  if (it.ether_type != kEtherTypeIpv4)
    return "It is left to the kernel: masq translates IPv4 alone.";
  if (it.side == DropSide::leaving) {
    if (it.from != 0) return "It leaves as it is, on the kernel's own way from another interface.";
    if (it.flow_after) return "It leaves as it is: the gateway's own flow keeps its port.";
    if (p.kind == Kind::tcp || p.kind == Kind::udp)
      return fmt::format(
          "It leaves as it is: the gateway's own packets from {} port {} need no mapping.",
          protocol_word(p.protocol), to_host(p.source_port));
    return "It leaves as it is: the gateway's own packets of this kind need no mapping.";
  }
  if (it.side == DropSide::entering) return "It leaves as it is: it is the gateway's own.";
  if (it.outcome.redirected) {
    const u16 port = it.outcome.redirect_port;
    return fmt::format("A rule redirects it to the gateway itself, to {} port {}.",
                       protocol_word(p.protocol), port == 0 ? to_host(p.destination_port) : port);
  }
  if (is_multicast(p.destination) || is_broadcast(p.destination))
    return "It goes to the gateway's own stack: multicast and broadcast are not passed on.";
  if (it.side == DropSide::inside && it.route.kind == RouteKind::forward)
    return fmt::format("It is left to the kernel: {} is reached by {}, which is not masq's.",
                       to_text(p.destination), interface_name(network, it.route.ifindex));
  std::string text = fmt::format("It goes to the gateway's own stack: {} is its own address",
                                 to_text(p.destination));
  if (p.kind != Kind::tcp && p.kind != Kind::udp) return text + ".";
  return fmt::format("{}, and {} socket is there for {} port {}.", text, it.socket ? "a" : "no",
                     protocol_word(p.protocol), to_host(p.destination_port));
}

std::string verdict_sentence(const Prediction& it, const NetworkState& network) {
  const Outcome& o = it.outcome;
  if (o.action == Action::drop || is_answer(o.action)) return refusal(o);
  if (o.action == Action::forward) {
    std::string way =
        fmt::format("by {} to {}", interface_name(network, o.ifindex), to_text(o.next_hop));
    if (!o.translated) return fmt::format("It is routed as it is, {}: both ends are inside.", way);
    if (it.hairpin)
      return fmt::format(
          "It is translated twice, out and in again, to an inner host's external endpoint, and "
          "sent "
          "{}.",
          way);
    return fmt::format("It is translated and sent {}.", way);
  }
  if (o.action == Action::slow)
    return o.verdict.slow_mtu != 0
               ? fmt::format("It goes to the slow path, to be cut to {} bytes, and comes back.",
                             o.verdict.slow_mtu)
               : "It goes to the slow path, until the first fragment of its datagram has come.";
  if (o.action == Action::stack_and_slow)
    return "The gateway's own stack gets a copy, and it waits in the slow path for the first "
           "fragment of its datagram: nobody knows yet whose it is.";
  if (!o.translated) return left_to_kernel(it, network);
  return it.side == DropSide::leaving
             ? "It is the gateway's own; it is translated and leaves."
             : "It is translated and given to the gateway's own stack: the flow is its own.";
}

std::string came_in(const Prediction& it, const Place& place, const NetworkState& network,
                    const Settings& settings) {
  std::string name = interface_name(network, it.ifindex);
  const Interface* interface = find_interface(settings, it.ifindex);
  const char* zone = zone_name(interface == nullptr ? Zone::other : interface->zone);
  std::string why = place.why.empty() ? "" : ", " + place.why;
  if (it.side == DropSide::inside || it.side == DropSide::outside)
    return fmt::format("on {} ({}){}", name, zone, why);
  return it.from == 0
             ? fmt::format("not at all: the gateway itself sends it by {} ({}){}", name, zone, why)
             : fmt::format("on {}, to leave on the kernel's own way by {} ({}){}",
                           interface_name(network, it.from), name, zone, why);
}

const char* action_name(const Outcome& o) {
  switch (o.action) {
    case Action::forward:
      return "send";
    case Action::to_stack:
    case Action::stack_and_slow:
      return "kernel";
    case Action::slow:
      return "slow path";
    default:
      return "drop";
  }
}

}  // namespace

json explanation_json(const Prediction& it, const Place& place, const Engine& engine,
                      const NetworkState& network) {
  const Settings& s = engine.settings();
  const Outcome& o = it.outcome;
  const Interface* interface = find_interface(s, it.ifindex);
  json out;
  out["packet"] = in_words(it);
  out["came_in"] = came_in(it, place, network, s);
  out["interface"] = interface_name(network, it.ifindex);
  out["zone"] = zone_name(interface == nullptr ? Zone::other : interface->zone);
  out["read_as"] = read_as(it);
  out["flow"] = flow_json(it, engine);
  out["mapping"] = mapping_json(it, engine);
  out["filter"] = filter_json(it, out);
  out["flows_now"] = it.flows;
  out["flows_max"] = s.flows_max;
  out["host"] = host_json(it, s);
  out["route"] = nullptr;
  if (it.route.kind == RouteKind::forward)
    out["route"] = {{"interface", interface_name(network, it.route.ifindex)},
                    {"zone", zone_name(it.route.zone)},
                    {"next_hop", to_text(it.route.next_hop)},
                    {"mtu", it.route.mtu}};
  out["action"] = action_name(o);
  out["before"] = it.ether_type == kEtherTypeIpv4 ? json(ends(it.packet)) : json(nullptr);
  out["after"] = nullptr;
  if (o.action == Action::forward || o.translated)
    out["after"] = fmt::format("{}, ttl {}", ends(it.sent), it.sent.ttl);
  out["reason"] = nullptr;
  out["because"] = nullptr;
  out["advice"] = nullptr;
  out["icmp_error"] = nullptr;
  if (o.action == Action::drop || is_answer(o.action)) {
    out["reason"] = reason_name(o.reason);
    out["because"] = reason_sentence(o.reason);
    out["advice"] = advice_for(reason_name(o.reason));
    if (o.verdict.action == Action::icmp_error)
      out["icmp_error"] = {{"type", o.verdict.icmp_type},
                           {"code", o.verdict.icmp_code},
                           {"mtu", o.verdict.icmp_mtu},
                           {"source", to_text(o.verdict.icmp_source)}};
  }
  out["sentence"] = verdict_sentence(it, network);
  return out;
}

namespace {

std::string flow_line(const json& flow) {
  std::string text =
      fmt::format("{} as {} with {}", flow["internal"].get<std::string>(),
                  flow["external"].get<std::string>(), flow["remote"].get<std::string>());
  if (!flow["in_force"].get<bool>()) return text + ", which has expired";
  return fmt::format("{}{}, {}, {} {} s", flow["new"].get<bool>() ? "would be made: " : "", text,
                     flow["state"].get<std::string>(),
                     flow["new"].get<bool>() ? "for" : "expires in", flow["expires_s"].get<u32>());
}

std::string mapping_line(const json& mapping) {
  std::string text = fmt::format("{} is {} outside", mapping["internal"].get<std::string>(),
                                 mapping["external"].get<std::string>());
  if (mapping["new"].get<bool>()) return "would be made: " + text;
  u32 flows = mapping["flows"];
  return fmt::format("{}, for {} flow{}", text, flows, flows == 1 ? "" : "s");
}

std::string host_line(const json& host) {
  auto part = [&](const char* name, const char* what) {
    const json& each = host[name];
    std::string text = fmt::format("{}", each["now"].get<u32>());
    if (!each["max"].is_null()) text += fmt::format(" of {}", each["max"].get<u32>());
    return text + what;
  };
  return fmt::format("{} had {}, {}, {}", host["address"].get<std::string>(),
                     part("flows", " flows"), part("ports", " external ports"),
                     part("opening", " opening connections"));
}

// Has the limit of a host to do with it?
bool concerns_host(const json& e) {
  if (e["flow"].is_object() && e["flow"]["new"].get<bool>()) return true;
  return e["reason"].is_string() && e["reason"].get<std::string>().starts_with("host");
}

}  // namespace

std::string explanation_text(const json& e, bool with_advice) {
  std::string text = e["packet"].get<std::string>() + "\n";
  auto line = [&](const char* what, const std::string& one) {
    text += fmt::format("  {:<9} {}\n", what, one);
  };
  line("came in", e["came_in"]);
  line("read as", e["read_as"]);
  if (e["mapping"].is_object()) line("mapping", mapping_line(e["mapping"]));
  if (e["flow"].is_object()) {
    line("flow", flow_line(e["flow"]));
    if (e["flow"]["new"].get<bool>())
      line("limit", fmt::format("{} of {} flows before it", e["flows_now"].get<u32>(),
                                e["flows_max"].get<u32>()));
  } else if (e["reason"] == "flow_table_full") {
    line("limit",
         fmt::format("{} of {} flows", e["flows_now"].get<u32>(), e["flows_max"].get<u32>()));
  }
  if (e["host"].is_object() && concerns_host(e)) line("host", host_line(e["host"]));
  if (e["host"].is_object() && e["host"]["block"].is_object())
    line("block",
         fmt::format("ports {} to {} are {}'s alone", e["host"]["block"]["first_port"].get<u32>(),
                     e["host"]["block"]["last_port"].get<u32>(),
                     e["host"]["address"].get<std::string>()));
  if (e["filter"].is_string()) line("filter", e["filter"]);
  if (e["route"].is_object()) {
    u32 mtu = e["route"]["mtu"];
    line("route", fmt::format("by {} ({}) to {}{}", e["route"]["interface"].get<std::string>(),
                              e["route"]["zone"].get<std::string>(),
                              e["route"]["next_hop"].get<std::string>(),
                              mtu == 0 ? "" : fmt::format(", MTU {}", mtu)));
  }
  if (e["after"].is_string()) {
    line("before", e["before"]);
    line("after", e["after"]);
  }
  text += e["sentence"].get<std::string>() + "\n";
  if (with_advice && e["advice"].is_string())
    text += "\n" + wrapped(e["advice"].get<std::string>(), 0, kColumns);
  return text;
}

std::string advice_text(const std::vector<std::string>& reasons) {
  std::string text;
  for (std::size_t i = 0; i < reasons.size(); ++i)
    if (std::find(reasons.begin(), reasons.begin() + static_cast<long>(i), reasons[i]) ==
        reasons.begin() + static_cast<long>(i))
      text += "\n" + wrapped(reasons[i] + ": " + advice_for(reasons[i]), 0, kColumns);
  return text;
}

// --- the last refusals ------------------------------------------------------------------------

namespace {

// The entries that are whole, each as it stood at one moment.
std::vector<Drop> remembered(const Drops& drops) {
  std::vector<Drop> found;
  for (const Drop& live : drops.drops) {
    u32 number = atomic_load(&live.number);
    Drop copy = live;
    asm volatile("" ::: "memory");
    if (number != 0 && atomic_load(&live.number) == number && copy.reason < Reason::count)
      found.push_back(copy);
  }
  return found;
}

std::string drop_words(const Drop& d) {
  if (d.ether_type == kEtherTypeIpv6) return "an IPv6 packet";
  if (d.ether_type == kEtherTypeArp)
    return fmt::format("arp {} asks for {}", to_text(d.source), to_text(d.destination));
  if (d.source.be == 0 && d.destination.be == 0) return "a packet that could not be read";
  return ends(d.protocol, d.kind, d.source, d.source_port, d.destination, d.destination_port,
              d.icmp_type, d.tcp_flags);
}

const char* side_name(DropSide side) {
  switch (side) {
    case DropSide::inside:
      return "inside";
    case DropSide::outside:
      return "outside";
    case DropSide::leaving:
      return "leaving";
    default:
      return "entering";
  }
}

}  // namespace

json last_json(const AnyDatapath& datapath, const NetworkState& network, Ipv4 host) {
  std::vector<Drop> found = remembered(datapath.drops());
  Ticks now = datapath.now();
  // By age, not by time: ticks wrap. Within one ring the number decides.
  std::sort(found.begin(), found.end(), [&](const Drop& a, const Drop& b) {
    i32 age_a = static_cast<i32>(now - a.when), age_b = static_cast<i32>(now - b.when);
    return age_a != age_b ? age_a > age_b : a.number < b.number;
  });
  json out = json::array();
  for (const Drop& d : found) {
    if (host.be != 0 && !same(d.source, host) && !same(d.destination, host)) continue;
    Ticks age = static_cast<i32>(now - d.when) < 0 ? 0 : now - d.when;
    out.push_back({{"ago_s", seconds_from_ticks(age)},
                   {"side", side_name(d.side)},
                   {"interface", interface_name(network, d.ifindex)},
                   {"packet", drop_words(d)},
                   {"source", to_text(d.source)},
                   {"destination", to_text(d.destination)},
                   {"bytes", d.length},
                   {"reason", reason_name(d.reason)},
                   {"because", reason_sentence(d.reason)}});
  }
  return out;
}

std::string last_text(const json& last) {
  if (last.empty()) return "No refused packet is remembered.\n";
  std::string text;
  std::size_t first = last.size() > kLastShown ? last.size() - kLastShown : 0;
  if (first != 0) text += fmt::format("The last {} of {}:\n", kLastShown, last.size());
  std::vector<std::string> reasons;
  for (std::size_t i = first; i < last.size(); ++i) {
    const json& d = last[i];
    text += fmt::format("{:>6} s ago, {} {}: {}\n           refused ({}): {}.\n",
                        d["ago_s"].get<u32>(), d["side"].get<std::string>(),
                        d["interface"].get<std::string>(), d["packet"].get<std::string>(),
                        d["reason"].get<std::string>(), d["because"].get<std::string>());
    reasons.push_back(d["reason"]);
  }
  return text + advice_text(reasons);
}

}  // namespace masq
