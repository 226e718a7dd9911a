// Runs the simulator: src/sim/world.h says what is in it, src/sim/invariants.h what must hold.
//
//   masq_sim --seed N --time_s S          one run
//   masq_sim --seeds A-B --time_s S       one after another
//   masq_sim --from N --for_s T --time_s S   as many seeds as go into T seconds of real time
//
//   --about TEXT     also prints the packets in whose words this occurs, such as 192.168.2.10:40000
//
// A run in which something does not hold prints the seed, the step, the invariant and the last
// packets; the same seed and time repeat it exactly. Exit code 0 if all held.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sim/world.h"

namespace {

using namespace masq;

struct Options {
  u64 first = 1, last = 1;
  u32 time_s = 7440;
  u32 for_s = 0;
  std::string about;
};

bool run(u64 seed, u32 time_s, const std::string& about) {
  sim::World world(seed, sim::Modes{});
  world.show(about);
  try {
    world.run(time_s);
  } catch (const sim::Broken& broken) {
    std::printf(
        "seed %llu, step %llu, second %.3f: %s does not hold\n  %s\nThe last packets:\n%s"
        "Again: masq_sim --seed %llu --time_s %u\n",
        seed, world.events().steps(), static_cast<double>(world.events().now()) / 1e9,
        name_of(broken.invariant), broken.what.c_str(), world.last_packets().c_str(), seed, time_s);
    return false;
  }
  std::printf("seed %llu, %u s: %s\n", seed, time_s, world.summary().c_str());
  return true;
}

bool read(int argc, char** argv, Options& o) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const u64 value = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seed") {
      o.first = o.last = value;
    } else if (name == "--seeds") {
      const char* dash = std::strchr(argv[i + 1], '-');
      o.first = value;
      o.last = dash == nullptr ? value : std::strtoull(dash + 1, nullptr, 10);
    } else if (name == "--from") {
      o.first = value;
    } else if (name == "--for_s") {
      o.for_s = static_cast<u32>(value);
    } else if (name == "--time_s") {
      o.time_s = static_cast<u32>(value);
    } else if (name == "--about") {
      o.about = argv[i + 1];
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  if (!read(argc, argv, o)) {
    std::fprintf(stderr,
                 "usage: masq_sim [--seed N | --seeds A-B | --from N --for_s T] "
                 "[--time_s S] [--about TEXT]\n");
    return 2;
  }
  const auto began = std::chrono::steady_clock::now();
  const auto is_late = [&] {
    return std::chrono::steady_clock::now() - began > std::chrono::seconds(o.for_s);
  };
  u64 runs = 0;
  bool good = true;
  for (u64 seed = o.first; o.for_s != 0 ? !is_late() : seed <= o.last; ++seed, ++runs)
    if (!run(seed, o.time_s, o.about)) {
      good = false;
      break;
    }
  if (good) std::printf("%llu runs, every invariant held\n", runs);
  return good ? 0 : 1;
}
