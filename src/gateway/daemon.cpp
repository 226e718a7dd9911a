// The loop round the gateway: news from the kernel, signals, and once a minute anyway.
#include "gateway/daemon.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>

#include "gateway/gateway.h"

namespace masq {
namespace {

void say(int fd, const std::string& line) {
  std::string text = line + "\n";
  // Whoever listened may have gone; that changes nothing here.
  if (fd >= 0 && write(fd, text.data(), text.size()) < 0) return;
}

// To `masq up` in a form that it knows; to a person with our name.
int give_up(int fd, const Error& why) {
  say(fd, (fd == STDERR_FILENO ? "masqd: " : kErrorPrefix) + why.sentence);
  return 1;
}

// To the log, with the time.
void tell(const std::string& line) {
  time_t now = time(nullptr);
  tm local{};
  char text[32] = "";
  if (localtime_r(&now, &local)) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S ", &local);
  say(STDERR_FILENO, text + line);
}

Result<Fd> open_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return error("Signals cannot be blocked.");
  Fd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return error("Signals cannot be received ({}).", strerror(errno));
  return fd;
}

void reconcile_and_say(Gateway& gateway) {
  std::vector<std::string> remarks;
  Status status = gateway.reconcile(remarks);
  for (const std::string& remark : remarks) tell(remark);
  if (!status) tell("masqd: " + status.error().sentence);
}

void look_after_slow_path_and_say(Gateway& gateway) {
  std::vector<std::string> remarks;
  gateway.look_after_slow_path(remarks);
  for (const std::string& remark : remarks) tell(remark);
}

// For the daemon that takes over.
Status keep_config(const Config& config) {
  std::string path = run_file("config.toml"), fresh = path + ".new";
  {
    std::ofstream file(fresh);
    file << to_toml(config);
    if (!file.flush()) return error("{} cannot be written ({}).", fresh, strerror(errno));
  }
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be written ({}).", path, strerror(errno));
  return Done{};
}

// Without its lock a second masqd could carry the same packets, and `masq down` not find the first.
// False if another has the lock by now.
bool keep_lock(Gateway& gateway, const Config& config, DaemonLock& lock) {
  if (is_in_place(lock) || !make_run_folder()) return true;
  Result<DaemonLock> again = take_daemon_lock();
  if (!again) return true;
  if (again->owner != 0) {
    tell("Another process has taken the lock that somebody had removed; this one ends.");
    return false;
  }
  lock = std::move(*again);
  tell(run_folder() + " had been removed, and is made anew.");
  if (Status status = keep_config(config); !status) tell("masqd: " + status.error().sentence);
  reconcile_and_say(gateway);  // saves the state
  if (Status status = note_ready(lock); !status) tell("masqd: " + status.error().sentence);
  return true;
}

void follow(Gateway& gateway, const Config& config, DaemonLock& lock, const Fd& signals,
            const Fd& monitor, const Fd& filters) {
  // Once a minute without any event too: somebody may have taken a qdisc or a sysctl away.
  constexpr int kAnyway_ms = 60000;
  constexpr int kSettle_ms = 20;  // changes come in bursts
  constexpr int kLook_ms = 1000;  // at the slow path
  int idle_ms = 0;
  for (;;) {
    // A descriptor below zero is passed over.
    pollfd fds[] = {
        {signals.get(), POLLIN, 0}, {monitor.get(), POLLIN, 0}, {filters.get(), POLLIN, 0}};
    int ready = poll(fds, 3, kLook_ms);
    if (ready < 0 && errno != EINTR) return;
    if (!keep_lock(gateway, config, lock)) return;
    if (ready == 0) {
      look_after_slow_path_and_say(gateway);
      idle_ms += kLook_ms;
      if (idle_ms < kAnyway_ms) continue;
    }
    idle_ms = 0;
    if (fds[0].revents & POLLIN) {
      signalfd_siginfo info{};
      if (read(signals.get(), &info, sizeof info) == sizeof info && info.ssi_signo != SIGHUP)
        return;
    }
    if (fds[2].revents) drain_network_monitor(filters);
    if (fds[1].revents) {
      // Act on the first news at once, then once more when they have settled.
      drain_network_monitor(monitor);
      reconcile_and_say(gateway);
      poll(nullptr, 0, kSettle_ms);
      drain_network_monitor(monitor);
    }
    reconcile_and_say(gateway);
  }
}

}  // namespace

int run_daemon(const Config& config, int ready_fd) {
  signal(SIGPIPE, SIG_IGN);
  if (Status status = make_run_folder(); !status) return give_up(ready_fd, status.error());
  Result<DaemonLock> lock = take_daemon_lock();
  if (!lock) return give_up(ready_fd, lock.error());
  if (lock->owner != 0 && ready_fd == STDERR_FILENO)
    return give_up(ready_fd, error("masq is running here already (masqd is process {}); nothing is "
                                   "changed.",
                                   lock->owner));
  if (lock->owner != 0) {
    say(ready_fd, kAlready);
    return 0;
  }
  Result<Fd> signals = open_signals();
  if (!signals) return give_up(ready_fd, signals.error());
  Result<Fd> monitor = open_network_monitor();
  if (!monitor) return give_up(ready_fd, monitor.error());

  std::vector<std::string> remarks;
  Result<Gateway> gateway = Gateway::start(config, remarks);
  for (const std::string& remark : remarks) say(ready_fd, remark);
  if (!gateway) return give_up(ready_fd, gateway.error());
  if (Status status = keep_config(config); !status) tell("masqd: " + status.error().sentence);
  if (Status status = note_ready(*lock); !status) tell("masqd: " + status.error().sentence);
  if (ready_fd != STDERR_FILENO) {
    say(ready_fd, kReady);
    close(ready_fd);
  }
  Fd filters;
  // Without it, what somebody takes away is put back once a minute.
  if (Result<Fd> opened = open_filter_monitor()) filters = std::move(*opened);
  follow(*gateway, config, *lock, *signals, *monitor, filters);
  return 0;
}

}  // namespace masq
