// Integers, network-order types and the few words that both worlds need.
//
// Freestanding: this folder compiles with `clang -target bpf` and with the host compiler, so it
// uses no standard header. Addresses and ports stay in network order for their whole life; the
// named functions below are the only way across. They are plain structs without member functions
// because they reach BTF, and the kernel refuses operator names and template names there.
#pragma once

namespace masq {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i32 = int;

static_assert(sizeof(u16) == 2 && sizeof(u32) == 4 && sizeof(u64) == 8);

// Everything on the packet path is inlined: a call costs more than the work it saves, and the
// verifier sees one straight function.
#define MASQ_INLINE inline __attribute__((always_inline))

// Hides where a value comes from, so that what is checked and what is used stay one register. The
// compiler likes to compute an address before the check that makes it safe; that is right for C++,
// but the kernel's verifier reads the program as it stands.
MASQ_INLINE u32 opaque(u32 value) {
  asm volatile("" : "+r"(value));
  return value;
}

// An IPv4 address in network order.
struct Ipv4 {
  u32 be;
};

// A TCP or UDP port, or the identifier of an ICMP query, in network order.
struct Port {
  u16 be;
};

MASQ_INLINE constexpr u16 swap16(u16 v) {
  return __builtin_bswap16(v);
}
MASQ_INLINE constexpr u32 swap32(u32 v) {
  return __builtin_bswap32(v);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "network order is reached by swapping");

// Host order to network order and back.
MASQ_INLINE constexpr Ipv4 ipv4_from_host(u32 host) {
  return Ipv4{swap32(host)};
}
MASQ_INLINE constexpr u32 to_host(Ipv4 address) {
  return swap32(address.be);
}
MASQ_INLINE constexpr Port port_from_host(u16 host) {
  return Port{swap16(host)};
}
MASQ_INLINE constexpr u16 to_host(Port port) {
  return swap16(port.be);
}

MASQ_INLINE constexpr bool same(Ipv4 a, Ipv4 b) {
  return a.be == b.be;
}
MASQ_INLINE constexpr bool same(Port a, Port b) {
  return a.be == b.be;
}

// Addresses that never stand for one host on a link (RFC 1122 3.2.1.3, RFC 5771, RFC 919).
MASQ_INLINE constexpr bool is_multicast(Ipv4 a) {
  return (a.be & swap32(0xf0000000)) == swap32(0xe0000000);
}
MASQ_INLINE constexpr bool is_broadcast(Ipv4 a) {
  return a.be == 0xffffffff;
}
MASQ_INLINE constexpr bool is_loopback(Ipv4 a) {
  return (a.be & swap32(0xff000000)) == swap32(0x7f000000);
}
MASQ_INLINE constexpr bool is_this_network(Ipv4 a) {
  return (a.be & swap32(0xff000000)) == 0;
}
MASQ_INLINE constexpr bool is_reserved(Ipv4 a) {
  return (a.be & swap32(0xf0000000)) == swap32(0xf0000000);
}

// Can stand as the source of a packet that leaves a host which has an address.
MASQ_INLINE constexpr bool is_plain_unicast(Ipv4 a) {
  return !is_multicast(a) && !is_reserved(a) && !is_loopback(a) && !is_this_network(a);
}

}  // namespace masq
