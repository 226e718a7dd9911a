// The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//
// Sums are kept in the byte order of the packet: the ones' complement sum does not care, as long as
// both sides of an addition agree (RFC 1071 section 2B). RFC 1141's equation is never used: it can
// turn 0x0000 into 0xffff.
#pragma once

#include "wire/types.h"

namespace masq {

// Folds a sum of 16-bit words to 16 bits. Four folds are enough for any 32-bit or 48-bit sum.
MASQ_INLINE constexpr u16 checksum_fold(u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(sum);
}

// The sum of bytes as 16-bit words, the last filled up with zero; to be folded. Not for the
// kernel's programs, which read a packet through its cursor.
inline u64 checksum_sum(const u8* bytes, u32 length) {
  u64 sum = 0;
  for (u32 i = 0; i + 1 < length; i += 2) sum += static_cast<u64>(bytes[i] | bytes[i + 1] << 8);
  return length % 2 != 0 ? sum + bytes[length - 1] : sum;
}

// The ones' complement difference `to - from`, to be added to a sum that contained `from`.
MASQ_INLINE constexpr u16 checksum_difference(u16 from, u16 to) {
  return checksum_fold(static_cast<u64>(static_cast<u16>(~from)) + to);
}
MASQ_INLINE constexpr u16 checksum_difference(Ipv4 from, Ipv4 to) {
  return checksum_fold(static_cast<u64>(static_cast<u32>(~from.be)) + to.be);
}

// The checksum field after a change: HC' = ~(~HC + delta). Takes and returns the field as it lies
// on the wire; `delta` is the sum of checksum_difference() of every changed word.
MASQ_INLINE constexpr u16 checksum_update(u16 field, u16 delta) {
  return static_cast<u16>(~checksum_fold(static_cast<u64>(static_cast<u16>(~field)) + delta));
}

// The same for UDP, where 0 means "no checksum" and a computed 0 is sent as 0xffff (RFC 768).
MASQ_INLINE constexpr u16 checksum_update_udp(u16 field, u16 delta) {
  if (field == 0) return 0;
  u16 updated = checksum_update(field, delta);
  return updated == 0 ? static_cast<u16>(0xffff) : updated;
}

}  // namespace masq
