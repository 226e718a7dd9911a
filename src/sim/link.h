// A link that loses, doubles, delays and reorders packets (a packet that is delayed for longer
// falls behind those that were sent after it). Sizes are the ends' and the gateway's matter.
#pragma once

#include "sim/events.h"
#include "sim/random.h"

namespace masq::sim {

struct LinkPlan {
  u32 loss = 0, doubling = 0, lateness = 0;  // of a thousand
  Nanos delay = kMillisecond, late = 0;      // late: at most so much more
};

class Link {
 public:
  Link(Events& events, Random& random, const LinkPlan& plan)
      : events_(events), random_(random), plan_(plan) {}

  template <class Deliver>
  void carry(Deliver deliver) {
    if (random_.chance(plan_.loss)) return;
    const u32 copies = random_.chance(plan_.doubling) ? 2 : 1;
    for (u32 i = 0; i < copies; ++i) {
      Nanos delay = plan_.delay;
      if (random_.chance(plan_.lateness))
        delay += random_.below(static_cast<u32>(plan_.late / kMicrosecond) + 1) * kMicrosecond;
      events_.after(delay + i * kMicrosecond, deliver);
    }
  }

 private:
  Events& events_;
  Random& random_;
  const LinkPlan plan_;
};

}  // namespace masq::sim
