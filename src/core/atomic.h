// The atomic operations of the core. Both worlds compile them to one instruction each; tests
// replace this header to enumerate interleavings. All are sequentially consistent.
#pragma once

#include "wire/types.h"

namespace masq {

MASQ_INLINE u32 atomic_load(const u32* at) {
  return *static_cast<const volatile u32*>(at);
}
MASQ_INLINE u64 atomic_load(const u64* at) {
  return *static_cast<const volatile u64*>(at);
}

// Returns what was there; the exchange has happened if that equals `expected`.
MASQ_INLINE u32 atomic_exchange_if(u32* at, u32 expected, u32 desired) {
  return __sync_val_compare_and_swap(at, expected, desired);
}

// These return what was there before.
MASQ_INLINE u64 atomic_set_bits(u64* at, u64 bits) {
  return __sync_fetch_and_or(at, bits);
}
MASQ_INLINE u64 atomic_clear_bits(u64* at, u64 bits) {
  return __sync_fetch_and_and(at, ~bits);
}
MASQ_INLINE u32 atomic_add(u32* at, u32 n) {
  return __sync_fetch_and_add(at, n);
}

}  // namespace masq
