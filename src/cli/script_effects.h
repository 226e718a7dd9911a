// What a script of rules would have done (compat/run_script.h), as what is to be in force, and in
// sentences for people: for each thing that masq does otherwise than the script may expect, a line.
#pragma once

#include "compat/run_script.h"
#include "core/settings.h"
#include "gateway/rule_keeper.h"
#include "policy/forwards.h"

namespace masq {

struct Wanted {
  KeptRules kept;  // rules, the switches of the gateway, modules
  StagedTimeouts timeouts;
  std::optional<Forwards> forwards;
  std::vector<SwitchChange> machine;  // the real ones of /proc/sys
};

// `before`: how things were when the script began.
Result<Wanted> wanted_of(const ScriptEffects& effects, const KeptRules& before);

// Linux 2.2 gave inner hosts these external ports, and scripts let in answers to no others.
inline constexpr PortRange kOldExternalPorts{61000, 65095};
bool counts_on_old_ports(const RuleSet& rules);

// The sentences; some depend on what was there before.
std::vector<std::string> remarks_on(const ScriptEffects& effects, const Wanted& wanted,
                                    const KeptRules& before);

// All that would be in force, for --dry-run.
std::string wanted_text(const Wanted& wanted);

// Are they the same but for what they have counted?
bool same_rules(const KeptRules& a, const KeptRules& b);

}  // namespace masq
