// What the process must be allowed to do before it looks at a gateway or changes one. Without the
// right to ask, the kernel's answers look as if nothing were there.
#pragma once

#include <string>

#include "policy/result.h"

namespace masq {

// "Only root can `what`; ..."
Status check_rights(const std::string& what);

}  // namespace masq
