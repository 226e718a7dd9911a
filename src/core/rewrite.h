// The bytes that a verdict changes. Checksums are updated incrementally (RFC 1624), so a wrong one
// stays wrong by the same amount and the receiver still notices.
#pragma once

#include "core/verdict.h"

namespace masq {

// Sets a 16-bit word and adds the change to `delta`.
MASQ_INLINE void change(u16& word, u16 value, u64& delta) {
  delta += checksum_difference(word, value);
  word = value;
}

// The outer IPv4 header: the address that the verdict names, and one hop less if it is forwarded.
MASQ_INLINE bool rewrite_ipv4(Bytes bytes, const Packet& p, const Verdict& v) {
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, p.l3);
  if (ip == nullptr) return false;
  u64 delta = 0;
  if (v.translate && v.direction == kOut) {
    delta += checksum_difference(ip->source, v.address);
    ip->source = v.address;
  } else if (v.translate) {
    delta += checksum_difference(ip->destination, v.address);
    ip->destination = v.address;
  }
  if (v.rewrite_id) {
    u16 id = ip->id;
    change(id, v.new_id, delta);
    ip->id = id;
  }
  if (v.action == Action::forward) {
    // One hop less, in the word that time to live shares with the protocol.
    u16 before = static_cast<u16>(ip->ttl | ip->protocol << 8);
    u16 after_hop = static_cast<u16>(static_cast<u8>(ip->ttl - 1) | ip->protocol << 8);
    delta += checksum_difference(before, after_hop);
    ip->ttl = static_cast<u8>(ip->ttl - 1);
  }
  ip->checksum = checksum_update(ip->checksum, checksum_fold(delta));
  return true;
}

// The port of a TCP segment or UDP datagram; with the checksum if `whole`, else that is left to the
// caller (in the kernel it may be one that is completed later).
MASQ_INLINE bool rewrite_transport(Bytes bytes, const Packet& p, const Verdict& v, bool whole) {
  UdpHeader* ports = header_at<UdpHeader>(bytes, p.l4);  // the first words of TCP too
  if (ports == nullptr || (p.kind != Kind::tcp && p.kind != Kind::udp)) return false;
  u64 delta = checksum_difference(v.direction == kOut ? p.source : p.destination, v.address);
  u16 port = v.direction == kOut ? ports->source.be : ports->destination.be;
  change(port, v.port.be, delta);
  if (v.direction == kOut)
    ports->source.be = port;
  else
    ports->destination.be = port;
  if (!whole) return true;
  if (p.kind == Kind::udp) {
    ports->checksum = checksum_update_udp(ports->checksum, checksum_fold(delta));
    return true;
  }
  TcpHeader* tcp = header_at<TcpHeader>(bytes, p.l4);
  if (tcp == nullptr) return false;
  tcp->checksum = checksum_update(tcp->checksum, checksum_fold(delta));
  return true;
}

// Lowers the MSS option to what the verdict allows, and never raises it. Whether it did; `before`
// and `now` are then the words to change the checksum by, as they stand in its sum: the option may
// begin at an odd byte.
MASQ_INLINE bool lower_mss(Bytes bytes, const Packet& p, const Verdict& v, u16& before, u16& now) {
  struct __attribute__((packed)) Half {
    u16 value;
  };
  if (v.mss_most == 0 || p.mss_at == 0) return false;
  Half* mss = header_at<Half>(bytes, p.mss_at);
  if (mss == nullptr || swap16(mss->value) <= v.mss_most) return false;
  bool odd = (p.mss_at - p.l4) & 1;
  before = odd ? swap16(mss->value) : mss->value;
  mss->value = swap16(v.mss_most);
  now = odd ? swap16(mss->value) : mss->value;
  return true;
}

MASQ_INLINE void change_tcp_checksum(Bytes bytes, const Packet& p, u16 before, u16 now) {
  TcpHeader* tcp = header_at<TcpHeader>(bytes, p.l4);
  if (tcp != nullptr)
    tcp->checksum = checksum_update(tcp->checksum, checksum_difference(before, now));
}

// The identifier of an ICMP query or reply, with its checksum.
MASQ_INLINE bool rewrite_icmp_id(Bytes bytes, const Packet& p, const Verdict& v) {
  IcmpHeader* icmp = header_at<IcmpHeader>(bytes, p.l4);
  if (icmp == nullptr) return false;
  u64 delta = 0;
  u16 id = icmp->id.be;
  change(id, v.port.be, delta);
  icmp->id.be = id;
  icmp->checksum = checksum_update(icmp->checksum, checksum_fold(delta));
  return true;
}

// The packet that an ICMP error quotes, as the receiver of the error sent it (RFC 5508 REQ-4a, 5a):
// the address and port opposite to those of the outer header. `delta` collects the change of the
// ICMP message's sum.
MASQ_INLINE bool rewrite_quoted(Bytes bytes, const Packet& p, const Verdict& v) {
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, p.quoted_l3);
  IcmpHeader* outer = header_at<IcmpHeader>(bytes, p.l4);
  if (ip == nullptr || outer == nullptr) return false;
  u64 delta = 0, address_delta = 0, endpoint_delta = 0;
  bool quoted_destination = v.direction == kOut;
  if (quoted_destination) {
    address_delta += checksum_difference(ip->destination, v.address);
    ip->destination = v.address;
  } else {
    address_delta += checksum_difference(ip->source, v.address);
    ip->source = v.address;
  }
  u16 header_sum_field = ip->checksum;
  change(header_sum_field, checksum_update(ip->checksum, checksum_fold(address_delta)), delta);
  ip->checksum = header_sum_field;
  delta += address_delta;

  if (p.quoted_protocol == kProtocolIcmp) {
    IcmpHeader* quoted = header_at<IcmpHeader>(bytes, p.quoted_l4);
    if (quoted == nullptr) return false;
    u16 id = quoted->id.be, sum = quoted->checksum;
    change(id, v.port.be, endpoint_delta);
    change(sum, checksum_update(sum, checksum_fold(endpoint_delta)), delta);
    quoted->id.be = id;
    quoted->checksum = sum;
  } else {
    UdpHeader* quoted = header_at<UdpHeader>(bytes, p.quoted_l4);
    if (quoted == nullptr) return false;
    u16 port = quoted_destination ? quoted->destination.be : quoted->source.be;
    change(port, v.port.be, endpoint_delta);
    if (quoted_destination)
      quoted->destination.be = port;
    else
      quoted->source.be = port;
    u16 whole = checksum_fold(address_delta + endpoint_delta);
    if (p.quoted_protocol == kProtocolUdp) {
      u16 sum = quoted->checksum;
      change(sum, checksum_update_udp(sum, whole), delta);
      quoted->checksum = sum;
    } else if (TcpHeader* tcp = header_at<TcpHeader>(bytes, p.quoted_l4);
               tcp != nullptr && p.quoted_l4 + 20 <= p.l3 + p.total_length) {
      u16 sum = tcp->checksum;
      change(sum, checksum_update(sum, whole), delta);
      tcp->checksum = sum;
    }
  }
  delta += endpoint_delta;
  outer->checksum = checksum_update(outer->checksum, checksum_fold(delta));
  return true;
}

// --- ICMP errors of the gateway itself (RFC 792, RFC 1191, RFC 1812 section 4.3.2) ---------------

// How much of the refused datagram is quoted. RFC 1812 asks for as much as fits in 576 bytes; 128
// hold every header that a sender needs to recognise its packet, and bound the work in the kernel.
inline constexpr u32 kQuoteMax = 128;
inline constexpr u32 kIcmpErrorHeaders = sizeof(Ipv4Header) + sizeof(IcmpHeader);

// The ones' complement sum of `length` bytes at `offset` (at most kQuoteMax).
MASQ_INLINE u16 quote_sum(Bytes bytes, u32 offset, u32 length) {
  struct __attribute__((packed)) Half {
    u16 value;
  };
  struct __attribute__((packed)) Byte {
    u8 value;
  };
  u64 sum = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kQuoteMax; i += 2) {
    if (i >= length) break;
    if (i + 1 == length) {
      Byte* last = header_at<Byte>(bytes, offset + i);
      if (last == nullptr) break;
      sum += last->value;
      break;
    }
    Half* half = header_at<Half>(bytes, offset + i);
    if (half == nullptr) break;
    sum += half->value;
  }
  return checksum_fold(sum);
}

// Fills the two headers that come before the quoted bytes.
MASQ_INLINE void fill_icmp_error(Ipv4Header& ip, IcmpHeader& icmp, const Packet& p,
                                 const Verdict& v, u32 quoted_length, u16 sum_of_quote) {
  ip.version_ihl = 0x45;
  ip.tos = p.tos & 0xfc;  // RFC 5508 REQ-10d: the class of the packet that it answers
  ip.total_length = swap16(static_cast<u16>(kIcmpErrorHeaders + quoted_length));
  ip.id = 0;  // atomic (RFC 6864): cannot be fragmented, so it needs none
  ip.fragment = kFragmentDont;
  ip.ttl = 64;
  ip.protocol = kProtocolIcmp;
  ip.checksum = 0;
  ip.source = v.icmp_source;
  ip.destination = p.source;
  u64 sum = static_cast<u64>(0x45 | ip.tos << 8) + ip.total_length + ip.fragment +
            static_cast<u64>(64 | kProtocolIcmp << 8) + ip.source.be + ip.destination.be;
  ip.checksum = static_cast<u16>(~checksum_fold(sum));
  icmp.type = v.icmp_type;
  icmp.code = v.icmp_code;
  icmp.checksum = 0;
  icmp.id.be = 0;
  icmp.tail = swap16(v.icmp_mtu);
  u64 icmp_sum = static_cast<u64>(icmp.type | icmp.code << 8) + icmp.tail + sum_of_quote;
  icmp.checksum = static_cast<u16>(~checksum_fold(icmp_sum));
}

// --- The RST that ends a connection towards its inner host ---------------------------------------

inline constexpr u32 kResetLength = sizeof(Ipv4Header) + sizeof(TcpHeader);

// Makes the first two headers of a segment the RST that answers it (RFC 9293 section 3.10.7.1: its
// number is the one that the segment acknowledges). `whole`: with its checksum; else with that of
// the pseudo header alone, to be completed later.
MASQ_INLINE void fill_reset(Ipv4Header& ip, TcpHeader& tcp, const Packet& p, bool whole) {
  ip.version_ihl = 0x45;
  ip.tos = p.tos & 0xfc;
  ip.total_length = swap16(static_cast<u16>(kResetLength));
  ip.id = 0;  // atomic, as above
  ip.fragment = kFragmentDont;
  ip.ttl = 64;
  ip.protocol = kProtocolTcp;
  ip.checksum = 0;
  ip.source = p.destination;
  ip.destination = p.source;
  u64 addresses = static_cast<u64>(ip.source.be) + ip.destination.be;
  u64 sum = static_cast<u64>(0x45 | ip.tos << 8) + ip.total_length + ip.fragment +
            static_cast<u64>(64 | kProtocolTcp << 8) + addresses;
  ip.checksum = static_cast<u16>(~checksum_fold(sum));
  tcp.source = p.destination_port;
  tcp.destination = p.source_port;
  tcp.sequence = swap32(p.acknowledgment);
  tcp.acknowledgment = 0;
  tcp.data_offset = sizeof(TcpHeader) / 4 << 4;
  tcp.flags = kTcpRst;
  tcp.window = 0;
  tcp.urgent = 0;
  u64 pseudo = addresses + swap16(kProtocolTcp) + swap16(sizeof(TcpHeader));
  u64 header = static_cast<u64>(tcp.source.be) + tcp.destination.be + tcp.sequence +
               static_cast<u64>(tcp.data_offset | tcp.flags << 8);
  tcp.checksum = whole ? static_cast<u16>(~checksum_fold(pseudo + header)) : checksum_fold(pseudo);
}

// Changes the type of service as rules want it. The two lowest bits are congestion notification by
// now (RFC 3168 section 5) and stay.
MASQ_INLINE void change_service(Bytes bytes, const Packet& p, u8 tos_and, u8 tos_xor) {
  tos_and |= 3;
  tos_xor &= 0xfc;
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, p.l3);
  if (ip == nullptr || (tos_and == 0xff && tos_xor == 0)) return;
  u8 before = ip->tos;
  ip->tos = static_cast<u8>((before & tos_and) ^ tos_xor);
  u64 delta = checksum_difference(swap16(before), swap16(ip->tos));
  ip->checksum = checksum_update(ip->checksum, checksum_fold(delta));
}

}  // namespace masq
