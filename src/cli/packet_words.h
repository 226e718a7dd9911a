// A packet in words, as people say it to `masq explain`:
//
//   udp 192.168.2.4:5000 198.51.100.1:53
//   tcp 192.168.2.4:5000 to 198.51.100.1:80 flags S ttl 1 df size 1500
//   from outside tcp 198.51.100.1:80 203.0.113.2:40000 flags SA
//   icmp 192.168.2.4 198.51.100.1 echo id 77          gre 192.168.2.4 198.51.100.1
//   icmp 198.51.100.9 203.0.113.2 unreachable code 4 mtu 1400 about udp 203.0.113.2:9
//   198.51.100.1:9 udp 192.168.2.4 198.51.100.1 offset 1480 len 100   (a fragment that is not the
//   first) from outside arp 192.168.1.1 192.168.2.1           ipv6
//
// The notation of tests/packets, made forgiving: "from", "to", ">", "->" and commas between the
// ends may be there or not, and options come in any order. docs/explain.md lists them. What is not
// said has the usual value, and lengths and checksums are right unless they are said to be wrong.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

struct WordedPacket {
  std::vector<u8> bytes;   // from the network header on
  u16 ether_type = 0;      // network order
  std::string came_in_on;  // "inside", "outside", "gateway", an interface's name, or empty
  u32 segment_size = 0;    // of a large TCP segment or datagram that is yet to be cut
};

Result<WordedPacket> packet_from_words(const std::vector<std::string>& words);

}  // namespace masq
