// The gateway's care for what the kernel would do by itself: forwarding, the belt, the guard.
#include <algorithm>

#include "gateway/gateway.h"

namespace masq {
namespace {

void add_link(LinkNames& to, const Link& link) {
  if (is_plain_name(link.name)) to.names.push_back(link.name);
  to.indexes.push_back(link.ifindex);
}

}  // namespace

bool needs_belt(const Settings& settings) {
  return machine_forwards() || (settings.block_ipv6 && ipv6_is_forwarded());
}

// Also where the kernel does not forward: somebody may let it do so when no masqd is alive to see
// it, and an interface made anew then has no program.
Status Gateway::keep_belt(const NetworkState& network, std::vector<std::string>& remarks) {
  Belt belt;
  belt.block_ipv6 = datapath().settings().block_ipv6;
  // Inner hosts and other zones (containers, a VPN) may talk, as before. Whatever carries a default
  // route is another way out, and closed.
  for (const Link& link : network.links) {
    Zone zone = zone_of(network, link);
    bool uplink = network.is_uplink(link.ifindex);
    if (zone == Zone::inside) add_link(belt.inside, link);
    if (zone != Zone::other || uplink || link.name == kSlowName) continue;
    if (is_plain_name(link.name))
      belt.others.push_back(link.name);
    else
      remarks.push_back(
          fmt::format("The kernel forwards nothing between the inside and {}, whose name has other "
                      "characters than letters, digits and . _ - : @.",
                      link.name));
  }
  belt.closed.names = contested_;
  // Also what has gone: the kernel would forward for it in the moment when it comes back.
  for (const std::string& name : interfaces_.internal)
    if (our_link(network, name) == nullptr) belt.inside.names.push_back(name);
  for (const std::string& name : interfaces_.closed) {
    const Link* link = our_link(network, name);
    if (link != nullptr)
      add_link(belt.closed, *link);
    else
      belt.closed.names.push_back(name);
  }
  if (belt == belt_ && !shown_belt_.empty() && shown_belt() == shown_belt_) return Done{};
  Status status = put_on_belt(belt);
  if (!status && needs_belt(datapath().settings())) return status;
  if (!status)
    remarks.push_back(status.error().sentence +
                      " Leave the kernel's forwarding off: nothing else keeps inside and outside "
                      "apart when masqd is dead and an interface is made anew.");
  belt_ = belt;
  shown_belt_ = shown_belt();
  return Done{};
}

// Nothing between our interfaces by the kernel's own forwarding; the loopback interface is the one
// that route look-ups are made for.
Status Gateway::close_kernel_path(const NetworkState& network, std::vector<std::string>& remarks) {
  const bool forwards = machine_forwards();
  if (Status status = keep_belt(network, remarks); !status) return status;
  for (const auto* names : {&interfaces_.internal, &interfaces_.external, &interfaces_.closed}) {
    for (const std::string& name : *names) {
      const Link* link = our_link(network, name);
      if (link == nullptr || forwards) continue;
      Status status = set_sysctl(state_, sysctl_of(link->name, "forwarding"), "0");
      if (!status) return status;
    }
  }
  for (const std::string& name : interfaces_.external) {
    const Link* link = our_link(network, name);
    if (link == nullptr) continue;
    // Never the inner address as the sender of an ARP request.
    Status status = set_sysctl(state_, sysctl_of(link->name, "arp_announce"), "2");
    if (!status && !user_) return status;
  }
  Status status = set_sysctl(state_, sysctl_of("lo", "forwarding"), "1");
  // In a container /proc/sys may be closed. In user space both can be done without: the guard stops
  // such ARP requests, and routes are asked for in another way.
  return user_ ? Done{} : status;
}

// The rules that keep the kernel's stack out of what the datapath in user space does. Anew whenever
// something has changed, or somebody has taken them away.
Status Gateway::keep_guard(const NetworkState& network) {
  if (!user_) return Done{};
  Guard guard;
  for (const Link& link : network.links) {
    Zone zone = zone_of(network, link);
    if (zone == Zone::inside) add_link(guard.inside, link);
    if (zone == Zone::outside) add_link(guard.outside, link);
    if ((zone != Zone::inside && zone != Zone::outside) || link.kind != "bridge") continue;
    if (!is_plain_name(link.name)) continue;
    for (const Link& each : network.links)
      if ((each.ifindex == link.ifindex || each.master == link.ifindex) &&
          !each.hardware_address.empty())
        guard.bridges[link.name].insert(each.hardware_address);
  }
  for (const Address& address : network.addresses) {
    const Link* link = network.link_at(address.ifindex);
    if (link == nullptr || zone_of(network, *link) != Zone::outside) {
      guard.others.push_back(address.address);
      continue;
    }
    for (Ipv4 each : {address.address, address.broadcast})
      if (each.be != 0 && std::none_of(guard.outer.begin(), guard.outer.end(),
                                       [&](Ipv4 known) { return same(known, each); }))
        guard.outer.push_back(each);
  }
  const Settings& s = datapath().settings();
  guard.pool.assign(std::begin(s.pool), std::end(s.pool));
  if (guard.outside.empty() || guard.inside.empty()) return Done{};  // nothing can pass
  if (guard == guard_ && !shown_guard_.empty() && shown_guard() == shown_guard_) return Done{};
  if (Status status = put_on_guard(guard); !status) return status;
  guard_ = guard;
  shown_guard_ = shown_guard();
  return Done{};
}

}  // namespace masq
