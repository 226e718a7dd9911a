// A small process without rights that keeps the maps open. The kernel stops a map's timer, and with
// it the sweeper, when no descriptor of the map is left; so somebody must hold one while the daemon
// is away. It owns nothing, may call nothing but pause, and ends with `masq down`.
#pragma once

#include <vector>

#include "policy/result.h"

namespace masq {

// Returns its process number.
Result<int> start_holder(const std::vector<int>& fds);

// Is it there, and in this network namespace?
bool holder_lives(int process);
void end_holder(int process);
// The holder of this network namespace, when its number has been lost; 0 if there is none.
int find_holder();

}  // namespace masq
