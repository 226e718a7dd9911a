// Reading captures: the classic pcap format and pcapng, of either byte order, with the link types
// that a gateway's captures have. Limits: kCaptureBytesMax for the file, and kPacketLengthMax for
// what is taken of a packet; a damaged file is read up to the damage, and what was read before
// counts. No memory is taken for what was not captured.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr u64 kCaptureBytesMax = 64ull << 20;  // more than anybody will read about
inline constexpr u32 kPacketLengthMax = 65535;        // an IPv4 packet has no more

struct StrippedPacket {
  std::vector<u8> bytes;  // from the network header on, as far as captured
  u32 length = 0;         // as it was on the wire, from there on
  u16 ether_type = 0;     // network order
};

struct Capture {
  std::vector<StrippedPacket> packets;
  std::string damage;  // the sentence that says where reading ended early; empty if it did not
};

Result<Capture> read_capture(const std::string& path);

}  // namespace masq
