// Capture files as tcpdump writes them (the pcap format of libpcap's manual, pcap-savefile(5)):
// read in either byte order, with micro- or nanoseconds; written with nanoseconds, as plain IP
// packets without link headers. Of pcapng only so much is known that the advice is right.
//
// Limits: a packet of kPacketMax bytes, as in libpcap. Ethernet without VLAN tags, Linux "cooked"
// captures of both kinds and plain IP; other link types are refused.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kPacketMax = 262144;

struct CapturedPacket {
  u64 time_ns = 0;        // since 1970
  std::vector<u8> bytes;  // as far as captured, from the IP header on
  u32 length = 0;         // as it was on the wire, from there on
  bool is_ipv4 = false;   // otherwise there are no bytes
};

class CaptureReader {
 public:
  static Result<CaptureReader> open(const std::string& path);

  // False at the end. An error where the file is damaged or cut off.
  Result<bool> next(CapturedPacket& packet);

 private:
  u32 number(u32 raw) const { return swapped_ ? swap32(raw) : raw; }

  std::ifstream file_;
  std::string path_;
  bool swapped_ = false;
  bool nanoseconds_ = false;
  u32 link_type_ = 0;
  u64 count_ = 0;
};

class CaptureWriter {
 public:
  static Result<CaptureWriter> open(const std::string& path);

  void write(u64 time_ns, const u8* bytes, u32 captured, u32 length);
  Status finish();

 private:
  std::ofstream file_;
  std::string path_;
};

}  // namespace masq
