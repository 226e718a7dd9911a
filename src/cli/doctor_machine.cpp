// The rungs that are about the machine and its neighbours, whether a gateway runs or not.
//
// Who answers is asked by ARP, which needs root. What has no Ethernet header (PPP, tun) has no next
// hop that could be asked.
#include <linux/if_arp.h>

#include <algorithm>

#include "cli/doctor_rungs.h"
#include "gateway/belt.h"
#include "gateway/gateway.h"
#include "gateway/machine.h"
#include "gateway/others.h"
#include "gateway/probe.h"
#include "gateway/requirements.h"
#include "gateway/state.h"

namespace masq {

const Link* Seen::link(const std::string& name) const {
  const Link* found = network.link_named(name);
  return found != nullptr ? found : link_known_as(network, ours, name);
}

std::vector<const Link*> Seen::links(const std::vector<std::string>& names) const {
  std::vector<const Link*> found;
  for (const std::string& name : names)
    if (const Link* each = link(name)) found.push_back(each);
  return found;
}

std::vector<Address> Seen::addresses_of(const Link& of) const {
  std::vector<Address> found;
  for (const Address& each : network.addresses)
    if (each.ifindex == of.ifindex) found.push_back(each);
  return found;
}

namespace {

constexpr const char* kAskRoot = "Run `masq doctor` as root.";
// 192.0.2.1, which nobody has (RFC 5737).
constexpr Ipv4 kBehindDefaultRoute = ipv4_from_host(0xc0000201);
constexpr std::size_t kNamedMost = 8;  // inner hosts in one line
constexpr u16 kDnsPort = 53;

u32 mask_of(u32 length) {
  return length == 0 ? 0 : ~0u << (32 - length);
}

bool is_in(const Address& network, Ipv4 address) {
  return ((to_host(network.address) ^ to_host(address)) & mask_of(network.prefix_length)) == 0;
}

bool have_common_hosts(const Address& a, const Address& b) {
  return is_in(a.prefix_length < b.prefix_length ? a : b,
               a.prefix_length < b.prefix_length ? b.address : a.address);
}

std::string names_of(const std::vector<std::string>& names) {
  return names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, ", "));
}

bool is_ethernet(const Link& link) {
  return link.type == ARPHRD_ETHER;
}

}  // namespace

// Those to which everybody on a link of the gateway listens are its own too.
bool Seen::is_own(Ipv4 address) const {
  return std::any_of(network.addresses.begin(), network.addresses.end(), [&](const Address& each) {
    const u32 last = to_host(each.address) | ~mask_of(each.prefix_length);
    return same(each.address, address) || to_host(address) == last ||
           (each.broadcast.be != 0 && same(each.broadcast, address));
  });
}

const Link* Seen::inner_link_of(Ipv4 address) const {
  for (const Link* each : links(ours.internal))
    for (const Address& network_of : addresses_of(*each))
      if (is_in(network_of, address)) return each;
  return nullptr;
}

void look_at_kernel(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"kernel", health, what, advice});
  };
  if (seen.datapath != nullptr && seen.datapath->outlives_daemon())
    return say(Health::ok, "The kernel carries the packets by masq's programs.", "");
  if (!seen.is_root)
    return say(Health::unseen, "Only root is told whether the kernel can carry packets for masq.",
               kAskRoot);
  const KernelFeatures kernel = this_kernel();
  if (Status status = check_kernel(kernel); !status)
    return say(Health::note, status.error().sentence,
               "masqd carries the packets itself, which is slower.");
  if (seen.datapath != nullptr && seen.config.datapath == "auto")
    return say(Health::note,
               "The kernel took no programs when the gateway began, so masqd carries the packets "
               "itself, which is slower.",
               "The log in masq's folder below /run/masq says why; mostly a right is missing "
               "(CAP_BPF).");
  say(Health::ok, fmt::format("Linux {} has what masq's programs need.", kernel.release), "");
}

namespace {

// Where no gateway runs, there is nothing to be taken up by.
bool is_taken_up(const Seen& seen, const Link& link, bool outside) {
  if (seen.datapath == nullptr) return true;
  const Interface* known = find_interface(seen.datapath->settings(), link.ifindex);
  return known != nullptr && (known->zone == Zone::outside) == outside;
}

}  // namespace

void look_at_interfaces(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"interfaces", health, what, advice});
  };
  if (!seen.no_interfaces.empty()) return say(Health::wrong, seen.no_interfaces, "");
  bool all_well = true;
  auto complain = [&](const std::string& what, const std::string& advice) {
    all_well = false;
    say(Health::wrong, what, advice);
  };
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const std::string& name : *names) {
      const char* zone = names == &seen.ours.external ? "external" : "internal";
      const Link* link = seen.link(name);
      if (link == nullptr)
        complain(fmt::format("The {} interface {} is not there.", zone, name),
                 "Plug it in or make it; masq goes on with it then.");
      else if (!link->up)
        complain(fmt::format("The {} interface {} is down.", zone, name),
                 fmt::format("`ip link set {} up` brings it up.", link->name));
      else if (!link->running)
        complain(fmt::format("The {} interface {} has no carrier.", zone, name),
                 "Look at the cable, and at what it leads to.");
      else if (!is_taken_up(seen, *link, names == &seen.ours.external))
        complain(fmt::format("masq has not taken up {} as an {} interface.", name, zone),
                 "`masq down`, and `masq up` with the interfaces that are meant.");
    }
  for (const std::string& name : seen.ours.closed)
    complain(fmt::format("{} was found to be internal and is closed: a default route leads there.",
                         name),
             "Take that route away, or say with --external and --internal what is what.");
  if (all_well)
    say(Health::ok,
        fmt::format("{} to the outside and {} to the inside are up.", names_of(seen.ours.external),
                    names_of(seen.ours.internal)),
        "");
}

namespace {

// The kernel answers for all its addresses on every link that is on the same net.
bool is_of_this_machine(const Seen& seen, const std::string& hardware_address) {
  const auto& links = seen.network.links;
  return std::any_of(links.begin(), links.end(),
                     [&](const Link& each) { return each.hardware_address == hardware_address; });
}

// Does another machine answer for one of our addresses?
bool look_for_twins(const Seen& seen, const Link& link, Findings& findings) {
  std::vector<Ipv4> own;
  for (const Address& each : seen.addresses_of(link)) own.push_back(each.address);
  if (own.empty() || !link.running || !is_ethernet(link) || !seen.is_root) return false;
  Result<ArpAnswers> answers = ask_arp(link, own, true);
  if (!answers) {
    findings.push_back({"addresses", Health::unseen,
                        fmt::format("Whether others have the addresses of {} too is not known: {}.",
                                    link.name, answers.error().sentence),
                        ""});
    return false;
  }
  bool found = false;
  for (const auto& [address, others] : *answers)
    for (const std::string& other : others) {
      if (is_of_this_machine(seen, other)) continue;
      found = true;
      findings.push_back({"addresses", Health::wrong,
                          fmt::format("{} of {} is also the address of {} there.",
                                      to_text(Ipv4{address}), link.name, other),
                          "Give one of the two another address."});
    }
  return found;
}

bool look_for_overlap(const Seen& seen, Findings& findings) {
  for (const Link* outer : seen.links(seen.ours.external))
    for (const Link* inner : seen.links(seen.ours.internal))
      for (const Address& outside : seen.addresses_of(*outer))
        for (const Address& inside : seen.addresses_of(*inner)) {
          if (outside.prefix_length == 32 || !have_common_hosts(outside, inside)) continue;
          findings.push_back(
              {"addresses", Health::wrong,
               fmt::format("{} has {}/{} and {} has {}/{}: both sides have the same network.",
                           outer->name, to_text(outside.address), outside.prefix_length,
                           inner->name, to_text(inside.address), inside.prefix_length),
               "Give the inner network another range of addresses."});
          return true;
        }
  return false;
}

}  // namespace

void look_at_addresses(const Seen& seen, Findings& findings) {
  bool all_well = seen.no_interfaces.empty();
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const Link* link : seen.links(*names)) {
      const bool outside = names == &seen.ours.external;
      if (!link->up || !seen.addresses_of(*link).empty()) continue;
      all_well = false;
      findings.push_back(
          {"addresses", Health::wrong, fmt::format("{} has no IPv4 address.", link->name),
           outside ? "Is a DHCP client running on it, and is it answered? masq waits for the "
                     "address."
                   : fmt::format("`ip addr add ADDRESS/LENGTH dev {}` gives it the one that inner "
                                 "hosts have as their default gateway.",
                                 link->name)});
    }
  if (look_for_overlap(seen, findings)) all_well = false;
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const Link* link : seen.links(*names))
      if (look_for_twins(seen, *link, findings)) all_well = false;
  std::vector<std::string> said;
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const Link* link : seen.links(*names))
      for (const Address& each : seen.addresses_of(*link))
        said.push_back(
            fmt::format("{} has {}/{}", link->name, to_text(each.address), each.prefix_length));
  if (all_well && !said.empty())
    findings.push_back({"addresses", Health::ok, fmt::format("{}.", fmt::join(said, ", ")), ""});
}

namespace {

// The one that counts: of those with the least metric one by an external link, if there is any.
const DefaultRoute* best_route(const Seen& seen) {
  const DefaultRoute* best = nullptr;
  auto is_outside = [&](const DefaultRoute& route) {
    const auto outside = seen.links(seen.ours.external);
    return std::any_of(outside.begin(), outside.end(),
                       [&](const Link* each) { return each->ifindex == route.ifindex; });
  };
  for (const DefaultRoute& route : seen.network.default_routes)
    if (best == nullptr || route.metric < best->metric ||
        (route.metric == best->metric && is_outside(route) && !is_outside(*best)))
      best = &route;
  return best;
}

}  // namespace

void look_at_default_route(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"default route", health, what, advice});
  };
  const DefaultRoute* best = best_route(seen);
  if (best == nullptr)
    return say(Health::wrong, "There is no default route: nothing finds its way out.",
               "`ip route add default via ROUTER`, or let the DHCP client set it.");
  const Link* link = seen.network.link_at(best->ifindex);
  const std::string name = link == nullptr ? "an interface that has gone" : link->name;
  const auto outside = seen.links(seen.ours.external);
  if (std::none_of(outside.begin(), outside.end(),
                   [&](const Link* each) { return each->ifindex == best->ifindex; }))
    return say(Health::wrong,
               fmt::format("The default route leads to {}, which is not external: what follows it "
                           "is not translated.",
                           name),
               fmt::format("Correct the route, or name {} with --external.", name));
  say(Health::ok,
      best->next_hop.be == 0
          ? fmt::format("It leads out by {}.", name)
          : fmt::format("It leads out by {} to {}.", name, to_text(best->next_hop)),
      "");
}

void look_at_other_filters(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"other firewalls", health, what, advice});
  };
  if (!seen.is_root)
    return say(Health::unseen, "Only root is told of the rules of nftables.", kAskRoot);
  const std::size_t before = findings.size();
  auto is_ours = [&](const std::string& device) {
    for (const auto* names : {&seen.ours.external, &seen.ours.internal})
      for (const Link* link : seen.links(*names))
        if (link->name == device) return true;
    return device.empty();
  };
  for (const FilterInTheWay& each : filters_in_the_way()) {
    if (!is_ours(each.device)) continue;
    const std::string where = each.device.empty() ? "" : fmt::format(" on {}", each.device);
    if (each.of_neighbours && each.drops_by_default)
      say(Health::wrong,
          fmt::format("The nftables chain {} drops by default at {}{}: ARP is lost there, and no "
                      "neighbour is found.",
                      each.chain, each.hook, where),
          "Let ARP pass there, or take the chain away.");
    else if (each.of_neighbours)
      say(Health::note,
          fmt::format("The nftables chain {} stands at {}{}, and may keep neighbours from being "
                      "found.",
                      each.chain, each.hook, where),
          "If a neighbour does not answer, look there.");
    else if (each.drops_by_default)
      say(Health::note,
          fmt::format("The nftables chain {} drops by default what is for the gateway itself.",
                      each.chain),
          "If inner hosts are to ask it for names or addresses, let those in there.");
  }
  for (const std::string& remark : remarks_on_other_filters())
    say(Health::note, remark, "What is to be refused must be said to masq.");
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const Link* link : seen.links(*names))
      if (link->kind == "bridge" && netfilter_sees_bridges())
        say(Health::note,
            fmt::format("netfilter sees what the bridge {} carries (br_netfilter): DNAT rules of "
                        "others come before masq there.",
                        link->name),
            "`sysctl net.bridge.bridge-nf-call-iptables=0`, unless something needs it.");
  if (findings.size() == before) say(Health::ok, "No other rules of nftables or iptables.", "");
}

namespace {

// Without root the kernel's own knowledge must do.
Finding next_hop_as_known(const Ipv4 next_hop, const Link& link) {
  const std::string who = fmt::format("{} on {}", to_text(next_hop), link.name);
  Result<std::vector<NeighbourSeen>> all = read_neighbours();
  if (all)
    for (const NeighbourSeen& each : *all) {
      if (each.ifindex != link.ifindex || !same(each.address, next_hop)) continue;
      if (each.is_silent)
        return {"next hop", Health::wrong, who + " does not answer to ARP.",
                "Is that router on, and is its address right?"};
      if (each.has_answered) return {"next hop", Health::ok, who + " has answered to ARP.", ""};
    }
  return {"next hop", Health::unseen, "Only root can ask whether " + who + " is there.", kAskRoot};
}

Finding ask_next_hop(const Ipv4 next_hop, const Link& link) {
  const std::string who = fmt::format("{} on {}", to_text(next_hop), link.name);
  Result<ArpAnswers> answers = ask_arp(link, {next_hop}, false);
  if (!answers) return {"next hop", Health::unseen, answers.error().sentence + ".", ""};
  const auto& heard = answers->begin()->second;
  if (heard.empty())
    return {"next hop", Health::wrong, who + " does not answer to ARP.",
            "Is that router on, is its address right, and is the cable in the right place?"};
  return {"next hop", Health::ok, fmt::format("{} answers, as {}.", who, *heard.begin()), ""};
}

}  // namespace

void look_at_next_hop(const Seen& seen, Findings& findings) {
  const auto outside = seen.links(seen.ours.external);
  for (const DefaultRoute& route : seen.network.default_routes) {
    const Link* link = seen.network.link_at(route.ifindex);
    if (std::find(outside.begin(), outside.end(), link) == outside.end() || link == nullptr)
      continue;
    if (!link->running) continue;  // said before
    if (route.next_hop.be == 0 || !is_ethernet(*link))
      findings.push_back({"next hop", Health::ok,
                          fmt::format("{} has no router that could be asked.", link->name), ""});
    else
      findings.push_back(seen.is_root ? ask_next_hop(route.next_hop, *link)
                                      : next_hop_as_known(route.next_hop, *link));
  }
}

void look_at_inner_hosts(const Seen& seen, Findings& findings) {
  Result<std::vector<NeighbourSeen>> all = read_neighbours();
  if (!all) {
    findings.push_back({"inner hosts", Health::unseen, all.error().sentence, ""});
    return;
  }
  for (const Link* link : seen.links(seen.ours.internal)) {
    if (!link->running || !is_ethernet(*link)) continue;
    std::vector<std::string> heard;
    for (const NeighbourSeen& each : *all)
      if (each.ifindex == link->ifindex && each.has_answered)
        heard.push_back(to_text(each.address));
    const auto own = seen.addresses_of(*link);
    const std::string gateway = own.empty() ? "the gateway" : to_text(own.front().address);
    if (heard.empty())
      findings.push_back(
          {"inner hosts", Health::note,
           fmt::format("None has been heard on {} lately.", link->name),
           fmt::format("Do they have {} as their default gateway, and addresses of its network?",
                       gateway)});
    else
      findings.push_back(
          {"inner hosts", Health::ok,
           fmt::format("{} on {}: {}{}.", heard.size(), link->name,
                       fmt::join(heard.begin(),
                                 heard.begin() + static_cast<std::ptrdiff_t>(
                                                     std::min(heard.size(), kNamedMost)),
                                 ", "),
                       heard.size() > kNamedMost ? " and others" : ""),
           ""});
  }
}

void look_at_kernel_forwarding(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"kernel forwarding", health, what, advice});
  };
  const bool forwards = machine_forwards();
  if (seen.datapath == nullptr) {
    if (forwards)
      return say(Health::note,
                 "The kernel forwards by itself (net.ipv4.ip_forward is 1): without masq, packets "
                 "cross untranslated.",
                 "masq needs it not; leave it off unless something else does.");
    return say(Health::ok, "It is off, as masq wants it.", "");
  }
  const std::size_t before = findings.size();
  if (seen.datapath->outlives_daemon() && read_sysctl(sysctl_of("lo", "forwarding")) != "1")
    say(Health::wrong,
        "net.ipv4.conf.lo.forwarding is 0: masq's programs find no routes, and nothing passes.",
        "`masq up` sets it; then find out who has cleared it.");
  for (const auto* names : {&seen.ours.external, &seen.ours.internal})
    for (const Link* link : seen.links(*names))
      if (!forwards && read_sysctl(sysctl_of(link->name, "forwarding")) == "1")
        say(Health::wrong,
            fmt::format("net.ipv4.conf.{}.forwarding is 1: with masq gone, the kernel would "
                        "forward there.",
                        link->name),
            "`masq up` clears it; then find out who has set it.");
  if (needs_belt(seen.datapath->settings()) && shown_belt().empty())
    say(Health::wrong,
        "The kernel forwards by itself, and the nftables table masq_belt, which keeps inside and "
        "outside apart, is not there.",
        "`masq up` puts it back; then find out who takes it away.");
  if (findings.size() != before) return;
  if (forwards)
    return say(Health::note,
               "The kernel forwards by itself for others (net.ipv4.ip_forward is 1); the table "
               "masq_belt keeps inside and outside apart.",
               "");
  say(Health::ok, "It is off on masq's interfaces, as it should be.", "");
}

// masq's own packets do not go through that filter; the gateway's do.
void look_at_reverse_path(const Seen& seen, Findings& findings) {
  bool all_well = true;
  for (const Link* link : seen.links(seen.ours.external)) {
    const std::string all = read_sysctl(sysctl_of("all", "rp_filter"));
    const std::string here = read_sysctl(sysctl_of(link->name, "rp_filter"));
    if (std::max(all, here) != "1" || seen.network.default_routes.size() < 2) continue;
    all_well = false;
    findings.push_back(
        {"reverse path", Health::note,
         fmt::format("rp_filter is strict on {}, and there are several default routes: answers to "
                     "the gateway itself that come by the other way are lost.",
                     link->name),
         fmt::format("`sysctl net.ipv4.conf.{}.rp_filter=2` takes them.", link->name)});
  }
  if (all_well)
    findings.push_back({"reverse path", Health::ok, "The filter is in nobody's way.", ""});
}

void look_at_mtu(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"mtu", health, what, advice});
  };
  const std::size_t before = findings.size();
  const DefaultRoute* best = best_route(seen);
  u32 inner = 0;
  for (const Link* link : seen.links(seen.ours.internal)) inner = std::max(inner, link->mtu);
  const u16 clamp =
      seen.datapath != nullptr ? seen.datapath->settings().mss_clamp : seen.config.mss_clamp;
  for (const Link* link : seen.links(seen.ours.external)) {
    if (link->mtu < inner && clamp == kMssLeft)
      say(Health::wrong,
          fmt::format("{} takes {} bytes, the inside {}, and --mss-clamp is off: connections hang "
                      "where ICMP does not come back.",
                      link->name, link->mtu, inner),
          "Leave --mss-clamp at auto.");
    else if (link->mtu < inner && clamp == kMssByMtu)
      say(Health::ok,
          fmt::format("{} takes {} bytes, the inside {}; TCP is told of it.", link->name, link->mtu,
                      inner),
          "");
    if (best == nullptr || best->ifindex != link->ifindex) continue;
    const u32 path = path_mtu_to(kBehindDefaultRoute);
    if (path != 0 && path < link->mtu && clamp == kMssByMtu)
      say(Health::note,
          fmt::format("The default route takes {} bytes, and {} {}: masq goes by the interface.",
                      path, link->name, link->mtu),
          fmt::format("`--mss-clamp {}`, or the interface's MTU, makes TCP fit.", path - 40));
  }
  if (findings.size() == before) say(Health::ok, "Every link takes what the inside sends.", "");
}

namespace {

Finding ask_about_names(Ipv4 server) {
  const std::string who = to_text(server);
  switch (ask_nameserver(server)) {
    case NameserverAnswer::answers:
      return {"names", Health::ok, fmt::format("The nameserver {} answers.", who), ""};
    case NameserverAnswer::refuses:
      return {"names", Health::note,
              fmt::format("The nameserver {} answers, and refuses to help.", who),
              "Does it serve this network?"};
    case NameserverAnswer::unreachable:
      return {"names", Health::wrong,
              fmt::format("Nothing answers as a nameserver at {}, or no way leads there.", who),
              "Put one that answers into /etc/resolv.conf."};
    case NameserverAnswer::silent:
      break;
  }
  return {"names", Health::wrong, fmt::format("The nameserver {} does not answer.", who),
          "Put one that answers into /etc/resolv.conf; names fail until then, or take long."};
}

}  // namespace

void look_at_names(const Seen& seen, Findings& findings) {
  const Nameservers servers = read_nameservers();
  if (servers.servers.empty() && servers.of_ipv6 == 0)
    findings.push_back({"names", Health::wrong,
                        servers.readable ? "/etc/resolv.conf names no nameserver."
                                         : "/etc/resolv.conf cannot be read.",
                        "Put a line \"nameserver ADDRESS\" there."});
  const std::size_t first = findings.size();
  for (const Ipv4 server : servers.servers) findings.push_back(ask_about_names(server));
  // Where one answers, names are found; the others only cost time.
  const auto begin = findings.begin() + static_cast<std::ptrdiff_t>(first);
  if (std::any_of(begin, findings.end(),
                  [](const Finding& each) { return each.health == Health::ok; }))
    std::for_each(begin, findings.end(), [](Finding& each) {
      if (each.health == Health::wrong) each.health = Health::note;
    });
  if (servers.of_ipv6 != 0)
    findings.push_back(
        {"names", Health::unseen, "Nameservers with addresses of IPv6 are not asked.", ""});
  const std::vector<Listener> listeners = read_listeners();
  for (const Link* link : seen.links(seen.ours.internal))
    for (const Address& own : seen.addresses_of(*link)) {
      const bool listens =
          std::any_of(listeners.begin(), listeners.end(), [&](const Listener& each) {
            return each.protocol == kProtocolUdp && each.port == kDnsPort &&
                   (each.address.be == 0 || same(each.address, own.address));
          });
      if (!listens)
        findings.push_back(
            {"names", Health::note,
             fmt::format("No nameserver runs at {}, so inner hosts must not have it as theirs.",
                         to_text(own.address)),
             "They can have any outside, such as the gateway's; or run one here."});
    }
}

}  // namespace masq
