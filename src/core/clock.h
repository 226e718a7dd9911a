// Time in the core: `Ticks`, 2^20 nanoseconds (about a millisecond) each, modulo 2^32 (52 days).
//
// A shift instead of a division on the packet path. Differences are taken signed, so a clock that
// is a little behind on another processor never makes a record look ancient; timeouts stay below
// kTimeoutMax_s so that a difference never wraps.
#pragma once

#include "wire/types.h"

namespace masq {

using Ticks = u32;

inline constexpr u32 kTickShift = 20;
inline constexpr u32 kTimeoutMax_s = 14 * 24 * 3600;  // two weeks, a quarter of the wrap

MASQ_INLINE constexpr Ticks ticks_from_ns(u64 ns) {
  return static_cast<Ticks>(ns >> kTickShift);
}
MASQ_INLINE constexpr Ticks ticks_from_s(u64 s) {
  return ticks_from_ns(s * 1000000000ull);
}
// Rounded to the nearest second.
MASQ_INLINE constexpr u32 seconds_from_ticks(Ticks t) {
  return static_cast<u32>(((static_cast<u64>(t) << kTickShift) + 500000000ull) / 1000000000ull);
}

// Has `limit` passed since `since`?
MASQ_INLINE constexpr bool elapsed(Ticks now, Ticks since, Ticks limit) {
  return static_cast<i32>(now - since) >= static_cast<i32>(limit);
}

}  // namespace masq
