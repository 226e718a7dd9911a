// Reading captures: the classic pcap format and pcapng, of either byte order, with the link types
// that a gateway's captures have. Limits: kCaptureBytesMax for the file; a damaged file is read up
// to the damage, and what was read before counts.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr u64 kCaptureBytesMax = 1ull << 30;

struct StrippedPacket {
  std::vector<u8> bytes;  // from the network header on; zeros for what was not captured
  u16 ether_type = 0;     // network order
  bool cut = false;       // the capture has not all of it
};

struct Capture {
  std::vector<StrippedPacket> packets;
  std::string damage;  // the sentence that says where reading ended early; empty if it did not
};

Result<Capture> read_capture(const std::string& path);

}  // namespace masq
