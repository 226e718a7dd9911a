// From the files of the stage to rules and switches, and to sentences.
#include "cli/script_effects.h"

#include <algorithm>

#include "compat/ipchains_save.h"

namespace masq {
namespace {

constexpr const char* kSwitchesBegin = "net/ipv4/";

std::string short_name(const std::string& name) {
  return name.starts_with(kSwitchesBegin) ? name.substr(std::string(kSwitchesBegin).size()) : name;
}

std::size_t rules_twice(const Chain& chain) {
  std::size_t found = 0;
  for (std::size_t i = 1; i < chain.rules.size(); ++i)
    found += std::any_of(chain.rules.begin(), chain.rules.begin() + static_cast<std::ptrdiff_t>(i),
                         [&](const Rule& earlier) { return earlier.same_rule(chain.rules[i]); });
  return found;
}

void add_what_is_twice(const RuleSet& rules, const RuleSet& before,
                       std::vector<std::string>& remarks) {
  for (const Chain& chain : rules.chains()) {
    const Chain* was = before.find(chain.name);
    const std::size_t twice = rules_twice(chain);
    if (was == nullptr || was->rules.empty() || twice <= rules_twice(*was)) continue;
    remarks.push_back(
        fmt::format("The chain {} has rules twice: the script does not flush it, and so adds to "
                    "what was in force; --as-at-boot begins anew.",
                    chain.name));
  }
}

// What masq does about a switch of its own.
std::string gateway_sentence(const SwitchChange& change) {
  const std::string name = short_name(change.name);
  if (change.name == kForwardingSwitch) return "";  // said for the whole
  if (name == "ip_dynaddr")
    return fmt::format(
        "ip_dynaddr {}: masq always follows its external address: what nobody has answered goes on "
        "by the new one, and open TCP connections of the old one are ended (dead_address).",
        change.value);
  if (name == "ip_masq_udp_dloose")
    return change.value == "0"
               ? "ip_masq_udp_dloose 0: only who was asked may answer to UDP."
               : fmt::format(
                     "ip_masq_udp_dloose {}: everybody may send to the UDP mappings of inner "
                     "{}.",
                     change.value, change.value == "1" ? "ports from 1024 on" : "hosts");
  return fmt::format(
      "{} {} is kept, and changes nothing: `masq status` and `masq explain` say what happens.",
      name, change.value);
}

void add_switches(const ScriptEffects& effects, std::vector<std::string>& remarks) {
  std::vector<std::string> machine;
  for (const SwitchChange& change : effects.switches) {
    if (change.known == nullptr) continue;  // report_of has said so
    const std::string name = short_name(change.name);
    std::string sentence;
    if (change.known->use == SwitchUse::machine)
      machine.push_back(fmt::format("{} {}", name, change.value));
    else if (change.known->use == SwitchUse::settled)
      sentence =
          fmt::format("{} {} changes nothing: {}.", name, change.value, change.known->meaning);
    else
      sentence = gateway_sentence(change);
    if (!sentence.empty()) remarks.push_back(sentence);
  }
  if (!machine.empty())
    remarks.push_back(fmt::format("Switches of the machine itself: {}.", fmt::join(machine, ", ")));
}

// The frame of forwards needs no word: what is forwarded has one of its own.
bool is_helper(const std::string& module) {
  return module != "ip_masq_portfw" && module != "ip_masq_autofw" && module != "ip_masq_mfw" &&
         module != "ip_masq_user";
}

void add_modules(const ScriptEffects& effects, std::vector<std::string>& remarks) {
  std::vector<std::string> helpers;
  for (const LoadedModule& module : effects.modules)
    if (is_helper(module.name)) helpers.push_back(module.name);
  if (!helpers.empty())
    remarks.push_back(fmt::format(
        "Modules {}: noted. What they did is not there yet: addresses that these protocols carry "
        "in their data stay as they are.",
        fmt::join(helpers, ", ")));
}

std::string forwards_words(const Forwards& forwards) {
  std::vector<std::string> words;
  for (const Forward& each : forwards.list) words.push_back(to_text(each));
  return fmt::format("{}", fmt::join(words, ", "));
}

RuleSet without_counters(RuleSet rules) {
  std::vector<std::string> names;
  for (const Chain& chain : rules.chains()) names.push_back(chain.name);
  for (const std::string& name : names) rules.clear_counters(name);
  return rules;
}

}  // namespace

bool counts_on_old_ports(const RuleSet& rules) {
  for (const Chain& chain : rules.chains())
    for (const Rule& rule : chain.rules) {
      const PortMatch& ports = rule.destination_ports;
      if (!ports.inverted && ports.first == kOldExternalPorts.first &&
          ports.last >= kOldExternalPorts.last)
        return true;
    }
  return false;
}

Result<Wanted> wanted_of(const ScriptEffects& effects, const KeptRules& before) {
  Wanted wanted;
  wanted.kept = before;
  if (!effects.rules.empty()) {
    Result<RuleSet> rules = rules_from_json(effects.rules);
    if (!rules) return error("The rules of the script cannot be read: {}", rules.error().sentence);
    wanted.kept.rules = *rules;
  }
  if (Status status = check_targets(wanted.kept.rules); !status) return status.error();
  Result<StagedTimeouts> timeouts = timeouts_from_json(effects.timeouts);
  if (!timeouts) return timeouts.error();
  wanted.timeouts = *timeouts;
  if (!effects.forwards.empty()) {
    Result<Forwards> forwards = forwards_from_json(effects.forwards);
    if (!forwards)
      return error("The forwards of the script cannot be read: {}", forwards.error().sentence);
    wanted.forwards = *forwards;
  }
  wanted.kept.modules = effects.modules.empty() ? "" : modules_to_json(effects.modules);
  for (const SwitchChange& change : effects.switches) {
    if (change.known == nullptr) continue;
    if (change.known->use == SwitchUse::gateway) wanted.kept.switches[change.name] = change.value;
    if (change.known->use == SwitchUse::machine) wanted.machine.push_back(change);
  }
  return wanted;
}

std::vector<std::string> remarks_on(const ScriptEffects& effects, const Wanted& wanted,
                                    const KeptRules& before) {
  std::vector<std::string> remarks;
  std::size_t rules = 0;
  std::string policies;
  for (const Chain& chain : wanted.kept.rules.chains()) {
    rules += chain.rules.size();
    if (chain.policy != RuleTarget::go_back)
      policies += fmt::format(", {} {}", chain.name, policy_name(chain.policy));
  }
  remarks.push_back(fmt::format("{} rule{} in {} chains; policies: {}.", rules,
                                rules == 1 ? "" : "s", wanted.kept.rules.chains().size(),
                                policies.substr(2)));
  add_what_is_twice(wanted.kept.rules, before.rules, remarks);
  if (!wanted.kept.forwards())
    remarks.push_back(
        "ip_forward is 0: nothing passes between inside and outside until a script writes 1 to "
        "/proc/sys/net/ipv4/ip_forward.");
  add_switches(effects, remarks);
  add_modules(effects, remarks);
  if (wanted.forwards && !wanted.forwards->list.empty())
    remarks.push_back(
        fmt::format("Forwards from outside to inner hosts: {}.", forwards_words(*wanted.forwards)));
  return remarks;
}

std::string wanted_text(const Wanted& wanted) {
  std::string ignored;
  const Result<std::string> chains = save_chains(wanted.kept.rules, "", false, ignored);
  std::string text = chains ? *chains : chains.error().sentence + "\n";
  const auto seconds = [](u32 value) {
    return value == 0 ? "as it is" : fmt::format("{} s", value);
  };
  if (wanted.timeouts.tcp_s != 0 || wanted.timeouts.tcp_fin_s != 0 || wanted.timeouts.udp_s != 0)
    text += fmt::format("timeouts: TCP {}, TCP that is ending {}, UDP {}\n",
                        seconds(wanted.timeouts.tcp_s), seconds(wanted.timeouts.tcp_fin_s),
                        seconds(wanted.timeouts.udp_s));
  for (const auto& [name, value] : wanted.kept.switches)
    text += fmt::format("{}: {}\n", short_name(name), value);
  return text;
}

bool same_rules(const KeptRules& a, const KeptRules& b) {
  return a.switches == b.switches && a.modules == b.modules &&
         rules_to_json(without_counters(a.rules)) == rules_to_json(without_counters(b.rules));
}

}  // namespace masq
