// The loop round the gateway: news from the kernel, signals, and once a minute anyway.
#include "gateway/daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "gateway/gateway.h"
#include "gateway/nftables.h"
#include "gateway/supervisor.h"
#include "gateway/user_tables.h"

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

// So that nothing that comes again and again fills /run: the log begins anew then. Only if it is
// masq's own; somebody else's file is theirs.
void bound_log() {
  constexpr off_t kLogMax_bytes = 1 << 20;
  struct stat log {
  }, ours{};
  if (fstat(STDERR_FILENO, &log) != 0 || !S_ISREG(log.st_mode) || log.st_size < kLogMax_bytes ||
      stat(run_file("log").c_str(), &ours) != 0 || log.st_ino != ours.st_ino ||
      log.st_dev != ours.st_dev)
    return;
  if (ftruncate(STDERR_FILENO, 0) == 0)
    say(STDERR_FILENO, fmt::format("The log had {} bytes; it begins anew here.", log.st_size));
}

// To the log, with the time.
void tell(const std::string& line) {
  bound_log();
  time_t now = time(nullptr);
  tm local{};
  char text[32] = "";
  if (localtime_r(&now, &local)) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S ", &local);
  say(STDERR_FILENO, text + line);
}

Result<Fd> open_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&set, number);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return error("Signals cannot be blocked.");
  Fd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return error("Signals cannot be received ({}).", strerror(errno));
  return fd;
}

// What is wrong is said once, until something else is wrong or nothing is: `said` is what was last.
void reconcile_and_say(Gateway& gateway, std::string& said) {
  std::vector<std::string> remarks;
  Status status = gateway.reconcile(remarks);
  for (const std::string& remark : remarks) tell(remark);
  const std::string wrong = status ? "" : status.error().sentence;
  if (!wrong.empty() && wrong != said) tell("masqd: " + wrong);
  said = wrong;
}

void look_after_slow_path_and_say(Gateway& gateway) {
  std::vector<std::string> remarks;
  gateway.look_after_slow_path(remarks);
  for (const std::string& remark : remarks) tell(remark);
}

void write_packet_log(Gateway& gateway) {
  for (const std::string& line : gateway.take_packet_log()) tell(line);
}

void end_connections_and_say(Gateway& gateway) {
  if (std::string said = gateway.end_connections(); !said.empty()) tell(said);
}

u64 monotonic_ms() {
  return monotonic_ns() / 1000000;
}

// Without its lock a second masqd could carry the same packets, and `masq down` not find the first.
// False if another has the lock by now.
bool keep_lock(Gateway& gateway, const Config& config, DaemonLock& lock, std::string& said) {
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
  reconcile_and_say(gateway, said);  // saves the state
  if (Status status = note_ready(lock); !status) tell("masqd: " + status.error().sentence);
  return true;
}

// To the end; returns the exit code.
int follow(Gateway& gateway, const Config& config, DaemonLock& lock, const Fd& signals,
           const Fd& monitor, const Fd& routes, const Fd& filters) {
  // Once a minute without any event too: somebody may have taken a qdisc or a sysctl away.
  constexpr u64 kAnyway_ms = 60000;
  constexpr int kSettle_ms = 20;   // changes come in bursts
  constexpr u64 kLook_ms = 1000;   // at the slow path, and at addresses that have gone
  constexpr u64 kRoutes_ms = 100;  // routes may change all the time
  constexpr u64 kLogged_ms = 200;  // at packets for the log, where rules log any
  u64 all_at_ms = monotonic_ms() + kAnyway_ms, look_at_ms = monotonic_ms() + kLook_ms,
      routes_at_ms = 0;
  std::string said;
  for (;;) {
    u64 now_ms = monotonic_ms();
    const bool routes_rest = now_ms < routes_at_ms;
    u64 until_ms = std::max(look_at_ms, now_ms);
    if (routes_rest) until_ms = std::min(until_ms, routes_at_ms);
    if (gateway.has_connections_to_end())
      until_ms = std::min(until_ms, now_ms + LostAddresses::kTurn_ms);
    if (gateway.logs_packets()) until_ms = std::min(until_ms, now_ms + kLogged_ms);
    // A descriptor below zero is passed over.
    pollfd fds[] = {{signals.get(), POLLIN, 0},
                    {monitor.get(), POLLIN, 0},
                    {filters.get(), POLLIN, 0},
                    {routes_rest ? -1 : routes.get(), POLLIN, 0}};
    if (poll(fds, 4, static_cast<int>(until_ms - now_ms)) < 0 && errno != EINTR) {
      tell(fmt::format("masqd: waiting for news has failed ({}), so it ends.", strerror(errno)));
      return 1;
    }
    write_packet_log(gateway);
    end_connections_and_say(gateway);
    if (!keep_lock(gateway, config, lock, said)) return 1;
    now_ms = monotonic_ms();
    if (fds[3].revents) {
      drain_network_monitor(routes);
      gateway.routes_changed();
      routes_at_ms = now_ms + kRoutes_ms;
    }
    if (now_ms >= look_at_ms) {
      look_after_slow_path_and_say(gateway);
      if (gateway.look_after_addresses()) all_at_ms = now_ms;
      look_at_ms = now_ms + kLook_ms;
    }
    const bool news = fds[0].revents || fds[1].revents || fds[2].revents;
    if (!news && now_ms < all_at_ms) continue;
    all_at_ms = now_ms + kAnyway_ms;
    if (fds[0].revents & POLLIN) {
      signalfd_siginfo info{};
      if (read(signals.get(), &info, sizeof info) == sizeof info && info.ssi_signo != SIGHUP)
        return info.ssi_signo == SIGUSR1 ? kBeginAnew : 0;
    }
    if (fds[2].revents) drain_network_monitor(filters);
    if (fds[1].revents) {
      // Act on the first news at once, then once more when they have settled.
      drain_network_monitor(monitor);
      reconcile_and_say(gateway, said);
      poll(nullptr, 0, kSettle_ms);
      drain_network_monitor(monitor);
    }
    reconcile_and_say(gateway, said);
  }
}

// With the lock, which stays held.
int serve(const Config& config, int ready_fd, DaemonLock& lock) {
  Result<Fd> signals = open_signals();
  if (!signals) return give_up(ready_fd, signals.error());
  Result<Fd> monitor = open_network_monitor();
  if (!monitor) return give_up(ready_fd, monitor.error());
  Result<Fd> routes = open_route_monitor();
  if (!routes) return give_up(ready_fd, routes.error());

  std::vector<std::string> remarks;
  Result<Gateway> gateway = Gateway::start(config, remarks);
  for (const std::string& remark : remarks) say(ready_fd, remark);
  if (!gateway) return give_up(ready_fd, gateway.error());
  if (Status status = keep_config(config); !status) tell("masqd: " + status.error().sentence);
  if (Status status = note_ready(lock); !status) tell("masqd: " + status.error().sentence);
  if (ready_fd != STDERR_FILENO) {
    say(ready_fd, kReady);
    close(ready_fd);
  }
  tell_supervisor_ready();
  Fd filters;
  // Without it, what somebody takes away is put back once a minute.
  if (Result<Fd> opened = open_filter_monitor()) filters = std::move(*opened);
  return follow(*gateway, config, lock, *signals, *monitor, *routes, filters);
}

}  // namespace

int run_daemon(const Config& config, int ready_fd, int& lock_fd) {
  signal(SIGPIPE, SIG_IGN);
  if (Status status = make_run_folder(); !status) return give_up(ready_fd, status.error());
  Result<DaemonLock> lock = take_daemon_lock(std::exchange(lock_fd, -1));
  if (!lock) return give_up(ready_fd, lock.error());
  if (lock->owner != 0 && ready_fd == STDERR_FILENO)
    return give_up(ready_fd, error("masq is running here already (masqd is process {}); nothing is "
                                   "changed.",
                                   lock->owner));
  if (lock->owner != 0) {
    say(ready_fd, kAlready);
    return 0;
  }
  const int code = serve(config, ready_fd, *lock);
  if (code == kBeginAnew) lock_fd = fcntl(lock->fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  return code;
}

}  // namespace masq
