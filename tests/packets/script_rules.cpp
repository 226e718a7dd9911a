// Writing the half of the rules that is not in force, as the gateway does it.
#include "packets/script_rules.h"

#include <algorithm>
#include <cstring>

#include "compat/ipmasqadm.h"
#include "core/forwards.h"
#include "core/judge.h"
#include "unit/few_names.h"

namespace masq::test {
namespace {

class OldForwards final : public ForwardWorld {
 public:
  explicit OldForwards(Forwards& forwards) : forwards_(forwards) {}
  const Names& names() const override { return names_; }
  Result<Forwards> load_forwards() override { return forwards_; }
  Status store_forwards(const Forwards& forwards) override {
    forwards_ = forwards;
    return Done{};
  }
  Result<MasqueradeEntry> find_entry(const MasqueradeEntry&) override { return error("No entry."); }
  Status make_entry(const MasqueradeEntry&) override { return error("No entry."); }
  Status remove_entry(const MasqueradeEntry&) override { return error("No entry."); }
  Status set_entry_timeout(const MasqueradeEntry&, u32) override { return error("No entry."); }

 private:
  Forwards& forwards_;
  FewNames names_;
};

}  // namespace

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

void ScriptForwards::change(const std::vector<std::string>& words) {
  const std::vector<std::string> rest(words.begin() + !words.empty(), words.end());
  const std::string what = words.empty() ? "" : words[0];
  if (what == "add") {
    Result<Forward> forward = forward_from_words(rest);
    if (!forward) throw TextError{forward.error().sentence};
    if (Result<u16> place = add_forward(forwards_, *forward); !place)
      throw TextError{place.error().sentence};
  } else if (what == "remove" && rest.size() == 1) {
    const Status status = remove_forward(forwards_, static_cast<u16>(std::stoul(rest[0])));
    if (!status) throw TextError{status.error().sentence};
  } else {
    throw TextError{"forward add ... or forward remove NUMBER"};
  }
  generation_ += 1;
}

// What only the old commands can say: marks, and forwards that inner hosts open.
void ScriptForwards::change_by_ipmasqadm(const std::vector<std::string>& words) {
  OldForwards world(forwards_);
  const CommandResult result = run_ipmasqadm(words, world);
  if (result.exit_code != 0) throw TextError{result.err};
  generation_ += 1;
}

void ScriptForwards::install(Gateway& gateway) const {
  ForwardMemory& memory = *gateway.tables().forwards;
  ForwardTable& table = memory.halves[generation_ % kForwardHalves];
  if (Status status = compile_forwards(forwards_, generation_, table); !status)
    throw TextError{status.error().sentence};
  for (const Forward& each : forwards_.list) {
    ForwardState& state = memory.states[each.place];
    const u64 asked = state.asked;
    const Ticks seen = state.seen;
    state = state_of(each);
    state.asked = asked;
    state.seen = seen;
  }
  gateway.settings().forwards_control = table.controls;
  gateway.settings().forwards_generation = generation_;
}

}  // namespace masq::test
