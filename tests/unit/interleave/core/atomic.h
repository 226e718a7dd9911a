// The atomic operations of the core, each of which first lets the scheduler of the interleaving
// tests choose who goes on. Stands in for src/core/atomic.h by the order of include paths.
#pragma once

#include <type_traits>

#include "wire/types.h"

namespace masq {

// A switch may come before an operation on what lies at `at`; or anywhere, by interleave_here.
void interleave_load(const void* at);
void interleave_change(const void* at);
void interleave_here();

template <class T>
T atomic_load(const T* at) {
  interleave_load(at);
  return *at;
}
template <class T>
void atomic_store(T* at, T value) {
  interleave_change(at);
  *at = value;
}
// These return what was there before. An argument of another type is converted, as by the core's.
template <class T>
using Same = std::type_identity_t<T>;

template <class T, class Change>
T atomic_change(T* at, Change change) {
  interleave_change(at);
  const T before = *at;
  *at = change(before);
  return before;
}
template <class T>
T atomic_exchange_if(T* at, Same<T> expected, Same<T> desired) {
  return atomic_change(at, [&](T is) { return is == expected ? desired : is; });
}
template <class T>
T atomic_exchange(T* at, Same<T> desired) {
  return atomic_change(at, [&](T) { return desired; });
}
template <class T>
T atomic_set_bits(T* at, Same<T> bits) {
  return atomic_change(at, [&](T is) { return is | bits; });
}
template <class T>
T atomic_clear_bits(T* at, Same<T> bits) {
  return atomic_change(at, [&](T is) { return is & ~bits; });
}
template <class T>
T atomic_add(T* at, Same<T> n) {
  return atomic_change(at, [&](T is) { return static_cast<T>(is + n); });
}

}  // namespace masq
