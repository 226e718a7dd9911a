// `ifconfig` as it was: what scripts of the 2.2 time cut addresses out of ("inet addr:"). The
// programs of today print another form, and scripts that look for the old one find nothing.
//
// It only shows. Whatever would change an interface is refused with a sentence. IPv6 addresses are
// not shown: scripts that look for "inet" would take them for IPv4.
//
// Limits: the metric is always 1, as it was; interrupts and memory addresses are left out.
#pragma once

#include <net/if.h>

#include <string>
#include <vector>

#include "compat/old_modules.h"
#include "wire/types.h"

namespace masq {

struct OldCounters {
  u64 bytes = 0, packets = 0, errors = 0, dropped = 0, overruns = 0;
  u64 frame = 0;                    // received only
  u64 carrier = 0, collisions = 0;  // sent only
};

// One entry of the list: an interface, or one of its further addresses (eth0:1).
struct OldInterface {
  std::string name;
  u16 link_type = 0;  // ARPHRD_...
  std::string hardware_address;
  std::string address, broadcast, peer, mask;  // empty: none
  u32 flags = 0;                               // IFF_...
  u32 mtu = 0, queue_length = 0;
  bool is_alias = false;
  OldCounters received, sent;
};

std::string old_ifconfig_text(const OldInterface& interface);

// Those of this network namespace, in the order of the kernel.
std::vector<OldInterface> interfaces_of_this_machine();

CommandResult run_ifconfig(const std::vector<std::string>& argv,
                           const std::vector<OldInterface>& interfaces);

}  // namespace masq
