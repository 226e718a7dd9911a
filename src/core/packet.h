// What the core knows of one packet, and how it is read from the bytes.
//
// Only IPv4 reaches this point. `parse` checks what RFC 1812 section 5.2.2 asks of a forwarder
// (version, header length, total length, header checksum) because our packets do not pass the
// kernel's own checks, and then the transport header as far as translation needs it. For ICMP
// errors the quoted packet is read too, over its own options (RFC 5508 REQ-3b), and its header
// checksum is verified (REQ-3a); the quoted transport checksum is not (REQ-3c).
#pragma once

#include "core/reasons.h"
#include "wire/checksum.h"
#include "wire/cursor.h"
#include "wire/headers.h"

namespace masq {

enum class Kind : u8 {
  other,  // a transport protocol that is not translated, or an ICMP type that is not
  tcp,
  udp,
  icmp_query,  // echo or timestamp request
  icmp_reply,  // their replies
  icmp_error,  // with a quoted packet
  fragment,    // not the first one: no transport header
};

struct Packet {
  Ipv4 source;
  Ipv4 destination;
  Port source_port;       // TCP, UDP; the query's identifier for ICMP queries
  Port destination_port;  // TCP, UDP; the query's identifier for ICMP replies
  u16 l3;                 // offset of the IPv4 header in the frame
  u16 l4;                 // offset of the transport header
  u16 total_length;       // of the datagram, host order
  u16 id;                 // network order
  u16 fragment;           // flags and offset, host order
  u16 headers;            // bytes of IPv4 and transport header together
  u16 segments;           // datagrams that it will be on the wire
  u8 protocol;
  u8 ttl;
  u8 tos;
  Kind kind;
  bool first_fragment;  // more fragments follow
  bool dont_fragment;
  bool options;
  u8 icmp_type;
  u8 icmp_code;
  // TCP
  u8 tcp_flags;
  u8 window_scale;  // of a SYN; 0xff if it offers none
  u16 mss_at;       // of a SYN: offset of the value of its MSS option; 0 if there is none
  u16 window;       // host order, unscaled
  u32 sequence;     // host order
  u32 acknowledgment;
  u32 segment_length;  // payload plus SYN plus FIN
  // The packet that an ICMP error quotes
  Ipv4 quoted_source;
  Ipv4 quoted_destination;
  Port quoted_source_port;  // TCP, UDP; the identifier for ICMP
  Port quoted_destination_port;
  u16 quoted_l3;
  u16 quoted_l4;
  u8 quoted_protocol;
  u8 quoted_icmp_type;
};

// The ones' complement sum of an IPv4 header of `words` 32-bit words; 0xffff if it is intact.
MASQ_INLINE u16 header_sum(Bytes bytes, u32 offset, u32 words) {
  u64 sum = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 15; ++i) {
    if (i >= words) break;
    struct __attribute__((packed)) Word {
      u32 value;
    };
    Word* w = header_at<Word>(bytes, offset + i * 4);
    if (w == nullptr) return 0;
    sum += w->value;
  }
  return checksum_fold(sum);
}

// Offset of the value of the first option of this kind, or 0 if there is none of that length.
MASQ_INLINE u32 tcp_option(Bytes bytes, u32 offset, u32 end, u8 wanted, u8 wanted_length) {
  struct __attribute__((packed)) Byte {
    u8 value;
  };
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 12; ++i) {  // no SYN carries more options in practice
    if (offset + 2 >= end) return 0;
    Byte* kind = header_at<Byte>(bytes, offset);
    if (kind == nullptr || kind->value == 0) return 0;
    if (kind->value == 1) {
      offset += 1;
      continue;
    }
    Byte* length = header_at<Byte>(bytes, offset + 1);
    if (length == nullptr || length->value < 2) return 0;
    if (kind->value == wanted)
      return length->value == wanted_length && offset + wanted_length <= end ? offset + 2 : 0;
    offset += length->value;
  }
  return 0;
}

// The options of a SYN: window scale (RFC 7323 section 2.2) and maximum segment size (RFC 9293
// section 3.7.1).
MASQ_INLINE void read_syn_options(Bytes bytes, Packet& p) {
  struct __attribute__((packed)) Byte {
    u8 value;
  };
  u32 begin = p.l4 + sizeof(TcpHeader), end = p.l3 + p.headers;
  p.mss_at = static_cast<u16>(tcp_option(bytes, begin, end, 2, 4));
  u32 scale_at = tcp_option(bytes, begin, end, 3, 3);
  Byte* shift = header_at<Byte>(bytes, scale_at);
  p.window_scale = scale_at == 0 || shift == nullptr ? 0xff : shift->value > 14 ? 14 : shift->value;
}

MASQ_INLINE Reason parse_tcp(Bytes bytes, Packet& p, u32 payload_end) {
  TcpHeader* tcp = header_at<TcpHeader>(bytes, p.l4);
  if (tcp == nullptr) return Reason::malformed;
  u32 header_length = (tcp->data_offset >> 4) * 4u;
  if (header_length < sizeof(TcpHeader) || p.l4 + header_length > payload_end)
    return Reason::malformed;
  p.kind = Kind::tcp;
  p.headers = static_cast<u16>(p.l4 - p.l3 + header_length);
  p.source_port = tcp->source;
  p.destination_port = tcp->destination;
  p.tcp_flags = tcp->flags;
  p.window = swap16(tcp->window);
  p.sequence = swap32(tcp->sequence);
  p.acknowledgment = swap32(tcp->acknowledgment);
  p.segment_length = payload_end - p.l4 - header_length;
  if (p.tcp_flags & kTcpSyn) p.segment_length += 1;
  if (p.tcp_flags & kTcpFin) p.segment_length += 1;
  return Reason::none;
}

MASQ_INLINE Reason parse_quoted(Bytes bytes, Packet& p, u32 payload_end) {
  p.quoted_l3 = static_cast<u16>(p.l4 + sizeof(IcmpHeader));
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, p.quoted_l3);
  if (ip == nullptr) return Reason::malformed;
  u32 words = ip->version_ihl & 15;
  if (ip->version_ihl >> 4 != 4 || words < 5) return Reason::malformed;
  if (header_sum(bytes, p.quoted_l3, words) != 0xffff) return Reason::malformed;
  if (ip->fragment & kFragmentOffset) return Reason::icmp_orphan;  // no ports to find a flow by
  p.quoted_source = ip->source;
  p.quoted_destination = ip->destination;
  p.quoted_protocol = ip->protocol;
  p.quoted_l4 = static_cast<u16>(p.quoted_l3 + words * 4);
  if (p.quoted_l4 + 8u > payload_end) return Reason::malformed;
  if (ip->protocol == kProtocolTcp || ip->protocol == kProtocolUdp) {
    UdpHeader* ports = header_at<UdpHeader>(bytes, p.quoted_l4);
    if (ports == nullptr) return Reason::malformed;
    p.quoted_source_port = ports->source;
    p.quoted_destination_port = ports->destination;
  } else if (ip->protocol == kProtocolIcmp) {
    IcmpHeader* icmp = header_at<IcmpHeader>(bytes, p.quoted_l4);
    if (icmp == nullptr) return Reason::malformed;
    p.quoted_icmp_type = icmp->type;
    p.quoted_source_port = p.quoted_destination_port = icmp->id;
  } else {
    return Reason::unsupported_protocol;
  }
  return Reason::none;
}

MASQ_INLINE Reason parse_icmp(Bytes bytes, Packet& p, u32 payload_end) {
  IcmpHeader* icmp = header_at<IcmpHeader>(bytes, p.l4);
  if (icmp == nullptr) return Reason::malformed;
  p.icmp_type = icmp->type;
  p.icmp_code = icmp->code;
  switch (icmp->type) {
    case kIcmpEcho:
    case kIcmpTimestamp:
      p.kind = Kind::icmp_query;
      p.source_port = icmp->id;
      return Reason::none;
    case kIcmpEchoReply:
    case kIcmpTimestampReply:
      p.kind = Kind::icmp_reply;
      p.destination_port = icmp->id;
      return Reason::none;
    case kIcmpUnreachable:
    case kIcmpTimeExceeded:
    case kIcmpParameterProblem:
      p.kind = Kind::icmp_error;
      if (p.first_fragment) return Reason::malformed;
      return parse_quoted(bytes, p, payload_end);
    default:
      p.kind = Kind::other;  // source quench and redirect among them (RFC 5508 REQ-10)
      return Reason::none;
  }
}

// Reads the packet whose IPv4 header is at `l3`. `frame_length` is the length of the whole frame,
// of which `bytes` may show less; `segmented` says that it is a large segment yet to be cut. On
// `malformed` only the addresses may be set; they are zero if not even those could be read.
MASQ_INLINE Reason parse(Bytes bytes, u32 l3, u32 frame_length, Packet& p) {
  p = Packet{};
  p.segments = 1;
  p.l3 = static_cast<u16>(l3);
  Ipv4Header* ip = header_at<Ipv4Header>(bytes, l3);
  if (ip == nullptr) return Reason::malformed;
  u32 words = ip->version_ihl & 15;
  u32 total_length = swap16(ip->total_length);
  p.source = ip->source;
  p.destination = ip->destination;
  p.protocol = ip->protocol;
  p.ttl = ip->ttl;
  p.tos = ip->tos;
  p.id = ip->id;
  p.fragment = swap16(ip->fragment);
  p.total_length = static_cast<u16>(total_length);
  p.dont_fragment = (ip->fragment & kFragmentDont) != 0;
  p.first_fragment = (ip->fragment & kFragmentMore) != 0;
  p.options = words > 5;
  p.l4 = static_cast<u16>(l3 + words * 4);
  if (ip->version_ihl >> 4 != 4 || words < 5) return Reason::malformed;
  if (header_sum(bytes, l3, words) != 0xffff) return Reason::malformed;
  if (total_length < words * 4 || l3 + total_length > frame_length) return Reason::malformed;
  u32 payload_end = l3 + total_length;
  if (ip->fragment & kFragmentOffset) {
    p.kind = Kind::fragment;
    p.first_fragment = false;
    // The tail of a TCP header in a fragment of its own (RFC 3128): an attack, never traffic.
    if (p.protocol == kProtocolTcp && (swap16(ip->fragment) & 0x1fff) == 1)
      return Reason::malformed;
    return Reason::none;
  }
  if (p.protocol == kProtocolTcp) return parse_tcp(bytes, p, payload_end);
  if (p.protocol == kProtocolUdp) {
    UdpHeader* udp = header_at<UdpHeader>(bytes, p.l4);
    if (udp == nullptr || p.l4 + sizeof(UdpHeader) > payload_end) return Reason::malformed;
    p.kind = Kind::udp;
    p.headers = static_cast<u16>(p.l4 - p.l3 + sizeof(UdpHeader));
    p.source_port = udp->source;
    p.destination_port = udp->destination;
    return Reason::none;
  }
  if (p.protocol == kProtocolIcmp) {
    if (p.l4 + sizeof(IcmpHeader) > payload_end) return Reason::malformed;
    return parse_icmp(bytes, p, payload_end);
  }
  p.kind = Kind::other;
  return Reason::none;
}

}  // namespace masq
