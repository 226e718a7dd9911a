// Plays packet scripts (script.h says how they read).
//
//   packets FILE...                 through the engine, with and without a link header
//   packets --kernel FILE...        through the engine and the kernel's programs, comparing both
//   packets --kernel-alone FILE...  through the kernel's programs, to see what these show by
//                                   themselves
//   packets --reasons FILE...       every reason for refusing a packet occurs in one of the scripts
//
// Exit code 0 if all is as the scripts say.
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "packets/script.h"

namespace {

using namespace masq::test;

constexpr const char* kReasons[] = {
#define X(name, sentence) #name,
    MASQ_REASONS(X)
#undef X
};

struct Exception {
  const char* reason;
  const char* why;
};

// Reasons that no single packet after another can bring about.
constexpr Exception kNotPlayable[] = {
    {"hairpin", "needs the holder process to die; tests/netns/test_hairpin.py kills it"},
    {"hosts_full", "needs thousands of hosts; tests/unit/hosts_test.cpp has them"},
    {"contention", "needs the sweeper to win twice in a row against one packet"},
    {"internal_error", "must not be reachable by any packet"},
};

int check_reasons(const std::vector<std::string>& files) {
  std::set<std::string> seen;
  for (const std::string& file : files) seen.merge(reasons_of(file));
  int missing = 0;
  for (const char* reason : kReasons) {
    const char* why = nullptr;
    for (const Exception& e : kNotPlayable)
      if (std::strcmp(e.reason, reason) == 0) why = e.why;
    const bool is_seen = seen.count(reason) != 0;
    if (why != nullptr) std::printf("excepted %-24s %s\n", reason, why);
    if (is_seen != (why == nullptr)) {
      std::printf("%s %s\n", is_seen ? "occurs, though excepted:" : "occurs in no script:", reason);
      ++missing;
    }
  }
  std::printf("%zu reasons in %zu scripts, %d missing\n", seen.size(), files.size(), missing);
  return missing == 0 ? 0 : 1;
}

// The kernel's clock may step while a packet passes; then the script is played again.
masq::u32 play_until_steady(const std::string& file, const Plan& plan, Worlds worlds) {
  for (int i = 0; i < 20; ++i) {
    try {
      return play(file, plan, worlds);
    } catch (const Slipped&) {
    }
  }
  throw CannotRun{"The machine is too busy: the clock has stepped in each of 20 runs."};
}

bool play_file(const std::string& file, const Plan& plan, Worlds worlds) {
  try {
    masq::u32 packets;
    if (worlds != Worlds::engine) {
      packets = play_until_steady(file, plan, worlds);
    } else {
      packets = play(file, plan, worlds);
      if (file.find("ethernet") == std::string::npos)
        play(file, plan, Worlds::engine_without_link_header);
    }
    std::printf("%s: %u packets\n", file.c_str(), packets);
    return true;
  } catch (const Failure& e) {
    std::printf("%s, %s\n", file.c_str(), e.what.c_str());
  } catch (const TextError& e) {
    std::printf("%s, %s\n", file.c_str(), e.what.c_str());
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files;
  Worlds worlds = Worlds::engine;
  bool reasons = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--kernel")
      worlds = Worlds::engine_and_kernel;
    else if (argument == "--kernel-alone")
      worlds = Worlds::kernel;
    else if (argument == "--reasons")
      reasons = true;
    else
      files.push_back(argument);
  }
  if (files.empty()) {
    std::fprintf(stderr, "usage: packets [--kernel | --kernel-alone | --reasons] FILE...\n");
    return 2;
  }
  try {
    if (reasons) return check_reasons(files);
    Plan plan = default_plan();
    if (worlds != Worlds::engine) make_namespace(plan);
    bool good = true;
    for (const std::string& file : files) good &= play_file(file, plan, worlds);
    return good ? 0 : 1;
  } catch (const CannotRun& e) {
    std::fprintf(stderr, "%s\n", e.why.c_str());
  } catch (const TextError& e) {
    std::fprintf(stderr, "%s\n", e.what.c_str());
  }
  return 1;
}
