// Carrying out what a command line of ipfwadm asks for. See ipfwadm.h. Every change is made on a
// copy of the rules, so that several rules are added or none.
#include "compat/ipfwadm.h"

#include "compat/ipchains_check.h"
#include "compat/ipfwadm_list.h"
#include "compat/ipfwadm_options.h"
#include "wire/headers.h"

namespace masq {
namespace {

CommandResult wrong_usage(const std::string& problem) {
  return {2, "", fmt::format("ipfwadm: {}; nothing was changed.\n", as_one_line(problem))};
}

CommandResult not_done(const std::string& sentence) {
  return {1, "", fmt::format("ipfwadm: setsockopt failed: {}\n", as_one_line(sentence))};
}

Status status_of(RuleFault fault) {
  switch (fault) {
    case RuleFault::none:
      return Done{};
    case RuleFault::no_rule:
      return error("There is no such rule.");
    case RuleFault::too_many:
      return error("There may be {} rules and chains in all.", kRuleSlotsMax);
    case RuleFault::bad_policy:
      return error("That cannot be the policy of this category.");
    case RuleFault::chain_exists:
    case RuleFault::chain_in_use:
    case RuleFault::no_chain:
    case RuleFault::no_target:
      return error("The chains {} and {} are not as accounting needs them.", kAccountIn,
                   kAccountOut);
    default:
      return error("Such a rule cannot be.");
  }
}

const char* chain_of(AdmCategory category) {
  return category == AdmCategory::input     ? "input"
         : category == AdmCategory::forward ? "forward"
                                            : "output";
}

Rule mirrored(const Rule& rule) {
  Rule other = rule;
  std::swap(other.source, other.destination);
  if (rule.protocol != kProtocolIcmp) std::swap(other.source_ports, other.destination_ports);
  return other;
}

// With its flags about TCP, and its mirror.
void add_ways(const AdmRequest& request, const Rule& rule, std::vector<Rule>& rules) {
  std::vector<Rule> kinds = {rule};
  if (request.splits_tcp) {
    kinds = {rule, rule};
    kinds[0].protocol = kinds[1].protocol = kProtocolTcp;
    kinds[1].protocol_inverted = true;
    kinds[1].syn = Asked::either;
  }
  for (const Rule& kind : kinds) {
    rules.push_back(kind);
    if (request.both_ways) rules.push_back(mirrored(kind));
  }
}

// All rules that the command line stands for, in their order.
std::vector<Rule> rules_of(const AdmRequest& request) {
  const auto or_all = [](const std::vector<PortMatch>& ports) {
    return ports.empty() ? std::vector<PortMatch>{PortMatch{}} : ports;
  };
  std::vector<Rule> rules;
  for (Ipv4 source : request.sources.addresses)
    for (Ipv4 destination : request.destinations.addresses)
      for (const PortMatch& from : or_all(request.source_ports))
        for (const PortMatch& to : or_all(request.destination_ports)) {
          Rule rule = request.rule;
          rule.source = {source, request.sources.mask, false};
          rule.destination = {destination, request.destinations.mask, false};
          rule.source_ports = from;
          rule.destination_ports = to;
          add_ways(request, rule, rules);
        }
  return rules;
}

// --- accounting ----------------------------------------------------------------------------------

struct AccountingChain {
  const char *name, *built_in;
  bool asked;
};

std::vector<AccountingChain> accounting_chains(const AdmRequest& request) {
  return {{kAccountIn, "input", request.counts_in}, {kAccountOut, "output", request.counts_out}};
}

Rule hook_to(const std::string& name) {
  Rule hook;
  hook.target = RuleTarget::chain;
  hook.chain = name;
  return hook;
}

// The number of the first rule that is not ours.
u32 first_number(const RuleSet& rules, const std::string& chain) {
  const Chain* found = rules.find(chain);
  return found != nullptr && !found->rules.empty() && is_accounting_hook(found->rules[0]) ? 2 : 1;
}

// The chain is there, and is come to before all other rules.
RuleFault make_accounting(RuleSet& rules, const AccountingChain& chain) {
  if (rules.find(chain.name) == nullptr)
    if (const RuleFault fault = rules.create(chain.name); fault != RuleFault::none) return fault;
  for (const Rule& rule : rules.find(chain.built_in)->rules)
    if (rule.target == RuleTarget::chain && rule.chain == chain.name) return RuleFault::none;
  return rules.insert(chain.built_in, 1, hook_to(chain.name));
}

// Once nothing is counted, no trace is left.
RuleFault drop_accounting(RuleSet& rules, const AccountingChain& chain) {
  const Chain* found = rules.find(chain.name);
  if (found == nullptr || !found->rules.empty()) return RuleFault::none;
  (void)rules.remove(chain.built_in, hook_to(chain.name));
  return rules.destroy(chain.name);
}

// --- changes -------------------------------------------------------------------------------------

RuleFault change_chain(const AdmRequest& request, RuleSet& rules, const std::string& chain) {
  u32 number = first_number(rules, chain);
  for (const Rule& rule : rules_of(request)) {
    RuleFault fault = request.command == 'a'   ? rules.append(chain, rule)
                      : request.command == 'i' ? rules.insert(chain, number++, rule)
                                               : rules.remove(chain, rule);
    if (fault != RuleFault::none) return fault;
  }
  return RuleFault::none;
}

RuleFault flush_chain(RuleSet& rules, const std::string& chain) {
  std::vector<Rule> kept;
  for (const Rule& rule : rules.find(chain)->rules)
    if (is_accounting_hook(rule)) kept.push_back(rule);
  RuleFault fault = rules.flush(chain);
  for (const Rule& rule : kept)
    if (fault == RuleFault::none) fault = rules.append(chain, rule);
  return fault;
}

RuleFault change_accounting(const AdmRequest& request, RuleSet& rules) {
  for (const AccountingChain& chain : accounting_chains(request)) {
    if (!chain.asked) continue;
    const bool adds = request.command == 'a' || request.command == 'i';
    RuleFault fault = adds ? make_accounting(rules, chain) : RuleFault::none;
    if (fault != RuleFault::none) return fault;
    const bool is_there = rules.find(chain.name) != nullptr;
    if (request.command == 'd' && !is_there) return RuleFault::no_rule;
    if (!is_there) continue;
    fault = request.command == 'f'   ? rules.flush(chain.name)
            : request.command == 'z' ? rules.clear_counters(chain.name)
                                     : change_chain(request, rules, chain.name);
    if (fault == RuleFault::none) fault = drop_accounting(rules, chain);
    if (fault != RuleFault::none) return fault;
  }
  return RuleFault::none;
}

RuleFault change(const AdmRequest& request, RuleSet& rules) {
  if (request.category == AdmCategory::accounting) return change_accounting(request, rules);
  const std::string chain = chain_of(request.category);
  switch (request.command) {
    case 'f':
      return flush_chain(rules, chain);
    case 'z':
      return rules.clear_counters(chain);
    case 'p':
      return rules.set_policy(chain, request.policy);
    default:
      return change_chain(request, rules, chain);
  }
}

// --- what is printed -----------------------------------------------------------------------------

std::string listing(const AdmRequest& request, const RuleSet& rules, const Names& names) {
  const AdmListStyle style{request.numeric ? nullptr : &names, request.extended || request.verbose,
                           request.exact};
  if (request.category == AdmCategory::accounting)
    return adm_list_accounting(rules, request.counts_in, request.counts_out, style);
  return adm_list_chain(*rules.find(chain_of(request.category)), style);
}

CommandResult masquerading(const AdmRequest& request, FirewallWorld& world) {
  if (request.command == 's') {
    const u32* seconds = request.timeouts_s;
    if (Status status = world.set_timeouts(seconds[0], seconds[1], seconds[2]); !status)
      return not_done(status.error().sentence);
    return {};
  }
  Result<std::vector<MasqueradeEntry>> entries = world.entries();
  if (!entries) return not_done(entries.error().sentence);
  const Names* names = request.numeric ? nullptr : &world.names();
  return {0, masquerade_listing(*entries, names, request.extended || request.verbose), ""};
}

CommandResult check(const AdmRequest& request, const RuleSet& rules) {
  ChainsRequest packet;
  packet.command = ChainsCommand::check;
  packet.chain = chain_of(request.category);
  packet.rule = rules_of(request).front();
  packet.sources = request.sources;
  packet.destinations = request.destinations;
  Result<std::string> verdict = check_packets(packet, rules);
  if (!verdict) return not_done(verdict.error().sentence + ".");
  return {0, *verdict, ""};
}

// What -v says of a change.
std::string said_of(const AdmRequest& request, const Names& names) {
  if (!request.verbose || std::string_view("aid").find(request.command) == std::string_view::npos)
    return "";
  Chain chain;
  chain.name = chain_of(request.category);
  chain.rules = rules_of(request);
  const AdmListStyle style{request.numeric ? nullptr : &names, true, false};
  const std::string text = adm_list_chain(chain, style);
  return text.substr(text.find('\n') + 1);
}

}  // namespace

CommandResult run_ipfwadm(const std::vector<std::string>& words, FirewallWorld& world) {
  Result<AdmRequest> request = read_adm_request(words, world);
  if (!request) return wrong_usage(request.error().sentence);
  if (request->command == 'h') return {0, adm_help(), ""};
  if (request->category == AdmCategory::masquerading) return masquerading(*request, world);
  Result<RuleSet> rules = world.load();
  if (!rules) return not_done(rules.error().sentence);
  if (request->command == 'c') return check(*request, *rules);
  CommandResult result;
  if (request->command == 'l') result.out = listing(*request, *rules, world.names());
  if (request->command == 'l' && !request->zeroes) return result;
  if (request->command == 'l') request->command = 'z';
  Status status = status_of(change(*request, *rules));
  if (status) status = world.store(*rules);
  if (!status) return not_done(status.error().sentence);
  result.out += said_of(*request, world.names());
  return result;
}

}  // namespace masq
