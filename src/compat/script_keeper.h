// The process that keeps a script: it enters the view, starts the script in it, inherits its
// orphans, and ends what is left. See compat/run_script.h.
#pragma once

#include <csignal>
#include <string>
#include <vector>

#include "compat/view_mounts.h"

namespace masq {

struct KeeperPlan {
  ViewPlan view;
  std::vector<std::string> argv;  // the first word is what is executed
  std::vector<std::string> environment;
  int stop = -1;       // a pipe: when its other end is closed, the script is to be ended
  int report = -1;     // a pipe, for what the keeper has to say
  sigset_t blocked{};  // the signals that the caller had blocked, and the script gets blocked too
};

// What it says: one line of JSON.
struct KeeperReport {
  std::string problem;  // why the script has not begun
  bool stopped = false;
  int wait_status = 0;
  std::vector<std::string> left_running;
  bool some_would_not_end = false;
};

std::string keeper_report_to_text(const KeeperReport& report);
Result<KeeperReport> keeper_report_from_text(const std::string& text);

// The body of the process; to be called after fork().
[[noreturn]] void keep_script(const KeeperPlan& plan);

}  // namespace masq
