// Every reason for which masq does not pass a packet on. This list is the only one: the kernel
// programs, the counters, `masq status --json`, docs/reasons.md and the tests are made from it.
//
// X(name, sentence): the sentence completes "refused because ...".
#pragma once

#include "wire/types.h"

namespace masq {

// clang-format off
#define MASQ_REASONS(X)                                                                           \
  X(malformed, "its IPv4 header or transport header is damaged, cut short or has a wrong "        \
      "checksum")                                                                                 \
  X(ip_options, "it carries IP options, which would be translated only in part and can name "     \
      "inner hosts")                                                                              \
  X(spoofed_source, "its source address cannot belong to a host on the interface where it came "  \
      "in")                                                                                       \
  X(not_for_us, "it came from outside and is not addressed to an external address of this "       \
      "gateway")                                                                                  \
  X(no_mapping, "it came from outside and no mapping, flow or local service asked for it")        \
  X(unsupported_protocol, "only TCP, UDP and ICMP queries and errors can be translated")          \
  X(tcp_not_syn, "it belongs to no known TCP connection and does not open one")                   \
  X(icmp_orphan, "it is an ICMP error about a packet that no known flow sent")                    \
  X(icmp_type, "ICMP messages of this type are not passed on")                                    \
  X(fragment_without_first, "it is a fragment whose first fragment has not been seen")            \
  X(slow_path_down, "it needs the slow path, and the process masq-slow is not there")             \
  X(slow_path_busy, "too many packets of its source need the slow path at the same moment")       \
  X(slow_path_full, "too many fragments wait for the first one of their datagram")                \
  X(fragment_table_full, "too many fragmented datagrams are under way for it to wait")            \
  X(ttl_exceeded, "its time to live has run out")                                                 \
  X(too_big, "it is larger than the next link carries and may not be cut")                   \
  X(no_route, "there is no route to its destination")                                             \
  X(other_interface, "it leads to an interface that masq was not given, and the kernel does not " \
      "forward there")                                                                            \
  X(wrong_zone, "its mapping leads to an address that is not reached through an inner interface") \
  X(no_external_address, "the external interface has no address")                                 \
  X(address_replaced, "its connection had an external address that the gateway has no longer")    \
  X(forwarding_off, "forwarding is switched off: the switch ip_forward is 0")                      \
  X(rules_deny, "a rule or the policy of a chain refuses it")                                      \
  X(rules_not_masqueraded, "the forward chain lets it pass without MASQ, and nothing leaves "     \
      "untranslated")                                                                             \
  X(rules_misplaced, "a rule with the target MASQ or REDIRECT was met where that means nothing")  \
  X(rules_loop, "the chains of rules lead in a circle, or too deep")                              \
  X(flow_table_full, "the flow table is full; raise --flows-max")                                 \
  X(ports_exhausted, "no external port is free")                                                  \
  X(host_flows, "its host has as many flows as one may have; raise --host-flows")                 \
  X(host_ports, "its host has as many external ports as one may have; raise --host-ports")        \
  X(host_opening, "its host has as many connections that are opening as one may have; raise "     \
      "--host-opening")                                                                           \
  X(host_rate, "its host begins flows faster than one may; raise --host-new-per-s")               \
  X(hosts_full, "too many inner hosts have flows at the same time")                               \
  X(contention, "the table was being changed by too many others at the same moment")              \
  X(hairpin, "it goes to an inner host through the external address, and what is needed for "     \
      "that has gone with the process masq-holder")                                               \
  X(egress_guard, "it was about to leave outside with a source that is not an external address")  \
  X(ipv6_blocked, "IPv6 between inside and outside is blocked")                                   \
  X(arp_not_external, "it asks outside for an address that is not an external one")               \
  X(internal_error, "masq met a state that should not exist; please report it")
// clang-format on

enum class Reason : u8 {
  none = 0,
#define X(name, sentence) name,
  MASQ_REASONS(X)
#undef X
      count
};

inline constexpr u32 kReasonCount = static_cast<u32>(Reason::count);

}  // namespace masq
