// Writing the half of the rules that is not in force, as the gateway does it.
#include "packets/script_rules.h"

#include <algorithm>
#include <cstring>

#include "core/judge.h"

namespace masq::test {

void ScriptRules::change(const std::vector<std::string>& words) {
  const CommandResult result = run_ipchains(words, world_);
  if (result.exit_code != 0) throw TextError{result.err};
  generation_ += 1;
}

void ScriptRules::set_forwarding(bool on) {
  closed_ = !on;
  generation_ += 1;
}

void ScriptRules::install(Gateway& gateway, const std::vector<RuleInterface>& interfaces) const {
  const CompiledRules compiled = compile_rules(world_.rules, interfaces);
  const Tables& tables = gateway.tables();
  RuleHalf& half = tables.rules->halves[generation_ & 1];
  std::memset(&half, 0, sizeof half);
  std::copy(compiled.starts.begin(), compiled.starts.end(), half.starts);
  half.asks_for_syn = compiled.asks_for_syn;
  half.closed = closed_;
  std::copy(compiled.slots.begin(), compiled.slots.end(), half.slots);
  std::memset(tables.paths->halves[generation_ & 1], 0, sizeof tables.paths->halves[0]);
  gateway.settings().rules_generation = generation_;
}

}  // namespace masq::test
