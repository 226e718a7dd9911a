// The rule set that is in force, and changing it. Commands and masqd do it alike, without each
// other: whoever changes rules holds rules.lock in the run folder, and writes the datapath's other
// half (core/judge.h) itself. A change is in force for every packet from one moment on, or not at
// all.
//
// With the rules go the switches of the gateway (ip_forward and others), which a script of the 2.2
// time sets together with them.
//
//   rules.json   the rules by name with what they have counted, the switches, and the generation
//                that they are installed as. Written before the datapath is: whoever finds another
//                generation in force (somebody was killed in between) installs these.
//   rules.lock   held while rules are changed
//
// Counts of the generation in force are in the datapath; `load_rules` adds them. They go to
// rules.json with the next change. Limits: what is counted in the milliseconds between reading the
// counts and switching is lost; killed in between, a change loses all since the one before.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "gateway/any_datapath.h"
#include "gateway/fd.h"
#include "policy/config.h"
#include "policy/rules.h"

namespace masq {

inline constexpr const char* kForwardingSwitch = "net/ipv4/ip_forward";
inline constexpr const char* kUdpLooseSwitch = "net/ipv4/ip_masq_udp_dloose";

struct KeptRules {
  RuleSet rules;
  u32 generation = 0;  // 0: they are not installed
  // By their paths below /proc/sys. What nobody has set is not there, and forwarding is on.
  std::map<std::string, std::string> switches;
  std::string modules;  // what scripts have loaded, as compat/old_modules.h has it
  // The rules of the configuration that were put in force last (rules_text); what has been changed
  // by hand since then stays until the configuration has others.
  std::string configured = "";

  bool forwards() const {
    const auto at = switches.find(kForwardingSwitch);
    return at == switches.end() || at->second != "0";
  }
};

// Do these ask for something that is not there yet? Then a sentence says what.
Status check_targets(const RuleSet& rules);

// The same of a configuration, rule by rule: what is wrong becomes a mistake with its line.
void add_target_mistakes(ParsedConfig& parsed);

// The gateway's interfaces, as rules name them.
std::vector<RuleInterface> rule_interfaces(const AnyDatapath& datapath);
// What the core walks, but the names of the rules; `half` is all zero before.
void fill_half(const CompiledRules& compiled, bool forwards, RuleHalf& half);

// Rules as they are kept, with what the datapath has counted meanwhile; without a datapath as they
// are kept. None kept: RuleSet::plain().
Result<KeptRules> load_rules(const AnyDatapath* datapath);

// A change: others wait from `begin` until it is gone. Without a datapath what is stored waits for
// `masq up`.
class RuleChange {
 public:
  static Result<RuleChange> begin(AnyDatapath* datapath);

  const KeptRules& kept() const { return kept_; }
  const RuleSet& rules() const { return kept_.rules; }
  // Puts these in force, or leaves everything as it was.
  Status store(const RuleSet& rules);
  // Likewise with switches and modules; the generation is of no account.
  Status store(KeptRules wanted);

 private:
  RuleChange(Fd lock, KeptRules kept, AnyDatapath* datapath)
      : lock_(std::move(lock)), kept_(std::move(kept)), datapath_(datapath) {}

  Fd lock_;
  KeptRules kept_;
  AnyDatapath* datapath_;
};

// For a masqd that begins, before keep_rules: keeps the rules of the configuration for it, if they
// are not those that the configuration had before; without any, the plain ones.
Status replace_configured_rules(const Config& config);

// For masqd: installs what is kept if other rules are in force, or if an interface has come or gone
// that they name. Nothing kept changes nothing.
Status keep_rules(AnyDatapath& datapath);

}  // namespace masq
