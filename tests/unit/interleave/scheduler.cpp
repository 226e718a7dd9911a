// Fibers that take turns at every atomic operation, by a list of choices that is replayed.
#include "interleave/scheduler.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unordered_set>

namespace masq {

namespace test {

namespace {

constexpr std::size_t kStackSize = 64 * 1024;

struct Choice {
  u32 chosen;   // position in the list of fibers that could go on
  u32 options;  // how many there were
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  u32* waits_for = nullptr;  // a lock
  bool done = false;
};

class Scheduler {
 public:
  explicit Scheduler(const std::vector<std::function<void()>>& functions) : functions_(functions) {
    fibers_.resize(functions.size());
    for (Fiber& f : fibers_) f.stack = std::make_unique<char[]>(kStackSize);
  }

  // What a fiber knows, for the fingerprint of a state, lies on its stack and in its registers; the
  // rest is the caller's.
  void remember_states(const std::function<u64()>& fingerprint) { fingerprint_ = &fingerprint; }

  // False if the run ended in a state that had been reached before: all that can follow is known.
  bool run_once() {
    active = this;
    known_ = false;
    depth_ = steps_ = 0;
    for (std::size_t i = 0; i < fibers_.size(); ++i) {
      Fiber& f = fibers_[i];
      f.done = false;
      f.waits_for = nullptr;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = kStackSize;
      f.context.uc_link = nullptr;
      std::memset(f.stack.get(), 0, kStackSize);
      makecontext(&f.context, enter, 0);
    }
    running_ = kNobody;
    // Between two operations nobody runs, so that every fiber's registers lie in its context.
    for (;;) {
      const u32 next = choose();
      if (next == kNobody) break;
      running_ = next;
      swapcontext(&main_, &fibers_[next].context);
    }
    active = nullptr;
    return !known_;
  }

  // The next run, or false if there is none.
  bool advance() {
    path_.resize(depth_);
    while (!path_.empty()) {
      Choice& last = path_.back();
      if (last.chosen + 1 < last.options) {
        ++last.chosen;
        return true;
      }
      path_.pop_back();
    }
    return false;
  }

  void step() {
    ++steps_;
    pause();
  }

  // Who loads what nobody changes cannot be disturbed.
  void load(const void* at) {
    if (fingerprint_ == nullptr || changed_.count(at) != 0) step();
  }
  void change(const void* at) {
    if (changed_.insert(at).second) more_changed_ = true;
    step();
  }
  // Has a place been changed that was thought to be left alone? Then begin again: runs so far have
  // not switched before loads of it.
  bool must_begin_again() {
    if (fingerprint_ == nullptr || !more_changed_) return false;
    more_changed_ = false;
    path_.clear();
    seen_.clear();
    return true;
  }

  void lock(u32* word) {
    step();
    while (*word != 0) {
      fibers_[running_].waits_for = word;
      pause();
    }
    fibers_[running_].waits_for = nullptr;
    *word = 1;
  }

  void unlock(u32* word) {
    step();
    *word = 0;
  }

  u32 steps() const { return steps_; }
  u64 states() const { return seen_.size(); }

  static Scheduler* active;

 private:
  static constexpr u32 kNobody = 0xffffffff;

  static void enter() {
    Scheduler& s = *active;
    const u32 self = s.running_;
    s.functions_[self]();
    s.fibers_[self].done = true;
    setcontext(&s.main_);
    std::abort();
  }

  bool can_go(u32 i) const {
    const Fiber& f = fibers_[i];
    return !f.done && (f.waits_for == nullptr || *f.waits_for == 0);
  }

  u32 choose() {
    u32 options[8];
    u32 count = 0;
    const bool current = running_ != kNobody && can_go(running_);
    if (current) options[count++] = running_;
    for (u32 i = 0; i < fibers_.size(); ++i)
      if ((!current || i != running_) && can_go(i)) options[count++] = i;
    if (count == 0) {
      for (const Fiber& f : fibers_)
        if (!f.done) {
          std::fprintf(stderr, "deadlock: every fiber waits for a lock\n");
          std::abort();
        }
      return kNobody;
    }
    if (count == 1) return options[0];
    if (depth_ == path_.size()) {
      if (fingerprint_ != nullptr && !seen_.insert(state()).second) {
        known_ = true;
        return kNobody;
      }
      path_.push_back({0, count});
    }
    return options[path_[depth_++].chosen];
  }

  void pause() { swapcontext(&fibers_[running_].context, &main_); }

  // Everything on which the rest of the run depends.
  u64 state() const {
    u64 hash = (*fingerprint_)();
    for (const Fiber& f : fibers_) {
      hash = hash_of(&f.done, sizeof(f.done), hash);
      if (f.done) continue;
      hash = hash_of(&f.waits_for, sizeof(f.waits_for), hash);
      const auto& registers = f.context.uc_mcontext.gregs;
      hash = hash_of(registers, sizeof(registers), hash);
      const char* top = f.stack.get() + kStackSize;
      const char* at = reinterpret_cast<const char*>(registers[REG_RSP]);
      hash = hash_of(at, static_cast<std::size_t>(top - at), hash);
    }
    return hash;
  }

  const std::vector<std::function<void()>>& functions_;
  std::vector<Fiber> fibers_;
  ucontext_t main_{};
  u32 running_ = kNobody;
  std::vector<Choice> path_;
  std::size_t depth_ = 0;
  u32 steps_ = 0;
  const std::function<u64()>* fingerprint_ = nullptr;
  std::unordered_set<u64> seen_;
  bool known_ = false;
  std::unordered_set<const void*> changed_;
  bool more_changed_ = false;
};

Scheduler* Scheduler::active = nullptr;

}  // namespace

Exploration explore(const std::vector<std::function<void()>>& fibers, u64 runs_max,
                    const std::function<void()>& reset, const std::function<bool()>& check,
                    const std::function<u64()>& fingerprint) {
  Scheduler scheduler(fibers);
  if (fingerprint) scheduler.remember_states(fingerprint);
  Exploration e;
  do {
    reset();
    const bool to_the_end = scheduler.run_once();
    ++e.runs;
    if (scheduler.steps() > e.steps_max) e.steps_max = scheduler.steps();
    if (to_the_end && !check()) return e;
    if (e.runs == runs_max) return e;
  } while (scheduler.must_begin_again() || scheduler.advance());
  e.states = scheduler.states();
  e.complete = true;
  return e;
}

u64 hash_of(const void* bytes, std::size_t count, u64 seed) {
  constexpr u64 kFactor = 0x9e3779b97f4a7c15ull;
  constexpr std::size_t kLanes = 4;  // side by side, since each waits for its multiplication
  const char* at = static_cast<const char*>(bytes);
  u64 lane[kLanes] = {seed, seed + 1, seed + 2, count};
  u64 word[kLanes];
  while (count != 0) {
    const std::size_t taken = std::min(count, sizeof(word));
    if (taken < sizeof(word)) std::memset(word, 0, sizeof(word));
    std::memcpy(word, at, taken);
    for (std::size_t i = 0; i < kLanes; ++i) {
      lane[i] = (lane[i] ^ word[i]) * kFactor;
      lane[i] ^= lane[i] >> 32;
    }
    at += taken;
    count -= taken;
  }
  u64 hash = 0;
  for (const u64 one : lane) hash = ((hash ^ one) * kFactor) ^ one >> 29;
  return hash;
}

void fiber_lock(u32* word) {
  Scheduler::active->lock(word);
}

void fiber_unlock(u32* word) {
  Scheduler::active->unlock(word);
}

}  // namespace test

void interleave_load(const void* at) {
  if (test::Scheduler::active != nullptr) test::Scheduler::active->load(at);
}
void interleave_change(const void* at) {
  if (test::Scheduler::active != nullptr) test::Scheduler::active->change(at);
}
void interleave_here() {
  if (test::Scheduler::active != nullptr) test::Scheduler::active->step();
}

}  // namespace masq
