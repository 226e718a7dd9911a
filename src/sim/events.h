// The fake clock and what is to happen when. Events of the same moment happen in the order in which
// they were entered, so a run is the same each time. Time never goes back, and passes only between
// events: hours in which nothing happens cost nothing.
#pragma once

#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "wire/types.h"

namespace masq::sim {

using Nanos = u64;

inline constexpr Nanos kMicrosecond = 1000;
inline constexpr Nanos kMillisecond = 1000 * kMicrosecond;
inline constexpr Nanos kSecond = 1000 * kMillisecond;

class Events {
 public:
  using Action = std::function<void()>;

  Nanos now() const { return now_; }
  u64 steps() const { return steps_; }
  void after(Nanos delay, Action action) {
    waiting_.push(Event{now_ + delay, ++entered_, std::move(action)});
  }

  // Until nothing is left to do before `end`.
  void run_until(Nanos end) {
    while (!waiting_.empty() && waiting_.top().at <= end) {
      Event event = std::move(const_cast<Event&>(waiting_.top()));
      waiting_.pop();
      now_ = event.at;
      ++steps_;
      event.action();
    }
    now_ = end;
  }

 private:
  struct Event {
    Nanos at;
    u64 order;
    Action action;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  Nanos now_ = 0;
  u64 entered_ = 0;
  u64 steps_ = 0;
  std::priority_queue<Event, std::vector<Event>, Later> waiting_;
};

}  // namespace masq::sim
