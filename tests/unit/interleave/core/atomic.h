// The atomic operations of the core, each of which first lets the scheduler of the interleaving
// tests choose who goes on. Stands in for src/core/atomic.h by the order of include paths.
#pragma once

#include "wire/types.h"

namespace masq {

// A switch may come before an operation on what lies at `at`; or anywhere, by interleave_here.
void interleave_load(const void* at);
void interleave_change(const void* at);
void interleave_here();

inline u32 atomic_load(const u32* at) {
  interleave_load(at);
  return *at;
}
inline u64 atomic_load(const u64* at) {
  interleave_load(at);
  return *at;
}
template <class T>
void atomic_store(T* at, T value) {
  interleave_change(at);
  *at = value;
}
inline u32 atomic_exchange_if(u32* at, u32 expected, u32 desired) {
  interleave_change(at);
  const u32 before = *at;
  if (before == expected) *at = desired;
  return before;
}
inline u64 atomic_exchange_if(u64* at, u64 expected, u64 desired) {
  interleave_change(at);
  const u64 before = *at;
  if (before == expected) *at = desired;
  return before;
}
inline u64 atomic_set_bits(u64* at, u64 bits) {
  interleave_change(at);
  const u64 before = *at;
  *at = before | bits;
  return before;
}
inline u64 atomic_clear_bits(u64* at, u64 bits) {
  interleave_change(at);
  const u64 before = *at;
  *at = before & ~bits;
  return before;
}
inline u32 atomic_add(u32* at, u32 n) {
  interleave_change(at);
  const u32 before = *at;
  *at = before + n;
  return before;
}
inline u64 atomic_add(u64* at, u64 n) {
  interleave_change(at);
  const u64 before = *at;
  *at = before + n;
  return before;
}
inline u32 atomic_exchange(u32* at, u32 desired) {
  interleave_change(at);
  const u32 before = *at;
  *at = desired;
  return before;
}

}  // namespace masq
