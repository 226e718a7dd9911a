// From chains to chains: which ones are needed, then rule by rule.
#include "policy/rules_nftables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

namespace masq {
namespace {

constexpr u8 kServiceBits = 0xfc;  // of the old type of service; the rest is RFC 3168's
constexpr u32 kServices = 64;

// A condition, or none; without a value nothing fits.
using Condition = std::optional<std::string>;

std::string quad(Ipv4 address) {
  const u32 a = to_host(address);
  return fmt::format("{}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

// What always or never fits.
Condition constant(bool fits) {
  return fits ? Condition("") : std::nullopt;
}

Condition address_of(const AddressMatch& match, const char* field) {
  if (match.mask.be == 0) return constant(!match.inverted);
  const u32 address = match.address.be & match.mask.be;
  return fmt::format("ip {} & {} {} {} ", field, quad(match.mask),
                     match.inverted ? "!=" : "==", quad(Ipv4{address}));
}

// A number of the transport header; see fragment_of.
Condition number_of(const PortMatch& match, const char* field, u32 most) {
  const u32 first = match.first, last = std::min<u32>(match.last, most);
  if (first > last) return constant(match.inverted);
  if (first == 0 && last == most) return constant(!match.inverted);
  const std::string range =
      first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
  return fmt::format("{} {}{} ", field, match.inverted ? "!= " : "", range);
}

class Translation {
 public:
  Translation(const RuleSet& rules, const std::vector<NftInterface>& interfaces, u32 builtin)
      : chains_(rules.chains()), interfaces_(interfaces), builtin_(builtin) {
    for (u32 i = 0; i < chains_.size(); ++i) numbers_[chains_[i].name] = i;
    find_reachable();
  }

  // A base chain with the rules of ours, behind `exceptions`.
  Status add_base(const char* name, const char* hook, int priority, const std::string& exceptions) {
    const Chain& chain = chains_[builtin_];
    const bool accepts = chain.policy == RuleTarget::accept;
    text_ += fmt::format(
        "add chain ip masq_own {} {{ type filter hook {} priority {}; policy {}; }}\n{}", name,
        hook, priority, accepts ? "accept" : "drop", exceptions);
    std::vector<u32> under_way;
    Cost cost;
    if (Status status = add_rules(name, builtin_, under_way, cost); !status) return status;
    if (cost.levels > kNftDepthMax) return too_deep();
    if (cost.steps > kRuleStepsMax)
      return error(
          "The chains lead into each other so often that one packet could pass more than {} rules; "
          "the data path user cannot have that in input and output.",
          kRuleStepsMax);
    return Done{};
  }

  // Chains first: a rule can only lead to one that is there.
  std::string text() const { return chains_text_ + text_; }

 private:
  struct Cost {
    std::size_t levels = 0;  // of chains below
    u64 steps = 0;           // at most
  };
  struct Copy {
    std::string name;
    Cost cost;
  };

  bool is_out() const { return builtin_ == kChainOutput; }

  static Status too_deep() {
    return error(
        "With the data path user no more than {} chains can lead into each other below input and "
        "output.",
        kNftDepthMax);
  }

  // Which chains a packet can come to from each.
  void find_reachable() {
    reachable_.resize(chains_.size());
    for (u32 from = 0; from < chains_.size(); ++from) {
      std::vector<u32> open{from};
      while (!open.empty()) {
        const u32 at = open.back();
        open.pop_back();
        for (const Rule& rule : chains_[at].rules)
          if (rule.target == RuleTarget::chain)
            if (const u32 to = numbers_.at(rule.chain); reachable_[from].insert(to).second)
              open.push_back(to);
      }
    }
  }

  // The copy of a chain for a packet that came by these; made if it is not there.
  Result<Copy> copy_of(u32 chain, std::vector<u32>& under_way) {
    // Only those that it could come back to make a difference.
    std::vector<u32> matter;
    for (u32 each : under_way)
      if (reachable_[chain].contains(each)) matter.push_back(each);
    std::sort(matter.begin(), matter.end());
    const auto key = std::make_pair(chain, matter);
    if (auto found = copies_.find(key); found != copies_.end()) return found->second;
    if (under_way.size() >= kNftDepthMax) return too_deep().error();
    if (copies_.size() >= kNftChainsMax)
      return error(
          "The chains below input and output lead in more circles than the data path user "
          "can have.");
    Copy copy{fmt::format("{}_{}", is_out() ? "out" : "in", copies_.size()), {}};
    copies_[key] = copy;  // holds the number; nobody comes here again before it is whole
    chains_text_ += fmt::format("add chain ip masq_own {}\n", copy.name);
    under_way.push_back(chain);
    Status status = add_rules(copy.name, chain, under_way, copy.cost);
    under_way.pop_back();
    if (!status) return status.error();
    copies_[key] = copy;
    return copy;
  }

  Status add_rules(const std::string& to, u32 number, std::vector<u32>& under_way, Cost& cost) {
    const Chain& chain = chains_[number];
    const std::size_t end = chain.rules.size();
    for (std::size_t i = 0; i < end; ++i) {
      cost.steps += 1;
      const Rule& rule = chain.rules[i];
      const Condition fits = condition_of(rule);
      if (!fits) continue;
      std::string verdict;
      if (rule.target == RuleTarget::chain) {
        const u32 target = numbers_.at(rule.chain);
        if (std::count(under_way.begin(), under_way.end(), target) != 0) {
          verdict = "drop";
        } else {
          Result<Copy> copy = copy_of(target, under_way);
          if (!copy) return copy.error();
          verdict = "jump " + copy->name;
          cost.levels = std::max(cost.levels, copy->cost.levels + 1);
          cost.steps = std::min<u64>(cost.steps + copy->cost.steps, kRuleStepsMax + 1u);
        }
      } else {
        verdict = verdict_of(rule.target);
      }
      add_rule(to, *fits, rule, verdict, place(number, i), cost);
    }
    cost.steps += 1;
    if (is_out()) add(to, "counter " + place(number, end));
    return Done{};
  }

  void add(const std::string& to, const std::string& rule) {
    text_ += fmt::format("add rule ip masq_own {} {}\n", to, rule);
  }

  static std::string place(u32 chain, std::size_t rule) {
    return fmt::format("comment \"{}.{}\"", chain, rule);
  }

  // A new type of service that depends on the old one is set by a chain of its own, before.
  void add_rule(const std::string& to, const std::string& fits, const Rule& rule,
                const std::string& verdict, const std::string& comment, Cost& cost) {
    std::string deeds = is_out() ? "counter " : "";
    const u8 keeps = rule.tos_and & kServiceBits, turns = rule.tos_xor & kServiceBits;
    const bool changes = keeps != kServiceBits || turns != 0;
    if (changes && keeps == 0) deeds += fmt::format("ip dscp set {} ", turns >> 2);
    if (changes && keeps != 0) {
      add(to, fmt::format("{}jump {}", fits, service_chain(keeps, turns)));
      cost.levels = std::max<std::size_t>(cost.levels, 1);
    }
    if (rule.mark_change == MarkChange::set) deeds += fmt::format("meta mark set {} ", rule.mark);
    if (rule.target == RuleTarget::redirect && !is_out())
      deeds = fmt::format("meta mark set {} ", kRedirectMark | rule.redirect_port);
    if (deeds.empty() && verdict.empty()) return;
    add(to, fits + deeds + verdict + (is_out() ? " " + comment : ""));
  }

  std::string service_chain(u8 keeps, u8 turns) {
    const std::string name =
        fmt::format("{}_service_{:02x}_{:02x}", is_out() ? "out" : "in", keeps, turns);
    if (!services_.insert(name).second) return name;
    chains_text_ += fmt::format("add chain ip masq_own {}\n", name);
    for (u32 before = 0; before < kServices; ++before)
      add(name, fmt::format("ip dscp {} ip dscp set {} return", before,
                            ((before << 2 & keeps) ^ turns) >> 2));
    return name;
  }

  std::string verdict_of(RuleTarget target) const {
    switch (target) {
      case RuleTarget::none:
        return "";
      case RuleTarget::accept:
        return "accept";
      case RuleTarget::redirect:
        return is_out() ? "drop" : "accept";
      case RuleTarget::go_back:
        return "return";
      default:
        return "drop";
    }
  }

  Condition condition_of(const Rule& rule) const {
    std::string all;
    const bool has_ports = !rule.source_ports.is_any() || !rule.destination_ports.is_any();
    const bool icmp = rule.protocol == kProtocolIcmp;
    const u32 most = icmp ? 0xff : 0xffff;
    for (const Condition& each :
         {address_of(rule.source, "saddr"), address_of(rule.destination, "daddr"),
          interface_of(rule), protocol_of(rule), fragment_of(rule),
          has_ports ? number_of(rule.source_ports, icmp ? "@th,0,8" : "@th,0,16", most)
                    : Condition(""),
          has_ports ? number_of(rule.destination_ports, icmp ? "@th,8,8" : "@th,16,16", most)
                    : Condition(""),
          syn_of(rule)}) {
      if (!each) return std::nullopt;
      all += *each;
    }
    return all;
  }

  Condition interface_of(const Rule& rule) const {
    if (rule.interface.empty()) return "";
    std::vector<std::string> names;
    std::vector<u32> indexes;
    bool by_name = true;
    for (const NftInterface& each : interfaces_) {
      const bool fits =
          rule.any_suffix ? each.name.starts_with(rule.interface) : each.name == rule.interface;
      if (!fits) continue;
      names.push_back(each.name);
      indexes.push_back(each.ifindex);
      by_name &= each.by_name;
    }
    if (names.empty()) return constant(rule.interface_inverted);
    return fmt::format("{}{} {}{} ", is_out() ? "oif" : "iif", by_name ? "name" : "",
                       rule.interface_inverted ? "!= " : "",
                       by_name ? fmt::format("{{ \"{}\" }}", fmt::join(names, "\", \""))
                               : fmt::format("{{ {} }}", fmt::join(indexes, ", ")));
  }

  static Condition protocol_of(const Rule& rule) {
    if (rule.protocol == 0) return "";
    return fmt::format("ip protocol {}{} ", rule.protocol_inverted ? "!= " : "", rule.protocol);
  }

  // The kernel would take the bytes of a later fragment for a transport header.
  static Condition fragment_of(const Rule& rule) {
    const bool has_header = !rule.source_ports.is_any() || !rule.destination_ports.is_any() ||
                            rule.syn != Asked::either;
    if (rule.later_fragment == Asked::yes) return "ip frag-off & 0x1fff != 0 ";
    return rule.later_fragment == Asked::no || has_header ? "ip frag-off & 0x1fff == 0 " : "";
  }

  // SYN, and neither ACK nor RST.
  static Condition syn_of(const Rule& rule) {
    if (rule.syn == Asked::either) return "";
    return fmt::format("@th,104,8 & 0x16 {} 0x02 ", rule.syn == Asked::yes ? "==" : "!=");
  }

  const std::vector<Chain>& chains_;
  const std::vector<NftInterface>& interfaces_;
  const u32 builtin_;
  std::map<std::string, u32> numbers_;
  std::vector<std::set<u32>> reachable_;
  std::map<std::pair<u32, std::vector<u32>>, Copy> copies_;
  std::set<std::string> services_;
  std::string chains_text_, text_;
};

// Conditions that a packet came in (`way` is i), or goes out (o), by none of these.
std::string by_none_of(const std::vector<NftInterface>& interfaces, char way) {
  std::string names = "\".\"", indexes = "0";  // no interface can have these
  for (const NftInterface& each : interfaces) {
    if (each.by_name) names += fmt::format(", \"{}\"", each.name);
    indexes += fmt::format(", {}", each.ifindex);
  }
  return fmt::format("{0}ifname != {{ {1} }} {0}if != {{ {2} }} ", way, names, indexes);
}

// The same the other way round, in as many rules as are needed.
std::string accept_by(const char* chain, const std::vector<NftInterface>& interfaces, char way,
                      const std::string& what) {
  std::string names = "\".\"", indexes = "0";
  for (const NftInterface& each : interfaces) {
    if (each.by_name) names += fmt::format(", \"{}\"", each.name);
    indexes += fmt::format(", {}", each.ifindex);
  }
  return fmt::format(
      "add rule ip masq_own {0} {1}ifname {{ {2} }} {4}accept\n"
      "add rule ip masq_own {0} {1}if {{ {3} }} {4}accept\n",
      chain, way, names, indexes, what);
}

bool says_nothing(const Chain& chain) {
  return chain.rules.empty() && chain.policy == RuleTarget::accept;
}

// The kernel's part in REDIRECT. It translates (just before the administrator's own rules for that,
// -100) the first packet of each connection, and knows the others by it.
std::string redirecting_chains(const RuleSet& rules) {
  std::set<u16> ports;
  for (const Chain& chain : rules.chains())
    for (const Rule& rule : chain.rules)
      if (rule.target == RuleTarget::redirect) ports.insert(rule.redirect_port);
  if (ports.empty()) return "";
  std::string text =
      "add chain ip masq_own redirecting { type nat hook prerouting priority -101; }\n"
      "add chain ip masq_own redirected { type filter hook prerouting priority -99; }\n";
  for (u16 port : ports)
    text += fmt::format(
        "add rule ip masq_own redirecting ip protocol {{ tcp, udp }} meta mark {} redirect{}\n",
        kRedirectMark | port, port == 0 ? "" : fmt::format(" to :{}", port));
  return text +
         fmt::format("add rule ip masq_own redirected meta mark & {} == {} meta mark set 0\n",
                     kRedirectMarkMask, kRedirectMark);
}

std::string table_of(u32 generation, const std::string& chains) {
  return fmt::format("add table ip masq_own\nadd chain ip masq_own {}\n",
                     nft_generation(generation)) +
         chains;
}

}  // namespace

std::string nft_generation(u32 generation) {
  return fmt::format("generation_{}", generation);
}

std::optional<SlotOrigin> place_of(const std::string& comment) {
  unsigned chain = 0, rule = 0;
  int read = 0;
  if (std::sscanf(comment.c_str(), "%u.%u%n", &chain, &rule, &read) != 2 ||
      comment.c_str()[read] != '\0' || chain > 0xffff || rule > 0xffff)
    return std::nullopt;
  return SlotOrigin{static_cast<u16>(chain), static_cast<u16>(rule)};
}

std::string redirects_to_nftables(const RuleSet& rules, u32 generation) {
  const std::string chains = redirecting_chains(rules);
  return chains.empty() ? "" : table_of(generation, chains);
}

Result<std::string> rules_to_nftables(const RuleSet& rules,
                                      const std::vector<NftInterface>& interfaces, u32 generation) {
  const auto& chains = rules.chains();
  if (says_nothing(chains[kChainInput]) && says_nothing(chains[kChainOutput])) return std::string();
  std::vector<NftInterface> bridges, outside;
  for (const NftInterface& each : interfaces) {
    if (each.bridge) bridges.push_back(each);
    if (each.outside) outside.push_back(each);
  }
  auto accept = [](const char* chain, const std::string& what) {
    return fmt::format("add rule ip masq_own {} {}accept\n", chain, what);
  };
  const std::string redirecting = redirecting_chains(rules);
  if (!redirecting.empty() && !bridges.empty())
    return error("With the data path user, what comes by a bridge ({}) cannot be redirected.",
                 bridges.front().name);
  Translation in(rules, interfaces, kChainInput), out(rules, interfaces, kChainOutput);
  std::string exceptions = accept("prerouting", by_none_of(interfaces, 'i'));
  if (!bridges.empty()) exceptions += accept_by("prerouting", bridges, 'i', "");
  if (Status status = in.add_base("prerouting", "prerouting", -451, exceptions); !status)
    return status.error();
  if (!bridges.empty()) {
    exceptions = accept("input", by_none_of(bridges, 'i'));
    if (Status status = in.add_base("input", "input", -299, exceptions); !status)
      return status.error();
    // Not what is carried from port to port; the guard has the rest between interfaces of ours.
    exceptions =
        accept("forward", by_none_of(bridges, 'i')) + accept_by("forward", interfaces, 'o', "");
    if (Status status = in.add_base("forward", "forward", -299, exceptions); !status)
      return status.error();
  }
  // What the gateway sends is from an address of its own, or from 0.0.0.0 ("broadcast") while it
  // has none and asks for one (RFC 2131). That may always leave.
  exceptions = accept("postrouting", by_none_of(interfaces, 'o')) +
               accept("postrouting", "fib saddr type != { local, broadcast } ") +
               accept_by("postrouting", outside, 'o',
                         "ip saddr 0.0.0.0 ip daddr 255.255.255.255 ip protocol 17 ");
  if (Status status = out.add_base("postrouting", "postrouting", 200, exceptions); !status)
    return status.error();
  return table_of(generation, in.text() + out.text() + redirecting);
}

}  // namespace masq
