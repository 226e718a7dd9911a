// Writing rules as commands, and reading them again.
#include "compat/ipchains_save.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "compat/ipchains_apply.h"
#include "compat/ipchains_list.h"
#include "policy/forwards.h"

namespace masq {
namespace {

std::string address_words(const char* option, const AddressMatch& match, const PortMatch& ports) {
  std::string out = fmt::format(" {}{} {}/{}", option, match.inverted ? " !" : "",
                                address_text(match.address), address_text(match.mask));
  if (!ports.is_any())
    out += fmt::format("{} {}:{}", ports.inverted ? " !" : "", ports.first, ports.last);
  return out;
}

std::string deeds_words(const Rule& rule) {
  std::string out;
  if (rule.log) out += " -l";
  if (rule.copies) out += fmt::format(" -o {}", rule.copy_most);
  if (rule.mark_change != MarkChange::none)
    out += fmt::format(" -m {}0x{:x}", rule.mark_change == MarkChange::add ? "+" : "", rule.mark);
  if (rule.tos_and != 0xff || rule.tos_xor != 0)
    out += fmt::format(" -t 0x{:02x} 0x{:02x}", rule.tos_and, rule.tos_xor);
  return out;
}

class Restoring {
 public:
  Restoring(const RestoreStyle& style, const Names& names, RuleSet& rules, std::string& said)
      : style_(style), names_(names), rules_(rules), said_(said) {}

  Status take(const std::vector<std::string>& words) {
    if (words[0][0] == ':') return take_chain(words);
    return take_rule(words);
  }

 private:
  Status take_chain(const std::vector<std::string>& words) {
    const std::string name = words[0].substr(1);
    if (words.size() != 2) return error("a chain's line is `:NAME POLICY', or `:NAME -'");
    said_ += fmt::format("Restoring `{}'.\n", as_one_line(name));
    if (words[1] != "-") return apply({"-P", name, words[1]});
    const Chain* chain = rules_.find(name);
    if (chain == nullptr) return apply({"-N", name});
    if (chain->policy != RuleTarget::go_back) return error("`{}' needs a policy", name);
    return take_chain_again(name);
  }

  Status take_chain_again(const std::string& name) {
    bool flushes = style_.flush;
    if (!flushes) {
      const std::string question =
          fmt::format("Chain `{}' already exists. Skip or flush? [S/f]? ", name);
      flushes = style_.asks_to_flush && style_.asks_to_flush(question);
    }
    said_ += fmt::format("{} `{}'.\n", flushes ? "Flushing" : "Skipping", name);
    if (flushes) return apply({"-F", name});
    skipped_.insert(name);
    return Done{};
  }

  Status take_rule(const std::vector<std::string>& words) {
    const Result<ChainsRequest> request = read_chains_request(words, names_);
    if (!request) return request.error();
    const bool adds =
        request->command == ChainsCommand::append || request->command == ChainsCommand::insert;
    if (!adds) return error("only rules (-A, -I) and chains (`:NAME POLICY') can stand here");
    if (skipped_.count(request->chain) != 0) return Done{};
    if (style_.makes_chains)
      for (const std::string& name : {request->chain, request->rule.chain}) {
        if (name.empty() || rules_.find(name) != nullptr) continue;
        const Status status = apply({"-N", name});
        if (!status) return status;
      }
    if (style_.verbose)
      for (const Rule& rule : rules_of(*request)) said_ += rule_in_words(rule);
    return apply_chains_request(*request, rules_);
  }

  Status apply(const std::vector<std::string>& words) {
    const Result<ChainsRequest> request = read_chains_request(words, names_);
    if (!request) return request.error();
    return apply_chains_request(*request, rules_);
  }

  const RestoreStyle& style_;
  const Names& names_;
  RuleSet& rules_;
  std::string& said_;
  std::set<std::string> skipped_;
};

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace

std::string rule_as_command(const std::string& chain, const Rule& rule) {
  std::string out = "-A " + chain;
  out += address_words("-s", rule.source, rule.source_ports);
  out += address_words("-d", rule.destination, rule.destination_ports);
  if (!rule.interface.empty())
    out += fmt::format(" -i{} {}{}", rule.interface_inverted ? " !" : "", rule.interface,
                       rule.any_suffix ? "+" : "");
  if (rule.protocol != 0)
    out += fmt::format(" -p{} {}", rule.protocol_inverted ? " !" : "", rule.protocol);
  if (rule.target != RuleTarget::none) out += " -j " + target_name(rule);
  if (rule.redirect_port != 0) out += fmt::format(" {}", rule.redirect_port);
  if (rule.syn != Asked::either) out += rule.syn == Asked::no ? " ! -y" : " -y";
  if (rule.later_fragment != Asked::either)
    out += rule.later_fragment == Asked::no ? " ! -f" : " -f";
  return out + deeds_words(rule);
}

Result<std::string> save_chains(const RuleSet& rules, const std::string& chain, bool verbose,
                                std::string& said) {
  if (!chain.empty() && rules.find(chain) == nullptr)
    return Error{chains_fault_sentence(RuleFault::no_chain)};
  std::string heads, body;
  for (const Chain& each : rules.chains()) {
    if (!chain.empty() && each.name != chain) continue;
    const bool built_in = each.policy != RuleTarget::go_back;
    heads += fmt::format(":{} {}\n", each.name, built_in ? policy_name(each.policy) : "-");
    said += fmt::format("Saving `{}'.\n", each.name);
    for (const Rule& rule : each.rules) {
      const std::string line = rule_as_command(each.name, rule) + "\n";
      if (verbose) said += line;
      body += line;
    }
  }
  return heads + body;
}

Status restore_chains(const std::string& text, const RestoreStyle& style, const Names& names,
                      RuleSet& rules, std::string& said) {
  RuleSet changed = rules;
  Restoring restoring(style, names, changed, said);
  std::istringstream in(text);
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    if (++number > kRestoreLinesMost) return error("more than {} lines", kRestoreLinesMost);
    line.erase(std::remove(line.begin(), line.end(), '\r'), line.end());
    const std::vector<std::string> words = words_of(line);
    if (words.empty() || words[0][0] == '#') continue;
    const Status status = restoring.take(words);
    if (!status) return error("line {}: {}", number, status.error().sentence);
  }
  rules = std::move(changed);
  return Done{};
}

}  // namespace masq
