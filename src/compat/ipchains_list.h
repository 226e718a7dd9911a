// What `ipchains -L` prints. Columns are those of ipchains 1.3.9, since scripts cut them out:
// target 9 wide, protocol 5, six flags, addresses 20; with -v counters, masks of the type of
// service, interface 10, mark 10 and size of copies 7 as well.
#pragma once

#include "compat/match_words.h"

namespace masq {

struct ListStyle {
  const Names* names = nullptr;  // null: numbers, as with -n
  bool verbose = false;
  bool exact = false;  // counters in full
  bool line_numbers = false;
};

std::string list_chain(const RuleSet& rules, const Chain& chain, const ListStyle& style);

// All chains, or the one by that name.
Result<std::string> list_chains(const RuleSet& rules, const std::string& chain,
                                const ListStyle& style);

// One rule in a line of its own, as -v prints what a command does.
std::string rule_in_words(const Rule& rule);

// A target as rules name it; "-" for none.
std::string target_name(const Rule& rule);

// A counter with K, M or G (of 1000, from 100000 up) or in full.
std::string counter_text(u64 count, bool exact);

}  // namespace masq
