// What a configuration would change in the gateway that runs here, and putting that in force.
//
// A configuration counts as a whole: what it does not name gets its default. Interfaces, datapath,
// flows_max and external_ports that it does not name stay as they are, since nobody loses an
// interface by not naming it. Rules that it does not have stay if commands have made them, and go
// if an earlier configuration has.
//
// Keys differ in what a change takes: `live` is in force at the next packet of each flow; `restart`
// needs a new masqd, which takes the running gateway over; `down` needs an end of all flows.
//
// Applying is all or nothing, in this order: locks of rules and forwards; everything that can be
// refused is tried; the configuration in the run folder; forwards; rules with one switch; timers
// and limits, which cannot fail. What fails puts back what came before it. Killed in between, rules
// and forwards are each the old or the new ones, and the next masqd puts in force what the
// configuration in the run folder says.
#pragma once

#include <string>
#include <vector>

#include "gateway/forward_keeper.h"
#include "gateway/rule_keeper.h"
#include "policy/config.h"

namespace masq {

enum class KeyNeeds : u8 { live, restart, down };

struct KeyChange {
  std::string key, before, after;
  KeyNeeds needs;
};

// A line of a difference: of a chain, or of the forwards.
struct LineChange {
  std::string chain;  // empty: of the forwards
  bool added;
  std::string words;
};

struct Plan {
  std::vector<KeyChange> keys;
  std::vector<LineChange> rules;  // policies and chains among them
  std::vector<LineChange> forwards;
  std::vector<u16> forwards_gone;    // numbers of those that go
  std::vector<std::string> remarks;  // whole sentences
  Config config;                     // as it is to be kept
  KeptRules wanted_rules;
  Forwards wanted_forwards;
  Settings settings;  // with what may change live

  bool changes() const { return !keys.empty() || !rules.empty() || !forwards.empty(); }
  // The keys that cannot change while the gateway runs, and what they take.
  std::vector<std::string> keys_that_need(KeyNeeds needs) const;
};

// `then`: the configuration that the gateway has.
Result<Plan> make_plan(const Config& wanted, const Config& then, const AnyDatapath& datapath,
                       const KeptRules& rules, const Forwards& forwards);

// A flow that passes by the rules in force, and would not by others.
struct BrokenFlow {
  u8 protocol;
  Ipv4 internal, remote;
  Port internal_port, remote_port;
  Reason reason;
};
struct AffectedFlows {
  std::vector<BrokenFlow> refused;
  u32 of_gone_forwards = 0;  // they go on
};
Result<AffectedFlows> affected_flows(const AnyDatapath& datapath, const Plan& plan);

// What the command says when a key needs more; empty if none does.
std::string why_not_live(const Plan& plan);

// The configuration of the gateway that runs here.
Config running_config();

// Plans, and puts in force; `plan` is what was done. Nothing is changed where it is an error.
Result<Plan> apply_config(const Config& wanted, AnyDatapath& datapath);

// What a change while packets pass may copy; the rest of the settings belongs to masqd.
void copy_live_settings(const Settings& from, Settings& to);

}  // namespace masq
