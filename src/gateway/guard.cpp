// The rules of the guard, in the language of nft.
#include "gateway/guard.h"

#include "core/rules.h"

namespace masq {
namespace {

std::string bridges_of(const std::map<std::string, std::set<std::string>>& bridges) {
  std::vector<std::string> names;
  for (const auto& [name, own] : bridges) names.push_back(name);
  return set_of(names);
}

// A set must name something; 0.0.0.0 stands for none.
std::string addresses_of(const std::vector<Ipv4>& addresses) {
  std::string text = "{ 0.0.0.0";
  for (Ipv4 address : addresses) {
    u32 a = to_host(address);
    text += fmt::format(", {}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
  }
  return text + " }";
}

LinkNames both(LinkNames a, const LinkNames& b) {
  a.names.insert(a.names.end(), b.names.begin(), b.names.end());
  a.indexes.insert(a.indexes.end(), b.indexes.begin(), b.indexes.end());
  return a;
}

// The rules of `inet masq_user`. Before the kernel puts fragments together (-450), so that what is
// not for it costs it nothing. With bridges it is otherwise.
//
// Linux may show these hooks what its bridges carry (br_netfilter, which Docker switches on). It
// does so before the bridge itself has the frame, and not again after. Then a frame that is neither
// for the bridge's address nor for one of its ports' is only carried from port to port and none of
// our business, and one that is dropped there never reaches our socket. So what masq waits for from
// a bridge is stopped only at the input and the forward hook, and the kernel may have put it
// together and looked up its route by then. It does not track it: else a DNAT rule could turn it
// elsewhere before masq sees it. That is said when fragments are whole (-300), for only the first
// has ports. Limit: before the forward hook, where the machine forwards, the kernel tells the
// inside of a time to live that has run out, of what does not fit, and of a route that is missing
// or shorter (redirect), whether masq does so or not.
//
// Long because it is one set of rules, in their order.
std::string guard_rules(const Guard& guard, const std::string& outer, const std::string& ports) {
  const LinkNames ours = both(guard.inside, guard.outside);
  const std::string all = set_of(ours.names), all_indexes = set_of(ours.indexes);
  auto add = [](const char* chain, const std::string& rule) {
    return fmt::format("add rule inet masq_user {} {}\n", chain, rule);
  };
  auto chain = [](const char* name, const char* hook, int priority) {
    return fmt::format("add chain inet masq_user {} {{ type filter hook {} priority {}; }}\n", name,
                       hook, priority);
  };
  // What fits an interface by its name and by its index: "ifname { ... }", "if { ... }".
  const std::string any[] = {"ifname " + all, "if " + all_indexes};
  const std::string outside[] = {"ifname " + set_of(guard.outside.names),
                                 "if " + set_of(guard.outside.indexes)};
  std::string rules = chain("prerouting", "prerouting", -450) + chain("forward", "forward", -300) +
                      chain("output", "output", -300);
  auto begin = [&](const char* where, const std::string& foreign) {
    rules += add(where, foreign + " accept") + add(where, "meta nfproto != ipv4 accept") +
             add(where, "ip daddr { 224.0.0.0/4, 255.255.255.255 } accept");
  };
  auto not_for_others = [&](const char* where) {
    for (const std::string& each : outside)
      rules +=
          add(where, fmt::format("i{} ip daddr != {} fib daddr type local drop", each, outer)) +
          add(where, fmt::format("i{} udp sport 67 udp dport 68 accept", each)) +
          add(where, fmt::format("i{} ip daddr != {} drop", each, outer));
  };
  auto for_mappings = [&](const char* where, const char* verdict) {
    std::string mapped =
        fmt::format("ip daddr {} meta l4proto {{ tcp, udp }} th dport {} ", outer, ports);
    rules += add(where, mapped + "socket transparent 0 accept") +
             add(where, mapped + "socket transparent 1 accept") + add(where, mapped + verdict);
  };
  auto only_carried = [&](const char* where, const std::string& back_to) {
    for (const auto& [name, own] : guard.bridges)
      rules +=
          add(where, fmt::format("iifname \"{0}\" {1} ether daddr != {{ {2} }} accept", name,
                                 back_to.empty() ? "" : fmt::format("{} \"{}\"", back_to, name),
                                 fmt::join(own, ", ")));
  };
  auto between_ours = [&](const char* where, const char* verdict) {
    for (const std::string& each : any)
      rules += add(where, fmt::format("fib daddr o{} fib daddr type unicast {}", each, verdict));
  };
  // What a rule redirects has this mark from own_rules.h.
  rules += add("prerouting",
               fmt::format("meta mark & {} == {} accept", kRedirectMarkMask, kRedirectMark));
  begin("prerouting", fmt::format("iifname != {} iif != {}", all, all_indexes));
  only_carried("prerouting", "");
  not_for_others("prerouting");
  if (!guard.bridges.empty()) {
    std::string bridges = bridges_of(guard.bridges);
    rules += add("prerouting", fmt::format("iifname {} accept", bridges)) +
             chain("untracked", "prerouting", -300) + chain("input", "input", -300);
    begin("untracked", "iifname != " + bridges);
    only_carried("untracked", "");
    for_mappings("untracked", "notrack");
    between_ours("untracked", "notrack");
    begin("input", "iifname != " + bridges);
    not_for_others("input");
    for_mappings("input", "drop");
    only_carried("forward", "meta nfproto ipv4 oifname");
  }
  for_mappings("prerouting", "drop");
  rules += add("prerouting", "fib daddr type local accept");
  between_ours("prerouting", "drop");
  for (const std::string& from : any)
    for (const std::string& to : any)
      rules += add("forward", fmt::format("meta nfproto ipv4 i{} o{} drop", from, to));
  for (const std::string& each : outside)
    rules += add("output", fmt::format("meta nfproto ipv4 o{} ip saddr != {} drop", each, outer));
  return rules;
}

}  // namespace

bool Guard::operator==(const Guard& other) const {
  auto ranges = [](const Guard& g) {
    std::vector<u32> all;
    for (const PortRange& range : g.pool) all.push_back(range.first << 16 | range.last);
    for (const auto* addresses : {&g.outer, &g.others}) {
      all.push_back(static_cast<u32>(addresses->size()));
      for (Ipv4 address : *addresses) all.push_back(address.be);
    }
    return all;
  };
  return inside == other.inside && outside == other.outside && bridges == other.bridges &&
         pool.size() == other.pool.size() && ranges(*this) == ranges(other);
}

Status put_on_guard(const Guard& guard) {
  std::string outer = addresses_of(guard.outer), others = addresses_of(guard.others), ports;
  for (const PortRange& range : guard.pool)
    if (range.first <= range.last)
      ports += fmt::format("{}{}-{}", ports.empty() ? "{ " : ", ", range.first, range.last);
  ports += " }";
  std::string commands =
      "add table inet masq_user\ndelete table inet masq_user\nadd table inet masq_user\n" +
      guard_rules(guard, outer, ports) +
      "add table arp masq_user\ndelete table arp masq_user\nadd table arp masq_user\n"
      "add chain arp masq_user input { type filter hook input priority 0; }\n"
      "add chain arp masq_user output { type filter hook output priority 0; }\n";
  for (const std::string& each :
       {"ifname " + set_of(guard.outside.names), "if " + set_of(guard.outside.indexes)})
    commands += fmt::format(
        "add rule arp masq_user input i{0} arp operation request arp daddr ip {2} "
        "arp daddr ip != 0.0.0.0 drop\n"
        "add rule arp masq_user output o{0} arp saddr ip != {1} drop\n",
        each, outer, others);
  Nftables nft;
  if (Status status = nft.run(commands); !status)
    return error(
        "The nftables rules that keep the kernel from answering for inner hosts cannot be made "
        "({}).",
        status.error().sentence);
  return Done{};
}

std::string shown_guard() {
  Nftables nft;
  const std::string of_ip = nft.list("table inet masq_user");
  const std::string of_arp = nft.list("table arp masq_user");
  return of_ip.empty() || of_arp.empty() ? "" : of_ip + of_arp;
}

void take_off_guard() {
  Nftables nft;
  (void)nft.run("delete table inet masq_user");
  (void)nft.run("delete table arp masq_user");
}

}  // namespace masq
