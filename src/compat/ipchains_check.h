// `ipchains -C`: what a chain does with a packet that the command line describes. The walk is the
// core's own, over the slots that the packet path would get, so it cannot say anything else.
#pragma once

#include "compat/ipchains_options.h"

namespace masq {

// A line for each packet that the request means; with -v a line before it that describes it. The
// chain can be any, also one of the administrator's.
Result<std::string> check_packets(const ChainsRequest& request, const RuleSet& rules);

}  // namespace masq
