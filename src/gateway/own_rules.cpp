// Putting the table in force, and reading its counters.
#include "gateway/own_rules.h"

#include <nlohmann/json.hpp>

#include "gateway/kept_table.h"
#include "gateway/nftables.h"
#include "policy/rules_nftables.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr KeptTable kTable{"ip masq_own", "own_rules"};

Result<std::string> asked_for(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  if (datapath.sees_own_packets()) return redirects_to_nftables(rules, generation);
  Result<std::vector<NftInterface>> interfaces = interfaces_for_nft(datapath);
  if (!interfaces) return interfaces.error();
  return rules_to_nftables(rules, *interfaces, generation);
}

// Machines without nftables have no part of it, unless rules ask for one.
bool concerns_nftables(const AnyDatapath& datapath, const std::string& asked) {
  return !datapath.sees_own_packets() || !asked.empty() || table_is_there(kTable);
}

}  // namespace

Status put_own_rules(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  Result<std::string> asked = asked_for(datapath, rules, generation);
  if (!asked) return asked.error();
  if (!concerns_nftables(datapath, *asked)) return Done{};
  if (Status status = make_table(kTable, *asked); !status)
    return error(
        "The rules cannot be put in force for what is for the gateway itself, comes from it or is "
        "redirected to it: nftables does not take them ({}).",
        status.error().sentence);
  return Done{};
}

bool own_rules_stand(const AnyDatapath& datapath, const RuleSet& rules, u32 generation) {
  Result<std::string> asked = asked_for(datapath, rules, generation);
  return asked && (!concerns_nftables(datapath, *asked) || table_stands(kTable, *asked));
}

void add_own_counts(const AnyDatapath& datapath, RuleSet& rules, u32 generation) {
  if (datapath.sees_own_packets()) return;
  const json listing = json::parse(Nftables().list("table ip masq_own", true), nullptr, false);
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
  take_off_table(kTable);
}

}  // namespace masq
