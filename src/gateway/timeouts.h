// Changing the timers of the running gateway that the old commands can set: in force at the next
// packet of each flow, and in the configuration that a later masqd goes on with.
//
// In two steps, so that it can be a part of a larger change: `prepare` checks and writes the
// configuration, which can fail; `commit` puts it in force, which cannot; `undo` in its place
// writes back the configuration that was there. Killed in between, a later masqd has the new
// timers.
#pragma once

#include "gateway/any_datapath.h"
#include "policy/config.h"

namespace masq {

class TimeoutChange {
 public:
  // In seconds; 0 leaves one as it is.
  static Result<TimeoutChange> prepare(u32 tcp_s, u32 tcp_fin_s, u32 udp_s);
  void commit(AnyDatapath& datapath) const;
  Status undo() const;

 private:
  TimeoutChange(Config before, Config after) : before_(before), after_(after) {}

  Config before_, after_;
};

}  // namespace masq
