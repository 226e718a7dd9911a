// Through libnftables, with a note beside.
#include "gateway/kept_table.h"

#include <nlohmann/json.hpp>

#include "gateway/interfaces.h"
#include "gateway/kept_file.h"
#include "gateway/netlink.h"
#include "gateway/nftables.h"

namespace masq {
namespace {

using nlohmann::json;

std::string shown(const KeptTable& table) {
  return Nftables().list(fmt::format("table {}", table.name));
}

}  // namespace

Status make_table(const KeptTable& table, const std::string& commands) {
  Nftables nft;
  const std::string without = fmt::format("add table {0}\ndelete table {0}\n", table.name);
  if (Status status = nft.run(without + commands); !status) return status;
  // Without the note the table is made again at the next look.
  (void)replace_kept_file(table.note,
                          json{{"asked", commands}, {"shown", shown(table)}}.dump(1) + "\n");
  return Done{};
}

bool table_stands(const KeptTable& table, const std::string& commands) {
  Result<std::optional<std::string>> text = read_kept_file(table.note);
  if (!text || !*text) return false;
  const json noted = json::parse(**text, nullptr, false);
  return noted.is_object() && noted.value("asked", json()) == json(commands) &&
         noted.value("shown", json()) == json(shown(table));
}

bool table_is_there(const KeptTable& table) {
  return !shown(table).empty();
}

void take_off_table(const KeptTable& table) {
  (void)Nftables().run(fmt::format("delete table {}", table.name));
}

Result<std::vector<NftInterface>> interfaces_for_nft(const AnyDatapath& datapath) {
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  std::vector<NftInterface> interfaces;
  for (const Interface& each : datapath.interfaces())
    if (const Link* link = network->link_at(each.ifindex); link != nullptr)
      interfaces.push_back({link->name, link->ifindex, is_plain_name(link->name),
                            each.zone == Zone::outside, link->kind == "bridge"});
  return interfaces;
}

}  // namespace masq
