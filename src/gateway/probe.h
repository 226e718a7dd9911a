// The two questions that `masq doctor` puts to others: who has an address (ARP), and whether a
// nameserver answers (DNS).
//
// Both are as harmless as can be. An ARP question is asked as RFC 5227 asks before an address is
// taken: with no sender's address, so that nobody learns anything from it, and nothing is entered
// anywhere. A DNS question asks for the nameservers of the root (RFC 1035), which each server
// knows, from a port that the kernel chooses, as any program of the gateway does.
//
// Limits: kArpTargetsMost addresses at once, each asked twice, with kArpPatience_ms of waiting for
// each; kTwinPatience_ms where nobody is expected to answer. A nameserver is asked twice, with
// kDnsPatience_ms for each.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "gateway/netlink.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr std::size_t kArpTargetsMost = 64;
inline constexpr int kArpPatience_ms = 500;
inline constexpr int kTwinPatience_ms = 200;
inline constexpr int kDnsPatience_ms = 1000;
inline constexpr int kProbeTries = 2;

// The hardware addresses that have answered for each target, in text, by its address in network
// order; none: nobody has. `for_twins`: nobody should, and all who do are waited for. An error if
// it cannot be asked.
using ArpAnswers = std::map<u32, std::set<std::string>>;
Result<ArpAnswers> ask_arp(const Link& link, const std::vector<Ipv4>& targets, bool for_twins);

enum class NameserverAnswer {
  answers,
  refuses,  // with "server failure" or "refused": it is there, and does not help
  silent,
  unreachable,  // there is no way to it, or nobody listens there
};
NameserverAnswer ask_nameserver(Ipv4 server);

}  // namespace masq
