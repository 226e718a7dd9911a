// The command line of ipchains(8): what it asks for. The grammar is described in the manual and in
// section 4 of the IPCHAINS-HOWTO; the reading of the words themselves is compat/option_words.h.
//
// Whatever is wrong with the words is found here, before anything is touched, and is a mistake of
// usage (exit code 2); what is wrong with the change is found by RuleSet (exit code 1).
#pragma once

#include <optional>

#include "compat/match_words.h"

namespace masq {

enum class ChainsCommand : u8 {
  append,
  insert,
  remove,
  replace,
  check,
  list,
  flush,
  zero,
  create,
  destroy,
  policy,
  masquerade_list,
  masquerade_set,
  help,
  version,
};

struct ChainsRequest {
  ChainsCommand command = ChainsCommand::help;
  bool zeroes = false;        // -L with -Z
  std::string chain;          // empty: all of them
  std::optional<u32> number;  // of a rule
  RuleTarget policy = RuleTarget::accept;
  u32 timeouts_s[3] = {0, 0, 0};  // TCP, TCP after FIN, UDP; 0: as it is
  std::string help_topic;

  Rule rule;  // its addresses but for the inversion are these:
  AddressWord sources, destinations;

  bool both_ways = false;
  bool verbose = false, numeric = false, exact = false, line_numbers = false, warns = true;

  bool changes_rules() const {
    return command <= ChainsCommand::policy && command != ChainsCommand::check &&
           (command != ChainsCommand::list || zeroes);
  }
};

Result<ChainsRequest> read_chains_request(const std::vector<std::string>& words,
                                          const Names& names);

std::string chains_help();

}  // namespace masq
