// Forks, gives up rights, and finds what has been started.
#include "gateway/powerless.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
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

constexpr unsigned kNobody = 65534;
#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#endif

bool allow_only(const std::vector<unsigned>& calls) {
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (unsigned call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

void keep_only_fds(const char* name, std::vector<int> fds) {
  prctl(PR_SET_NAME, name);
  setsid();
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
}

bool become_powerless(const std::vector<unsigned>& calls) {
  return chdir("/") == 0 && setgroups(0, nullptr) == 0 && setgid(kNobody) == 0 &&
         setuid(kNobody) == 0 && allow_only(calls);
}

Result<int> start_orphan(const char* what, const std::function<void(int report)>& body) {
  // Twice, so that it is nobody's child and leaves no zombie.
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return error("No pipe can be made ({}).", strerror(errno));
  pid_t first = fork();
  if (first == 0) {
    if (fork() == 0) body(report[1]);
    _exit(0);
  }
  close(report[1]);
  pid_t process = -1;
  ssize_t length = first < 0 ? 0 : read(report[0], &process, sizeof process);
  close(report[0]);
  if (first > 0) waitpid(first, nullptr, 0);
  if (length != sizeof process || process <= 0) return error("{} cannot be started.", what);
  return process;
}

bool powerless_lives(const char* name, int process) {
  if (process <= 0) return false;
  std::ifstream file(fmt::format("/proc/{}/comm", process));
  std::string its_name;
  if (!std::getline(file, its_name) || its_name != name) return false;
  struct stat mine {
  }, its{};
  return stat("/proc/self/ns/net", &mine) == 0 &&
         stat(fmt::format("/proc/{}/ns/net", process).c_str(), &its) == 0 &&
         mine.st_ino == its.st_ino;
}

int find_powerless(const char* name) {
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    int process = atoi(entry.path().filename().c_str());
    if (powerless_lives(name, process)) return process;
  }
  return 0;
}

void end_powerless(const char* name) {
  for (int tries = 0; tries < 100; ++tries) {
    int process = find_powerless(name);
    if (process == 0) return;
    kill(process, SIGKILL);
    usleep(5000);
  }
}

}  // namespace masq
