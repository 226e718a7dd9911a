// What ipchains-save prints and ipchains-restore reads: first a line for each chain with its policy
// (`:input ACCEPT', `:mine -'), then a line for each rule, in the words of ipchains.
//
// Restoring makes one change of all lines, or none; a line that cannot be read is named by its
// number. Carriage returns, empty lines and comments (#) are passed over.
#pragma once

#include <functional>

#include "compat/ipchains_options.h"

namespace masq {

// The words that put a rule behind others again, without counters.
std::string rule_as_command(const std::string& chain, const Rule& rule);

// All chains, or one. `said` gets what is for standard error.
Result<std::string> save_chains(const RuleSet& rules, const std::string& chain, bool verbose,
                                std::string& said);

struct RestoreStyle {
  bool verbose = false;       // say each line
  bool flush = false;         // a chain that is there already is emptied without a question
  bool makes_chains = false;  // a chain that a rule names is made if it is not there
  // Asked for a chain that is there: true if it is to be emptied, false if its lines are skipped.
  std::function<bool(const std::string& question)> asks_to_flush;
};

inline constexpr std::size_t kRestoreLinesMost = 100'000;

// `said` gets what is for standard output, also before a line that is wrong.
Status restore_chains(const std::string& text, const RestoreStyle& style, const Names& names,
                      RuleSet& rules, std::string& said);

}  // namespace masq
