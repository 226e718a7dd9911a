// What the machine tells of itself beside links, addresses and routes, for `masq doctor`: nothing
// here is changed, and nothing is sent.
//
// Limits: kNeighboursMost neighbours and kListenersMost sockets are looked at; who has more is told
// about a part of them. The nameservers are those of /etc/resolv.conf, kNameserversMost of them as
// the C library has it.
#pragma once

#include <string>
#include <vector>

#include "gateway/any_datapath.h"
#include "gateway/netlink.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr std::size_t kNeighboursMost = 65536;
inline constexpr std::size_t kListenersMost = 65536;
inline constexpr std::size_t kNameserversMost = 3;

// An IPv4 host on one of the links, as the kernel has learnt of it.
struct NeighbourSeen {
  u32 ifindex = 0;
  Ipv4 address{};
  bool has_answered = false;  // its hardware address is known
  bool is_silent = false;     // it was asked for, and has not answered
};
Result<std::vector<NeighbourSeen>> read_neighbours();

// A socket that takes what anybody sends it.
struct Listener {
  u8 protocol = 0;
  Ipv4 address{};  // 0: all
  u16 port = 0;
};
std::vector<Listener> read_listeners();

struct Nameservers {
  bool readable = false;
  std::vector<Ipv4> servers;
  u32 of_ipv6 = 0;
};
Nameservers read_nameservers();

// What the kernel takes for the path MTU to there at this moment; 0 if it does not say.
u32 path_mtu_to(Ipv4 destination);

// Process numbers of this network namespace that have this name, in ascending order; as far as
// whoever asks may look at them.
std::vector<int> processes_here(const std::string& name);

// Does the sweeper go through the table? It is watched for kSweepPatience_ms at most.
inline constexpr int kSweepPatience_ms = 1500;
bool sweeps(const AnyDatapath& datapath);

// Does netfilter see what bridges carry?
bool netfilter_sees_bridges();

}  // namespace masq
