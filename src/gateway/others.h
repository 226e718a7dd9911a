// Other packet filters on the machine: what masq says about them.
#pragma once

#include <string>
#include <vector>

namespace masq {

// One sentence for each rule set that packets between inside and outside do not go through.
std::vector<std::string> remarks_on_other_filters();

}  // namespace masq
