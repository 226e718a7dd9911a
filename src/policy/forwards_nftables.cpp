// One rule for each external address, each way to it and each kind of packet.
#include "policy/forwards_nftables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace masq {
namespace {

std::string set_of_texts(const std::vector<std::string>& texts) {
  return fmt::format("{{ {} }}", fmt::join(texts, ", "));
}

std::string indexes_of(const std::vector<NftInterface>& interfaces, bool inside_alone) {
  std::vector<std::string> all;
  for (const NftInterface& each : interfaces)
    if (!inside_alone || !each.outside) all.push_back(std::to_string(each.ifindex));
  return all.empty() ? "" : set_of_texts(all);
}

std::string pool_of_ports(const Settings& settings) {
  std::vector<std::string> ranges;
  for (const PortRange& range : settings.pool)
    if (range.first <= range.last) ranges.push_back(fmt::format("{}-{}", range.first, range.last));
  return ranges.empty() ? "" : set_of_texts(ranges);
}

std::vector<Ipv4> addresses_of(const Forward& forward, const Settings& settings) {
  std::vector<Ipv4> all;
  for (const External& external : settings.externals)
    if (external.state == kExternalLive && external.address.be != 0 &&
        (same(forward.external, kAnyExternal) || same(forward.external, external.address)))
      all.push_back(external.address);
  return all;
}

bool is_within(Ipv4 address, const std::vector<ForwardFrom>& networks) {
  for (const ForwardFrom& each : networks) {
    const u32 mask = each.length == 0 ? 0 : swap32(~0u << (32 - each.length));
    if ((address.be & mask) == each.network.be) return true;
  }
  return false;
}

// What comes before the rest of a rule: to whom and from whom. Inner hosts are seen with the
// external address, by hairpinning.
std::vector<std::string> ways_of(const Forward& forward, Ipv4 external, const std::string& inside) {
  const std::string to = fmt::format("ip daddr {} ", address_text(external));
  if (forward.from.empty()) return {to};
  std::vector<std::string> networks, ways;
  for (const ForwardFrom& each : forward.from)
    networks.push_back(fmt::format("{}/{}", address_text(each.network), each.length));
  ways.push_back(to + "ip saddr " + set_of_texts(networks) + " ");
  if (is_within(external, forward.from) && !inside.empty())
    ways.push_back(to + "iif " + inside + " ");
  return ways;
}

// The ends of its rules, one for each.
std::vector<std::string> ends_of(const Forward& forward, const std::string& pool) {
  const std::string ports = forward.first == forward.last
                                ? fmt::format("{}", forward.first)
                                : fmt::format("{}-{}", forward.first, forward.last);
  const std::string both = "meta l4proto { tcp, udp } ";
  switch (forward.kind) {
    case ForwardKind::plain:
    case ForwardKind::triggered:
      return {(forward.protocol == ForwardProtocol::tcp   ? "meta l4proto tcp "
               : forward.protocol == ForwardProtocol::udp ? "meta l4proto udp "
                                                          : both) +
              "th dport " + ports + " drop"};
    case ForwardKind::marked:
      return {fmt::format("{}meta mark {} drop", both, forward.mark)};
    case ForwardKind::one_to_one: {
      std::vector<std::string> ends;
      for (const char* transparent : {"0", "1"})
        if (!pool.empty())
          ends.push_back(
              fmt::format("{}th dport {} socket transparent {} accept", both, pool, transparent));
      ends.push_back(both + "drop");
      ends.push_back("icmp type { echo-request, timestamp-request } drop");
      return ends;
    }
    default:
      return {};
  }
}

}  // namespace

std::string forwards_to_nftables(const Forwards& forwards, const Settings& settings,
                                 const std::vector<NftInterface>& interfaces) {
  const std::string all = indexes_of(interfaces, false), inside = indexes_of(interfaces, true);
  const std::string pool = pool_of_ports(settings);
  std::string rules;
  // Those of a whole address come last, as everywhere.
  for (bool whole : {false, true})
    for (const Forward& forward : forwards.list) {
      if ((forward.kind == ForwardKind::one_to_one) != whole) continue;
      for (Ipv4 external : addresses_of(forward, settings))
        for (const std::string& way : ways_of(forward, external, inside))
          for (const std::string& end : ends_of(forward, pool))
            rules += "add rule ip masq_forwards input " + way + end + "\n";
    }
  if (rules.empty() || all.empty()) return "";
  return fmt::format(
      "add table ip masq_forwards\n"
      "add chain ip masq_forwards input {{ type filter hook input priority -299; }}\n"
      "add rule ip masq_forwards input iif != {} accept\n"
      "add rule ip masq_forwards input udp sport 67 udp dport 68 accept\n{}",
      all, rules);
}

}  // namespace masq
