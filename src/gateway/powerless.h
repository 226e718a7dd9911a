// Processes without rights that outlive masqd: no user, no groups, no capabilities, no files but
// those that they were left, and only the system calls that they were left; any other ends them.
// They belong to one network namespace and are found by their name in it.
#pragma once

#include <functional>
#include <vector>

#include "policy/result.h"

namespace masq {

// In a new process: closes all but these, and leaves the session of its parent. `name` is what the
// process is found by.
void keep_only_fds(const char* name, std::vector<int> fds);

// Gives up every right but these system calls, for good.
bool become_powerless(const std::vector<unsigned>& calls);

// Starts a process that is nobody's child. `body` runs there with a descriptor on which it must
// write its process number (a pid_t) when it stands, and does not return.
Result<int> start_orphan(const char* what, const std::function<void(int report)>& body);

// Is this process there, of this name, and in this network namespace?
bool powerless_lives(const char* name, int process);
// One of them, or 0.
int find_powerless(const char* name);
void end_powerless(const char* name);

}  // namespace masq
