// The two questions that the core has for the kernel: where does the route lead, and is there a
// socket? Asked by the programs on the packet path, and by the one that `masq explain` runs.
#pragma once

#include "bpf/helpers.h"
#include "bpf/layout.h"
#include "wire/headers.h"

namespace masq::bpf {

inline constexpr u32 kAddressFamilyIpv4 = 2;

// Asks as if the packet came from the loopback interface, the only one where masq leaves
// forwarding on: what the kernel itself would forward between our interfaces is nothing.
MASQ_INLINE FibAnswer ask_fib(__sk_buff* skb, bpf_fib_lookup& params, u32 loopback_ifindex,
                              Ipv4 destination, Ipv4 source) {
  params = {};
  params.family = kAddressFamilyIpv4;
  params.ipv4_src = source.be;
  params.ipv4_dst = destination.be;
  params.ifindex = loopback_ifindex;
  long result = fib_lookup(skb, &params, sizeof(params), 0);
  if (result == BPF_FIB_LKUP_RET_NOT_FWDED) return FibAnswer::not_forwarded;
  bool found = result == BPF_FIB_LKUP_RET_SUCCESS || result == BPF_FIB_LKUP_RET_NO_NEIGH ||
               result == BPF_FIB_LKUP_RET_FRAG_NEEDED;
  // An IPv6 next hop (RFC 8950) is none that we can use.
  return found && params.family == kAddressFamilyIpv4 ? FibAnswer::forward : FibAnswer::none;
}

MASQ_INLINE bool ask_socket(__sk_buff* skb, bpf_sock_tuple& tuple, u8 protocol, Ipv4 address,
                            Port port, Ipv4 remote, Port remote_port) {
  tuple = {};
  tuple.ipv4.daddr = address.be;
  tuple.ipv4.dport = port.be;
  tuple.ipv4.saddr = remote.be;
  tuple.ipv4.sport = remote_port.be;
  bpf_sock* sock;
  if (protocol == kProtocolTcp)
    sock = skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), static_cast<u64>(-1), 0);
  else
    sock = sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), static_cast<u64>(-1), 0);
  if (sock == nullptr) return false;
  sk_release(sock);
  return true;
}

}  // namespace masq::bpf
