// Other packet filters on the machine: what masq says about them, and the second belt that it puts
// on where the kernel forwards for other interfaces.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"

namespace masq {

// One sentence for each rule set that packets between inside and outside do not go through.
std::vector<std::string> remarks_on_other_filters();

// The nftables table "inet masq_belt": by the kernel's own forwarding, nothing passes between the
// inner interfaces and any that is not named here as one of the others, and nothing by those that
// are closed. Replaces what was there.
Status put_on_belt(const std::vector<std::string>& inside, const std::vector<std::string>& others,
                   const std::vector<std::string>& closed);
void take_off_belt();

}  // namespace masq
