// Word by word, each with its sentence; and back, always in the same order.
#include "policy/rule_words.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>

#include "policy/forwards.h"

namespace masq {
namespace {

struct TargetWord {
  const char* word;
  RuleTarget target;
};
constexpr TargetWord kTargets[] = {
    {"allow", RuleTarget::accept},      {"deny", RuleTarget::deny},
    {"reject", RuleTarget::reject},     {"masquerade", RuleTarget::masquerade},
    {"redirect", RuleTarget::redirect}, {"return", RuleTarget::go_back},
    {"jump", RuleTarget::chain},        {"count", RuleTarget::none},
};

struct ProtocolWord {
  const char* word;
  u8 protocol;
};
constexpr ProtocolWord kProtocols[] = {
    {"tcp", kProtocolTcp}, {"udp", kProtocolUdp}, {"icmp", kProtocolIcmp}};

struct TypeWord {
  const char* word;
  u16 type;
};
// The types of ICMP that anybody filters by name (RFC 792); all others are numbers.
constexpr TypeWord kTypes[] = {
    {"echo-reply", 0},   {"destination-unreachable", 3}, {"source-quench", 4},     {"redirect", 5},
    {"echo-request", 8}, {"time-exceeded", 11},          {"parameter-problem", 12}};

// Digits alone; `base` 16 with 0x before them.
std::optional<u32> number_from(std::string text, u32 most, int base = 10) {
  if (base == 16) {
    if (!text.starts_with("0x")) return std::nullopt;
    text = text.substr(2);
  }
  u32 number = 0;
  const char* end = text.data() + text.size();
  const auto [behind, wrong] = std::from_chars(text.data(), end, number, base);
  if (text.empty() || wrong != std::errc() || behind != end || number > most) return std::nullopt;
  return number;
}

// What is still to be read.
class Words {
 public:
  explicit Words(const std::string& text) {
    std::istringstream stream(text);
    for (std::string word; stream >> word;) words_.push_back(word);
  }
  bool are_left() const { return next_ < words_.size(); }
  std::string take() { return are_left() ? words_[next_++] : ""; }
  bool take_if(const char* word) {
    const bool is_there = are_left() && words_[next_] == word;
    next_ += is_there;
    return is_there;
  }
  // The next one, if it is digits alone.
  std::string take_number() {
    const bool is_there =
        are_left() && words_[next_].find_first_not_of("0123456789") == std::string::npos;
    return is_there ? words_[next_++] : "";
  }

 private:
  std::vector<std::string> words_;
  std::size_t next_ = 0;
};

u32 mask_of_length(u32 length) {
  return length == 0 ? 0 : ~0u << (32 - length);
}

Status read_network(const std::string& key, Words& words, AddressMatch& match) {
  match.inverted = words.take_if("not");
  const std::string text = words.take();
  const std::size_t slash = text.find('/');
  const std::optional<Ipv4> address = address_from(text.substr(0, slash));
  std::optional<Ipv4> mask = ipv4_from_host(~0u);
  if (slash != std::string::npos) {
    const std::string behind = text.substr(slash + 1);
    const std::optional<u32> length = number_from(behind, 32);
    mask = length ? ipv4_from_host(mask_of_length(*length)) : address_from(behind);
  }
  if (!address || !mask)
    return error("\"{} {}\" names no network, such as 192.168.2.0/24 or 192.168.2.5.", key, text);
  if ((address->be & ~mask->be) != 0)
    return error("\"{}\" has address bits behind its prefix; {} is the network's first address.",
                 text, address_text(Ipv4{address->be & mask->be}));
  match.address = *address;
  match.mask = *mask;
  return Done{};
}

std::optional<u32> type_from(const std::string& text, u32 most) {
  for (const TypeWord& each : kTypes)
    if (text == each.word) return each.type;
  return number_from(text, most);
}

// `most`: 65535 of ports, 255 of types and codes.
Status read_range(const std::string& key, Words& words, PortMatch& match, u32 most) {
  match.inverted = words.take_if("not");
  const std::string text = words.take();
  const bool is_type = key == "type";
  std::optional<u32> first = is_type ? type_from(text, most) : number_from(text, most);
  std::optional<u32> last = first;
  if (const std::size_t dash = text.find('-'); !first && dash != std::string::npos) {
    first = number_from(text.substr(0, dash), most);
    last = number_from(text.substr(dash + 1), most);
  }
  if (!first || !last || *last < *first)
    return most == 255 ? error("\"{} {}\" is no {} of ICMP from 0 to 255.", key, text, key)
                       : error(
                             "\"{} {}\" is no port and no range of ports, such as 80 or "
                             "1024-65535.",
                             key, text);
  match.first = static_cast<u16>(*first);
  match.last = static_cast<u16>(*last);
  if (!match.inverted && match.is_any())
    return error("\"{} {}\" fits every port; leave it out.", key, text);
  return Done{};
}

Status read_interface(Words& words, Rule& rule) {
  rule.interface_inverted = words.take_if("not");
  const std::string word = words.take();
  std::string name;
  for (std::size_t i = 0; i < word.size(); ++i) {
    const bool escaped = word[i] == '\\' && i + 1 < word.size();
    i += escaped;
    if (!escaped && word[i] == '*' && i + 1 == word.size())
      rule.any_suffix = true;
    else
      name += word[i];
  }
  if (name.empty() || name.size() > kInterfaceNameMost)
    return error("\"on\" names an interface of 1 to {} characters, such as eth0 or ppp*.",
                 kInterfaceNameMost);
  rule.interface = name;
  return Done{};
}

Status read_protocol(Words& words, Rule& rule) {
  rule.protocol_inverted = words.take_if("not");
  const std::string text = words.take();
  std::optional<u32> number = number_from(text, 255);
  for (const ProtocolWord& each : kProtocols)
    if (text == each.word) number = each.protocol;
  if (!number || *number == 0)
    return error("\"protocol {}\" is no protocol: its number from 1 to 255, or tcp, udp, icmp.",
                 text);
  rule.protocol = static_cast<u8>(*number);
  return Done{};
}

Status read_tos(Words& words, Rule& rule) {
  const std::string text = words.take();
  const std::size_t slash = text.find('/');
  const std::optional<u32> with = number_from(text.substr(0, slash), 255, 16);
  const std::optional<u32> other =
      slash == std::string::npos ? std::nullopt : number_from(text.substr(slash + 1), 255, 16);
  if (!with || !other)
    return error("\"tos {}\" is not what the type of service is joined with, such as 0x01/0x10.",
                 text);
  rule.tos_and = static_cast<u8>(*with);
  rule.tos_xor = static_cast<u8>(*other);
  return Done{};
}

Status read_mark(Words& words, Rule& rule) {
  std::string text = words.take();
  rule.mark_change = MarkChange::set;
  if (text.starts_with("+")) {
    rule.mark_change = MarkChange::add;
    text = text.substr(1);
  }
  const std::optional<u32> mark = number_from(text, ~0u);
  if (!mark) return error("\"mark {}\" is no number from 0 to 4294967295.", text);
  rule.mark = *mark;
  return Done{};
}

Status read_copy(Words& words, Rule& rule) {
  rule.copies = true;
  const std::string bytes = words.take_number();
  const std::optional<u32> most = bytes.empty() ? 0xffffu : number_from(bytes, 0xffff);
  if (!most) return error("\"copy {}\" is no number of bytes up to 65535.", bytes);
  rule.copy_most = static_cast<u16>(*most);
  return Done{};
}

Status read_target(Words& words, Rule& rule) {
  const std::string word = words.take();
  const auto* const found = std::find_if(std::begin(kTargets), std::end(kTargets),
                                         [&](const TargetWord& each) { return word == each.word; });
  if (found == std::end(kTargets))
    return error(
        "A rule begins with what it does: allow, deny, reject, masquerade, redirect, "
        "return, jump or count, and not with \"{}\".",
        word);
  rule.target = found->target;
  if (rule.target == RuleTarget::chain) {
    rule.chain = words.take();
    if (rule.chain.empty()) return error("\"jump\" needs the name of a chain.");
  }
  if (rule.target == RuleTarget::redirect && words.take_if("to-port")) {
    const std::string text = words.take();
    const std::optional<u32> port = number_from(text, 65535);
    if (!port || *port == 0) return error("\"to-port {}\" is no port from 1 to 65535.", text);
    rule.redirect_port = static_cast<u16>(*port);
  }
  return Done{};
}

// Words without a value; false if it is none of them.
bool read_plain(const std::string& key, Rule& rule) {
  for (const ProtocolWord& each : kProtocols)
    if (key == each.word) rule.protocol = each.protocol;
  if (key == "syn") rule.syn = Asked::yes;
  if (key == "no-syn") rule.syn = Asked::no;
  if (key == "later-fragment") rule.later_fragment = Asked::yes;
  if (key == "no-later-fragment") rule.later_fragment = Asked::no;
  if (key == "log") rule.log = true;
  static const std::set<std::string> all = {
      "tcp", "udp", "icmp", "syn", "no-syn", "later-fragment", "no-later-fragment", "log"};
  return all.contains(key);
}

Status read_word(const std::string& key, Words& words, Rule& rule) {
  if (read_plain(key, rule)) return Done{};
  if (key == "from") return read_network(key, words, rule.source);
  if (key == "to") return read_network(key, words, rule.destination);
  if (key == "from-port") return read_range(key, words, rule.source_ports, 65535);
  if (key == "port") return read_range(key, words, rule.destination_ports, 65535);
  if (key == "type") return read_range(key, words, rule.source_ports, 255);
  if (key == "code") return read_range(key, words, rule.destination_ports, 255);
  if (key == "on") return read_interface(words, rule);
  if (key == "protocol") return read_protocol(words, rule);
  if (key == "tos") return read_tos(words, rule);
  if (key == "mark") return read_mark(words, rule);
  if (key == "copy") return read_copy(words, rule);
  return error("\"{}\" is not a word of rules.", key);
}

// Words that say the same thing of a packet.
std::string slot_of(const std::string& key) {
  if (key == "tcp" || key == "udp" || key == "icmp") return "protocol";
  if (key == "type") return "from-port";
  if (key == "code") return "port";
  if (key == "no-syn") return "syn";
  if (key == "no-later-fragment") return "later-fragment";
  return key;
}

// What RuleSet would only call unsound.
Status check_together(const Rule& rule, const std::set<std::string>& said) {
  const bool is_icmp = rule.protocol == kProtocolIcmp && !rule.protocol_inverted;
  const bool has_ports =
      !rule.protocol_inverted && (rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp);
  if ((said.contains("port") || said.contains("from-port")) && !has_ports)
    return error("Ports need \"tcp\" or \"udp\".");
  if ((said.contains("type") || said.contains("code")) && !is_icmp)
    return error("Types and codes need \"icmp\".");
  if (rule.syn != Asked::either && (rule.protocol != kProtocolTcp || rule.protocol_inverted))
    return error("\"syn\" and \"no-syn\" need \"tcp\".");
  if (rule.later_fragment == Asked::yes &&
      (!rule.source_ports.is_any() || !rule.destination_ports.is_any() ||
       rule.syn != Asked::either))
    return error("Later fragments have no ports, types or SYN.");
  if (rule.target == RuleTarget::redirect && !has_ports)
    return error("\"redirect\" needs \"tcp\" or \"udp\".");
  return Done{};
}

std::string network_words(const char* key, const AddressMatch& match) {
  const u32 mask = to_host(match.mask);
  if (mask == 0 && !match.inverted) return "";
  std::string text =
      fmt::format(" {}{} {}", key, match.inverted ? " not" : "", address_text(match.address));
  for (u32 length = 0; length <= 32; ++length)
    if (mask_of_length(length) == mask)
      return length == 32 ? text : fmt::format("{}/{}", text, length);
  return fmt::format("{}/{}", text, address_text(match.mask));
}

std::string range_words(const char* key, const PortMatch& match) {
  if (match.is_any()) return "";
  std::string text = fmt::format(" {}{} ", key, match.inverted ? " not" : "");
  if (match.first != match.last) return fmt::format("{}{}-{}", text, match.first, match.last);
  for (const TypeWord& each : kTypes)
    if (std::string(key) == "type" && each.type == match.first) return text + each.word;
  return fmt::format("{}{}", text, match.first);
}

std::string protocol_words(const Rule& rule) {
  if (rule.protocol == 0) return "";
  for (const ProtocolWord& each : kProtocols)
    if (each.protocol == rule.protocol)
      return fmt::format(" {}{}", rule.protocol_inverted ? "protocol not " : "", each.word);
  return fmt::format(" protocol{} {}", rule.protocol_inverted ? " not" : "", rule.protocol);
}

std::string interface_words(const Rule& rule) {
  if (rule.interface.empty()) return "";
  std::string name;
  for (char c : rule.interface) {
    if (c == '\\' || c == '*') name += '\\';
    name += c;
  }
  if (name == "not") name = "\\not";
  return fmt::format(" on{} {}{}", rule.interface_inverted ? " not" : "", name,
                     rule.any_suffix ? "*" : "");
}

std::string asked_words(const char* word, Asked asked) {
  if (asked == Asked::either) return "";
  return fmt::format(" {}{}", asked == Asked::no ? "no-" : "", word);
}

}  // namespace

Result<Rule> rule_from_text(const std::string& text) {
  Words words(text);
  if (!words.are_left()) return error("An empty rule says nothing; leave it out.");
  Rule rule;
  if (Status status = read_target(words, rule); !status) return status.error();
  std::set<std::string> said, slots;
  while (words.are_left()) {
    const std::string key = words.take();
    if (!slots.insert(slot_of(key)).second)
      return error("\"{}\" is said twice, or beside what excludes it.", key);
    said.insert(key);
    if (Status status = read_word(key, words, rule); !status) return status.error();
  }
  if (Status status = check_together(rule, said); !status) return status.error();
  return rule;
}

std::string words_of(const Rule& rule) {
  const auto* const target =
      std::find_if(std::begin(kTargets), std::end(kTargets),
                   [&](const TargetWord& each) { return each.target == rule.target; });
  std::string text = target == std::end(kTargets) ? "count" : target->word;
  if (rule.target == RuleTarget::chain) text += " " + rule.chain;
  if (rule.redirect_port != 0) text += fmt::format(" to-port {}", rule.redirect_port);
  const bool is_icmp = rule.protocol == kProtocolIcmp && !rule.protocol_inverted;
  text += protocol_words(rule);
  text += network_words("from", rule.source);
  text += range_words(is_icmp ? "type" : "from-port", rule.source_ports);
  text += network_words("to", rule.destination);
  text += range_words(is_icmp ? "code" : "port", rule.destination_ports);
  text += asked_words("syn", rule.syn);
  text += asked_words("later-fragment", rule.later_fragment);
  text += interface_words(rule);
  if (rule.tos_and != 0xff || rule.tos_xor != 0)
    text += fmt::format(" tos 0x{:02x}/0x{:02x}", rule.tos_and, rule.tos_xor);
  if (rule.mark_change != MarkChange::none)
    text += fmt::format(" mark {}{}", rule.mark_change == MarkChange::add ? "+" : "", rule.mark);
  if (rule.copies) text += " copy";
  if (rule.copies && rule.copy_most != 0xffff) text += fmt::format(" {}", rule.copy_most);
  if (rule.log) text += " log";
  return text;
}

std::string policy_word(RuleTarget policy) {
  for (const TargetWord& each : kTargets)
    if (each.target == policy) return each.word;
  return "-";
}

std::optional<RuleTarget> policy_from_word(const std::string& word) {
  for (const char* policy : {"allow", "deny", "reject", "masquerade"})
    for (const TargetWord& each : kTargets)
      if (word == policy && word == each.word) return each.target;
  return std::nullopt;
}

namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

// A name as a key: bare where TOML lets it be.
std::string key_of(const std::string& name) {
  const bool bare = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
  return bare ? name : quoted(name);
}

}  // namespace

std::string rules_to_toml(const RuleSet& rules) {
  std::string text;
  for (std::size_t place = 0; place < rules.chains().size(); ++place) {
    const Chain& chain = rules.chains()[place];
    text += fmt::format("{}[rules.{}]\n", place == 0 ? "" : "\n", key_of(chain.name));
    if (place < kBuiltInChains) text += fmt::format("policy = \"{}\"\n", policy_word(chain.policy));
    if (!chain.rules.empty()) text += "rules = [\n";
    for (const Rule& rule : chain.rules) text += fmt::format("  {},\n", quoted(words_of(rule)));
    if (!chain.rules.empty()) text += "]\n";
  }
  return text;
}

std::string fault_sentence(RuleFault fault, const std::string& chain, const Rule& rule) {
  switch (fault) {
    case RuleFault::none:
      return "";
    case RuleFault::no_target:
      return fmt::format("There is no chain {} to jump to; [rules.{}] makes it.", rule.chain,
                         rule.chain);
    case RuleFault::bad_target:
      return rule.target == RuleTarget::masquerade
                 ? fmt::format(
                       "\"masquerade\" can stand in forward and in chains of your own, and "
                       "not in {}.",
                       chain)
                 : fmt::format(
                       "\"{}\" can stand in input and in chains of your own, and not in "
                       "{}.",
                       policy_word(rule.target), chain);
    case RuleFault::bad_name:
      return fmt::format(
          "A chain cannot have the name \"{}\": 1 to {} characters without blanks, "
          "not beginning with - or !, and no target of ipchains.",
          chain, kChainNameMost);
    case RuleFault::bad_policy:
      return fmt::format("The policy of {} must be \"allow\", \"deny\" or \"reject\"{}.", chain,
                         chain == "forward" ? ", or \"masquerade\"" : "");
    case RuleFault::too_many:
      return fmt::format("There are more than {} rules and chains together.", kRuleSlotsMax);
    default:
      return fmt::format("The rule \"{}\" asks for what no packet has.", words_of(rule));
  }
}

}  // namespace masq
