// The headers as they lie on the wire: Ethernet II, IPv4 (RFC 791), TCP (RFC 9293), UDP (RFC 768),
// ICMP (RFC 792), ARP (RFC 826). All fields in network order; packed, so any alignment is fine.
#pragma once

#include "wire/types.h"

namespace masq {

inline constexpr u16 kEtherTypeIpv4 = swap16(0x0800);
inline constexpr u16 kEtherTypeArp = swap16(0x0806);
inline constexpr u16 kEtherTypeIpv6 = swap16(0x86dd);

inline constexpr u8 kProtocolIcmp = 1;
inline constexpr u8 kProtocolTcp = 6;
inline constexpr u8 kProtocolUdp = 17;

inline constexpr u16 kEthernetHeaderLength = 14;
inline constexpr u16 kIpv4HeaderLength = 20;  // without options

struct __attribute__((packed)) EthernetHeader {
  u8 destination[6];
  u8 source[6];
  u16 type;
};

struct __attribute__((packed)) Ipv4Header {
  u8 version_ihl;
  u8 tos;
  u16 total_length;
  u16 id;
  u16 fragment;  // flags (3 bits) and offset in units of 8 octets (13 bits)
  u8 ttl;
  u8 protocol;
  u16 checksum;
  Ipv4 source;
  Ipv4 destination;
};

inline constexpr u16 kFragmentDont = swap16(0x4000);
inline constexpr u16 kFragmentMore = swap16(0x2000);
inline constexpr u16 kFragmentOffset = swap16(0x1fff);

struct __attribute__((packed)) TcpHeader {
  Port source;
  Port destination;
  u32 sequence;
  u32 acknowledgment;
  u8 data_offset;  // high nibble, in words
  u8 flags;
  u16 window;
  u16 checksum;
  u16 urgent;
};

inline constexpr u8 kTcpFin = 0x01;
inline constexpr u8 kTcpSyn = 0x02;
inline constexpr u8 kTcpRst = 0x04;
inline constexpr u8 kTcpAck = 0x10;

struct __attribute__((packed)) UdpHeader {
  Port source;
  Port destination;
  u16 length;
  u16 checksum;
};

struct __attribute__((packed)) IcmpHeader {
  u8 type;
  u8 code;
  u16 checksum;
  Port id;   // queries; unused or pointer in errors
  u16 tail;  // sequence number in queries; next-hop MTU in "fragmentation needed" (RFC 1191)
};

inline constexpr u8 kIcmpEchoReply = 0;
inline constexpr u8 kIcmpUnreachable = 3;
inline constexpr u8 kIcmpEcho = 8;
inline constexpr u8 kIcmpTimeExceeded = 11;
inline constexpr u8 kIcmpParameterProblem = 12;
inline constexpr u8 kIcmpTimestamp = 13;
inline constexpr u8 kIcmpTimestampReply = 14;

inline constexpr u8 kIcmpCodeNetUnreachable = 0;
inline constexpr u8 kIcmpCodeHostUnreachable = 1;
inline constexpr u8 kIcmpCodePortUnreachable = 3;
inline constexpr u8 kIcmpCodeFragmentationNeeded = 4;
inline constexpr u8 kIcmpCodeProhibited = 13;  // "communication administratively prohibited"

struct __attribute__((packed)) ArpIpv4 {
  u16 hardware_type;
  u16 protocol_type;
  u8 hardware_length;
  u8 protocol_length;
  u16 operation;
  u8 sender_hardware[6];
  Ipv4 sender;
  u8 target_hardware[6];
  Ipv4 target;
};

inline constexpr u16 kArpRequest = swap16(1);

static_assert(sizeof(EthernetHeader) == 14 && sizeof(Ipv4Header) == 20 && sizeof(TcpHeader) == 20);
static_assert(sizeof(UdpHeader) == 8 && sizeof(IcmpHeader) == 8 && sizeof(ArpIpv4) == 28);

}  // namespace masq
