// Making the changes that a command line of ipchains asks for, on a RuleSet. The whole change is
// made, or none of it.
#pragma once

#include "compat/ipchains_options.h"

namespace masq {

// The rules that a request means, in their order: one for each pair of addresses, and with -b the
// mirrored ones behind them. Type and code of ICMP are not mirrored: they are no ports.
std::vector<Rule> rules_of(const ChainsRequest& request);

Status apply_chains_request(const ChainsRequest& request, RuleSet& rules);

// Why a change was refused, as ipchains(8) says it.
std::string chains_fault_sentence(RuleFault fault);

}  // namespace masq
