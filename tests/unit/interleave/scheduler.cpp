// Fibers that take turns at every atomic operation, by a list of choices that is replayed.
#include "interleave/scheduler.h"

#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace masq {

namespace test {

namespace {

constexpr std::size_t kStackSize = 256 * 1024;

struct Choice {
  u32 chosen;   // position in the list of fibers that could go on
  u32 options;  // how many there were
  bool costs;   // position 0 is the fiber that was running, so others cost a switch
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

  void run_once(u32 switches_max) {
    active = this;
    switches_left_ = switches_max;
    depth_ = steps_ = 0;
    for (std::size_t i = 0; i < fibers_.size(); ++i) {
      Fiber& f = fibers_[i];
      f.done = false;
      f.waits_for = nullptr;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = kStackSize;
      f.context.uc_link = nullptr;
      makecontext(&f.context, enter, 0);
    }
    running_ = kNobody;
    const u32 first = choose();
    running_ = first;
    swapcontext(&main_, &fibers_[first].context);
    active = nullptr;
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
    switch_to(choose());
  }

  void lock(u32* word) {
    step();
    while (*word != 0) {
      fibers_[running_].waits_for = word;
      switch_to(choose());
    }
    fibers_[running_].waits_for = nullptr;
    *word = 1;
  }

  void unlock(u32* word) {
    step();
    *word = 0;
  }

  u32 steps() const { return steps_; }

  static Scheduler* active;

 private:
  static constexpr u32 kNobody = 0xffffffff;

  static void enter() {
    Scheduler& s = *active;
    const u32 self = s.running_;
    s.functions_[self]();
    s.fibers_[self].done = true;
    const u32 next = s.choose();
    if (next == kNobody) {
      setcontext(&s.main_);
    } else {
      s.running_ = next;
      setcontext(&s.fibers_[next].context);
    }
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
    if (!current || switches_left_ != 0)
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
    if (depth_ == path_.size()) path_.push_back({0, count, current});
    const u32 chosen = path_[depth_++].chosen;
    if (current && chosen != 0 && switches_left_ != kUnlimited) --switches_left_;
    return options[chosen];
  }

  void switch_to(u32 next) {
    if (next == running_) return;
    const u32 self = running_;
    running_ = next;
    swapcontext(&fibers_[self].context, &fibers_[next].context);
  }

  const std::vector<std::function<void()>>& functions_;
  std::vector<Fiber> fibers_;
  ucontext_t main_{};
  u32 running_ = kNobody;
  u32 switches_left_ = 0;
  std::vector<Choice> path_;
  std::size_t depth_ = 0;
  u32 steps_ = 0;
};

Scheduler* Scheduler::active = nullptr;

}  // namespace

Exploration explore(const std::vector<std::function<void()>>& fibers, u32 switches_max,
                    u64 runs_max, const std::function<void()>& reset,
                    const std::function<bool()>& check) {
  Scheduler scheduler(fibers);
  Exploration e;
  do {
    reset();
    scheduler.run_once(switches_max);
    ++e.runs;
    if (scheduler.steps() > e.steps_max) e.steps_max = scheduler.steps();
    if (!check()) return e;
    if (e.runs == runs_max) return e;
  } while (scheduler.advance());
  e.complete = true;
  return e;
}

void fiber_lock(u32* word) {
  Scheduler::active->lock(word);
}

void fiber_unlock(u32* word) {
  Scheduler::active->unlock(word);
}

}  // namespace test

void interleave_here() {
  if (test::Scheduler::active != nullptr) test::Scheduler::active->step();
}

}  // namespace masq
