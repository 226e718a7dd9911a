// The external ports of one external address and one protocol, and the choice among them.
//
// A choice keeps what RFC 4787 asks to keep: parity (REQ-4) by having a pool per parity, and the
// halves below and from 1024 (REQ-3a) by searching only the words of that half. Likewise a host
// that has a block of ports (blocks.h) gets those of its words alone. Within these it is random
// (RFC 6056 section 3.3.2): a keyed hash is the seed of some throws, and only when they all meet
// used ports is the next free one taken. When the wanted parity has run out the other one serves,
// and when the low half has, the high half does: both requirements are SHOULDs, and service goes
// before them. A port from 1024 never becomes a low one.
//
// Ports that are not in Settings::pool are marked as used from the start, once and for all.
//
// When there is none left, TCP flows share ports (flows.h). Such a flow sets no bit: it may have
// any port of those words that is in the pool, and tries some that are spread over them.
#pragma once

#include "core/bit_pool.h"
#include "core/settings.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kPortWords = 512;   // 32768 ports of one parity, 64 a word
inline constexpr u32 kPortWordsLow = 8;  // those below 1024
inline constexpr u32 kPortFullWords = 8;
inline constexpr u32 kPortThrows = 16;    // with half the ports used, one search in 65536 goes on
inline constexpr u32 kPoolProtocols = 3;  // TCP, UDP, ICMP
inline constexpr u32 kWordPorts = 128;    // consecutive ports of one word of each parity

// Words of a pool that follow each other: those in which ports are looked for.
struct PortWords {
  u32 first, count;  // at least one
};
inline constexpr PortWords kWholePool{0, kPortWords};
inline constexpr PortWords kLowPorts{0, kPortWordsLow};
inline constexpr PortWords kHighPorts{kPortWordsLow, kPortWords - kPortWordsLow};

struct PortPool {
  u64 used[2][kPortWords];  // [parity][port >> 7], bit (port >> 1) & 63
  u64 full[2][kPortFullWords];
};

static_assert(sizeof(PortPool) == 8320);

// The verifier before Linux 6.5 does not know that a swap of 16 bits leaves no more than 16.
MASQ_INLINE u32 port_number(u16 port) {
  return opaque(port) & 0xffff;
}
MASQ_INLINE bool port_take(PortPool& pool, u16 port) {
  u32 n = port_number(port), parity = n & 1;
  return pool_take(pool.used[parity], pool.full[parity], n >> 1);
}
MASQ_INLINE void port_give(PortPool& pool, u16 port) {
  u32 n = port_number(port), parity = n & 1;
  pool_give(pool.used[parity], pool.full[parity], n >> 1);
}
MASQ_INLINE bool port_is_used(const PortPool& pool, u16 port) {
  u32 n = port_number(port);
  return (atomic_load(&pool.used[n & 1][n >> 7]) >> ((n >> 1) & 63)) & 1;
}

// A search that a hint has misled: there may be a free port all the same.
inline constexpr u32 kMisled = kNothing - 1;

// The smaller one. Without a branch, since the verifier would walk every combination of them; the
// compiler must not see what it is.
MASQ_INLINE u32 lesser(u32 a, u32 b) {
  return b + ((a - b) & (0 - opaque((a - b) >> 31)));
}

// Those of the 64 words from `from` on that come before word `end`, as bits.
MASQ_INLINE u64 words_before(u32 end, u32 from) {
  u32 bits = lesser(end - lesser(from, end), 64);
  return ((1ull << (bits >> 1)) << (bits - (bits >> 1))) - 1;
}

// A port of this parity in these words that is free at this moment (host order), or kNothing, or
// kMisled. Takes nothing. At most kPortThrows + kPortFullWords + 1 words are read.
MASQ_INLINE u32 port_find_free(PortPool& pool, u32 parity, PortWords words, u64 random) {
  parity &= 1;
  u32 first = words.first * 64, count = words.count * 64;
  // One port after another by throwing dice: whatever goes on from a used port to the next free one
  // favours those behind a long run of used ones, and excluded ports make such runs.
  u32 at = 0, word = 0;
  u64 room = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortThrows; ++i) {
    at = first + static_cast<u32>((random >> 32) * count >> 32);
    random = random * 0xd1342543de82ef95ull + 1;  // Steele and Vigna, arXiv 2001.05304
    u32 thrown = (at >> 6) & (kPortWords - 1);
    u64 here = ~atomic_load(&pool.used[parity][thrown]);
    if (here == 0) continue;
    word = thrown;
    room = here;
    if ((here >> (at & 63)) & 1) break;
  }
  if (room == 0) {
    u32 begin = at >> 12;
    u64 hints = 0;
    u32 found = 0;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < kPortFullWords; ++i) {
      u32 f = (begin + i) & (kPortFullWords - 1);
      u64 here = ~atomic_load(&pool.full[parity][f]);
      here &= words_before(words.first + words.count, f * 64) & ~words_before(words.first, f * 64);
      if (hints == 0 && here != 0) {
        hints = here;
        found = f;
      }
    }
    if (hints == 0) return kNothing;
    word = (found << 6 | pick_bit(hints, at >> 6)) & (kPortWords - 1);
    room = ~atomic_load(&pool.used[parity][word]);
    if (room == 0) {
      pool_note_full(pool.used[parity], pool.full[parity], word << 6);
      return kMisled;
    }
  }
  return (word << 7) | (pick_bit(room, at) << 1) | parity;
}

// Ports that a flow looks at which wants to share one. With 3 of 4 of the pool's ports taken
// towards its remote endpoint it finds none once in 10^8; a pool of so many ports is seen whole.
inline constexpr u32 kShareTries = 64;
inline constexpr u32 kShareFirst = 1024;  // the low ports are few, and known to their users

// What of range `k` of the pool lies in these words and may be shared: from `first` so many.
MASQ_INLINE u32 shared_in_range(const Settings& s, PortWords words, u32 k, u32& first) {
  u32 last = (words.first + words.count) * kWordPorts - 1;
  first = words.first * kWordPorts;
  if (first < kShareFirst) first = kShareFirst;
  if (first < s.pool[k].first) first = s.pool[k].first;
  if (last > s.pool[k].last) last = s.pool[k].last;
  return first <= last ? last - first + 1 : 0;
}

// How many there are.
MASQ_INLINE u32 shared_ports(const Settings& s, PortWords words) {
  u32 total = 0, first = 0;
#pragma clang loop unroll(disable)
  for (u32 k = 0; k < kPoolRangesMax; ++k) total += shared_in_range(s, words, k, first);
  return total;
}

// Number `i` of them, or kNothing if there are not so many.
MASQ_INLINE u32 shared_port_at(const Settings& s, PortWords words, u64 random, u32 i) {
  u32 total = shared_ports(s, words);
  if (i >= total) return kNothing;
  u32 stride = total < kShareTries ? 1 : total / kShareTries;
  u32 begin = static_cast<u32>((random >> 32) * total >> 32);
  u32 n = (begin + i * stride) % total;
  u32 port = kNothing;
#pragma clang loop unroll(full)
  for (u32 k = 0; k < kPoolRangesMax; ++k) {
    u32 first = 0;
    u32 count = shared_in_range(s, words, k, first);
    if (port == kNothing && n < count) port = first + n;
    n -= n < count ? 0 : count;
  }
  return port;
}

}  // namespace masq
