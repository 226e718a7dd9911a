// External: where the default route leads. Internal: every other link that is up and has a private
// address (RFC 1918, RFC 6598), except those that containers, virtual machines and VPNs make for
// themselves: what they need stays with the kernel. Where default routes lead through several links
// nothing is guessed: a second uplink often has a private address too. Nor is a link taken for the
// inside by which a next hop leads to public addresses: so the uplink looks under a VPN that has
// the default route.
#include "gateway/interfaces.h"

#include <linux/if_arp.h>

#include <algorithm>
#include <cstring>

namespace masq {
namespace {

bool is_private(Ipv4 address) {
  u32 host = to_host(address);
  return host >> 24 == 10 || host >> 20 == 0xac1 || host >> 16 == 0xc0a8 || host >> 22 == 0x191;
}

bool is_made_by_others(const Link& link) {
  for (const char* prefix : {"docker", "br-", "virbr", "veth", "cni", "flannel", "cali", "lxc",
                             "vnet", "tailscale", "zt", "podman"})
    if (link.name.starts_with(prefix)) return true;
  return link.kind == "wireguard" || link.kind == "tun" || link.type == ARPHRD_NONE;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Those of the running gateway may have gone: it waits for them.
Status check_named(const std::vector<std::string>& names, const NetworkState& network,
                   const OurInterfaces& kept) {
  for (const std::string& name : names) {
    if (contains(kept.external, name) || contains(kept.internal, name)) continue;
    const Link* link = network.link_named(name);
    if (link == nullptr) {
      std::string known;
      for (const Link& each : network.links)
        if (!each.loopback) known += (known.empty() ? "" : ", ") + each.name;
      return error("There is no interface {}; this machine has {}.", name,
                   known.empty() ? "none but the loopback" : known);
    }
    if (!is_plain_name(name))
      return error(
          "An interface whose name has other characters than letters, digits and . _ - : @ "
          "cannot be used; `ip link set` gives it another.");
    if (link->loopback) return error("{} is the loopback interface; name another.", name);
    if (link_header_length(*link) < 0)
      return error("{} is neither an Ethernet nor a plain IP device; masq cannot use it yet.",
                   name);
  }
  return Done{};
}

Status find_external(const NetworkState& network, ChosenInterfaces& chosen) {
  if (network.default_routes.empty())
    return error(
        "There is no default route to find the outside by; name it with --external IF, which may "
        "be given before the interface has its address.");
  for (const DefaultRoute& route : network.default_routes) {
    const Link* link = network.link_at(route.ifindex);
    if (link != nullptr && !contains(chosen.external, link->name))
      chosen.external.push_back(link->name);
  }
  if (chosen.external.size() > 1)
    return error(
        "Default routes lead through {}; say with --external which of them are the outside, and "
        "with --internal what is the inside.",
        fmt::join(chosen.external, " and "));
  if (chosen.external.empty()) return error("The default route leads nowhere; use --external.");
  chosen.remarks.push_back(
      fmt::format("{} is external: the default route leads there.", chosen.external.front()));
  return Done{};
}

bool leads_to_public(const NetworkState& network, const Link& link) {
  return std::any_of(network.ways_out.begin(), network.ways_out.end(), [&](const WayOut& way) {
    return way.ifindex == link.ifindex && !is_private(way.destination);
  });
}

bool has_private_address(const NetworkState& network, const Link& link, Address& found) {
  for (const Address& address : network.addresses) {
    if (address.ifindex != link.ifindex || !is_private(address.address)) continue;
    found = address;
    return true;
  }
  return false;
}

Status find_internal(const NetworkState& network, ChosenInterfaces& chosen) {
  chosen.internal_found = true;
  for (const Link& link : network.links) {
    if (link.loopback || !link.up || link.master != 0 || is_made_by_others(link)) continue;
    if (link_header_length(link) < 0 || contains(chosen.external, link.name)) continue;
    if (network.is_uplink(link.ifindex)) continue;
    Address address;
    if (!has_private_address(network, link, address)) continue;
    if (leads_to_public(network, link)) {
      chosen.remarks.push_back(
          fmt::format("{} is left alone: a route to public addresses leads there, so it may be a "
                      "way out. If it is internal, name it with --internal.",
                      link.name));
      continue;
    }
    chosen.internal.push_back(link.name);
    chosen.remarks.push_back(fmt::format("{} is internal: it has the private address {}/{}.",
                                         link.name, to_text(address.address),
                                         address.prefix_length));
  }
  if (chosen.internal.empty())
    return error("No other interface has a private address; name the inside with --internal.");
  return Done{};
}

}  // namespace

bool is_plain_name(const std::string& name) {
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("._-:@", c) != nullptr;
  });
}

int link_header_length(const Link& link) {
  if (link.type == ARPHRD_ETHER) return 14;
  if (link.type == ARPHRD_NONE || link.type == ARPHRD_PPP || link.type == ARPHRD_RAWIP) return 0;
  return -1;
}

Result<ChosenInterfaces> choose_interfaces(const Config& config, const NetworkState& network,
                                           const OurInterfaces& kept) {
  ChosenInterfaces chosen;
  chosen.indexes = kept.indexes;
  chosen.external = config.external.empty() ? kept.external : config.external;
  for (const auto* names : {&config.external, &config.internal})
    if (Status status = check_named(*names, network, kept); !status) return status.error();
  if (chosen.external.empty())
    if (Status status = find_external(network, chosen); !status) return status.error();
  chosen.internal = config.internal;
  if (chosen.internal.empty()) {
    chosen.internal_found = kept.internal_found;
    for (const std::string& name : kept.internal)
      if (!contains(config.external, name)) chosen.internal.push_back(name);
  }
  if (chosen.internal.empty() && kept.closed.empty())
    if (Status status = find_internal(network, chosen); !status) return status.error();
  for (const std::string& name : kept.closed)
    if (!contains(chosen.external, name) && !contains(chosen.internal, name))
      chosen.closed.push_back(name);
  for (const auto* names : {&chosen.external, &chosen.internal})
    if (Status status = check_named(*names, network, kept); !status) return status.error();
  for (const std::string& name : chosen.external)
    if (contains(chosen.internal, name))
      return error("{} cannot be external and internal at once.", name);
  return chosen;
}

}  // namespace masq
