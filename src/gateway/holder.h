// A small process without rights that keeps the maps open. The kernel stops a map's timer, and with
// it the sweeper, when no descriptor of the map is left; so somebody must hold one while the daemon
// is away. It owns nothing, may do nothing but wait, and ends with `masq down`.
#pragma once

#include <vector>

#include "policy/result.h"

namespace masq {

// Returns its process number.
Result<int> start_holder(const std::vector<int>& fds);

// Is it there, and in this network namespace?
bool holder_lives(int process);
// A holder of this network namespace, or 0.
int find_holder();
void end_holders();

}  // namespace masq
