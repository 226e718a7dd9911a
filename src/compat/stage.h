// The stage: a folder in memory in which the commands of a script gather what they would have done.
// Nothing there acts; when the script has ended, all of it is applied as one change, or none of it.
//
// Each command reads a file of the stage, changes what it holds and writes it back, under the lock
// of the stage, because scripts run commands in the background. A file is replaced whole or stays
// as it was. Which file holds what: below; what is in it belongs to whoever writes it, except for
// the modules (compat/old_modules.h) and the failures.
//
// What can go wrong: the stage is full (kStoreBytes in compat/view_store.h), or a program is
// started outside of a script and finds none.
#pragma once

#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr const char* kStageVariable = "MASQ_STAGE";  // its folder, for every command

inline constexpr const char* kStageRules = "rules.json";
inline constexpr const char* kStageForwards = "forwards.json";
inline constexpr const char* kStageTimeouts = "timeouts.json";
inline constexpr const char* kStageModules = "modules.json";
inline constexpr const char* kStageFailures = "failures";  // one JSON object a line
// There as long as every failure could be noted. To remove it takes no room, so that is left to do
// where the stage is full.
inline constexpr const char* kStageWhole = "whole";

// A line of the failures is written at once, so that none tears another: a pipe's size.
inline constexpr std::size_t kFailureBytesMost = 4096;
inline constexpr std::size_t kFailuresMost =
    1000;  // kept; a loop that fails for ever fills nothing

// A command that did not do what it was told.
struct CommandFailure {
  std::vector<std::string> command;  // as it was called; the first word is its name
  int exit_code = 0;
  std::string message;  // the first line that it had to say about it
};

// Where the environment says that the stage is; empty: nowhere, and commands act on the gateway.
std::string stage_in_environment();

// What `ipchains -M -S` has set; 0: left as it is.
struct StagedTimeouts {
  u32 tcp_s = 0, tcp_fin_s = 0, udp_s = 0;
};
std::string timeouts_to_json(const StagedTimeouts& timeouts);
Result<StagedTimeouts> timeouts_from_json(const std::string& text);  // empty: nothing is set

class Stage {
 public:
  // The folder as a script's commands see it.
  static Result<Stage> open(const std::string& path);
  explicit Stage(Fd folder) : folder_(std::move(folder)) {}

  // What is in a file; nothing if it is not there.
  Result<std::string> read(const std::string& name) const;
  Status write(const std::string& name, const std::string& text) const;

  // Held until the descriptor is closed. Whoever reads in order to write needs it.
  Result<Fd> lock() const;

  // Says so where it cannot be noted; it counts all the same.
  Status add_failure(const CommandFailure& failure) const;
  // Those that were noted, and one more where some could not be.
  Result<std::vector<CommandFailure>> failures() const;

 private:
  Status append_failure(const CommandFailure& failure) const;

  Fd folder_;
};

// All of a file that is open; what was read so far if it cannot be read on.
std::string read_all(int fd, std::size_t most);
bool write_all(int fd, const std::string& text);

}  // namespace masq
