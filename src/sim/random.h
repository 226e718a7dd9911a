// The simulator's dice: one seed gives the whole run, on every machine and compiler (so nothing of
// <random>, whose distributions differ between libraries). SplitMix64: good enough to roll with.
// All of its sequences are one long cycle, so a seed must be mixed before it says where to begin:
// seeds that follow each other would else give the same dice, one roll later.
#pragma once

#include <vector>

#include "wire/types.h"

namespace masq::sim {

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) { state_ = next(); }

  u64 next() {
    u64 z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
  }
  // 0 to n - 1
  u32 below(u32 n) { return n == 0 ? 0 : static_cast<u32>((next() >> 32) * n >> 32); }
  // first to last, both included
  u32 between(u32 first, u32 last) { return first + below(last - first + 1); }
  bool chance(u32 in_thousand) { return below(1000) < in_thousand; }

  template <class T>
  const T& one_of(const std::vector<T>& values) {
    return values[below(static_cast<u32>(values.size()))];
  }

 private:
  u64 state_;
};

}  // namespace masq::sim
