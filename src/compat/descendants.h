// Processes and what they have started, however far down, and however hard they tried to get away:
// setsid and double forks do not help, since orphans come to the nearest subreaper (prctl(2)).
//
// Limit: a tree that forks faster than it is ended is given up after kEndingMs, with a sentence.
#pragma once

#include <string>
#include <vector>

namespace masq {

inline constexpr int kEndingMs = 10000;

struct Descendant {
  int process;
  std::string name;
};

// Those of this process, without those that are only not waited for yet.
std::vector<Descendant> descendants();

// Waits for children that have ended. False when there is no child at all any more.
bool reap(int wanted, int& wanted_status, bool& wanted_ended);

// Ends all descendants but those named: asks them first if there is time for it, then ends them.
// All that become children of this process are waited for. False if some could not be ended.
bool end_descendants(int ask_ms, const std::vector<int>& spared = {});

}  // namespace masq
