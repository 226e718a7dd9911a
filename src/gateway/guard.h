// The guard: the nftables tables "inet masq_user" and "arp masq_user", beside the belt.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/settings.h"
#include "gateway/nftables.h"

namespace masq {

// What the kernel's stack must leave to the datapath in user space, of which it sees every frame.
struct Guard {
  LinkNames inside, outside;
  // Those of them that are bridges, and the hardware addresses that each takes for its own: that
  // of the bridge and those of its ports.
  std::map<std::string, std::set<std::string>> bridges;
  std::vector<Ipv4> outer;   // addresses, and broadcast addresses, of the external ones
  std::vector<Ipv4> others;  // the gateway's other addresses
  std::vector<PortRange> pool;

  bool operator==(const Guard&) const;
};

// The nftables tables "inet masq_user" and "arp masq_user": the kernel answers nothing on a port
// that only a mapping could have, nothing from outside for other addresses than the external ones,
// and sends nothing outside from another; between our interfaces it forwards nothing. Replaces what
// was there, at one stroke.
Status put_on_guard(const Guard& guard);
// How it is shown at this moment; nothing if a part of it is not there.
std::string shown_guard();
void take_off_guard();

}  // namespace masq
