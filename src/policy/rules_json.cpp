// The rule chains as a file keeps them. Reading is strict: a field that is not known, is of another
// kind or out of range makes the whole text unreadable, because a rule that is read half lets
// through what it should not. All else is checked by the changes of RuleSet themselves.
#include <arpa/inet.h>

#include <nlohmann/json.hpp>

#include "policy/forwards.h"
#include "policy/rules.h"

namespace masq {
namespace {

using nlohmann::json;

struct TargetWord {
  RuleTarget target;
  const char* word;
};
constexpr TargetWord kTargetWords[] = {
    {RuleTarget::none, "none"},       {RuleTarget::accept, "accept"},
    {RuleTarget::deny, "deny"},       {RuleTarget::reject, "reject"},
    {RuleTarget::masquerade, "masq"}, {RuleTarget::redirect, "redirect"},
    {RuleTarget::chain, "chain"},     {RuleTarget::go_back, "return"},
};
constexpr const char* kAskedWords[] = {"either", "yes", "no"};
constexpr const char* kMarkWords[] = {"none", "set", "add"};

const char* word_of(RuleTarget target) {
  for (const TargetWord& each : kTargetWords)
    if (each.target == target) return each.word;
  return "none";
}

json address_json(const AddressMatch& match) {
  json out{{"address", address_text(match.address)}, {"mask", address_text(match.mask)}};
  if (match.inverted) out["inverted"] = true;
  return out;
}

json ports_json(const PortMatch& match) {
  json out{{"first", match.first}, {"last", match.last}};
  if (match.inverted) out["inverted"] = true;
  return out;
}

// Only what is not as in a new Rule.
json rule_json(const Rule& rule) {
  json out = json::object();
  const Rule usual;
  if (!(rule.source == usual.source)) out["source"] = address_json(rule.source);
  if (!(rule.destination == usual.destination)) out["destination"] = address_json(rule.destination);
  if (!rule.source_ports.is_any()) out["source_ports"] = ports_json(rule.source_ports);
  if (!rule.destination_ports.is_any())
    out["destination_ports"] = ports_json(rule.destination_ports);
  if (!rule.interface.empty()) out["interface"] = rule.interface;
  if (rule.any_suffix) out["any_suffix"] = true;
  if (rule.interface_inverted) out["interface_inverted"] = true;
  if (rule.protocol != 0) out["protocol"] = rule.protocol;
  if (rule.protocol_inverted) out["protocol_inverted"] = true;
  if (rule.syn != Asked::either) out["syn"] = kAskedWords[static_cast<u8>(rule.syn)];
  if (rule.later_fragment != Asked::either)
    out["later_fragment"] = kAskedWords[static_cast<u8>(rule.later_fragment)];
  if (rule.log) out["log"] = true;
  if (rule.tos_and != usual.tos_and) out["tos_and"] = rule.tos_and;
  if (rule.tos_xor != usual.tos_xor) out["tos_xor"] = rule.tos_xor;
  if (rule.mark_change != MarkChange::none)
    out["mark_change"] = kMarkWords[static_cast<u8>(rule.mark_change)];
  if (rule.mark != 0) out["mark"] = rule.mark;
  if (rule.copies) out["copies"] = true;
  if (rule.copy_most != usual.copy_most) out["copy_most"] = rule.copy_most;
  if (rule.target != RuleTarget::none) out["target"] = word_of(rule.target);
  if (!rule.chain.empty()) out["chain"] = rule.chain;
  if (rule.redirect_port != 0) out["redirect_port"] = rule.redirect_port;
  if (rule.packets != 0) out["packets"] = rule.packets;
  if (rule.bytes != 0) out["bytes"] = rule.bytes;
  return out;
}

// The fields of one object. The first thing that is wrong is kept; `wrong` asks for it, and then
// for fields that nobody has asked for.
class Fields {
 public:
  explicit Fields(const json& from) : from_(from) {
    if (!from.is_object()) say("it is no object");
  }

  const json* find(const char* key) {
    if (!from_.is_object() || !from_.contains(key)) return nullptr;
    return &from_[key];
  }

  template <class Number>
  void number(const char* key, Number& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    constexpr u64 most = static_cast<Number>(~Number{0});
    if (!value->is_number_unsigned() || value->get<u64>() > most)
      return say(fmt::format("`{}` must be a whole number from 0 to {}", key, most));
    out = value->get<Number>();
  }

  void flag(const char* key, bool& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return say(fmt::format("`{}` must be true or false", key));
    out = value->get<bool>();
  }

  void text(const char* key, std::string& out) {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_string()) return say(fmt::format("`{}` must be a text", key));
    out = value->get<std::string>();
  }

  void address(const char* key, Ipv4& out) {
    std::string text_of_it;
    text(key, text_of_it);
    if (find(key) == nullptr || inet_pton(AF_INET, text_of_it.c_str(), &out.be) == 1) return;
    say(fmt::format("`{}` must be an IPv4 address", key));
  }

  template <class Value, std::size_t n>
  void word(const char* key, const char* const (&words)[n], Value& out) {
    if (find(key) == nullptr) return;
    std::string given;
    text(key, given);
    for (std::size_t i = 0; i < n; ++i)
      if (given == words[i]) return static_cast<void>(out = static_cast<Value>(i));
    say(fmt::format("`{}` cannot be `{}`", key, given));
  }

  void target(const char* key, RuleTarget& out) {
    if (find(key) == nullptr) return;
    std::string given;
    text(key, given);
    for (const TargetWord& each : kTargetWords)
      if (given == each.word) return static_cast<void>(out = each.target);
    say(fmt::format("`{}` cannot be `{}`", key, given));
  }

  void say(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }

  std::string wrong(std::initializer_list<const char*> known) {
    if (!wrong_.empty()) return wrong_;
    for (const auto& [key, value] : from_.items())
      if (std::none_of(known.begin(), known.end(), [&](const char* name) { return key == name; }))
        return fmt::format("there is no field `{}`", key);
    return "";
  }

 private:
  const json& from_;
  std::string wrong_;
};

void read_address(Fields& fields, const char* key, AddressMatch& out) {
  const json* value = fields.find(key);
  if (value == nullptr) return;
  Fields of_it(*value);
  of_it.address("address", out.address);
  of_it.address("mask", out.mask);
  of_it.flag("inverted", out.inverted);
  const std::string wrong = of_it.wrong({"address", "mask", "inverted"});
  if (!wrong.empty()) fields.say(fmt::format("`{}`: {}", key, wrong));
  if ((out.address.be & ~out.mask.be) != 0)
    fields.say(fmt::format("`{}`: the address has bits outside the mask", key));
}

void read_ports(Fields& fields, const char* key, PortMatch& out) {
  const json* value = fields.find(key);
  if (value == nullptr) return;
  Fields of_it(*value);
  of_it.number("first", out.first);
  of_it.number("last", out.last);
  of_it.flag("inverted", out.inverted);
  const std::string wrong = of_it.wrong({"first", "last", "inverted"});
  if (!wrong.empty()) fields.say(fmt::format("`{}`: {}", key, wrong));
}

std::string read_rule(const json& from, Rule& rule) {
  Fields fields(from);
  read_address(fields, "source", rule.source);
  read_address(fields, "destination", rule.destination);
  read_ports(fields, "source_ports", rule.source_ports);
  read_ports(fields, "destination_ports", rule.destination_ports);
  fields.text("interface", rule.interface);
  fields.flag("any_suffix", rule.any_suffix);
  fields.flag("interface_inverted", rule.interface_inverted);
  fields.number("protocol", rule.protocol);
  fields.flag("protocol_inverted", rule.protocol_inverted);
  fields.word("syn", kAskedWords, rule.syn);
  fields.word("later_fragment", kAskedWords, rule.later_fragment);
  fields.flag("log", rule.log);
  fields.number("tos_and", rule.tos_and);
  fields.number("tos_xor", rule.tos_xor);
  fields.word("mark_change", kMarkWords, rule.mark_change);
  fields.number("mark", rule.mark);
  fields.flag("copies", rule.copies);
  fields.number("copy_most", rule.copy_most);
  fields.target("target", rule.target);
  fields.text("chain", rule.chain);
  fields.number("redirect_port", rule.redirect_port);
  fields.number("packets", rule.packets);
  fields.number("bytes", rule.bytes);
  return fields.wrong({"source",
                       "destination",
                       "source_ports",
                       "destination_ports",
                       "interface",
                       "any_suffix",
                       "interface_inverted",
                       "protocol",
                       "syn",
                       "later_fragment",
                       "protocol_inverted",
                       "log",
                       "tos_and",
                       "tos_xor",
                       "mark_change",
                       "mark",
                       "copies",
                       "copy_most",
                       "target",
                       "chain",
                       "packets",
                       "redirect_port",
                       "bytes"});
}

Error unreadable(const std::string& why) {
  return error("The rules cannot be read: {}.", why);
}

const char* fault_words(RuleFault fault) {
  switch (fault) {
    case RuleFault::no_target:
      return "it leads to a chain that is not there";
    case RuleFault::chain_exists:
      return "the chain is there twice";
    case RuleFault::bad_name:
      return "no chain can have that name";
    case RuleFault::bad_policy:
    case RuleFault::built_in:
      return "it cannot have that policy";
    case RuleFault::bad_target:
      return "it cannot have that target";
    case RuleFault::too_many:
      return "there are too many rules";
    default:
      return "what it asks for does not go together";
  }
}

// What the chain is, its rules left for later.
std::string read_chain(const json& from, std::size_t place, RuleSet& set) {
  Fields fields(from);
  std::string name;
  RuleTarget policy = RuleTarget::go_back;
  u64 packets = 0, bytes = 0;
  fields.text("name", name);
  fields.target("policy", policy);
  fields.number("packets", packets);
  fields.number("bytes", bytes);
  const json* rules = fields.find("rules");
  if (rules == nullptr || !rules->is_array()) fields.say("`rules` must be a list");
  const std::string wrong = fields.wrong({"name", "policy", "packets", "bytes", "rules"});
  if (!wrong.empty()) return wrong;
  if (place < kBuiltInChains) {
    if (set.chains()[place].name != name)
      return fmt::format("it must be the chain `{}`", set.chains()[place].name);
    const RuleFault fault = set.set_policy(name, policy);
    if (fault != RuleFault::none) return fault_words(fault);
  } else {
    const RuleFault fault = set.create(name);
    if (fault != RuleFault::none) return fault_words(fault);
    if (policy != RuleTarget::go_back) return fault_words(RuleFault::bad_policy);
  }
  set.count(place, 0, packets, bytes);  // it is empty still, so this is its end
  return "";
}

}  // namespace

std::string rules_to_json(const RuleSet& rules) {
  json chains = json::array();
  for (const Chain& chain : rules.chains()) {
    json list = json::array();
    for (const Rule& rule : chain.rules) list.push_back(rule_json(rule));
    json each{{"name", chain.name}, {"policy", word_of(chain.policy)}, {"rules", list}};
    if (chain.packets != 0) each["packets"] = chain.packets;
    if (chain.bytes != 0) each["bytes"] = chain.bytes;
    chains.push_back(each);
  }
  return json{{"chains", chains}}.dump(1);
}

Result<RuleSet> rules_from_json(const std::string& text) {
  const json whole = json::parse(text, nullptr, false);
  if (whole.is_discarded()) return unreadable("the text is no JSON");
  Fields fields(whole);
  const json* chains = fields.find("chains");
  if (chains == nullptr || !chains->is_array()) fields.say("`chains` must be a list");
  const std::string wrong = fields.wrong({"chains"});
  if (!wrong.empty()) return unreadable(wrong);
  if (chains->size() < kBuiltInChains) return unreadable("a built-in chain is missing");
  RuleSet set = RuleSet::empty();
  for (std::size_t place = 0; place < chains->size(); ++place) {
    const std::string why = read_chain((*chains)[place], place, set);
    if (!why.empty()) return unreadable(fmt::format("chain {}: {}", place + 1, why));
  }
  for (std::size_t place = 0; place < chains->size(); ++place) {
    u32 number = 0;
    for (const json& each : (*chains)[place]["rules"]) {
      Rule rule;
      std::string why = read_rule(each, rule);
      ++number;
      const std::string name = set.chains()[place].name;
      if (why.empty()) {
        const RuleFault fault = set.append(name, rule);
        if (fault == RuleFault::none) continue;
        why = fault_words(fault);
      }
      return unreadable(fmt::format("chain `{}`, rule {}: {}", name, number, why));
    }
  }
  return set;
}

}  // namespace masq
