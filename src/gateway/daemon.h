// masqd: starts the gateway, says so, and then keeps it in step with the machine until it is told
// to end. Ending it ends nothing of what passes: that is `masq down`.
#pragma once

#include <string>

#include "policy/config.h"

namespace masq {

// The last line on the ready descriptor when the gateway translates, and how a line begins that
// says why it does not.
inline constexpr const char* kReady = "ready";
inline constexpr const char* kErrorPrefix = "error: ";
// Likewise when a daemon is running here already.
inline constexpr const char* kAlready = "already";

// What run_daemon returns after SIGUSR1: the same process shall begin anew as the program that lies
// there now, with its configuration as that is now.
inline constexpr int kBeginAnew = 75;

// Runs until SIGTERM, SIGINT or SIGUSR1. Remarks, one a line, go to `ready_fd`, and later ones to
// standard error. Returns the exit code. Once the gateway is up, `config` is kept for whoever takes
// over. `lock_fd` is the daemon's lock if this process has begun anew, else -1; with kBeginAnew it
// is the lock, which is still held, so that no `masq down` comes between.
int run_daemon(const Config& config, int ready_fd, int& lock_fd);

}  // namespace masq
