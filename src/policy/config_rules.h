// The table [rules] of masq.toml: a table for each chain, with its policy and its rules as lines in
// the words of rule_words.h, which writes it (rules_to_toml).
//
//   [rules.forward]
//   policy = "deny"
//   rules = ["masquerade from 192.168.2.0/24"]
//
// input, forward and output have to say their policy where they are there; where they are not, they
// have that of RuleSet::plain(). Other chains have none, and stand in the order of the file.
//
// What would refuse packets at run time is a mistake here: chains that lead in a circle or too
// deep, and walks that could be longer than one packet may make (core/rules.h).
#pragma once

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

#include <functional>
#include <string>

#include "policy/rules.h"

namespace masq {

// As read; each rule's line is where its text stands, by the places of chain and rule.
struct ReadRules {
  RuleSet rules = RuleSet::plain();
  std::vector<std::vector<u32>> lines;
};

// `wrong` is told of each mistake with its line.
using ReportLine = std::function<void(u32 line, std::string sentence)>;
ReadRules read_rules(const toml::node& node, const ReportLine& wrong);

}  // namespace masq
