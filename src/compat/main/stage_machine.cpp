// Files of the stage instead of the running gateway.
#include "compat/main/stage_machine.h"

#include "compat/old_switches.h"
#include "gateway/rule_keeper.h"
#include "gateway/state.h"
#include "policy/config.h"

namespace masq {
namespace {

Error not_in_a_script() {
  return error("Single connections cannot be changed in a script that `masq run-script` runs.");
}

}  // namespace

Result<std::string> StageMachine::read(const char* name) {
  if (!lock_) {
    Result<Fd> lock = stage_.lock();
    if (!lock) return lock.error();
    lock_.emplace(std::move(*lock));
  }
  return stage_.read(name);
}

Result<RuleSet> StageMachine::load() {
  Result<std::string> text = read(kStageRules);
  if (!text) return text.error();
  return text->empty() ? Result<RuleSet>(RuleSet::empty()) : rules_from_json(*text);
}

Status StageMachine::store(const RuleSet& rules) {
  if (Status status = check_targets(rules); !status) return status;
  if (Result<std::string> before = read(kStageRules); !before) return before.error();
  return stage_.write(kStageRules, rules_to_json(rules));
}

Status StageMachine::set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) {
  Result<std::string> text = read(kStageTimeouts);
  if (!text) return text.error();
  Result<StagedTimeouts> timeouts = timeouts_from_json(*text);
  if (!timeouts) return timeouts.error();
  if (tcp_s != 0) timeouts->tcp_s = tcp_s;
  if (tcp_fin_s != 0) timeouts->tcp_fin_s = tcp_fin_s;
  if (udp_s != 0) timeouts->udp_s = udp_s;
  Config config;
  set_timeouts_in(config, timeouts->tcp_s, timeouts->tcp_fin_s, timeouts->udp_s);
  if (const auto mistakes = check_config(config); !mistakes.empty())
    return error("{}", mistakes.front().sentence);
  return stage_.write(kStageTimeouts, timeouts_to_json(*timeouts));
}

bool StageMachine::forwards() const {
  return plain_value(read_sysctl(kForwardingSwitch)) != "0";
}

Result<Forwards> StageMachine::load_forwards() {
  Result<std::string> text = read(kStageForwards);
  if (!text) return text.error();
  return text->empty() ? Result<Forwards>(Forwards{}) : forwards_from_json(*text);
}

Status StageMachine::store_forwards(const Forwards& forwards) {
  if (Result<std::string> before = read(kStageForwards); !before) return before.error();
  return stage_.write(kStageForwards, forwards_to_json(forwards));
}

Result<MasqueradeEntry> StageMachine::find_entry(const MasqueradeEntry& /*key*/) {
  return not_in_a_script();
}

Status StageMachine::make_entry(const MasqueradeEntry& /*entry*/) {
  return not_in_a_script();
}

Status StageMachine::remove_entry(const MasqueradeEntry& /*key*/) {
  return not_in_a_script();
}

Status StageMachine::set_entry_timeout(const MasqueradeEntry& /*key*/, u32 /*timeout_s*/) {
  return not_in_a_script();
}

}  // namespace masq
