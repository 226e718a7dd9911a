// Runs a few functions as fibers of one thread and enumerates the orders in which their atomic
// operations can happen: depth first over the choices, each run replayed from the start.
//
// A *switch* away from a fiber that could have gone on is counted; runs with more than
// `switches_max` of them are left out (Musuvathi, Qadeer 2007: two find nearly every fault). With
// kUnlimited every interleaving is run. Operations are sequentially consistent, as on the machines
// that we run on.
#pragma once

#include <functional>
#include <vector>

#include "wire/types.h"

namespace masq::test {

inline constexpr u32 kUnlimited = 0xffffffff;

struct Exploration {
  u64 runs = 0;
  u32 steps_max = 0;      // atomic operations of the longest run
  bool complete = false;  // false if `runs_max` was reached first
};

// `reset` before and `check` after each run; `check` returns false to stop.
Exploration explore(const std::vector<std::function<void()>>& fibers, u32 switches_max,
                    u64 runs_max, const std::function<void()>& reset,
                    const std::function<bool()>& check);

// In a fiber: waits until `*word` is 0, then sets it to 1. And back.
void fiber_lock(u32* word);
void fiber_unlock(u32* word);

}  // namespace masq::test
