// Reads what nftables and the old iptables have.
#include "gateway/others.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "gateway/nftables.h"

namespace masq {
namespace {

using nlohmann::json;

std::string owner_of(const std::string& table, const std::set<std::string>& chains) {
  if (table == "firewalld") return " (firewalld)";
  for (const std::string& chain : chains) {
    if (chain.starts_with("DOCKER")) return " (docker)";
    if (chain.starts_with("ufw")) return " (ufw)";
  }
  return "";
}

std::string list(const std::set<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

bool is_of_masq(const std::string& table) {
  return table == "masq_belt" || table == "masq_user" || table == "masq_own" ||
         table == "masq_forwards" || table == "masq_closed";
}

// The devices of each chain of the family netdev, by "netdev table chain". nft before 1.0.7 leaves
// them out of its JSON, so they are read off its text:
//
//   table netdev t {
//     chain c {
//       type filter hook egress devices = { "eth0", eth1 } priority filter; policy drop;
std::map<std::string, std::set<std::string>> netdev_devices() {
  std::map<std::string, std::set<std::string>> devices;
  std::istringstream text(Nftables().list("chains netdev"));
  std::string line, table, chain;
  while (std::getline(text, line)) {
    std::istringstream words(line);
    std::string word, name;
    if (!(words >> word)) continue;
    if (word == "table" && words >> word >> name) table = name;
    if (word == "chain" && words >> name) chain = name;
    if (word != "type") continue;
    auto& of_chain = devices[fmt::format("netdev {} {}", table, chain)];
    while (words >> word && !word.starts_with("device")) continue;
    while (words >> word && word != "priority") {
      word.erase(std::remove_if(word.begin(), word.end(),
                                [](char c) { return strchr("={},\"", c) != nullptr; }),
                 word.end());
      if (!word.empty()) of_chain.insert(word);
    }
  }
  return devices;
}

}  // namespace

std::vector<std::string> remarks_on_other_filters() {
  std::vector<std::string> remarks;
  json listing = json::parse(Nftables().list("chains", true), nullptr, false);
  if (!listing.is_object() || !listing.contains("nftables")) return remarks;
  std::map<std::string, std::set<std::string>> chains, hooks;
  for (const json& item : listing["nftables"]) {
    if (!item.contains("chain")) continue;
    const json& chain = item["chain"];
    std::string table = chain.value("table", "");
    const std::string family = chain.value("family", "");
    // What bridges carry and ARP are none of masq's business.
    if (is_of_masq(table) || family == "ip6" || family == "bridge" || family == "arp") continue;
    std::string name = family + " " + table;
    chains[name].insert(chain.value("name", ""));
    // A filter for the gateway's own sockets (input, output) is in force as before.
    std::string hook = chain.value("hook", "");
    if (hook != "" && hook != "input" && hook != "output") hooks[name].insert(hook);
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

std::vector<FilterInTheWay> filters_in_the_way() {
  std::vector<FilterInTheWay> found;
  const json listing = json::parse(Nftables().list("chains", true), nullptr, false);
  if (!listing.is_object() || !listing.contains("nftables")) return found;
  std::map<std::string, std::set<std::string>> devices = netdev_devices();
  for (const json& item : listing["nftables"]) {
    if (!item.contains("chain")) continue;
    const json& chain = item["chain"];
    const std::string family = chain.value("family", ""), table = chain.value("table", "");
    const std::string hook = chain.value("hook", "");
    const bool of_neighbours = family == "netdev" || family == "arp";
    if (is_of_masq(table) || hook.empty() || (!of_neighbours && hook != "input")) continue;
    if (family == "ip6" || family == "bridge") continue;
    const std::string name = fmt::format("{} {} {}", family, table, chain.value("name", ""));
    std::set<std::string> on = {""};
    if (family == "netdev") on = devices[name];
    for (const std::string& device : on)
      found.push_back({name, device, hook, chain.value("policy", "") == "drop", of_neighbours});
  }
  return found;
}

}  // namespace masq
