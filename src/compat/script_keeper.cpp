// Single-threaded, with SIGCHLD as a descriptor, so that nothing happens between two steps.
#include "compat/script_keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "compat/descendants.h"
#include "compat/run_script.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr std::size_t kNamedMost = 20;
constexpr int kPauseMs = 20;

std::vector<char*> pointers_to(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// In the child. What goes wrong now is said as a shell says it.
[[noreturn]] void become_script(const KeeperPlan& plan, pid_t keeper, sighandler_t on_pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(1);
  // As the caller has them: under nohup, for one, SIGHUP stays ignored.
  signal(SIGPIPE, on_pipe);
  sigprocmask(SIG_SETMASK, &plan.blocked, nullptr);
  std::vector<char*> argv = pointers_to(plan.argv), environment = pointers_to(plan.environment);
  execve(argv[0], argv.data(), environment.data());
  if (errno == ENOEXEC) {  // no `#!`
    argv.insert(argv.begin(), const_cast<char*>("/bin/sh"));
    execve(argv[0], argv.data(), environment.data());
  }
  dprintf(STDERR_FILENO, "masq: %s cannot be run: %s.\n", plan.argv[0].c_str(), strerror(errno));
  _exit(126);
}

bool is_closed(int pipe, int timeout_ms, int beside) {
  pollfd wanted[2] = {{pipe, POLLIN, 0}, {beside, POLLIN, 0}};
  poll(wanted, 2, timeout_ms);
  if ((wanted[1].revents & POLLIN) != 0) {
    signalfd_siginfo ignored;
    while (read(beside, &ignored, sizeof ignored) > 0) {
    }
  }
  return wanted[0].revents != 0;
}

// Until the script ends, or somebody wants it to.
void wait_for_script(const KeeperPlan& plan, pid_t script, int children, KeeperReport& report) {
  for (bool ended = false; !ended;) {
    bool stop = is_closed(plan.stop, -1, children);
    reap(script, report.wait_status, ended);
    if (ended || !stop) continue;
    report.stopped = true;
    return;
  }
}

// What it started in the background may end by itself.
void wait_for_background(const KeeperPlan& plan, int children, KeeperReport& report) {
  auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kBackgroundMs);
  int status = 0;
  bool ended = false;
  while (reap(0, status, ended) && std::chrono::steady_clock::now() < until)
    if (is_closed(plan.stop, kPauseMs, children)) {
      report.stopped = true;
      return;
    }
  for (const Descendant& each : descendants())
    if (report.left_running.size() < kNamedMost) report.left_running.push_back(each.name);
}

void say(int report_fd, const KeeperReport& report) {
  write_all(report_fd, keeper_report_to_text(report));
}

}  // namespace

std::string keeper_report_to_text(const KeeperReport& report) {
  json text = {{"problem", report.problem},
               {"stopped", report.stopped},
               {"wait_status", report.wait_status},
               {"left_running", report.left_running},
               {"some_would_not_end", report.some_would_not_end}};
  return text.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

Result<KeeperReport> keeper_report_from_text(const std::string& text) {
  json read = json::parse(text, nullptr, false);
  if (!read.is_object()) return error("The process that kept the script has died.");
  KeeperReport report;
  report.problem = read.value("problem", "");
  report.stopped = read.value("stopped", false);
  report.wait_status = read.value("wait_status", 0);
  report.left_running = read.value("left_running", std::vector<std::string>());
  report.some_would_not_end = read.value("some_would_not_end", false);
  return report;
}

void keep_script(const KeeperPlan& plan) {
  prctl(PR_SET_NAME, "masq-script");
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sighandler_t on_pipe = signal(SIGPIPE, SIG_IGN);
  KeeperReport report;
  Status entered = enter_view(plan.view);
  if (!entered) {
    report.problem = entered.error().sentence;
    say(plan.report, report);
    _exit(1);
  }
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  int children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  pid_t keeper = getpid();
  pid_t script = fork();
  if (script == 0) become_script(plan, keeper, on_pipe);
  if (script < 0 || children < 0) {
    report.problem = fmt::format("The script cannot be started ({}).", strerror(errno));
    if (script > 0) end_descendants(0);
    say(plan.report, report);
    _exit(1);
  }
  // The keys of the terminal are for the script, which stays in the caller's group.
  setpgid(0, 0);
  // Whoever reads what the script says waits until nobody can write to it any more.
  int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (nothing >= 0) dup2(nothing, stream);
  wait_for_script(plan, script, children, report);
  if (!report.stopped) wait_for_background(plan, children, report);
  report.some_would_not_end = !end_descendants(report.stopped ? kAskedToEndMs : 0);
  say(plan.report, report);
  _exit(0);
}

}  // namespace masq
