// The table of ICMP's names, and looking them up.
#include "compat/icmp_names.h"

#include <strings.h>

#include <cstring>

namespace masq {
namespace {

// The codes of a type stand behind it.
constexpr IcmpName kIcmpNames[] = {
    {"echo-reply", "pong", 0, false, 0},
    {"destination-unreachable", nullptr, 3, false, 0},
    {"network-unreachable", nullptr, 3, true, 0},
    {"host-unreachable", nullptr, 3, true, 1},
    {"protocol-unreachable", nullptr, 3, true, 2},
    {"port-unreachable", nullptr, 3, true, 3},
    {"fragmentation-needed", nullptr, 3, true, 4},
    {"source-route-failed", nullptr, 3, true, 5},
    {"network-unknown", nullptr, 3, true, 6},
    {"host-unknown", nullptr, 3, true, 7},
    {"network-prohibited", nullptr, 3, true, 9},
    {"host-prohibited", nullptr, 3, true, 10},
    {"TOS-network-unreachable", nullptr, 3, true, 11},
    {"TOS-host-unreachable", nullptr, 3, true, 12},
    {"communication-prohibited", nullptr, 3, true, 13},
    {"host-precedence-violation", nullptr, 3, true, 14},
    {"precedence-cutoff", nullptr, 3, true, 15},
    {"source-quench", nullptr, 4, false, 0},
    {"redirect", nullptr, 5, false, 0},
    {"network-redirect", nullptr, 5, true, 0},
    {"host-redirect", nullptr, 5, true, 1},
    {"TOS-network-redirect", nullptr, 5, true, 2},
    {"TOS-host-redirect", nullptr, 5, true, 3},
    {"echo-request", "ping", 8, false, 0},
    {"router-advertisement", nullptr, 9, false, 0},
    {"router-solicitation", nullptr, 10, false, 0},
    {"time-exceeded", "ttl-exceeded", 11, false, 0},
    {"ttl-zero-during-transit", nullptr, 11, true, 0},
    {"ttl-zero-during-reassembly", nullptr, 11, true, 1},
    {"parameter-problem", nullptr, 12, false, 0},
    {"ip-header-bad", nullptr, 12, true, 0},
    {"required-option-missing", nullptr, 12, true, 1},
    {"timestamp-request", nullptr, 13, false, 0},
    {"timestamp-reply", nullptr, 14, false, 0},
    {"address-mask-request", nullptr, 17, false, 0},
    {"address-mask-reply", nullptr, 18, false, 0},
};

bool begins(const char* name, const std::string& word) {
  return name != nullptr && strncasecmp(name, word.c_str(), word.size()) == 0;
}

bool equals(const char* name, const std::string& word) {
  return name != nullptr && strcasecmp(name, word.c_str()) == 0;
}

}  // namespace

Result<IcmpName> find_icmp_name(const std::string& word) {
  const IcmpName* found = nullptr;
  for (const IcmpName& each : kIcmpNames) {
    if (equals(each.name, word) || equals(each.also, word)) return each;
    if (!begins(each.name, word) && !begins(each.also, word)) continue;
    if (found != nullptr)
      return error("`{}' can be {} or {}; more of the ICMP type's name is needed", word,
                   found->name, each.name);
    found = &each;
  }
  if (found == nullptr || word.empty())
    return error("there is no ICMP type `{}'; `ipchains -h icmp' lists them", word);
  return *found;
}

const char* name_of_icmp(u16 type, bool any_code, u16 code) {
  for (const IcmpName& each : kIcmpNames)
    if (each.type == type && each.has_code == !any_code && (any_code || each.code == code))
      return each.name;
  return nullptr;
}

std::string list_of_icmp_names() {
  std::string out = "ICMP types and codes, by number and by name:\n";
  for (const IcmpName& each : kIcmpNames) {
    out += each.has_code ? fmt::format("   {:>2}/{:<2} {}", each.type, each.code, each.name)
                         : fmt::format("{:>2} {}", each.type, each.name);
    if (each.also != nullptr) out += fmt::format(" ({})", each.also);
    out += "\n";
  }
  return out;
}

}  // namespace masq
