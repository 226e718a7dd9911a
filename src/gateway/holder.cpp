// A fork that closes everything but the maps, gives up every right, and waits for ever.
#include "gateway/holder.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace masq {
namespace {

constexpr const char* kName = "masq-holder";
constexpr unsigned kNobody = 65534;
#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// Everything but waiting and ending kills the process.
bool allow_only_waiting() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ppoll, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigreturn, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog filter{std::size(program), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// Leaves open only the maps, says that it stands, and from then on does nothing.
[[noreturn]] void hold(std::vector<int> fds, int report) {
  setsid();
  prctl(PR_SET_NAME, kName);
  fds.push_back(report);
  std::sort(fds.begin(), fds.end());
  unsigned from = 0;
  for (int fd : fds) {
    if (fd < 0) continue;
    if (static_cast<unsigned>(fd) > from) close_range(from, static_cast<unsigned>(fd) - 1, 0);
    from = static_cast<unsigned>(fd) + 1;
  }
  close_range(from, ~0u, 0);
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  pid_t self = getpid();
  if (chdir("/") != 0 || setgroups(0, nullptr) != 0 || setgid(kNobody) != 0 ||
      setuid(kNobody) != 0 || write(report, &self, sizeof self) != sizeof self ||
      close(report) != 0 || !allow_only_waiting())
    _exit(1);
  for (;;) ppoll(nullptr, 0, nullptr, nullptr);
}

}  // namespace

Result<int> start_holder(const std::vector<int>& fds) {
  // Twice, so that it is nobody's child and leaves no zombie.
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return error("No pipe can be made ({}).", strerror(errno));
  pid_t first = fork();
  if (first == 0) {
    if (fork() == 0) hold(fds, report[1]);
    _exit(0);
  }
  close(report[1]);
  pid_t process = -1;
  ssize_t length = first < 0 ? 0 : read(report[0], &process, sizeof process);
  close(report[0]);
  if (first > 0) waitpid(first, nullptr, 0);
  if (length != sizeof process || process <= 0)
    return error("The process that keeps the maps cannot be started ({}).", strerror(errno));
  return process;
}

bool holder_lives(int process) {
  if (process <= 0) return false;
  std::ifstream file(fmt::format("/proc/{}/comm", process));
  std::string name;
  if (!std::getline(file, name) || name != kName) return false;
  struct stat mine {
  }, its{};
  return stat("/proc/self/ns/net", &mine) == 0 &&
         stat(fmt::format("/proc/{}/ns/net", process).c_str(), &its) == 0 &&
         mine.st_ino == its.st_ino;
}

int find_holder() {
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    int process = atoi(entry.path().filename().c_str());
    if (holder_lives(process)) return process;
  }
  return 0;
}

void end_holders() {
  for (int tries = 0; tries < 100; ++tries) {
    int process = find_holder();
    if (process == 0) return;
    kill(process, SIGKILL);
    usleep(5000);
  }
}

}  // namespace masq
