// What must hold at every step of a run, by name, and in which ways a gateway may differ.
//
// This list is the only one: the checks throw `Broken` with one of these names, the runner prints
// it, docs/design/simulator.md explains them.
#pragma once

#include <string>

#include "core/settings.h"

namespace masq::sim {

// X(name, what holds)
#define MASQ_INVARIANTS(X)                                                                         \
  X(no_inner_address_outside, "no inner address leaves, in a header or in a quoted packet")        \
  X(source_is_external, "what leaves outside comes from the live external address of that link")   \
  X(source_belongs_to_its_link, "an inner host cannot send as one of another link")                \
  X(nothing_inward_without_flow, "inwards goes only what answers a packet sent within its timer")  \
  X(filtering_lets_in, "who the host's filtering lets in gets in (RFC 4787 section 5)")            \
  X(mapping_is_endpoint_independent, "one internal endpoint, one external one (RFC 4787 REQ-1)")   \
  X(mappings_are_paired, "all mappings of a host are at one external address of a link (REQ-2)")   \
  X(no_port_shared, "two internal endpoints never have one external endpoint (REQ-3)")             \
  X(port_may_be_mapped, "external ports are of the pool and no socket has them")                   \
  X(inner_hosts_meet, "two that write to each other's external endpoints do (RFC 4787 REQ-9)")     \
  X(port_says_whose_it_is, "a port of a host's block is that host's, and it has no others")        \
  X(reply_reaches_its_host, "an answer reaches the endpoint that asked, with its bytes unchanged") \
  X(only_endpoints_change, "translation changes the near endpoint and nothing else")               \
  X(checksums_right, "right checksums stay right, wrong ones stay wrong")                          \
  X(mss_fits, "what two ends tell each other of their segments fits the links, and is not raised") \
  X(fits_its_link, "nothing leaves that is larger than its link carries")                          \
  X(cut_if_it_may_be, "too large is only what may not be cut, while the slow path is there")       \
  X(slow_for_cause, "to the slow path goes what needs it, while it is there")                      \
  X(pieces_are_the_whole, "the pieces of a datagram are those that RFC 791 makes of it")           \
  X(fragments_are_ordered, "fragments wait for their first one, and follow it at once")            \
  X(ttl_decremented_once, "forwarding takes one hop, whatever else happens")                       \
  X(established_survives, "a flow within its timer is never refused, whatever attackers do")       \
  X(attack_changes_nothing, "a forged RST, SYN or FIN leaves the record as it was")                \
  X(connection_completes, "a connection that may go on carries all its bytes to the other end")    \
  X(honest_is_not_called_bad, "well-formed packets of honest hosts are not refused as bad ones")   \
  X(refused_has_reason, "whatever is not delivered is counted once, under a reason")               \
  X(refused_for_cause, "a table or a pool that is said to be full is full")                        \
  X(host_has_its_share, "no inner host ever has more than its limits (RFC 6888 REQ-4)")            \
  X(host_is_refused_for_itself, "a host within its limits is not refused for another's doing")     \
  X(counts_agree, "the gateway's counters are what was seen from outside")                         \
  X(stack_gets_its_own, "the gateway's stack gets what is addressed to the gateway, no more")      \
  X(error_is_sound, "an ICMP error goes to the sender and quotes its packet (RFC 1812 4.3.2)")     \
  X(expired_is_gone, "two sweeps after its timer nothing of a flow is left")                       \
  X(table_is_sound, "the audit of the whole table finds nothing (engine/verify.h)")

enum class Invariant : u32 {
#define X(name, sentence) name,
  MASQ_INVARIANTS(X)
#undef X
      count
};

inline const char* name_of(Invariant i) {
  static constexpr const char* kNames[] = {
#define X(name, sentence) #name,
      MASQ_INVARIANTS(X)
#undef X
  };
  return kNames[static_cast<u32>(i)];
}

// Is thrown when one does not hold.
struct Broken {
  Invariant invariant;
  std::string what;
};

// `what` makes the words, only when they are needed.
template <class Words>
void require(bool holds, Invariant invariant, Words what) {
  if (!holds) throw Broken{invariant, what()};
}

// How the gateway under test is allowed to behave.
struct Modes {
  u8 filtering = kFilterAddressAndPort;
  bool tcp_ports_shared = true;  // RFC 7857 section 3: TCP flows to different remotes share a port
  bool hairpin_is_filtered = true;  // packets between inner hosts by the external address too
  bool ids_rewritten = true;        // RFC 6864: IPv4 ids of what may be fragmented are new
  // A packet of an open flow from the wrong inner link is refused too. Without this only what opens
  // a flow is looked at.
  bool inner_link_is_checked_always = false;
};

}  // namespace masq::sim
