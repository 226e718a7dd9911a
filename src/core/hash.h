// SipHash-1-3 (Aumasson, Bernstein 2012; the reduced rounds are those of Linux's hsiphash64 and of
// Rust's standard table) over exactly two words: enough for a five-tuple, about 90 instructions.
// Keyed, because anybody on either side chooses what is hashed.
#pragma once

#include "wire/types.h"

namespace masq {

MASQ_INLINE constexpr u64 rotate_left(u64 v, u32 n) {
  return (v << n) | (v >> (64 - n));
}

struct SipState {
  u64 v0, v1, v2, v3;
};

MASQ_INLINE constexpr void sip_round(SipState& s) {
  s.v0 += s.v1;
  s.v1 = rotate_left(s.v1, 13) ^ s.v0;
  s.v0 = rotate_left(s.v0, 32);
  s.v2 += s.v3;
  s.v3 = rotate_left(s.v3, 16) ^ s.v2;
  s.v0 += s.v3;
  s.v3 = rotate_left(s.v3, 21) ^ s.v0;
  s.v2 += s.v1;
  s.v1 = rotate_left(s.v1, 17) ^ s.v2;
  s.v2 = rotate_left(s.v2, 32);
}

MASQ_INLINE constexpr u64 keyed_hash(const u64 (&secret)[2], u64 a, u64 b) {
  SipState s{secret[0] ^ 0x736f6d6570736575ull, secret[1] ^ 0x646f72616e646f6dull,
             secret[0] ^ 0x6c7967656e657261ull, secret[1] ^ 0x7465646279746573ull};
  s.v3 ^= a;
  sip_round(s);
  s.v0 ^= a;
  s.v3 ^= b;
  sip_round(s);
  s.v0 ^= b;
  const u64 length = 16ull << 56;
  s.v3 ^= length;
  sip_round(s);
  s.v0 ^= length;
  s.v2 ^= 0xff;
  sip_round(s);
  sip_round(s);
  sip_round(s);
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

}  // namespace masq
