// Forwards in the language of nft, for a datapath in user space: the kernel's own stack gets what
// is addressed to the gateway as well, and must not answer for what a forward leads to an inner
// host. It is dropped at the input hook, behind everything that may show it to masqd
// (gateway/guard.cpp).
//
// Limit: where a forward is open at times only (triggered), the gateway's own stack has its ports
// at no time.
#pragma once

#include <string>
#include <vector>

#include "core/settings.h"
#include "policy/forwards.h"
#include "policy/rules_nftables.h"

namespace masq {

// The commands that make the table `ip masq_forwards`, which must not be there. Nothing if there is
// nothing to be dropped.
std::string forwards_to_nftables(const Forwards& forwards, const Settings& settings,
                                 const std::vector<NftInterface>& interfaces);

}  // namespace masq
