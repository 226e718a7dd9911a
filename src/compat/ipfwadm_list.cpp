// The listings of ipfwadm: a title, then, if there are rules, a line of headings and one for each.
// With -e there are counters, the flags b k y o, what happens to the type of service, and the
// interface (by name, the column of its address says "any").
#include "compat/ipfwadm_list.h"

#include "compat/ipchains_list.h"
#include "compat/ipfwadm.h"
#include "compat/naming.h"
#include "policy/forwards.h"
#include "wire/headers.h"

namespace masq {
namespace {

std::string protocol_text(const Rule& rule) {
  std::string text = rule.protocol_inverted ? "!" : "";
  switch (rule.protocol) {
    case 0:
      return "all";
    case kProtocolTcp:
      return text + "tcp";
    case kProtocolUdp:
      return text + "udp";
    case kProtocolIcmp:
      return text + "icmp";
    default:
      return text + std::to_string(rule.protocol);
  }
}

std::string type_text(const Rule& rule) {
  switch (rule.target) {
    case RuleTarget::accept:
      return "acc";
    case RuleTarget::deny:
      return "deny";
    case RuleTarget::reject:
      return "rej";
    case RuleTarget::masquerade:
      return "acc/m";
    case RuleTarget::redirect:
      return "acc/r";
    default:
      return target_name(rule);
  }
}

std::string policy_text(RuleTarget policy) {
  switch (policy) {
    case RuleTarget::accept:
      return "accept";
    case RuleTarget::deny:
      return "deny";
    case RuleTarget::reject:
      return "reject";
    default:
      return "accept/masquerade";
  }
}

std::string flags_text(const Rule& rule) {
  std::string flags = "----";
  if (rule.syn == Asked::no) flags[1] = 'k';
  if (rule.syn == Asked::yes) flags[2] = 'y';
  if (rule.log) flags[3] = 'o';
  return flags;
}

std::string endpoint_text(const AddressMatch& match, const Names* names) {
  if (match.mask.be == 0) return names != nullptr ? "anywhere" : "0.0.0.0/0";
  const std::string inverted = match.inverted ? "!" : "";
  const int bits = bits_of_mask(match.mask);
  if (bits == 32) return inverted + host_text(match.address, names);
  return fmt::format("{}{}/{}", inverted, address_text(match.address),
                     bits < 0 ? address_text(match.mask) : std::to_string(bits));
}

std::string range_text(const PortMatch& match, u8 protocol, const Names* names) {
  if (match.first == 0 && match.last == 0xffff) return "any";
  std::string text = (match.inverted ? "!" : "") + service_text(match.first, protocol, names);
  if (match.last != match.first) text += ":" + service_text(match.last, protocol, names);
  return text;
}

std::string ports_text(const Rule& rule, const Names* names) {
  if (rule.protocol == kProtocolIcmp && !rule.protocol_inverted)
    return range_text(rule.source_ports, rule.protocol, names);
  if ((rule.protocol != kProtocolTcp && rule.protocol != kProtocolUdp) || rule.protocol_inverted)
    return "n/a";
  std::string text = fmt::format("{} -> {}", range_text(rule.source_ports, rule.protocol, names),
                                 range_text(rule.destination_ports, rule.protocol, names));
  if (rule.target == RuleTarget::redirect && rule.redirect_port != 0)
    text += " => " + service_text(rule.redirect_port, rule.protocol, names);
  return text;
}

std::string interface_text(const Rule& rule) {
  if (rule.interface.empty()) return "any";
  return fmt::format("{}{}{}", rule.interface_inverted ? "!" : "", rule.interface,
                     rule.any_suffix ? "+" : "");
}

const char* counters_form(const AdmListStyle& style) {
  return style.exact ? "{:>8} {:>10} " : "{:>5} {:>5} ";
}

// `first` is the heading or the text of the first column, 5 wide or, for accounting, 3.
std::string heading(const std::string& first, const AdmListStyle& style, bool counts) {
  std::string text;
  if (counts || style.extended)
    text += fmt::format(fmt::runtime(counters_form(style)), "pkts", "bytes");
  text += first + " prot ";
  if (style.extended) text += fmt::format("opt  tosa tosx {:<7} {:<15} ", "ifname", "ifaddress");
  return text + fmt::format("{:<20} {:<20} ports\n", "source", "destination");
}

std::string row(const std::string& first, const Rule& rule, const AdmListStyle& style,
                bool counts) {
  std::string text;
  if (counts || style.extended)
    text += fmt::format(fmt::runtime(counters_form(style)), counter_text(rule.packets, style.exact),
                        counter_text(rule.bytes, style.exact));
  text += fmt::format("{} {:<4} ", first, protocol_text(rule));
  if (style.extended)
    text += fmt::format("{} 0x{:02X} 0x{:02X} {:<7} {:<15} ", flags_text(rule), rule.tos_and,
                        rule.tos_xor, interface_text(rule), "any");
  return text + fmt::format("{:<20} {:<20} {}\n", endpoint_text(rule.source, style.names),
                            endpoint_text(rule.destination, style.names),
                            ports_text(rule, style.names));
}

}  // namespace

bool is_accounting_hook(const Rule& rule) {
  return rule.target == RuleTarget::chain &&
         (rule.chain == kAccountIn || rule.chain == kAccountOut);
}

std::string adm_list_chain(const Chain& chain, const AdmListStyle& style) {
  std::string text = fmt::format("IP firewall {} rules, default policy: {}\n", chain.name,
                                 policy_text(chain.policy));
  bool is_first = true;
  for (const Rule& rule : chain.rules) {
    if (is_accounting_hook(rule)) continue;
    if (is_first) text += heading("type ", style, false);
    is_first = false;
    text += row(fmt::format("{:<5}", type_text(rule)), rule, style, false);
  }
  return text;
}

std::string adm_list_accounting(const RuleSet& rules, bool in, bool out,
                                const AdmListStyle& style) {
  std::string text = "IP accounting rules\n";
  bool is_first = true;
  for (const char* name : {kAccountIn, kAccountOut}) {
    const Chain* chain = rules.find(name);
    if (chain == nullptr || !(name == kAccountIn ? in : out)) continue;
    for (const Rule& rule : chain->rules) {
      if (is_first) text += heading("dir", style, true);
      is_first = false;
      text += row(name == kAccountIn ? "in " : "out", rule, style, true);
    }
  }
  return text;
}

}  // namespace masq
