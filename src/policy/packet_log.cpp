// Writing the line.
#include "policy/packet_log.h"

#include <fmt/format.h>

#include <cstring>

#include "policy/rules.h"

namespace masq {
namespace {

std::string chain_of(const RuleName& name) {
  return {name.chain, strnlen(name.chain, sizeof name.chain)};
}

std::string target_of(const RuleSlot& slot, const RuleHalf& half) {
  if (slot.target == RuleTarget::chain) return chain_of(half.names[slot.to % kRuleSlotsMax]);
  if (slot.target == RuleTarget::redirect)
    return fmt::format("{} {}", policy_name(slot.target), slot.to);
  return policy_name(slot.target);
}

std::string endpoint(Ipv4 address, u16 port) {
  const u32 a = to_host(address);
  return fmt::format("{}.{}.{}.{}:{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255, port);
}

}  // namespace

std::string packet_log_line(const LoggedPacket& packet, const RuleHalf& half,
                            const std::string& interface) {
  const u32 at = packet.slot % kRuleSlotsMax;
  return fmt::format(
      "Packet log: {} {} {} PROTO={} {} {} L={} S=0x{:02X} I={} F=0x{:04X} T={} {}(#{})",
      chain_of(half.names[at]), target_of(half.slots[at], half),
      interface.empty() ? "-" : interface, packet.protocol,
      endpoint(packet.source, packet.source_port),
      endpoint(packet.destination, packet.destination_port), packet.length, packet.tos, packet.id,
      packet.fragment, packet.ttl, packet.is_syn ? "SYN " : "", half.names[at].number);
}

}  // namespace masq
