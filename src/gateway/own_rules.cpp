// Putting the table in force, and reading its counters.
#include "gateway/own_rules.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gateway/interfaces.h"
#include "gateway/netlink.h"
#include "gateway/nftables.h"
#include "gateway/state.h"
#include "policy/rules_nftables.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr const char* kTable = "table ip masq_own";

Result<std::string> asked_for(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  std::vector<NftInterface> interfaces;
  for (const Interface& each : datapath.interfaces())
    if (const Link* link = network->link_at(each.ifindex); link != nullptr)
      interfaces.push_back({link->name, link->ifindex, is_plain_name(link->name),
                            each.zone == Zone::outside, link->kind == "bridge"});
  return rules_to_nftables(rules, interfaces, generation);
}

std::string shown() {
  return Nftables().list(kTable);
}

Status note(const std::string& asked) {
  const std::string path = run_file("own_rules"), fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc);
  file << json{{"asked", asked}, {"shown", shown()}}.dump(1) << '\n';
  file.close();
  if (!file || rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be written ({}).", path, strerror(errno));
  return Done{};
}

}  // namespace

Status put_own_rules(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  if (datapath.sees_own_packets()) return Done{};
  Result<std::string> asked = asked_for(datapath, rules, generation);
  if (!asked) return asked.error();
  Nftables nft;
  if (Status status = nft.run(fmt::format("add {0}\ndelete {0}\n", kTable) + *asked); !status)
    return error(
        "The rules cannot be put in force for what is for the gateway itself or comes from it: "
        "nftables does not take them ({}).",
        status.error().sentence);
  // Without the note the table is made again at the next look.
  (void)note(*asked);
  return Done{};
}

bool own_rules_stand(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  if (datapath.sees_own_packets()) return true;
  std::ifstream file(run_file("own_rules"));
  std::ostringstream text;
  text << file.rdbuf();
  const json noted = json::parse(text.str(), nullptr, false);
  Result<std::string> asked = asked_for(datapath, rules, generation);
  return asked && noted.is_object() && noted.value("asked", json()) == json(*asked) &&
         noted.value("shown", json()) == json(shown());
}

void add_own_counts(const AnyDatapath& datapath, RuleSet& rules, u32 generation) {
  if (datapath.sees_own_packets()) return;
  const json listing = json::parse(Nftables().list(kTable, true), nullptr, false);
  if (!listing.is_object() || !listing.contains("nftables")) return;
  bool of_this_one = false;
  for (const json& item : listing["nftables"])
    of_this_one |=
        item.contains("chain") && item["chain"].value("name", "") == nft_generation(generation);
  for (const json& item : listing["nftables"]) {
    if (!of_this_one || !item.contains("rule")) continue;
    const json& rule = item["rule"];
    const std::optional<SlotOrigin> place = place_of(rule.value("comment", ""));
    if (!place || place->chain >= rules.chains().size() || !rule.contains("expr")) continue;
    for (const json& expression : rule["expr"]) {
      if (!expression.contains("counter") || !expression["counter"].is_object()) continue;
      const u64 packets = expression["counter"].value("packets", u64{0});
      const u64 bytes = expression["counter"].value("bytes", u64{0});
      rules.count(place->chain, place->rule, packets, bytes);
      // RETURN in a built-in chain is its policy.
      const std::vector<Rule>& all = rules.chains()[place->chain].rules;
      if (place->chain < kBuiltInChains && place->rule < all.size() &&
          all[place->rule].target == RuleTarget::go_back)
        rules.count(place->chain, all.size(), packets, bytes);
    }
  }
}

void take_off_own_rules() {
  (void)Nftables().run(fmt::format("delete {}", kTable));
}

}  // namespace masq
