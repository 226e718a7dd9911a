// nftables through libnftables, which speaks the language of the nft command.
#include "gateway/others.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

namespace masq {
namespace {

using nlohmann::json;

struct NftCloser {
  void operator()(nft_ctx* context) const { nft_ctx_free(context); }
};
using Nft = std::unique_ptr<nft_ctx, NftCloser>;

Nft open_nft() {
  Nft nft(nft_ctx_new(NFT_CTX_DEFAULT));
  if (nft) {
    nft_ctx_buffer_output(nft.get());
    nft_ctx_buffer_error(nft.get());
  }
  return nft;
}

// The first line of what it says: the rest shows the command.
std::string why(const Nft& nft) {
  std::string all = nft_ctx_get_error_buffer(nft.get());
  std::string first = all.substr(0, all.find('\n'));
  return first.starts_with("Error: ") ? first.substr(7) : first;
}

std::string owner_of(const std::string& table, const std::set<std::string>& chains) {
  if (table == "firewalld") return " (firewalld)";
  for (const std::string& chain : chains) {
    if (chain.starts_with("DOCKER")) return " (docker)";
    if (chain.starts_with("ufw")) return " (ufw)";
  }
  return "";
}

// Without what its counters have counted.
std::string list_tables(std::initializer_list<const char*> tables) {
  Nft nft = open_nft();
  if (!nft) return "";
  nft_ctx_output_set_flags(nft.get(), NFT_CTX_OUTPUT_STATELESS);
  std::string all;
  for (const char* table : tables) {
    if (nft_run_cmd_from_buffer(nft.get(), fmt::format("list table {}", table).c_str()) != 0)
      return "";
    all += nft_ctx_get_output_buffer(nft.get());
  }
  return all;
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
}

std::string list(const std::set<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::vector<std::string> remarks_on_other_filters() {
  std::vector<std::string> remarks;
  Nft nft = open_nft();
  if (!nft) return remarks;
  nft_ctx_output_set_flags(nft.get(), NFT_CTX_OUTPUT_JSON);
  if (nft_run_cmd_from_buffer(nft.get(), "list chains") != 0) return remarks;
  json listing = json::parse(nft_ctx_get_output_buffer(nft.get()), nullptr, false);
  if (!listing.is_object() || !listing.contains("nftables")) return remarks;
  std::map<std::string, std::set<std::string>> chains, hooks;
  for (const json& item : listing["nftables"]) {
    if (!item.contains("chain")) continue;
    const json& chain = item["chain"];
    std::string table = chain.value("table", "");
    if (table == "masq_belt" || table == "masq_user" || chain.value("family", "") == "ip6")
      continue;
    std::string name = chain.value("family", "") + " " + table;
    chains[name].insert(chain.value("name", ""));
    // A filter for the gateway's own sockets (input, output) is in force as before.
    std::string hook = chain.value("hook", "");
    if (hook == "forward" || hook == "prerouting" || hook == "postrouting")
      hooks[name].insert(hook);
  }
  for (const auto& [table, table_hooks] : hooks) {
    std::string bare = table.substr(table.find(' ') + 1);
    remarks.push_back(fmt::format(
        "nftables table {}{} hooks {}: packets between inside and outside do not go through it.",
        table, owner_of(bare, chains[table]), list(table_hooks)));
  }
  std::ifstream legacy("/proc/net/ip_tables_names");
  std::string name;
  std::set<std::string> names;
  while (std::getline(legacy, name)) names.insert(name);
  if (!names.empty())
    remarks.push_back(
        fmt::format("Legacy iptables rules exist (tables {}): packets between inside and outside "
                    "do not go through them.",
                    list(names)));
  return remarks;
}

Status put_on_belt(const Belt& belt) {
  Nft nft = open_nft();
  if (!nft) return error("nftables cannot be spoken to.");
  if (belt.inside.empty() && belt.closed.empty()) return Done{};
  auto set = [](const std::vector<std::string>& names) {
    return fmt::format("{{ \"{}\" }}", fmt::join(names, "\", \""));
  };
  std::vector<std::string> open = belt.inside;
  open.insert(open.end(), belt.others.begin(), belt.others.end());
  const std::string drop = fmt::format("add rule inet masq_belt forward meta nfproto {} ",
                                       belt.block_ipv6 ? "{ ipv4, ipv6 }" : "ipv4");
  std::string commands =
      "add table inet masq_belt\ndelete table inet masq_belt\nadd table inet masq_belt\n"
      "add chain inet masq_belt forward { type filter hook forward priority -300; }\n";
  for (const std::string& name : belt.closed)
    commands += fmt::format("{0}iifname \"{1}\" counter drop\n{0}oifname \"{1}\" counter drop\n",
                            drop, name);
  if (!belt.inside.empty())
    commands += fmt::format(
        "{0}iifname {1} oifname != {2} counter drop\n{0}iifname != {2} oifname {1} counter drop\n",
        drop, set(belt.inside), set(open));
  if (nft_run_cmd_from_buffer(nft.get(), commands.c_str()) != 0)
    return error(
        "The nftables table masq_belt, by which the kernel's forwarding keeps inside and outside "
        "apart, cannot be made ({}).",
        why(nft));
  return Done{};
}

std::string list_belt() {
  return list_tables({"inet masq_belt"});
}

namespace {

std::string set_of(const std::vector<std::string>& interfaces) {
  return fmt::format("{{ \"{}\" }}", fmt::join(interfaces, "\", \""));
}

std::string set_of(const std::map<std::string, std::set<std::string>>& bridges) {
  std::vector<std::string> names;
  for (const auto& [name, own] : bridges) names.push_back(name);
  return set_of(names);
}

// A set must name something; 0.0.0.0 stands for none.
std::string set_of(const std::vector<Ipv4>& addresses) {
  std::string text = "{ 0.0.0.0";
  for (Ipv4 address : addresses) {
    u32 a = to_host(address);
    text += fmt::format(", {}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
  }
  return text + " }";
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
std::string guard_rules(const Guard& guard, const std::string& outer, const std::string& ports) {
  std::vector<std::string> ours = guard.inside;
  ours.insert(ours.end(), guard.outside.begin(), guard.outside.end());
  auto add = [](const char* chain, const std::string& rule) {
    return fmt::format("add rule inet masq_user {} {}\n", chain, rule);
  };
  auto chain = [](const char* name, const char* hook, int priority) {
    return fmt::format("add chain inet masq_user {} {{ type filter hook {} priority {}; }}\n", name,
                       hook, priority);
  };
  std::string all = set_of(ours), outside = set_of(guard.outside);
  std::string rules = chain("prerouting", "prerouting", -450) + chain("forward", "forward", -300) +
                      chain("output", "output", -300);
  auto begin = [&](const char* where, const std::string& interfaces) {
    rules += add(where, fmt::format("iifname != {} accept", interfaces)) +
             add(where, "meta nfproto != ipv4 accept") +
             add(where, "ip daddr { 224.0.0.0/4, 255.255.255.255 } accept");
  };
  auto not_for_others = [&](const char* where) {
    rules += add(where, fmt::format("iifname {} ip daddr != {} fib daddr type local drop", outside,
                                    outer)) +
             add(where, fmt::format("iifname {} udp sport 67 udp dport 68 accept", outside)) +
             add(where, fmt::format("iifname {} ip daddr != {} drop", outside, outer));
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
  std::string between_ours = fmt::format("fib daddr oifname {} fib daddr type unicast ", all);
  begin("prerouting", all);
  only_carried("prerouting", "");
  not_for_others("prerouting");
  if (!guard.bridges.empty()) {
    std::string bridges = set_of(guard.bridges);
    rules += add("prerouting", fmt::format("iifname {} accept", bridges)) +
             chain("untracked", "prerouting", -300) + chain("input", "input", -300);
    begin("untracked", bridges);
    only_carried("untracked", "");
    for_mappings("untracked", "notrack");
    rules += add("untracked", between_ours + "notrack");
    begin("input", bridges);
    not_for_others("input");
    for_mappings("input", "drop");
    only_carried("forward", "meta nfproto ipv4 oifname");
  }
  for_mappings("prerouting", "drop");
  rules += add("prerouting", "fib daddr type local accept") +
           add("prerouting", between_ours + "drop") +
           add("forward", fmt::format("meta nfproto ipv4 iifname {0} oifname {0} drop", all)) +
           add("output",
               fmt::format("meta nfproto ipv4 oifname {} ip saddr != {} drop", outside, outer));
  if (guard.block_ipv6) {
    std::string inside = set_of(guard.inside);
    rules += add("forward",
                 fmt::format("meta nfproto ipv6 iifname {} oifname {} drop", inside, outside)) +
             add("forward",
                 fmt::format("meta nfproto ipv6 iifname {} oifname {} drop", outside, inside));
  }
  return rules;
}

// The same chains and rules beside the others, with numbers in place of names: for what is renamed
// while masqd is dead, or has not seen it yet. By names for what is made anew.
std::string by_number(std::string rules, const std::map<std::string, u32>& indexes) {
  for (const auto& [name, index] : indexes)
    replace_all(rules, fmt::format("\"{}\"", name), fmt::format("{}", index));
  replace_all(rules, "ifname", "if");
  replace_all(rules, " masq_user ", " masq_user numbered_");
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
  return inside == other.inside && outside == other.outside && indexes == other.indexes &&
         bridges == other.bridges && block_ipv6 == other.block_ipv6 &&
         pool.size() == other.pool.size() && ranges(*this) == ranges(other);
}

Status put_on_guard(const Guard& guard) {
  Nft nft = open_nft();
  if (!nft) return error("nftables cannot be spoken to.");
  std::string outer = set_of(guard.outer), others = set_of(guard.others), ports;
  for (const PortRange& range : guard.pool)
    if (range.first <= range.last)
      ports += fmt::format("{}{}-{}", ports.empty() ? "{ " : ", ", range.first, range.last);
  ports += " }";
  const std::string rules = fmt::format(
      "{0}add chain arp masq_user input {{ type filter hook input priority 0; }}\n"
      "add rule arp masq_user input iifname {1} arp operation request arp daddr ip {3} "
      "arp daddr ip != 0.0.0.0 drop\n"
      "add chain arp masq_user output {{ type filter hook output priority 0; }}\n"
      "add rule arp masq_user output oifname {1} arp saddr ip != {2} drop\n",
      guard_rules(guard, outer, ports), set_of(guard.outside), outer, others);
  const std::string commands =
      "add table inet masq_user\ndelete table inet masq_user\nadd table inet masq_user\n"
      "add table arp masq_user\ndelete table arp masq_user\nadd table arp masq_user\n" +
      rules + by_number(rules, guard.indexes);
  if (nft_run_cmd_from_buffer(nft.get(), commands.c_str()) != 0)
    return error(
        "The nftables rules that keep the kernel from answering for inner hosts cannot be made "
        "({}).",
        why(nft));
  return Done{};
}

std::string list_guard() {
  return list_tables({"inet masq_user", "arp masq_user"});
}

Result<Fd> open_filter_monitor() {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  int group = NFNLGRP_NFTABLES;
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
    return error("Changes of nftables cannot be followed ({}).", strerror(errno));
  return fd;
}

void take_off_guard() {
  Nft nft = open_nft();
  if (!nft) return;
  nft_run_cmd_from_buffer(nft.get(), "delete table inet masq_user");
  nft_run_cmd_from_buffer(nft.get(), "delete table arp masq_user");
}

void take_off_belt() {
  if (Nft nft = open_nft()) nft_run_cmd_from_buffer(nft.get(), "delete table inet masq_belt");
}

}  // namespace masq
