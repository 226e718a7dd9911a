// The atomic operations of the core. Both worlds compile them to one instruction each; tests
// replace this header to enumerate interleavings. All that return what was there are sequentially
// consistent.
#pragma once

#include "wire/types.h"

namespace masq {

MASQ_INLINE u32 atomic_load(const u32* at) {
  return *static_cast<const volatile u32*>(at);
}
MASQ_INLINE u64 atomic_load(const u64* at) {
  return *static_cast<const volatile u64*>(at);
}

// Stores after everything that was written before, and before everything that is written after, as
// processors see it that keep the order of stores (x86); BPF has no other store before version 4.
template <class T>
MASQ_INLINE void atomic_store(T* at, T value) {
  asm volatile("" ::: "memory");
  *static_cast<volatile T*>(at) = value;
  asm volatile("" ::: "memory");
}

// Returns what was there; the exchange has happened if that equals `expected`.
MASQ_INLINE u32 atomic_exchange_if(u32* at, u32 expected, u32 desired) {
  return __sync_val_compare_and_swap(at, expected, desired);
}

MASQ_INLINE u64 atomic_exchange_if(u64* at, u64 expected, u64 desired) {
  return __sync_val_compare_and_swap(at, expected, desired);
}

// These return what was there before.
MASQ_INLINE u64 atomic_set_bits(u64* at, u64 bits) {
  return __sync_fetch_and_or(at, bits);
}
MASQ_INLINE u32 atomic_set_bits(u32* at, u32 bits) {
  return __sync_fetch_and_or(at, bits);
}
MASQ_INLINE u64 atomic_clear_bits(u64* at, u64 bits) {
  return __sync_fetch_and_and(at, ~bits);
}
MASQ_INLINE u32 atomic_clear_bits(u32* at, u32 bits) {
  return __sync_fetch_and_and(at, ~bits);
}
MASQ_INLINE u32 atomic_add(u32* at, u32 n) {
  return __sync_fetch_and_add(at, n);
}
MASQ_INLINE u64 atomic_add(u64* at, u64 n) {
  return __sync_fetch_and_add(at, n);
}
MASQ_INLINE u32 atomic_exchange(u32* at, u32 desired) {
  return __sync_lock_test_and_set(at, desired);
}

}  // namespace masq
