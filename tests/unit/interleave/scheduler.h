// Runs a few functions as fibers of one thread and enumerates the orders in which their atomic
// operations can happen: depth first over the choices, each run replayed from the start.
//
// Operations are sequentially consistent, as on the machines that we run on.
//
// Longer fibers have too many orders to run each to its end, but most of them lead to the same
// states. With a fingerprint of what they share, a run ends where it meets a state that was reached
// before: everything that can follow from there is being run already. Nor is there a switch before
// a load of what no fiber changes in any run. A state is that memory, and
// each fiber's stack and registers; two of them are taken for one only if their 64-bit hashes are
// the same. Every state that any order can reach is thus reached, and checked at the end of a run.
#pragma once

#include <functional>
#include <vector>

#include "wire/types.h"

namespace masq::test {

struct Exploration {
  u64 runs = 0;
  u64 states = 0;         // different ones at which there was a choice, if they were remembered
  u32 steps_max = 0;      // atomic operations of the longest run
  bool complete = false;  // false if `runs_max` was reached first
};

// `reset` before and `check` after each run that came to its end; `check` returns false to stop.
// `fingerprint` hashes all that the fibers read and write outside of their stacks; with it,
// states are remembered.
Exploration explore(const std::vector<std::function<void()>>& fibers, u64 runs_max,
                    const std::function<void()>& reset, const std::function<bool()>& check,
                    const std::function<u64()>& fingerprint = {});

u64 hash_of(const void* bytes, std::size_t count, u64 seed);

// In a fiber: waits until `*word` is 0, then sets it to 1. And back.
void fiber_lock(u32* word);
void fiber_unlock(u32* word);

}  // namespace masq::test
