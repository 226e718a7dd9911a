// nftables through libnftables, which speaks the language of the nft command.
#include "gateway/others.h"

#include <nftables/libnftables.h>

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
    if (table == "masq_belt" || chain.value("family", "") == "ip6") continue;
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

Status put_on_belt(const std::vector<std::string>& inside, const std::vector<std::string>& others,
                   const std::vector<std::string>& closed) {
  Nft nft = open_nft();
  if (!nft) return error("nftables cannot be spoken to.");
  if (inside.empty() && closed.empty()) return Done{};
  auto set = [](const std::vector<std::string>& names) {
    return fmt::format("{{ \"{}\" }}", fmt::join(names, "\", \""));
  };
  std::vector<std::string> open = inside;
  open.insert(open.end(), others.begin(), others.end());
  std::string commands =
      "add table inet masq_belt\ndelete table inet masq_belt\nadd table inet masq_belt\n"
      "add chain inet masq_belt forward { type filter hook forward priority -300; }\n";
  for (const std::string& name : closed)
    commands += fmt::format(
        "add rule inet masq_belt forward meta nfproto ipv4 iifname \"{0}\" counter drop\n"
        "add rule inet masq_belt forward meta nfproto ipv4 oifname \"{0}\" counter drop\n",
        name);
  if (!inside.empty())
    commands += fmt::format(
        "add rule inet masq_belt forward meta nfproto ipv4 iifname {0} oifname != {1} counter "
        "drop\n"
        "add rule inet masq_belt forward meta nfproto ipv4 iifname != {1} oifname {0} counter "
        "drop\n",
        set(inside), set(open));
  if (nft_run_cmd_from_buffer(nft.get(), commands.c_str()) != 0)
    return error(
        "The kernel forwards already, and the nftables rule that keeps inside and outside "
        "apart there cannot be made: {}",
        nft_ctx_get_error_buffer(nft.get()));
  return Done{};
}

void take_off_belt() {
  if (Nft nft = open_nft()) nft_run_cmd_from_buffer(nft.get(), "delete table inet masq_belt");
}

}  // namespace masq
