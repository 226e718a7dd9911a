// The listings of ipchains.
#include "compat/ipchains_list.h"

#include "compat/icmp_names.h"
#include "policy/forwards.h"

namespace masq {
namespace {

const char* mark_of_inversion(bool inverted) {
  return inverted ? "!" : " ";
}

std::string protocol_text(u8 protocol) {
  switch (protocol) {
    case 0:
      return "all";
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

std::string flags_text(const Rule& rule) {
  std::string flags = "------";
  if (rule.syn == Asked::no) flags[0] = '!';
  if (rule.syn != Asked::either) flags[1] = 'y';
  if (rule.later_fragment == Asked::no) flags[2] = '!';
  if (rule.later_fragment != Asked::either) flags[3] = 'f';
  if (rule.log) flags[4] = 'l';
  if (rule.copies) flags[5] = 'o';
  return flags;
}

std::string address_text(const AddressMatch& match, const Names* names) {
  if (match.mask.be == 0) return names != nullptr ? "anywhere" : "0.0.0.0/0";
  std::string out = names != nullptr ? names->host_of(match.address) : "";
  if (out.empty()) out = address_text(match.address);
  const int bits = bits_of_mask(match.mask);
  if (bits == 32) return out;
  return out + "/" + (bits < 0 ? address_text(match.mask) : std::to_string(bits));
}

std::string port_text(u16 port, u8 protocol, const Names* names) {
  const std::string name = names != nullptr ? names->service_of(port, protocol) : "";
  return name.empty() ? std::to_string(port) : name;
}

std::string range_text(const PortMatch& match, u8 protocol, const Names* names) {
  if (match.first == 0 && match.last == 0xffff) return names != nullptr ? "any" : "*";
  std::string out = port_text(match.first, protocol, names);
  if (match.last != match.first) out += ":" + port_text(match.last, protocol, names);
  return out;
}

const char* icmp_text(const Rule& rule) {
  const PortMatch &type = rule.source_ports, &code = rule.destination_ports;
  if (type.first != type.last || type.inverted || code.inverted) return nullptr;
  if (!code.is_any() && code.first != code.last) return nullptr;
  return name_of_icmp(type.first, code.is_any(), code.first);
}

bool has_ports(const Rule& rule) {
  return !rule.protocol_inverted &&
         (rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp ||
          rule.protocol == kProtocolIcmp);
}

// With the mark of inversion of the first one, which stands in a column of its own.
std::string ports_text(const Rule& rule, const Names* names) {
  if (!has_ports(rule)) return " n/a";
  if (rule.protocol == kProtocolIcmp && names != nullptr && icmp_text(rule) != nullptr)
    return fmt::format(" {}", icmp_text(rule));
  const u8 named_by = rule.protocol == kProtocolIcmp ? u8{0} : rule.protocol;
  const Names* names_of_ports = rule.protocol == kProtocolIcmp ? nullptr : names;
  auto range = [&](const PortMatch& match) {
    const bool all = match.first == 0 && match.last == 0xffff;
    return range_text(match, named_by, all ? names : names_of_ports);
  };
  std::string out = fmt::format(
      "{}{} ->  {}{}", mark_of_inversion(rule.source_ports.inverted), range(rule.source_ports),
      mark_of_inversion(rule.destination_ports.inverted), range(rule.destination_ports));
  if (rule.redirect_port != 0) out += " => " + port_text(rule.redirect_port, rule.protocol, names);
  return out;
}

std::string interface_text(const Rule& rule, bool numeric) {
  if (rule.interface.empty()) return numeric ? "*" : "any";
  return rule.interface + (rule.any_suffix ? "+" : "");
}

std::string mark_text(const Rule& rule) {
  if (rule.mark_change == MarkChange::none) return "";
  if (rule.mark_change == MarkChange::set) return fmt::format("0x{:x}", rule.mark);
  const bool less = rule.mark >> 31 != 0;
  return fmt::format("{}0x{:x}", less ? "-" : "+", less ? 0u - rule.mark : rule.mark);
}

std::string counters(const std::string& packets, const std::string& bytes, bool exact) {
  return fmt::format("{:>{}} {:>{}} ", packets, exact ? 8 : 5, bytes, exact ? 10 : 5);
}

std::string header(const ListStyle& style) {
  std::string out;
  if (style.line_numbers) out += "num  ";
  if (style.verbose) out += counters("pkts", "bytes", style.exact);
  out += "target     prot opt    ";
  out += style.verbose ? "tosa tosx  ifname     mark       outsize  " : " ";
  return out + fmt::format("{:<22}{:<22}ports\n", "source", "destination");
}

std::string row(const Rule& rule, u32 number, const ListStyle& style) {
  std::string out;
  if (style.line_numbers) out += fmt::format("{:<4} ", number);
  if (style.verbose)
    out += counters(counter_text(rule.packets, style.exact), counter_text(rule.bytes, style.exact),
                    style.exact);
  out +=
      fmt::format("{:<9} {}{:<5}{} ", target_name(rule), mark_of_inversion(rule.protocol_inverted),
                  protocol_text(rule.protocol), flags_text(rule));
  if (style.verbose)
    out += fmt::format("0x{:02X} 0x{:02X} {}{:<10} {:<10} {:<7} ", rule.tos_and, rule.tos_xor,
                       mark_of_inversion(rule.interface_inverted),
                       interface_text(rule, style.names == nullptr), mark_text(rule),
                       rule.copies ? std::to_string(rule.copy_most) : "");
  out += fmt::format("{}{:<20}", mark_of_inversion(rule.source.inverted),
                     address_text(rule.source, style.names));
  out += fmt::format("{}{:<20} ", mark_of_inversion(rule.destination.inverted),
                     address_text(rule.destination, style.names));
  return out + ports_text(rule, style.names) + "\n";
}

std::string title(const RuleSet& rules, const Chain& chain, bool verbose) {
  if (chain.policy == RuleTarget::go_back)
    return fmt::format("Chain {} ({} references):\n", chain.name, rules.references(chain.name));
  const std::string counters =
      verbose ? fmt::format(": {} packets, {} bytes", chain.packets, chain.bytes) : "";
  return fmt::format("Chain {} (policy {}{}):\n", chain.name, policy_name(chain.policy), counters);
}

}  // namespace

std::string target_name(const Rule& rule) {
  return rule.target == RuleTarget::chain ? rule.chain : policy_name(rule.target);
}

std::string counter_text(u64 count, bool exact) {
  if (exact || count < 100'000) return std::to_string(count);
  u64 unit = 1000;
  u32 size = 0;
  auto rounded = [&] { return count / unit + (count % unit >= unit / 2); };
  for (; rounded() >= 10'000 && size < 2; ++size) unit *= 1000;
  return std::to_string(rounded()) + "KMG"[size];
}

std::string list_chain(const RuleSet& rules, const Chain& chain, const ListStyle& style) {
  std::string out = title(rules, chain, style.verbose);
  if (!chain.rules.empty()) out += header(style);
  u32 number = 0;
  for (const Rule& rule : chain.rules) out += row(rule, ++number, style);
  return out;
}

Result<std::string> list_chains(const RuleSet& rules, const std::string& chain,
                                const ListStyle& style) {
  if (!chain.empty()) {
    const Chain* found = rules.find(chain);
    if (found == nullptr) return error("No chain by that name");
    return list_chain(rules, *found, style);
  }
  std::string out;
  for (const Chain& each : rules.chains()) out += list_chain(rules, each, style);
  return out;
}

std::string rule_in_words(const Rule& rule) {
  const std::string target = rule.target == RuleTarget::none ? "" : target_name(rule);
  std::string out = fmt::format(
      "{} {}{} opt   {} tos 0x{:02X} 0x{:02X}  via {}{:<4}", target,
      mark_of_inversion(rule.protocol_inverted), protocol_text(rule.protocol), flags_text(rule),
      rule.tos_and, rule.tos_xor, rule.interface_inverted ? "!" : "", interface_text(rule, true));
  out += fmt::format(" {}{}  -> {}{} ", mark_of_inversion(rule.source.inverted),
                     address_text(rule.source, nullptr), rule.destination.inverted ? "!" : "",
                     address_text(rule.destination, nullptr));
  if (rule.mark_change != MarkChange::none) out += fmt::format(" mark {} ", mark_text(rule));
  return out + "  " + ports_text(rule, nullptr) + "\n";
}

}  // namespace masq
