// Reads parents from /proc, since a kernel need not keep lists of children.
#include "compat/descendants.h"

#include <dirent.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

namespace masq {
namespace {

constexpr int kPauseMs = 5;

struct Process {
  int parent = 0;
  std::string name;
  char state = '?';
};

std::map<int, Process> all_processes() {
  std::map<int, Process> all;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return all;
  while (const dirent* entry = readdir(folder)) {
    int number = atoi(entry->d_name);
    if (number <= 0) continue;
    std::ifstream file("/proc/" + std::string(entry->d_name) + "/stat");
    std::stringstream text;
    text << file.rdbuf();
    // 12 (name with ) and blanks) S 1 ...
    std::string line = text.str();
    std::size_t open = line.find('('), close = line.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    Process process;
    process.name = line.substr(open + 1, close - open - 1);
    std::istringstream rest(line.substr(close + 1));
    rest >> process.state >> process.parent;
    all[number] = process;
  }
  closedir(folder);
  return all;
}

void wait_ms(int milliseconds) {
  poll(nullptr, 0, milliseconds);
}

int elapsed_ms(std::chrono::steady_clock::time_point since) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(
                              std::chrono::steady_clock::now() - since)
                              .count());
}

std::vector<Descendant> descendants_but(const std::vector<int>& spared) {
  std::map<int, Process> all = all_processes();
  std::set<int> ours = {getpid()};
  std::vector<Descendant> found;
  // Parents need not have smaller numbers than their children.
  for (bool grows = true; grows;) {
    grows = false;
    for (const auto& [number, process] : all) {
      bool is_spared = std::find(spared.begin(), spared.end(), number) != spared.end();
      if (is_spared || ours.count(process.parent) == 0 || !ours.insert(number).second) continue;
      grows = true;
      if (process.state != 'Z' && process.state != 'X') found.push_back({number, process.name});
    }
  }
  return found;
}

// Children that have ended are waited for, but not the spared ones: they are somebody else's.
void reap_but(const std::vector<int>& spared) {
  for (const auto& [number, process] : all_processes())
    if (process.parent == getpid() && process.state == 'Z' &&
        std::find(spared.begin(), spared.end(), number) == spared.end())
      waitpid(number, nullptr, WNOHANG);
}

}  // namespace

std::vector<Descendant> descendants() {
  return descendants_but({});
}

bool reap(int wanted, int& wanted_status, bool& wanted_ended) {
  for (;;) {
    int status = 0;
    int ended = waitpid(-1, &status, WNOHANG);
    if (ended < 0 && errno == EINTR) continue;
    if (ended <= 0) return ended == 0;
    if (ended != wanted) continue;
    wanted_status = status;
    wanted_ended = true;
  }
}

bool end_descendants(int ask_ms, const std::vector<int>& spared) {
  auto began = std::chrono::steady_clock::now();
  // Only once: what a trap starts when it is asked has to live until it has done its work.
  if (ask_ms > 0)
    for (const Descendant& each : descendants_but(spared)) kill(each.process, SIGTERM);
  for (;;) {
    reap_but(spared);
    std::vector<Descendant> left = descendants_but(spared);
    if (left.empty()) return true;
    int since_ms = elapsed_ms(began);
    if (since_ms > ask_ms + kEndingMs) return false;
    if (since_ms >= ask_ms)
      for (const Descendant& each : left) kill(each.process, SIGKILL);
    wait_ms(kPauseMs);
  }
}

}  // namespace masq
