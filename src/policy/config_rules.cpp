// Chain by chain; then, if each rule by itself is in order, how the chains lead to each other.
#include "policy/config_rules.h"

#include <algorithm>
#include <tuple>

#include "policy/rule_words.h"

namespace masq {
namespace {

u32 line_of(const toml::node& node) {
  return static_cast<u32>(node.source().begin.line);
}

struct NamedChain {
  std::string name;
  const toml::node* node;
};

// TOML's tables are not in order; the lines of the file are.
std::vector<NamedChain> in_order(const toml::table& table) {
  std::vector<NamedChain> all;
  for (const auto& [key, node] : table) all.push_back({std::string(key.str()), &node});
  std::sort(all.begin(), all.end(), [](const NamedChain& a, const NamedChain& b) {
    const auto &one = a.node->source().begin, &other = b.node->source().begin;
    return std::tie(one.line, one.column) < std::tie(other.line, other.column);
  });
  return all;
}

std::size_t place_of(const RuleSet& rules, const std::string& name) {
  return static_cast<std::size_t>(rules.find(name) - rules.chains().data());
}

class Reader {
 public:
  explicit Reader(const ReportLine& report) : report_(report) {}

  ReadRules read(const toml::node& node) {
    const toml::table* table = node.as_table();
    if (table == nullptr) {
      wrong(line_of(node), "`rules` must be a table of chains, such as [rules.forward].");
      return std::move(read_);
    }
    const std::vector<NamedChain> chains = in_order(*table);
    for (const NamedChain& each : chains) make_chain(each);
    read_.lines.resize(read_.rules.chains().size());
    for (const NamedChain& each : chains) fill_chain(each);
    if (in_order_) check_circles();
    if (in_order_) check_lengths();
    return std::move(read_);
  }

 private:
  void wrong(u32 line, std::string sentence) {
    in_order_ = false;
    report_(line, std::move(sentence));
  }

  static bool is_built_in(const RuleSet& rules, const std::string& name) {
    return rules.find(name) != nullptr && place_of(rules, name) < kBuiltInChains;
  }

  void make_chain(const NamedChain& chain) {
    if (is_built_in(read_.rules, chain.name)) return;
    const RuleFault fault = read_.rules.create(chain.name);
    if (fault != RuleFault::none)
      wrong(line_of(*chain.node), fault_sentence(fault, chain.name, Rule{}));
  }

  void fill_chain(const NamedChain& chain) {
    const toml::table* table = chain.node->as_table();
    if (table == nullptr)
      return wrong(line_of(*chain.node),
                   fmt::format("`rules.{0}` must be a table, [rules.{0}].", chain.name));
    for (const auto& [key, node] : *table) {
      if (key.str() == "policy")
        read_policy(chain.name, node);
      else if (key.str() == "rules")
        read_rules_of(chain.name, node);
      else
        wrong(line_of(node),
              fmt::format("`{}` is not a key of a chain: `policy` and `rules` are.", key.str()));
    }
    if (is_built_in(read_.rules, chain.name) && !table->contains("policy"))
      wrong(line_of(*chain.node),
            fmt::format("The chain {} needs a `policy`: what becomes of packets that fit no rule.",
                        chain.name));
  }

  void read_policy(const std::string& chain, const toml::node& node) {
    if (!is_built_in(read_.rules, chain))
      return wrong(line_of(node),
                   fmt::format("Only input, forward and output have a policy, and not {}; from the "
                               "end of other chains a packet goes back.",
                               chain));
    const auto* text = node.as_string();
    const std::optional<RuleTarget> policy =
        text != nullptr ? policy_from_word(text->get()) : std::nullopt;
    const RuleFault fault = policy ? read_.rules.set_policy(chain, *policy) : RuleFault::bad_policy;
    if (fault != RuleFault::none) wrong(line_of(node), fault_sentence(fault, chain, Rule{}));
  }

  void read_rules_of(const std::string& chain, const toml::node& node) {
    const toml::array* many = node.as_array();
    if (many == nullptr)
      return wrong(line_of(node), fmt::format("`rules` of {} must be a list of rules, such as "
                                              "[\"deny tcp port 23\"].",
                                              chain));
    if (read_.rules.find(chain) == nullptr) return;  // its name was wrong
    for (const toml::node& each : *many) {
      const auto* text = each.as_string();
      Result<Rule> rule = rule_from_text(text != nullptr ? text->get() : "");
      if (!rule) {
        wrong(line_of(each), rule.error().sentence);
        continue;
      }
      const RuleFault fault = read_.rules.append(chain, *rule);
      if (fault == RuleFault::none)
        read_.lines[place_of(read_.rules, chain)].push_back(line_of(each));
      else
        wrong(line_of(each), fault_sentence(fault, chain, *rule));
      if (fault == RuleFault::too_many) return;  // and so would be all others
    }
  }

  enum class Colour : u8 { unseen, under_way, done };

  // Depth first; a jump to a chain that is under way closes a circle.
  void look_for_circles(std::size_t place, std::vector<Colour>& colours) {
    colours[place] = Colour::under_way;
    const Chain& chain = read_.rules.chains()[place];
    for (std::size_t i = 0; i < chain.rules.size(); ++i) {
      if (chain.rules[i].target != RuleTarget::chain) continue;
      const std::size_t to = place_of(read_.rules, chain.rules[i].chain);
      if (colours[to] == Colour::under_way)
        wrong(read_.lines[place][i],
              fmt::format("The jump to {} closes a circle of chains: packets that come here would "
                          "be refused.",
                          chain.rules[i].chain));
      if (colours[to] == Colour::unseen) look_for_circles(to, colours);
    }
    colours[place] = Colour::done;
  }

  void check_circles() {
    std::vector<Colour> colours(read_.rules.chains().size(), Colour::unseen);
    for (std::size_t place = 0; place < colours.size(); ++place)
      if (colours[place] == Colour::unseen) look_for_circles(place, colours);
  }

  struct Measure {
    u32 steps = 0;  // of the longest walk; never more than one beyond what is allowed
    u32 depth = 0;  // chains that lead into each other, itself among them
  };

  const Measure& measure(std::size_t place, std::vector<Measure>& known) {
    Measure& m = known[place];
    if (m.steps != 0) return m;
    u64 steps = 1;  // its end
    u32 depth = 0;
    for (const Rule& rule : read_.rules.chains()[place].rules) {
      steps += 1;
      if (rule.target != RuleTarget::chain) continue;
      const Measure& inner = measure(place_of(read_.rules, rule.chain), known);
      steps += inner.steps;
      depth = std::max(depth, inner.depth);
    }
    m.steps = static_cast<u32>(std::min<u64>(steps, kRuleStepsMax + 1));
    m.depth = depth + 1;
    return m;
  }

  // There are no circles by now. A built-in chain is not one of those that are under way.
  void check_lengths() {
    std::vector<Measure> known(read_.rules.chains().size());
    for (std::size_t place = 0; place < kBuiltInChains; ++place) {
      const Chain& chain = read_.rules.chains()[place];
      const Measure& m = measure(place, known);
      const u32 line = read_.lines[place].empty() ? 0 : read_.lines[place].front();
      if (m.depth - 1 > kRuleDepthMax)
        wrong(line, fmt::format("{} chains lead into each other below {}; {} can.", m.depth - 1,
                                chain.name, kRuleDepthMax));
      if (m.steps > kRuleStepsMax)
        wrong(line, fmt::format("A packet could have to pass more than {} rules in {}, each chain "
                                "counted as often as rules lead to it.",
                                kRuleStepsMax, chain.name));
    }
  }

  const ReportLine& report_;
  ReadRules read_;
  bool in_order_ = true;
};

}  // namespace

ReadRules read_rules(const toml::node& node, const ReportLine& wrong) {
  return Reader(wrong).read(node);
}

}  // namespace masq
