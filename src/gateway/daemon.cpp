// The loop round the gateway: news from the kernel, signals, and once a minute anyway.
#include "gateway/daemon.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstring>

#include "gateway/gateway.h"

namespace masq {
namespace {

void say(int fd, const std::string& line) {
  std::string text = line + "\n";
  // Whoever listened may have gone; that changes nothing here.
  if (fd >= 0 && write(fd, text.data(), text.size()) < 0) return;
}

int give_up(int fd, const Error& why) {
  say(fd, "error: " + why.sentence);
  return 1;
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
  for (const std::string& remark : remarks) say(STDERR_FILENO, remark);
  if (!status) say(STDERR_FILENO, "error: " + status.error().sentence);
}

void follow(Gateway& gateway, const Fd& signals, const Fd& monitor, const Fd& filters) {
  // Once a minute without any event too: somebody may have taken a qdisc or a sysctl away.
  constexpr int kAnyway_ms = 60000;
  constexpr int kSettle_ms = 20;  // changes come in bursts
  for (;;) {
    // A descriptor below zero is passed over.
    pollfd fds[] = {
        {signals.get(), POLLIN, 0}, {monitor.get(), POLLIN, 0}, {filters.get(), POLLIN, 0}};
    int ready = poll(fds, 3, kAnyway_ms);
    if (ready < 0 && errno != EINTR) return;
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

int run_daemon(const Config& config, const std::string& config_file, int ready_fd) {
  signal(SIGPIPE, SIG_IGN);
  if (Status status = make_run_folder(); !status) return give_up(ready_fd, status.error());
  Result<DaemonLock> lock = take_daemon_lock();
  if (!lock) return give_up(ready_fd, lock.error());
  if (lock->owner != 0) {
    say(ready_fd,
        fmt::format("masq is running here already (masqd is process {}); nothing is changed.",
                    lock->owner));
    if (ready_fd != STDERR_FILENO) say(ready_fd, kAlready);
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
  if (!config_file.empty()) rename(config_file.c_str(), run_file("config.toml").c_str());
  if (ready_fd != STDERR_FILENO) {
    say(ready_fd, kReady);
    close(ready_fd);
  }
  Fd filters;
  if (gateway->needs_filters()) {
    // Without it, what somebody takes away is put back once a minute.
    if (Result<Fd> opened = open_filter_monitor()) filters = std::move(*opened);
  }
  follow(*gateway, *signals, *monitor, filters);
  return 0;
}

}  // namespace masq
