// Blocks of external ports, one for each inner host of a network (RFC 7422): from an external port
// alone follows whose it was, and nobody has to log mappings (RFC 6269).
//
// A block is a run of whole words of the pool, 128 consecutive ports each. The blocks of one
// network after another are laid into the ranges of the pool from 1024 up, in the order of the
// hosts' addresses, each as low as there is room for it within one range and behind the one before.
// So they are the front of the pool; inner hosts that have none, and the gateway itself, get ports
// from what lies behind the last one, and from below 1024. Every external address has the same
// blocks. The last word is never in a block, so that something is left for the gateway's own pings.
#pragma once

#include "core/port_pool.h"
#include "core/settings.h"

namespace masq {

inline constexpr u32 kBlockWordsEnd = kPortWords - 1;

// A host's number in its network: what its address has behind the prefix.
MASQ_INLINE u32 host_number(const PortBlocks& blocks, Ipv4 host) {
  return to_host(Ipv4{host.be & ~blocks.mask.be});
}
MASQ_INLINE u64 hosts_of(const PortBlocks& blocks) {
  return static_cast<u64>(to_host(Ipv4{~blocks.mask.be})) + 1;
}

// Lays the blocks of all networks into the pool, whose ranges ascend. Returns the number of the
// network for which there is no room, or kPortBlocksMax if all is well.
inline u32 lay_blocks(Settings& s) {
  u32 next = kPortWordsLow;
  s.blocks_end = 0;
  for (u32 i = 0; i < kPortBlocksMax; ++i) {
    PortBlocks& blocks = s.port_blocks[i];
    if (blocks.words == 0) continue;
    u64 left = hosts_of(blocks);
    for (u32 k = 0; k < kPoolRangesMax; ++k) {
      u32 first = (s.pool[k].first + kWordPorts - 1u) / kWordPorts;
      u32 end = (s.pool[k].last + 1u) / kWordPorts;
      if (first < next) first = next;
      if (end > kBlockWordsEnd) end = kBlockWordsEnd;
      u32 room = first < end ? (end - first) / blocks.words : 0;
      u32 here = left < room ? static_cast<u32>(left) : room;
      blocks.runs[k] = {static_cast<u16>(first), static_cast<u16>(here)};
      if (here != 0) next = first + here * blocks.words;
      left -= here;
    }
    if (left != 0) return i;
    s.blocks_end = next;
  }
  return kPortBlocksMax;
}

// The block of the inner host, if it has one.
MASQ_INLINE bool find_block(const Settings& s, Ipv4 host, PortWords& block) {
  if (s.blocks_end == 0) return false;
  u32 words = 0, number = 0, at = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortBlocksMax && words == 0; ++i) {
    const PortBlocks& blocks = s.port_blocks[i];
    if (blocks.words == 0 || (host.be & blocks.mask.be) != blocks.network.be) continue;
    words = blocks.words;
    number = host_number(blocks, host);
    at = i;
  }
  if (words == 0) return false;
#pragma clang loop unroll(disable)
  for (u32 k = 0; k < kPoolRangesMax; ++k) {
    const BlockRun& run = s.port_blocks[at & (kPortBlocksMax - 1)].runs[k];
    if (number < run.blocks) {
      block = {run.first + number * words, words};
      return true;
    }
    number -= run.blocks;
  }
  return false;
}

// Those that no block has, of a pool with halves (TCP and UDP) the high one. Not wider than the
// ranges of the pool: a port that is in none costs a throw (port_find_free).
MASQ_INLINE PortWords words_behind_blocks(const Settings& s, bool halves) {
  u32 first = halves && s.blocks_end < kPortWordsLow ? kPortWordsLow : s.blocks_end;
  if (first > kBlockWordsEnd) first = kBlockWordsEnd;
  u32 least = kPortWords, end = 0;
#pragma clang loop unroll(disable)
  for (u32 k = 0; k < kPoolRangesMax; ++k) {
    u32 from = s.pool[k].first / kWordPorts, to = s.pool[k].last / kWordPorts + 1;
    if (s.pool[k].first > s.pool[k].last || to <= first) continue;
    if (from < first) from = first;
    if (from < least) least = from;
    if (to > end) end = to;
  }
  if (!halves || least >= end) return {first, kPortWords - first};
  return {least, end - least};
}

// Is this port one that only a block could have?
MASQ_INLINE bool is_for_blocks(const Settings& s, u16 port) {
  u32 word = port_number(port) / kWordPorts;
  return word >= kPortWordsLow && word < s.blocks_end;
}

}  // namespace masq
