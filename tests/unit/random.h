// Random numbers of 32 bits, the same in every run.
#pragma once

#include <random>

#include "wire/types.h"

namespace masq::test {

class Random {
 public:
  explicit Random(u32 seed) : engine_(seed) {}
  u32 operator()() { return static_cast<u32>(engine_()); }

 private:
  std::mt19937 engine_;
};

}  // namespace masq::test
