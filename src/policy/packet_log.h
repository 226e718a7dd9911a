// The line about a packet that fitted a rule with -l, as Linux 2.2 wrote it (kern.info):
//
//   Packet log: CHAIN TARGET[ port] IF PROTO=p source:port destination:port L= S= I= F= T=
//   [SYN ](#n)
//
// CHAIN is the one that has the rule, "-" stands for a rule without a target, IF is the interface
// that the chain looks at. Of ICMP the ports are type and code; what has no ports has 65535. L is
// the length, S the type of service, I the identification, F flags and offset of a fragment, T the
// time to live. Limit: IP options (O=) are not shown.
#pragma once

#include <string>

#include "core/judge.h"

namespace masq {

// `half`: of the generation by which the packet was judged. `interface` may be empty.
std::string packet_log_line(const LoggedPacket& packet, const RuleHalf& half,
                            const std::string& interface);

}  // namespace masq
