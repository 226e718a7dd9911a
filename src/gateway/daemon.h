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

// The exit code after SIGUSR1: whoever supervises masqd shall start it again, with its configuration
// as that is then. Until it is there the gateway goes on as after any end of masqd. (EX_TEMPFAIL)
inline constexpr int kStartAgain = 75;

// Runs until SIGTERM, SIGINT or SIGUSR1. Remarks, one a line, go to `ready_fd`, and later ones to standard
// error. Returns the exit code. Once the gateway is up, `config` is kept for whoever takes over.
int run_daemon(const Config& config, int ready_fd);

}  // namespace masq
