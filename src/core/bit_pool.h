// A pool of numbered things, one bit each, that many processors take from without a lock.
//
// `used` has a bit per thing; `full` has a bit per word of `used`, a hint that the word has no
// clear bit. Taking looks at one word of `used`, else follows the hints to one that has room, so a
// full pool costs a look at `full` alone: 1/4096 of the pool's size in words. (The kernel's BPF
// target has no instruction to find a bit; the builtin expands to a few shifts.)
//
// A hint never hides room for long. Taker: set the bit; if that filled the word, set the hint, read
// the word again, and if it has room by now clear the hint. Giver: clear the bit, then clear the
// hint. Whatever the order, if the word ends with room then the last of them to act clears the
// hint. The other lie is possible: a giver's clearing of the hint may come after another has filled
// the word again. Whoever follows such a hint and finds no room sets it right (pool_note_full).
#pragma once

#include "core/atomic.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kNothing = 0xffffffff;

// Index of a set bit of `word`, the first at or after `from` (0..63) cyclically. `word` is not 0.
MASQ_INLINE u32 pick_bit(u64 word, u32 from) {
  from &= 63;
  u64 above = word >> from;
  if (above != 0) return (from + static_cast<u32>(__builtin_ctzll(above))) & 63;
  return static_cast<u32>(__builtin_ctzll(word)) & 63;
}

// Hints that the word of thing `n` is full, unless it has room by now.
MASQ_INLINE void pool_note_full(u64* used, u64* full, u32 n) {
  u64 hint = 1ull << ((n >> 6) & 63);
  atomic_set_bits(&full[n >> 12], hint);
  if (atomic_load(&used[n >> 6]) != ~0ull) atomic_clear_bits(&full[n >> 12], hint);
}

// Marks thing `n` as taken. False if it already was. `n` must be in range.
MASQ_INLINE bool pool_take(u64* used, u64* full, u32 n) {
  u64 bit = 1ull << (n & 63);
  u64 before = atomic_set_bits(&used[n >> 6], bit);
  if (before & bit) return false;
  if ((before | bit) == ~0ull) pool_note_full(used, full, n);
  return true;
}

MASQ_INLINE void pool_give(u64* used, u64* full, u32 n) {
  atomic_clear_bits(&used[n >> 6], 1ull << (n & 63));
  atomic_clear_bits(&full[n >> 12], 1ull << ((n >> 6) & 63));
}

}  // namespace masq
