// Other packet filters on the machine: what masq says about them, and the second belt that it puts
// on against the kernel's own forwarding.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/settings.h"
#include "gateway/fd.h"
#include "policy/result.h"

namespace masq {

// One sentence for each rule set that packets between inside and outside do not go through.
std::vector<std::string> remarks_on_other_filters();

// The nftables table "inet masq_belt": by the kernel's own forwarding, nothing passes between the
// inner interfaces and any that is not named here as one of the others, and nothing by those that
// are closed. It goes by names, so it holds also for an interface that has been made anew and has
// no program yet.
struct Belt {
  std::vector<std::string> inside, others, closed;  // interfaces
  bool block_ipv6 = true;                           // IPv4 is always

  bool operator==(const Belt&) const = default;
};
// Replaces what was there.
Status put_on_belt(const Belt& belt);
// What the kernel has of it, in the words of nft; empty if there is no such table.
std::string list_belt();
void take_off_belt();

// What the kernel's stack must leave to the datapath in user space, of which it sees every frame.
struct Guard {
  std::vector<std::string> inside, outside;  // interfaces
  std::map<std::string, u32> indexes;        // of both
  // Those of them that are bridges, and the hardware addresses that each takes for its own: that
  // of the bridge and those of its ports.
  std::map<std::string, std::set<std::string>> bridges;
  std::vector<Ipv4> outer;   // addresses, and broadcast addresses, of the external ones
  std::vector<Ipv4> others;  // the gateway's other addresses
  std::vector<PortRange> pool;
  bool block_ipv6 = true;

  bool operator==(const Guard&) const;
};

// The nftables tables "inet masq_user" and "arp masq_user": the kernel answers nothing on a port
// that only a mapping could have, nothing from outside for other addresses than the external ones,
// and sends nothing outside from another; between our interfaces it forwards nothing. Replaces what
// was there, at one stroke. By names, and by numbers.
Status put_on_guard(const Guard& guard);
std::string list_guard();
// A socket that becomes readable when anybody changes nftables; for drain_network_monitor.
Result<Fd> open_filter_monitor();
void take_off_guard();

}  // namespace masq
