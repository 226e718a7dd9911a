// Changing the rule chains, and making of them what the core walks. Every change is checked before
// anything is touched, so that a fault leaves the set as it was.
#include "policy/rules.h"

#include <algorithm>
#include <map>

namespace masq {
namespace {

const char* const kBuiltInNames[kBuiltInChains] = {"input", "forward", "output"};

// Words that a command reads as something else than the name of a chain.
const char* const kTargetWords[] = {"ACCEPT", "DENY", "REJECT", "MASQ", "REDIRECT", "RETURN"};

bool is_plain_text(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

bool is_chain_name(const std::string& name) {
  return !name.empty() && name.size() <= kChainNameMost && is_plain_text(name) && name[0] != '-' &&
         name[0] != '!' &&
         std::none_of(std::begin(kTargetWords), std::end(kTargetWords),
                      [&](const char* word) { return name == word; });
}

template <class Chains>
auto find_chain(Chains& chains, const std::string& name) {
  auto found = std::find_if(chains.begin(), chains.end(),
                            [&](const Chain& chain) { return chain.name == name; });
  return found == chains.end() ? nullptr : &*found;
}

bool is_policy(u32 place, RuleTarget target) {
  if (target == RuleTarget::masquerade) return place == kChainForward;
  return target == RuleTarget::accept || target == RuleTarget::deny || target == RuleTarget::reject;
}

bool ports_of_that(const Rule& rule) {
  return !rule.protocol_inverted &&
         (rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp);
}

// Whether the rule can stand in the chain at that place.
RuleFault check(const std::vector<Chain>& chains, std::size_t place, const Rule& rule) {
  if (!rule.is_sound()) return RuleFault::bad_match;
  if (rule.target == RuleTarget::loop || rule.target >= RuleTarget::count)
    return RuleFault::bad_target;
  if (rule.target == RuleTarget::chain) {
    const Chain* to = find_chain(chains, rule.chain);
    const bool there = to != nullptr && to - chains.data() >= kBuiltInChains;
    return there ? RuleFault::none : RuleFault::no_target;
  }
  const bool is_user = place >= kBuiltInChains;
  if (rule.target == RuleTarget::masquerade && !is_user && place != kChainForward)
    return RuleFault::bad_target;
  if (rule.target == RuleTarget::redirect && !is_user && place != kChainInput)
    return RuleFault::bad_target;
  return RuleFault::none;
}

bool fits_name(const Rule& rule, const std::string& name) {
  return rule.any_suffix ? name.compare(0, rule.interface.size(), rule.interface) == 0
                         : name == rule.interface;
}

void set_interfaces(RuleSlot& slot, const Rule& rule, const std::vector<RuleInterface>& all) {
  slot.interfaces = 0;
  if (rule.interface.empty()) {
    slot.inverted |= kRuleNotInterface;
    return;
  }
  for (const RuleInterface& each : all)
    if (each.bit < kRuleInterfacesMax && fits_name(rule, each.name))
      slot.interfaces |= 1u << each.bit;
  if (rule.interface_inverted) slot.inverted |= kRuleNotInterface;
}

void set_ports(RuleSlot& slot, const Rule& rule) {
  slot.source_first = rule.source_ports.first;
  slot.source_last = rule.source_ports.last;
  slot.destination_first = rule.destination_ports.first;
  slot.destination_last = rule.destination_ports.last;
  if (rule.source_ports.inverted) slot.inverted |= kRuleNotSourcePorts;
  if (rule.destination_ports.inverted) slot.inverted |= kRuleNotDestinationPorts;
  if (!rule.source_ports.is_any() || !rule.destination_ports.is_any()) slot.needs |= kRulePorts;
}

void set_needs(RuleSlot& slot, const Rule& rule) {
  if (rule.syn == Asked::yes) slot.needs |= kRuleSyn;
  if (rule.syn == Asked::no) slot.needs |= kRuleNoSyn;
  if (rule.later_fragment == Asked::yes) slot.needs |= kRuleLater;
  if (rule.later_fragment == Asked::no) slot.needs |= kRuleNotLater;
}

void set_deeds(RuleSlot& slot, const Rule& rule) {
  if (rule.log) slot.does |= kRuleLogs;
  if (rule.mark_change != MarkChange::none) slot.does |= kRuleMarks;
  if (rule.mark_change == MarkChange::add) slot.does |= kRuleAddsToMark;
  if (rule.copies) slot.does |= kRuleCopies;
  slot.mark = rule.mark;
  slot.copy_most = rule.copies ? rule.copy_most : u16{0};
  slot.tos_and = rule.tos_and;
  slot.tos_xor = rule.tos_xor;
}

// `end` is the chain's last slot; `starts` are the first slots of all chains.
RuleSlot slot_of(const Rule& rule, u16 end, const std::map<std::string, u16>& starts,
                 const std::vector<RuleInterface>& interfaces) {
  RuleSlot slot{};
  slot.source = Ipv4{rule.source.address.be & rule.source.mask.be};
  slot.source_mask = rule.source.mask;
  slot.destination = Ipv4{rule.destination.address.be & rule.destination.mask.be};
  slot.destination_mask = rule.destination.mask;
  slot.protocol = rule.protocol;
  if (rule.source.inverted) slot.inverted |= kRuleNotSource;
  if (rule.destination.inverted) slot.inverted |= kRuleNotDestination;
  if (rule.protocol_inverted) slot.inverted |= kRuleNotProtocol;
  set_interfaces(slot, rule, interfaces);
  set_ports(slot, rule);
  set_needs(slot, rule);
  set_deeds(slot, rule);
  slot.target = rule.target;
  if (rule.target == RuleTarget::chain) slot.to = starts.at(rule.chain);
  if (rule.target == RuleTarget::redirect) slot.to = rule.redirect_port;
  if (rule.target == RuleTarget::go_back) slot.to = end;
  return slot;
}

RuleSlot end_slot(const Chain& chain, bool built_in, u16 here) {
  RuleSlot slot{};
  slot.inverted = kRuleNotInterface;
  slot.tos_and = 0xff;
  slot.target = chain.policy;
  if (built_in) slot.does = kRuleStops;
  if (!built_in) slot.to = here;
  return slot;
}

}  // namespace

const char* policy_name(RuleTarget policy) {
  switch (policy) {
    case RuleTarget::accept:
      return "ACCEPT";
    case RuleTarget::deny:
      return "DENY";
    case RuleTarget::reject:
      return "REJECT";
    case RuleTarget::masquerade:
      return "MASQ";
    case RuleTarget::redirect:
      return "REDIRECT";
    case RuleTarget::go_back:
      return "RETURN";
    default:
      return "-";
  }
}

bool Rule::same_rule(const Rule& other) const {
  return source == other.source && destination == other.destination &&
         source_ports == other.source_ports && destination_ports == other.destination_ports &&
         interface == other.interface && any_suffix == other.any_suffix &&
         interface_inverted == other.interface_inverted && protocol == other.protocol &&
         protocol_inverted == other.protocol_inverted && syn == other.syn &&
         later_fragment == other.later_fragment && log == other.log && tos_and == other.tos_and &&
         tos_xor == other.tos_xor && copies == other.copies &&
         (!copies || copy_most == other.copy_most) && target == other.target &&
         chain == other.chain && redirect_port == other.redirect_port;
}

bool Rule::is_sound() const {
  const bool has_ports = !source_ports.is_any() || !destination_ports.is_any();
  const bool is_icmp = protocol == kProtocolIcmp && !protocol_inverted;
  if (interface.size() > kInterfaceNameMost || !is_plain_text(interface)) return false;
  if (interface.empty() && (any_suffix || interface_inverted)) return false;
  if (protocol == 0 && protocol_inverted) return false;
  if (source_ports.first > source_ports.last) return false;
  if (destination_ports.first > destination_ports.last) return false;
  if (has_ports && !ports_of_that(*this) && !is_icmp) return false;
  if (syn != Asked::either && (protocol != kProtocolTcp || protocol_inverted)) return false;
  if (later_fragment == Asked::yes && (has_ports || syn != Asked::either)) return false;
  if (target == RuleTarget::redirect && !ports_of_that(*this)) return false;
  return (target == RuleTarget::chain) != chain.empty();
}

RuleSet RuleSet::empty() {
  RuleSet set;
  for (const char* name : kBuiltInNames) {
    set.chains_.emplace_back();
    set.chains_.back().name = name;
    set.chains_.back().policy = RuleTarget::accept;
  }
  return set;
}

RuleSet RuleSet::plain() {
  RuleSet set = empty();
  set.chains_[kChainForward].policy = RuleTarget::masquerade;
  return set;
}

const Chain* RuleSet::find(const std::string& name) const {
  return find_chain(chains_, name);
}

u32 RuleSet::references(const std::string& name) const {
  u32 references = 0;
  for (const Chain& chain : chains_)
    for (const Rule& rule : chain.rules)
      references += rule.target == RuleTarget::chain && rule.chain == name;
  return references;
}

bool RuleSet::is_plain() const {
  const RuleSet other = plain();
  return chains_.size() == other.chains_.size() &&
         std::equal(chains_.begin(), chains_.end(), other.chains_.begin(),
                    [](const Chain& a, const Chain& b) {
                      return a.policy == b.policy && a.rules.empty() && b.rules.empty();
                    });
}

std::size_t RuleSet::slots() const {
  std::size_t slots = chains_.size();
  for (const Chain& chain : chains_) slots += chain.rules.size();
  return slots;
}

RuleFault RuleSet::append(const std::string& chain, const Rule& rule) {
  const Chain* to = find(chain);
  if (to == nullptr) return RuleFault::no_chain;
  return insert(chain, static_cast<u32>(to->rules.size() + 1), rule);
}

RuleFault RuleSet::insert(const std::string& chain, u32 number, const Rule& rule) {
  Chain* to = find_chain(chains_, chain);
  if (to == nullptr) return RuleFault::no_chain;
  if (number == 0 || number > to->rules.size() + 1) return RuleFault::no_rule;
  if (slots() >= kRuleSlotsMax) return RuleFault::too_many;
  const RuleFault fault = check(chains_, static_cast<std::size_t>(to - chains_.data()), rule);
  if (fault != RuleFault::none) return fault;
  to->rules.insert(to->rules.begin() + (number - 1), rule);
  return RuleFault::none;
}

RuleFault RuleSet::replace(const std::string& chain, u32 number, const Rule& rule) {
  Chain* to = find_chain(chains_, chain);
  if (to == nullptr) return RuleFault::no_chain;
  if (number == 0 || number > to->rules.size()) return RuleFault::no_rule;
  const RuleFault fault = check(chains_, static_cast<std::size_t>(to - chains_.data()), rule);
  if (fault == RuleFault::none) to->rules[number - 1] = rule;
  return fault;
}

RuleFault RuleSet::remove(const std::string& chain, u32 number) {
  Chain* from = find_chain(chains_, chain);
  if (from == nullptr) return RuleFault::no_chain;
  if (number == 0 || number > from->rules.size()) return RuleFault::no_rule;
  from->rules.erase(from->rules.begin() + (number - 1));
  return RuleFault::none;
}

RuleFault RuleSet::remove(const std::string& chain, const Rule& rule) {
  Chain* from = find_chain(chains_, chain);
  if (from == nullptr) return RuleFault::no_chain;
  const auto found = std::find_if(from->rules.begin(), from->rules.end(),
                                  [&](const Rule& each) { return each.same_rule(rule); });
  if (found == from->rules.end()) return RuleFault::no_rule;
  from->rules.erase(found);
  return RuleFault::none;
}

RuleFault RuleSet::flush(const std::string& chain) {
  Chain* from = find_chain(chains_, chain);
  if (from == nullptr) return RuleFault::no_chain;
  from->rules.clear();
  return RuleFault::none;
}

RuleFault RuleSet::create(const std::string& chain) {
  if (!is_chain_name(chain)) return RuleFault::bad_name;
  if (find(chain) != nullptr) return RuleFault::chain_exists;
  if (slots() >= kRuleSlotsMax) return RuleFault::too_many;
  chains_.emplace_back();
  chains_.back().name = chain;
  return RuleFault::none;
}

RuleFault RuleSet::destroy(const std::string& chain) {
  Chain* gone = find_chain(chains_, chain);
  if (gone == nullptr) return RuleFault::no_chain;
  if (gone - chains_.data() < kBuiltInChains) return RuleFault::built_in;
  if (!gone->rules.empty()) return RuleFault::chain_not_empty;
  if (references(chain) != 0) return RuleFault::chain_in_use;
  chains_.erase(chains_.begin() + (gone - chains_.data()));
  return RuleFault::none;
}

RuleFault RuleSet::set_policy(const std::string& chain, RuleTarget policy) {
  Chain* of = find_chain(chains_, chain);
  if (of == nullptr) return RuleFault::no_chain;
  const auto place = of - chains_.data();
  if (place >= kBuiltInChains) return RuleFault::built_in;
  if (!is_policy(static_cast<u32>(place), policy)) return RuleFault::bad_policy;
  of->policy = policy;
  return RuleFault::none;
}

RuleFault RuleSet::clear_counters(const std::string& chain) {
  Chain* of = find_chain(chains_, chain);
  if (of == nullptr) return RuleFault::no_chain;
  of->packets = of->bytes = 0;
  for (Rule& rule : of->rules) rule.packets = rule.bytes = 0;
  return RuleFault::none;
}

void RuleSet::count(std::size_t chain, std::size_t rule, u64 packets, u64 bytes) {
  if (chain >= chains_.size() || rule > chains_[chain].rules.size()) return;
  Chain& to = chains_[chain];
  u64& of_packets = rule < to.rules.size() ? to.rules[rule].packets : to.packets;
  u64& of_bytes = rule < to.rules.size() ? to.rules[rule].bytes : to.bytes;
  of_packets += packets;
  of_bytes += bytes;
}

CompiledRules compile_rules(const RuleSet& rules, const std::vector<RuleInterface>& interfaces) {
  CompiledRules out;
  std::map<std::string, u16> starts;
  std::size_t next = 0;
  for (const Chain& chain : rules.chains()) {
    starts[chain.name] = static_cast<u16>(next);
    next += chain.rules.size() + 1;
  }
  out.slots.reserve(next);
  out.origins.reserve(next);
  for (std::size_t place = 0; place < rules.chains().size(); ++place) {
    const Chain& chain = rules.chains()[place];
    const bool built_in = place < kBuiltInChains;
    if (built_in) out.starts[place] = starts.at(chain.name);
    const auto end = static_cast<u16>(starts.at(chain.name) + chain.rules.size());
    for (const Rule& rule : chain.rules) {
      out.slots.push_back(slot_of(rule, end, starts, interfaces));
      out.asks_for_syn |= rule.syn != Asked::either;
    }
    out.slots.push_back(end_slot(chain, built_in, end));
    for (std::size_t rule = 0; rule <= chain.rules.size(); ++rule)
      out.origins.push_back({static_cast<u16>(place), static_cast<u16>(rule)});
  }
  return out;
}

}  // namespace masq
