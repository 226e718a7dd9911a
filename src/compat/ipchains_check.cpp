// Walking a chain for `ipchains -C`. The one interface that the packet comes in on, or leaves by,
// need not be there: it gets the first bit.
#include "compat/ipchains_check.h"

#include "compat/ipchains_apply.h"
#include "compat/ipchains_list.h"

namespace masq {
namespace {

RuleView view_of(const Rule& packet) {
  RuleView view{};
  view.source = packet.source.address;
  view.destination = packet.destination.address;
  view.interface = 1;
  view.protocol = packet.protocol;
  view.is_later = packet.later_fragment == Asked::yes;
  const bool known = packet.protocol == kProtocolTcp || packet.protocol == kProtocolUdp ||
                     packet.protocol == kProtocolIcmp;
  if (!known || view.is_later) return view;
  view.has_ports = 1;
  view.source_port = packet.source_ports.first;
  view.destination_port = packet.destination_ports.first;
  view.is_syn = packet.syn == Asked::yes;
  return view;
}

const char* verdict_words(RuleTarget target) {
  switch (target) {
    case RuleTarget::accept:
      return "accepted";
    case RuleTarget::deny:
      return "denied";
    case RuleTarget::reject:
      return "rejected";
    case RuleTarget::masquerade:
      return "masqueraded";
    case RuleTarget::redirect:
      return "redirected";
    case RuleTarget::loop:
      return "caught in loop";
    default:
      return "passed through chain";
  }
}

// Where a chain begins and ends among the slots.
struct Span {
  u16 start = 0, end = 0;
};

Span span_of(const RuleSet& rules, const std::string& name) {
  Span span;
  for (const Chain& chain : rules.chains()) {
    span.end = static_cast<u16>(span.start + chain.rules.size());
    if (chain.name == name) break;
    span.start = static_cast<u16>(span.end + 1);
  }
  return span;
}

// As rules_walk, but a chain of the administrator's can be the first one, and then has an end.
RuleTarget verdict(const CompiledRules& compiled, Span span, bool built_in, const RuleView& view) {
  RuleWalk walk{};
  walk.view = view;
  rules_begin(walk);
  rules_enter(walk, span.start);
  for (u32 steps = 0; steps < kRuleStepsMax; ++steps) {
    if (!built_in && walk.depth == 0 && walk.at == span.end) return RuleTarget::none;
    if (!rules_step(compiled.slots[walk.at], walk)) return walk.target;
  }
  return RuleTarget::loop;
}

}  // namespace

Result<std::string> check_packets(const ChainsRequest& request, const RuleSet& rules) {
  const Chain* chain = rules.find(request.chain);
  if (chain == nullptr) return Error{chains_fault_sentence(RuleFault::no_chain)};
  const CompiledRules compiled = compile_rules(rules, {{request.rule.interface, 0}});
  const Span span = span_of(rules, request.chain);
  const bool built_in = chain->policy != RuleTarget::go_back;
  std::string out;
  for (const Rule& packet : rules_of(request)) {
    if (request.verbose) out += rule_in_words(packet);
    out += fmt::format("packet {}\n",
                       verdict_words(verdict(compiled, span, built_in, view_of(packet))));
  }
  return out;
}

}  // namespace masq
