// What rules would say of a flow that is there, in both directions, at its next packet: the core's
// own judge (core/judge.h) on a copy of the tables, changing and counting nothing.
//
// The packet that is asked about is one in the middle of the flow, not a SYN. Of ICMP it is a query
// and its answer.
#pragma once

#include "core/judge.h"

namespace masq {

// Reason::none: it may pass.
struct FlowJudgement {
  Reason out, in;
};

// By the rules in that half of tables.rules; `inner_bit`: of the interface to the inner host.
FlowJudgement judge_known_flow(const Tables& tables, const Settings& settings, u32 half, u32 index,
                               u32 inner_bit);

}  // namespace masq
