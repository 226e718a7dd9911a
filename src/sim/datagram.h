// Packets as the simulator builds and reads them: its own code from end to end, in the plainest
// form, so that what the core does is judged by something else than the core. Everything is in host
// order; checksums are always computed over the whole (RFC 1071), never updated.
//
// IPv4 (RFC 791) without options unless given raw, TCP (RFC 9293) with MSS and window scale as the
// only options, UDP (RFC 768), ICMP queries and errors (RFC 792).
#pragma once

#include <compare>
#include <string>
#include <vector>

#include "wire/types.h"

namespace masq::sim {

using Data = std::vector<u8>;

inline constexpr u8 kIcmp = 1, kTcp = 6, kUdp = 17;
inline constexpr u8 kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

// An address with a port, or with the identifier of an ICMP query.
struct Endpoint {
  u32 address = 0;
  u16 port = 0;
  auto operator<=>(const Endpoint&) const = default;
};

struct Datagram {
  u32 source = 0, destination = 0;
  u8 protocol = kUdp, ttl = 64;
  u16 id = 0;
  bool dont_fragment = false, more = false;
  u32 offset = 0;                             // bytes; with one, `payload` is all behind the header
  u16 source_port = 0, destination_port = 0;  // TCP, UDP
  u32 sequence = 0, acknowledgment = 0;       // TCP
  u8 flags = 0;                               //
  u16 window = 0;                             //
  int scale = -1, mss = -1;                   // of a SYN; -1: not offered
  u8 type = 0, code = 0;                      // ICMP
  u16 query = 0, tail = 0;                    // identifier and sequence number; MTU
  Data payload;                               // of an ICMP error: the quoted packet
};

Data encode(const Datagram& d);

// False unless it is a whole IPv4 packet with a sound header. `sums_right`: all checksums are.
bool decode(const Data& bytes, Datagram& d, bool& sums_right);

// The packet that an ICMP error quotes: cut short, but with ports. What cannot be read stays zero.
bool decode_quoted(const Data& bytes, Datagram& d);

bool is_icmp_error(const Datagram& d);
bool is_icmp_query(const Datagram& d);
bool is_icmp_reply(const Datagram& d);

// The near endpoint of a packet on its way out or in, and the far one. ICMP has no far port.
Endpoint source_of(const Datagram& d);
Endpoint destination_of(const Datagram& d);

// The packet cut into pieces that an MTU carries.
std::vector<Data> cut(const Data& packet, u32 mtu);

// What a gateway should have made of `packet`: the near endpoint replaced (source on the way out,
// destination on the way in; in the packet that an error quotes the opposite), one hop less, every
// checksum computed anew. `unsure` gets the offsets of checksums that cannot be known from here.
Data translated(const Data& packet, bool outward, Endpoint near, std::vector<u32>& unsure);

// Sets the MSS option of a TCP segment that has one, and a checksum that was right.
void set_mss(Data& packet, int mss);

std::string text_of(u32 address);
std::string text_of(Endpoint e);
std::string text_of(const Data& packet);

constexpr u32 address(u32 a, u32 b, u32 c, u32 d) {
  return a << 24 | b << 16 | c << 8 | d;
}

}  // namespace masq::sim
