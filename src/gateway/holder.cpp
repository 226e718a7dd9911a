// A fork that closes everything but the maps, gives up every right, and waits for ever.
#include "gateway/holder.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/powerless.h"

namespace masq {
namespace {

constexpr const char* kName = "masq-holder";

[[noreturn]] void hold(std::vector<int> fds, int report) {
  fds.push_back(report);
  keep_only_fds(kName, fds);
  pid_t self = getpid();
  // What it says goes out before its last right to say anything.
  if (write(report, &self, sizeof self) != sizeof self || close(report) != 0 ||
      !become_powerless({__NR_ppoll, __NR_exit_group, __NR_rt_sigreturn}))
    _exit(1);
  for (;;) ppoll(nullptr, 0, nullptr, nullptr);
}

}  // namespace

Result<int> start_holder(const std::vector<int>& fds) {
  return start_orphan("The process that keeps the maps", [&](int report) { hold(fds, report); });
}

bool holder_lives(int process) {
  return powerless_lives(kName, process);
}

int find_holder() {
  return find_powerless(kName);
}

void end_holders() {
  end_powerless(kName);
}

}  // namespace masq
