// Reads what the rungs go by, climbs them, and puts their findings into lines or JSON.
//
// Exit codes: 0 nothing is wrong, 1 something is. Where something could not be looked at, for want
// of rights, the last line says so; that alone is not wrong.
#include "cli/doctor.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/doctor_rungs.h"
#include "gateway/forward_keeper.h"
#include "gateway/gateway.h"
#include "gateway/rights.h"
#include "gateway/running.h"
#include "gateway/state.h"
#include "gateway/user_tables.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr const char* kHealthNames[] = {"ok", "note", "wrong", "unseen"};

const char* name_of(Health health) {
  return kHealthNames[static_cast<std::size_t>(health)];
}

// What runs here, if it may be looked at.
void find_gateway(Seen& seen) {
  seen.daemon = daemon_process();
  if (Status rights = check_rights("look into the gateway"); !rights) {
    seen.may_not_look = rights.error().sentence;
    return;
  }
  const bool there = gateway_is_there(seen.network) || user_tables_exist();
  Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
  if (datapath)
    seen.datapath = std::move(*datapath);
  else if (there)
    seen.may_not_look = datapath.error().sentence;
}

Result<Seen> look(const Config& config) {
  Seen seen;
  seen.is_root = geteuid() == 0;
  seen.config = config;
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  seen.network = std::move(*network);
  find_gateway(seen);
  Result<SavedState> state = load_state();
  if (!state) return state.error();
  Result<ChosenInterfaces> chosen = choose_interfaces(config, seen.network, state->interfaces);
  if (chosen)
    seen.ours = std::move(*chosen);
  else
    seen.no_interfaces = chosen.error().sentence;
  if (Result<KeptRules> rules = load_rules(seen.datapath.get()); rules)
    seen.rules = std::move(*rules);
  else
    seen.no_rules = rules.error().sentence;
  if (Result<KeptForwards> forwards = load_forwards(seen.datapath.get()); forwards)
    seen.forwards = std::move(forwards->forwards);
  else
    seen.no_forwards = forwards.error().sentence;
  return seen;
}

Findings climb(const Seen& seen) {
  Findings findings;
  for (auto* rung :
       {look_at_kernel, look_at_gateway, look_at_interfaces, look_at_addresses,
        look_at_default_route, look_at_other_filters, look_at_next_hop, look_at_inner_hosts,
        look_at_kernel_forwarding, look_at_reverse_path, look_at_rules, look_at_forwards,
        look_at_mtu, look_at_names, look_at_tables, look_at_refusals})
    rung(seen, findings);
  return findings;
}

std::size_t count(const Findings& findings, Health health) {
  return static_cast<std::size_t>(
      std::count_if(findings.begin(), findings.end(),
                    [&](const Finding& each) { return each.health == health; }));
}

json doctor_json(const Findings& findings) {
  json out;
  out["wrong"] = count(findings, Health::wrong);
  out["unseen"] = count(findings, Health::unseen);
  out["first_wrong"] = nullptr;
  out["rungs"] = json::array();
  for (const Finding& each : findings) {
    if (each.health == Health::wrong && out["first_wrong"].is_null())
      out["first_wrong"] = each.rung;
    out["rungs"].push_back({{"rung", each.rung},
                            {"health", name_of(each.health)},
                            {"what", each.what},
                            {"advice", each.advice}});
  }
  return out;
}

std::string doctor_text(const Findings& findings) {
  std::string text;
  for (const Finding& each : findings)
    text += fmt::format("{:<6} {:<18} {}{}{}\n", name_of(each.health), each.rung, each.what,
                        each.advice.empty() ? "" : " ", each.advice);
  const std::size_t wrong = count(findings, Health::wrong);
  const std::size_t unseen = count(findings, Health::unseen);
  text += "\n";
  for (const Finding& each : findings) {
    if (each.health != Health::wrong) continue;
    text += fmt::format("{} wrong. Begin with {}: {}{}{}\n",
                        wrong == 1 ? "One thing is" : fmt::format("{} things are", wrong),
                        each.rung, each.what, each.advice.empty() ? "" : " ", each.advice);
    break;
  }
  if (wrong == 0) text += "Nothing is wrong that masq can see.\n";
  if (unseen != 0) text += fmt::format("What is \"unseen\" ({}) was not looked at.\n", unseen);
  return text;
}

}  // namespace

int doctor(const Config& config, bool as_json) {
  Result<Seen> seen = look(config);
  if (!seen) {
    fmt::print(stderr, "masq: {}\n", seen.error().sentence);
    return 1;
  }
  const Findings findings = climb(*seen);
  if (as_json)
    fmt::print("{}\n", doctor_json(findings).dump(2, ' ', false, json::error_handler_t::replace));
  else
    fmt::print("{}", doctor_text(findings));
  return count(findings, Health::wrong) == 0 ? 0 : 1;
}

}  // namespace masq
