// Large segments cut as a network card would (TSO, USO), for devices where the kernel does not do
// it: what comes from a packet socket it takes to begin with as many bytes of a link header as the
// device says that it has, and a PPP device says 4 although packets reach it without any. There the
// kernel finds no header to cut by, and drops what is larger than a packet.
//
// Limits: IPv4, TCP and UDP, at most 64 KB in kPiecesMost pieces; what is not that gives nothing.
// Each piece has the next identification, as the gateway has reserved them (core/identification.h).
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "wire/checksum.h"
#include "wire/headers.h"

namespace masq {

inline constexpr u32 kPiecesMost = 2048;  // of 64 KB with the smallest MSS that Linux believes, 48
inline constexpr u8 kTcpPush = 0x08;
inline constexpr u8 kTcpWindowReduced = 0x80;  // CWR (RFC 3168): on the first piece only

template <class Header>
Header read_header(const u8* at) {
  Header header;
  std::memcpy(&header, at, sizeof header);
  return header;
}

// Completes the transport checksum of a whole packet, whatever is in its field.
inline void fill_transport_checksum(u8* packet, u32 length, u32 l4, u32 field) {
  Ipv4Header ip = read_header<Ipv4Header>(packet);
  u16 checksum = 0;
  std::memcpy(packet + field, &checksum, sizeof checksum);
  u64 sum = checksum_sum(packet + l4, length - l4) + swap16(ip.protocol) +
            swap16(static_cast<u16>(length - l4)) + ip.source.be + ip.destination.be;
  checksum = static_cast<u16>(~checksum_fold(sum));
  if (ip.protocol == kProtocolUdp && checksum == 0) checksum = 0xffff;
  std::memcpy(packet + field, &checksum, sizeof checksum);
}

// `packet` begins with its IPv4 header; `headers` bytes of it are before the payload, of which each
// piece gets `size`.
inline std::vector<std::vector<u8>> cut_into_segments(const u8* packet, u32 length, u32 headers,
                                                      u32 size) {
  std::vector<std::vector<u8>> pieces;
  if (length < sizeof(Ipv4Header) || length > 65535 || size == 0) return pieces;
  u32 l4 = (packet[0] & 15) * 4u;
  bool tcp = packet[9] == kProtocolTcp;
  if (!tcp && packet[9] != kProtocolUdp) return pieces;
  u32 least = tcp ? sizeof(TcpHeader) : sizeof(UdpHeader);
  if (l4 < sizeof(Ipv4Header) || headers < l4 + least || headers >= length) return pieces;
  if ((length - headers) / size >= kPiecesMost) return pieces;
  for (u32 at = headers; at < length; at += size) {
    u32 payload = std::min(size, length - at);
    bool last = at + payload == length;
    std::vector<u8>& piece = pieces.emplace_back(packet, packet + headers);
    piece.insert(piece.end(), packet + at, packet + at + payload);
    Ipv4Header ip = read_header<Ipv4Header>(packet);
    ip.total_length = swap16(static_cast<u16>(headers + payload));
    ip.id = swap16(static_cast<u16>(swap16(ip.id) + pieces.size() - 1));
    ip.checksum = 0;
    std::memcpy(piece.data(), &ip, sizeof ip);
    ip.checksum = static_cast<u16>(~checksum_fold(checksum_sum(piece.data(), l4)));
    std::memcpy(piece.data(), &ip, sizeof ip);
    if (tcp) {
      TcpHeader t = read_header<TcpHeader>(packet + l4);
      t.sequence = swap32(swap32(t.sequence) + (at - headers));
      if (!last) t.flags = static_cast<u8>(t.flags & ~(kTcpFin | kTcpPush));
      if (at != headers) t.flags = static_cast<u8>(t.flags & ~kTcpWindowReduced);
      std::memcpy(piece.data() + l4, &t, sizeof t);
    } else {
      UdpHeader u = read_header<UdpHeader>(packet + l4);
      u.length = swap16(static_cast<u16>(headers - l4 + payload));
      std::memcpy(piece.data() + l4, &u, sizeof u);
    }
    fill_transport_checksum(piece.data(), static_cast<u32>(piece.size()), l4, l4 + (tcp ? 16 : 6));
  }
  return pieces;
}

}  // namespace masq
