// What the kernel says of links, addresses and routes in this network namespace (rtnetlink), and
// the notice that something of it has changed. IPv4 only.
#pragma once

#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

struct Link {
  u32 ifindex = 0;
  std::string name;
  std::string kind;  // "veth", "bridge", "tun", ...; empty for plain devices
  u32 mtu = 0;
  u16 type = 0;  // ARPHRD_*
  bool up = false;
  bool running = false;  // up, and what it is plugged into is there
  bool loopback = false;
  u32 master = 0;                // the bridge or bond that it belongs to
  std::string hardware_address;  // in text; empty if it is none of Ethernet's
};

struct Address {
  u32 ifindex = 0;
  Ipv4 address{};
  Ipv4 broadcast{};  // 0 if there is none
  u8 prefix_length = 0;
};

struct DefaultRoute {
  u32 ifindex = 0;
  u32 metric = 0;
  Ipv4 next_hop{};  // 0: the link itself, or a next hop of IPv6
};

// A route by a next hop to somewhere else than everywhere.
struct WayOut {
  u32 ifindex = 0;
  Ipv4 destination{};
};

struct NetworkState {
  std::vector<Link> links;
  std::vector<Address> addresses;  // in the kernel's order: the first of a link is its primary one
  std::vector<DefaultRoute> default_routes;
  std::vector<WayOut> ways_out;

  const Link* link_named(const std::string& name) const;
  const Link* link_at(u32 ifindex) const;
  // Does any default route lead there, whatever its metric?
  bool is_uplink(u32 ifindex) const;
};

Result<NetworkState> read_network();

// A socket that becomes readable when links, addresses or default routes change.
Result<Fd> open_network_monitor();
// One for every change of a route. There may be thousands of those in a second, where a routing
// daemon runs.
Result<Fd> open_route_monitor();
// Reads away what has come.
void drain_network_monitor(const Fd& monitor);

std::string to_text(Ipv4 address);
std::string to_text(Ipv4 address, Port port);

}  // namespace masq
