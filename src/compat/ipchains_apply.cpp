// The commands of ipchains that change rules, one after another on a copy.
#include "compat/ipchains_apply.h"

#include <algorithm>

namespace masq {
namespace {

Rule mirrored(const Rule& rule) {
  Rule other = rule;
  std::swap(other.source, other.destination);
  if (rule.protocol != kProtocolIcmp) std::swap(other.source_ports, other.destination_ports);
  return other;
}

template <class Change>
RuleFault for_each_rule(const ChainsRequest& request, Change change) {
  for (const Rule& rule : rules_of(request)) {
    const RuleFault fault = change(rule);
    if (fault != RuleFault::none) return fault;
  }
  return RuleFault::none;
}

template <class Change>
RuleFault for_each_chain(const ChainsRequest& request, const RuleSet& rules, Change change) {
  if (!request.chain.empty()) return change(request.chain);
  std::vector<std::string> names;
  for (const Chain& chain : rules.chains()) names.push_back(chain.name);
  for (const std::string& name : names) {
    const RuleFault fault = change(name);
    if (fault != RuleFault::none) return fault;
  }
  return RuleFault::none;
}

// All of the administrator's chains: each must be empty, and none of the built-in ones may lead
// there. So no rule leads to any.
RuleFault destroy_all(RuleSet& rules) {
  while (rules.chains().size() > kBuiltInChains) {
    const std::string last = rules.chains().back().name;
    const RuleFault fault = rules.destroy(last);
    if (fault != RuleFault::none) return fault;
  }
  return RuleFault::none;
}

RuleFault change(const ChainsRequest& request, RuleSet& rules) {
  const std::string& chain = request.chain;
  switch (request.command) {
    case ChainsCommand::append:
      return for_each_rule(request, [&](const Rule& rule) { return rules.append(chain, rule); });
    case ChainsCommand::insert:
      return for_each_rule(request, [&](const Rule& rule) {
        return rules.insert(chain, request.number.value_or(1), rule);
      });
    case ChainsCommand::replace:
      return rules.replace(chain, *request.number, rules_of(request)[0]);
    case ChainsCommand::remove:
      if (request.number) return rules.remove(chain, *request.number);
      return for_each_rule(request, [&](const Rule& rule) { return rules.remove(chain, rule); });
    case ChainsCommand::flush:
      return for_each_chain(request, rules,
                            [&](const std::string& name) { return rules.flush(name); });
    case ChainsCommand::list:
    case ChainsCommand::zero:
      return for_each_chain(request, rules,
                            [&](const std::string& name) { return rules.clear_counters(name); });
    case ChainsCommand::create:
      return rules.create(chain);
    case ChainsCommand::destroy:
      return chain.empty() ? destroy_all(rules) : rules.destroy(chain);
    case ChainsCommand::policy:
      return rules.set_policy(chain, request.policy);
    default:
      return RuleFault::none;
  }
}

}  // namespace

std::vector<Rule> rules_of(const ChainsRequest& request) {
  std::vector<Rule> rules;
  for (const Ipv4 source : request.sources.addresses)
    for (const Ipv4 destination : request.destinations.addresses) {
      Rule rule = request.rule;
      rule.source.address = source;
      rule.source.mask = request.sources.mask;
      rule.destination.address = destination;
      rule.destination.mask = request.destinations.mask;
      rules.push_back(rule);
      if (request.both_ways) rules.push_back(mirrored(rule));
    }
  return rules;
}

Status apply_chains_request(const ChainsRequest& request, RuleSet& rules) {
  RuleSet changed = rules;
  const RuleFault fault = change(request, changed);
  if (fault != RuleFault::none) return Error{chains_fault_sentence(fault)};
  rules = std::move(changed);
  return Done{};
}

std::string chains_fault_sentence(RuleFault fault) {
  switch (fault) {
    case RuleFault::none:
      return "";
    case RuleFault::no_chain:
      return "No chain by that name";
    case RuleFault::no_target:
      return "No target by that name";
    case RuleFault::chain_exists:
      return "Chain already exists";
    case RuleFault::chain_not_empty:
      return "Chain is not empty";
    case RuleFault::chain_in_use:
      return "Chain is in use (a rule leads there; delete that first)";
    case RuleFault::built_in:
      return "Only chains of your own can be deleted, and only the others have a policy";
    case RuleFault::bad_name:
      return "No chain can have that name (1 to 8 characters, no blanks, not the name of a target)";
    case RuleFault::bad_policy:
      return "No such policy for that chain (MASQ is one of forward only)";
    case RuleFault::bad_target:
      return "That target cannot stand in that chain (MASQ: forward, REDIRECT: input)";
    case RuleFault::bad_match:
      return "bad arguments (what the rule asks for does not go together)";
    case RuleFault::no_rule:
      return "bad rule (does a matching rule exist in that chain?)";
    case RuleFault::too_many:
      return fmt::format("Too many rules and chains (there can be {})", kRuleSlotsMax);
  }
  return "";
}

}  // namespace masq
