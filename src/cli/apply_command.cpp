// From the plan to sentences and JSON.
#include "cli/apply_command.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/report.h"
#include "gateway/gateway.h"
#include "gateway/plan.h"
#include "gateway/rights.h"
#include "gateway/running.h"
#include "gateway/state.h"
#include "policy/rule_words.h"

namespace masq {
namespace {

using nlohmann::json;

int fail(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return 1;
}

// What is in the file; its mistakes have been said if there is nothing.
std::optional<Config> config_of(const std::string& path) {
  ParsedConfig parsed = load_config(path);
  add_target_mistakes(parsed);
  for (const ConfigMistake& mistake : parsed.mistakes)
    fmt::print(stderr, "{}\n", to_text(path, mistake));
  if (!parsed.mistakes.empty()) return std::nullopt;
  return parsed.config;
}

const char* needs_name(KeyNeeds needs) {
  return needs == KeyNeeds::live ? "live" : needs == KeyNeeds::restart ? "restart" : "down";
}

const char* needs_words(KeyNeeds needs) {
  return needs == KeyNeeds::live      ? ""
         : needs == KeyNeeds::restart ? "   (not while masqd runs)"
                                      : "   (not without `masq down`)";
}

json lines_json(const std::vector<LineChange>& lines) {
  json out = json::array();
  for (const LineChange& each : lines) {
    json line{{"added", each.added}, {"words", each.words}};
    if (!each.chain.empty()) line["chain"] = each.chain;
    out.push_back(line);
  }
  return out;
}

std::string endpoint(Ipv4 address, Port port) {
  return fmt::format("{}:{}", address_text(address), to_host(port));
}

json plan_json(const Plan& plan, const AffectedFlows& flows) {
  json keys = json::array(), named = json::array();
  for (const KeyChange& each : plan.keys)
    keys.push_back({{"key", each.key},
                    {"before", each.before},
                    {"after", each.after},
                    {"needs", needs_name(each.needs)}});
  for (std::size_t i = 0; i < flows.refused.size() && i < kFlowsNamed; ++i) {
    const BrokenFlow& each = flows.refused[i];
    named.push_back({{"protocol", protocol_name(each.protocol)},
                     {"internal", endpoint(each.internal, each.internal_port)},
                     {"remote", endpoint(each.remote, each.remote_port)},
                     {"reason", reason_name(each.reason)}});
  }
  return {{"changes", plan.changes()},
          {"applicable", why_not_live(plan).empty()},
          {"keys", keys},
          {"rules", lines_json(plan.rules)},
          {"forwards", lines_json(plan.forwards)},
          {"flows_refused", flows.refused.size()},
          {"flows_refused_named", named},
          {"flows_of_gone_forwards", flows.of_gone_forwards},
          {"remarks", plan.remarks}};
}

void print_changes(const Plan& plan) {
  for (const KeyChange& each : plan.keys)
    fmt::print("{}: {} -> {}{}\n", each.key, each.before, each.after, needs_words(each.needs));
  for (const LineChange& each : plan.rules)
    fmt::print("rules.{}: {} {}\n", each.chain, each.added ? "+" : "-", each.words);
  for (const LineChange& each : plan.forwards)
    fmt::print("forwards: {} {}\n", each.added ? "+" : "-", each.words);
}

void print_flows(const AffectedFlows& flows) {
  const std::size_t n = flows.refused.size();
  if (n != 0)
    fmt::print("{} live flow{} would be refused by the new rules:\n", n, n == 1 ? "" : "s");
  for (std::size_t i = 0; i < n && i < kFlowsNamed; ++i) {
    const BrokenFlow& each = flows.refused[i];
    fmt::print("  {} {} > {} ({})\n", protocol_name(each.protocol),
               endpoint(each.internal, each.internal_port), endpoint(each.remote, each.remote_port),
               reason_name(each.reason));
  }
  if (n > kFlowsNamed) fmt::print("  and {} more\n", n - kFlowsNamed);
  if (flows.of_gone_forwards != 0)
    fmt::print("Live flows of forwards that go: {}; they go on until they end.\n",
               flows.of_gone_forwards);
}

Result<std::unique_ptr<AnyDatapath>> gateway_to_change(const std::string& path, bool to_write) {
  if (Status status = check_rights("look at the gateway that runs"); !status) return status.error();
  lasting_daemon_process();  // one that is starting writes its configuration
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  if (!gateway_is_there(*network))
    return error("masq is not running here: `masq up --config {}` starts it with all of that.",
                 path);
  return running_gateway(to_write);
}

int plan_command(const std::string& path, bool as_json) {
  const std::optional<Config> wanted = config_of(path);
  if (!wanted) return 1;
  Result<std::unique_ptr<AnyDatapath>> gateway = gateway_to_change(path, false);
  if (!gateway) return fail(gateway.error().sentence);
  Result<KeptRules> rules = load_rules(gateway->get());
  if (!rules) return fail(rules.error().sentence);
  Result<KeptForwards> forwards = load_forwards(gateway->get());
  if (!forwards) return fail(forwards.error().sentence);
  Result<Plan> plan = make_plan(*wanted, running_config(), **gateway, *rules, forwards->forwards);
  if (!plan) return fail(plan.error().sentence);
  Result<AffectedFlows> flows = affected_flows(**gateway, *plan);
  if (!flows) return fail(flows.error().sentence);
  if (as_json) {
    fmt::print("{}\n", plan_json(*plan, *flows).dump(2));
    return plan->changes() ? kPlanChanges : 0;
  }
  print_changes(*plan);
  print_flows(*flows);
  for (const std::string& remark : plan->remarks) fmt::print("{}\n", remark);
  if (!plan->changes()) fmt::print("Nothing would change.\n");
  if (std::string why = why_not_live(*plan); !why.empty())
    fmt::print("`masq apply` would refuse this. {}\n", why);
  return plan->changes() ? kPlanChanges : 0;
}

int apply_command(const std::string& path) {
  const std::optional<Config> wanted = config_of(path);
  if (!wanted) return 1;
  Result<std::unique_ptr<AnyDatapath>> gateway = gateway_to_change(path, true);
  if (!gateway) return fail(gateway.error().sentence);
  Result<Plan> plan = apply_config(*wanted, **gateway);
  if (!plan) return fail(plan.error().sentence + " Nothing is changed.");
  print_changes(*plan);
  for (const std::string& remark : plan->remarks) fmt::print("{}\n", remark);
  fmt::print("{}\n", plan->changes() ? "That is in force." : "Nothing has changed.");
  return 0;
}

// Also where none runs: what commands have kept for `masq up`.
int rules_command(bool as_json) {
  if (Status status = check_rights("look at the rules"); !status)
    return fail(status.error().sentence);
  Result<NetworkState> network = read_network();
  if (!network) return fail(network.error().sentence);
  std::unique_ptr<AnyDatapath> datapath;
  if (gateway_is_there(*network)) {
    Result<std::unique_ptr<AnyDatapath>> running = running_gateway();
    if (!running) return fail(running.error().sentence);
    datapath = std::move(*running);
  }
  Result<KeptRules> kept = load_rules(datapath.get());
  if (!kept) return fail(kept.error().sentence);
  if (as_json)
    fmt::print("{}\n", json::parse(rules_to_json(kept->rules)).dump(2));
  else
    fmt::print("{}", rules_to_toml(kept->rules));
  return 0;
}

}  // namespace

int check_command(const std::string& path) {
  if (!config_of(path)) return 1;
  fmt::print("{} is in order.\n", path);
  return 0;
}

void ApplyCommands::add_to(CLI::App& app) {
  check = app.add_subcommand("check", "Find every mistake in a configuration");
  check->add_option("file", checked, "The configuration")->required()->type_name("FILE");
  plan = app.add_subcommand(
      "plan",
      "What a configuration would change in the gateway that runs, and whose flows it ends");
  apply = app.add_subcommand("apply", "Put a configuration in force as one change, or nothing");
  for (CLI::App* each : {plan, apply})
    each->add_option("file", path, "The configuration; /etc/masq/masq.toml if not given")
        ->type_name("FILE");
  plan->footer("Exit codes: 0 nothing would change, 3 something would, 1 it cannot be said.");
  rules = app.add_subcommand("rules", "The rules in force, as a configuration has them");
  for (CLI::App* each : {plan, rules}) each->add_flag("--json", as_json, "For programs");
}

bool ApplyCommands::asked() const {
  return *check || *plan || *apply || *rules;
}

int ApplyCommands::run() const {
  if (*check) return check_command(checked);
  if (*plan) return plan_command(path, as_json);
  if (*apply) return apply_command(path);
  return rules_command(as_json);
}

}  // namespace masq
