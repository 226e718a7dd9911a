// Runs an unmodified rc.firewall in a private view (compat/view_mounts.h) and says what it would
// have done. Nothing of it acts on the gateway here: whoever called applies the effects as one
// change, or does not.
//
// As in the original, a script goes on after a command that failed. But where one has failed, what
// the others did is half a firewall; so by default nothing is applied (`may_apply`), and each
// failed command is named with its line. A script that was interrupted, killed or too slow never
// has effects that may be applied.
//
// The script has the rights of the caller and the real files, but for those of the view: what it
// writes to /var or starts in another service is really done. Its standard streams are the
// caller's. When it has ended, what it left running gets kBackgroundMs to end, and is ended then:
// in the view the old commands lead nowhere any more.
//
// Three processes. This one waits, and passes signals on. A keeper, in the view, starts the script,
// and inherits all orphans of it (a subreaper). If this one dies, the keeper ends the script; if
// the keeper dies, this one does. Signals of the terminal reach the script directly, in whose
// process group it stays.
//
// There is no time limit unless one is given: the original had none, a script may wait for a modem,
// and while it runs the gateway stays as it was.
//
// Limits: kScriptBytesMost, those of the store, and those of the stage.
// Requires root with CAP_SYS_ADMIN and allowed mounts, also inside `ip netns exec`, Linux 5.2,
// /proc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compat/old_modules.h"
#include "compat/old_switches.h"
#include "compat/stage.h"
#include "compat/view_store.h"
#include "policy/result.h"

namespace masq {

inline constexpr int kBackgroundMs = 2000;
inline constexpr int kAskedToEndMs = 1000;  // between SIGTERM and SIGKILL

struct ScriptOptions {
  std::string file;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=value; masq adds its own
  u32 time_limit_s = 0;                  // 0: none
  std::string programs;                  // the folder of masq-shim, ipchains and the others
  // How things are before the script: files of the stage (compat/stage.h), switches by their path
  // below /proc/sys, and files below /proc/net. What is not given is as after a boot.
  std::map<std::string, std::string> stage, switches, net;
  std::size_t switches_most = kSwitchesMost;  // files of /proc/sys
};

struct ScriptFailure {
  std::vector<std::string> command;
  int exit_code = 0;
  std::string message;
  std::vector<unsigned> lines;  // where it may stand; empty: in no line of this file
};

struct SwitchChange {
  std::string name;  // below /proc/sys
  std::string value;
  const KnownSwitch* known = nullptr;  // nullptr: masq knows nothing of it, and it has no effect
};

struct ScriptEffects {
  std::string rules, forwards, timeouts;  // as their commands keep them; empty: never touched
  std::vector<SwitchChange> switches;     // every one that was written to, with a good value
  std::vector<LoadedModule> modules;
  std::vector<ScriptFailure> failures;
};

enum class ScriptEnd : u8 {
  exited,       // with exit_code
  killed,       // by signal_number
  interrupted,  // the caller got signal_number
  too_slow,     // the time limit
  lost,         // its keeper died
};

struct ScriptRun {
  ScriptEnd end = ScriptEnd::lost;
  int exit_code = 0;
  int signal_number = 0;
  ScriptEffects effects;
  std::vector<std::string> left_running;  // ended by masq
  bool some_would_not_end = false;
};

// What goes wrong before the script begins is an error.
Result<ScriptRun> run_script(const ScriptOptions& options);

// May the effects be applied? With `keep_going`, also what succeeded beside something that failed.
bool may_apply(const ScriptRun& run, bool keep_going);

// What a person has to know about it, a sentence each; the last one says whether it is applied.
std::vector<std::string> report_of(const ScriptRun& run, const std::string& file, bool keep_going);

// All of it, for programs.
std::string script_run_to_json(const ScriptRun& run);

// The folder of the program that runs.
std::string folder_of_this_program();

}  // namespace masq
