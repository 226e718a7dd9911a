// `masq run-script FILE`: runs an unmodified rc.firewall in its view (compat/run_script.h), and
// puts what it would have done in force as one change, or nothing of it
// (docs/design/run-script.md).
//
// Where a gateway runs, the script begins with the rules and switches that are in force. Where none
// runs, it begins as after a boot: no rules, every policy ACCEPT, ip_forward 0; what it says is
// kept first, and then the gateway is started with it, so at no moment anything else is in force.
//
// All or nothing: whatever can fail comes first (switches of the machine, the configuration with
// the timeouts), and is put back if a later step fails; the rules with the switches of the gateway
// come into force in one moment, last. Killed in between, the gateway has its old rules.
//
// What can go wrong: somebody else changes the rules while the script runs. Then nothing is
// applied.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compat/stage.h"
#include "core/settings.h"

namespace CLI {
class App;
}

namespace masq {

struct RunScriptOptions {
  std::string file;
  std::vector<std::string> arguments;
  u32 time_limit_s = 0;  // 0: none
  bool keep_going = false;
  bool dry_run = false;
  bool as_at_boot = false;
};

inline constexpr int kScriptInPart =
    3;  // exit code: applied without what has failed (--keep-going)
inline constexpr u32 kScriptTimeMost_s = 86400;  // a day; a boot waits for no script longer

void add_run_script_options(CLI::App& command, RunScriptOptions& options);

// What the script wants of a gateway that is started for it.
struct StartWith {
  StagedTimeouts timeouts;
  std::optional<PortRange> external_ports;  // unless somebody has named others
};
// Starts or takes over the gateway as `masq up` does, and returns its exit code.
using BringUp = std::function<int(const StartWith&)>;

// Returns the exit code of the command.
int run_script_of_rules(const RunScriptOptions& options, const BringUp& bring_up);

}  // namespace masq
