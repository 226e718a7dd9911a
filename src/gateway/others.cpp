// Reads what nftables and the old iptables have.
#include "gateway/others.h"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

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
    if (table == "masq_belt" || table == "masq_user" || table == "masq_own" ||
        table == "masq_forwards" || table == "masq_closed" || family == "ip6" ||
        family == "bridge" || family == "arp")
      continue;
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

}  // namespace masq
