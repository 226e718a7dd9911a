// One rule as a line of masq.toml: first what is done, then what the packet must be like, then what
// happens to it besides.
//
//   allow | deny | reject | masquerade | redirect [to-port N] | return | jump CHAIN | count
//   tcp | udp | icmp | protocol [not] N
//   from [not] NETWORK, to [not] NETWORK        a network, or an address with a mask behind /
//   from-port [not] PORTS, port [not] PORTS     of TCP and UDP: a port, or a range as 1024-65535
//   type [not] N, code [not] N                  of ICMP, in the place of ports
//   on [not] INTERFACE                          "ppp*": each whose name begins so; what else could
//   be
//                                               misread has \ before it, as in the name "ppp\*"
//   syn, no-syn, later-fragment, no-later-fragment
//   log, tos AND/XOR, mark N, mark +N, copy [BYTES]
//
// Each of the words may be there once, in any order behind the first one. Every sound Rule has one
// line that means it (words_of), and only that: what is not understood is one sentence. The
// counters of a rule are not in its words.
#pragma once

#include <optional>
#include <string>

#include "policy/rules.h"

namespace masq {

// The whole line, words with blanks between them. Whether the rule can stand in its chain, RuleSet
// says.
Result<Rule> rule_from_text(const std::string& text);

std::string words_of(const Rule& rule);

// "allow", "deny", "reject" or "masquerade".
std::string policy_word(RuleTarget policy);
std::optional<RuleTarget> policy_from_word(const std::string& word);

// The rules as the table [rules] of masq.toml, so that reading it makes the same chains in the same
// order; without what they have counted.
std::string rules_to_toml(const RuleSet& rules);

// Why RuleSet takes a rule or a chain not, as the configuration says it.
std::string fault_sentence(RuleFault fault, const std::string& chain, const Rule& rule);

}  // namespace masq
