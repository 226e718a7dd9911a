// The table: records, the two indexes over them, and the free places.
//
// Records lie dense in one array and never move. Two indexes of small slots lead to them: the inner
// one by (protocol, internal endpoint, remote endpoint), the outer one by (protocol, external
// endpoint, remote endpoint). A slot is 8 bits of the hash and 24 bits of record number; 16 slots
// are one bucket, one cache line. A key may lie in either of two buckets, so with half of the slots
// used an insertion fails about once in 10^5 (tests/unit/table_test.cpp measures it).
//
// Who may write what. Looking up takes no lock. Making and unlinking records takes the stripe lock
// of the *internal endpoint* (protocol, address, port): a mapping and all its flows have the same
// one, so nothing else can happen to that endpoint meanwhile. Index slots and free places are
// shared by all stripes and are claimed by compare-and-swap or by setting a bit.
//
// A look-up may hold a record's number while the record is being unlinked. Its place is therefore
// not given back at once: it stays `dead` for kPause, and only the sweeper frees it.
#pragma once

#include "core/atomic.h"
#include "core/bit_pool.h"
#include "core/bucket.h"
#include "core/hash.h"
#include "core/port_pool.h"
#include "core/record.h"
#include "core/settings.h"
#include "wire/headers.h"

namespace masq {

inline constexpr u32 kSlotRecordMask = 0x00ffffff;
inline constexpr u32 kRecordsMin = 4096;              // one word of hints
inline constexpr u32 kRecordsMax = 8u * 1024 * 1024;  // 512 MiB of records, one map value
inline constexpr u32 kStripes = 4096;
inline constexpr Ticks kPause = ticks_from_s(1);

inline constexpr u32 kIdCounters = 4096;
inline constexpr u32 kSlowLanes = 256;

// Counts that every processor changes.
struct Shared {
  u32 flows;          // flows that exist, the dead ones left out
  u32 mappings;       //
  u32 record_cursor;  // where the search for a free place begins
  u32 sweep_cursor;   //
  u32 sweep_turns;    // complete passes of the sweeper
  u32 reserved;
  u64 jiffies;      // as the daemon last asked
  Ticks slow_beat;  // when the slow path last said that it is there
  u32 reserved2[7];
  u32 ids[kIdCounters];        // see core/identification.h
  u32 slow_lanes[kSlowLanes];  // of each group of sources: moment and packets in it, see
                               // core/slow.h
};

// Views of the memory that holds a table. `records_max` is a power of two.
struct Tables {
  Record* records;
  u32* inner_slots;
  u32* outer_slots;
  u64* record_used;
  u64* record_full;
  PortPool* ports;  // [external][protocol]
  struct Fragment* fragments;
  struct Host* hosts;
  struct RuleTable* rules;
  struct RulePaths* paths;
  struct ForwardMemory* forwards;
  Shared* shared;
  u32 records_max;
};

MASQ_INLINE constexpr u32 bucket_mask(u32 records_max) {
  return records_max / (kBucketSlots / 2) - 1;
}

// What a record is found by. `near` is the internal endpoint in the inner index and the external
// one in the outer index; `remote` is empty for a mapping.
struct Key {
  Ipv4 near_address;
  Ipv4 remote_address;
  Port near_port;
  Port remote_port;
  u8 protocol;
};

MASQ_INLINE u64 key_hash(const Settings& settings, const Key& key, u32 direction) {
  u64 a = key.near_address.be | static_cast<u64>(key.remote_address.be) << 32;
  u64 b = key.near_port.be | static_cast<u64>(key.remote_port.be) << 16 |
          static_cast<u64>(key.protocol) << 32 | static_cast<u64>(direction) << 40;
  return keyed_hash(settings.secret, a, b);
}

// The stripe of an internal endpoint: the hash of the mapping's key in the inner index.
MASQ_INLINE u32 stripe_of(const Settings& settings, const Key& inner) {
  Key mapping{inner.near_address, Ipv4{0}, inner.near_port, Port{0}, inner.protocol};
  return static_cast<u32>(key_hash(settings, mapping, kOut)) & (kStripes - 1);
}

MASQ_INLINE u32 slot_make(u64 hash, u32 record) {
  return static_cast<u32>(hash >> 56) << 24 | record;
}

// Position of the i-th slot (0..31) where a key of this hash may lie.
MASQ_INLINE u32 slot_at(u64 hash, u32 i, u32 records_max) {
  u32 bucket = static_cast<u32>(i < kBucketSlots ? hash : hash >> 24) & bucket_mask(records_max);
  return bucket * kBucketSlots + (i & (kBucketSlots - 1));
}

MASQ_INLINE Record* record_at(const Tables& t, u32 index) {
  index = opaque(index);
  if (index >= t.records_max) return nullptr;
  return &t.records[opaque(index)];
}

MASQ_INLINE bool is_live_kind(State state) {
  return state >= State::mapping;
}

MASQ_INLINE Ticks timeout_of(const Settings& s, const Record& r) {
  switch (r.state) {
    case State::udp:
      return r.remote_port.be == swap16(53) ? s.dns : s.udp;
    case State::icmp:
      return s.icmp;
    case State::tcp_opening:
      return s.tcp_opening;
    case State::tcp_closing:
    case State::tcp_transitory:
      return s.tcp_closing;
    default:
      return s.tcp_established;  // half-closed connections too (RFC 6146 section 3.5.2.2)
  }
}

// Is this record in force? A mapping or permission is as long as flows hold it.
MASQ_INLINE bool in_force(const Settings& s, const Record& r, Ticks now) {
  if (!is_live_kind(r.state)) return false;
  if (s.externals[r.external & (kExternalsMax - 1)].state != kExternalLive) return false;
  return r.state < State::udp || !elapsed(now, r.last_seen, timeout_of(s, r));
}

// Is this flow in force, or does it wait for its external address? (It is never in force where its
// address is not, whatever it waits for.)
MASQ_INLINE bool is_kept(const Settings& s, const Record& r, Ticks now) {
  u32 i = r.external & (kExternalsMax - 1);
  u32 state = s.externals[i].state;
  if (state == kExternalLive || state == kExternalFree) return in_force(s, r, now);
  Ticks stay = state == kExternalGone ? kAbsence : kReplacedStay;
  return !elapsed(now, s.gone_at[i], stay) && !elapsed(now, r.last_seen, timeout_of(s, r));
}

MASQ_INLINE bool matches_inner(const Record& r, const Key& k) {
  return same(r.internal_address, k.near_address) && same(r.remote_address, k.remote_address) &&
         same(r.internal_port, k.near_port) && same(r.remote_port, k.remote_port) &&
         r.protocol == k.protocol && is_live_kind(r.state);
}

MASQ_INLINE bool has_outer_key(const Settings& s, const Record& r, const Key& k) {
  return same(r.external_port, k.near_port) && same(r.remote_address, k.remote_address) &&
         same(r.remote_port, k.remote_port) && r.protocol == k.protocol &&
         same(s.externals[r.external & (kExternalsMax - 1)].address, k.near_address);
}

MASQ_INLINE bool matches_outer(const Settings& s, const Record& r, const Key& k) {
  return has_outer_key(s, r, k) && is_live_kind(r.state);
}

// Four look-ups, each with its own loop: one loop that takes the comparison as an argument costs
// the kernel's programs 16 bytes of a stack that is full, and the verifier 20000 instructions.

// The record with this key, in force or expired, or kNoRecord.
MASQ_INLINE u32 find_inner(const Tables& t, const Key& key, u64 hash) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    u32 slot = atomic_load(&t.inner_slots[slot_at(hash, i, t.records_max)]);
    if (slot == 0 || slot >> 24 != static_cast<u32>(hash >> 56)) continue;
    u32 index = slot & kSlotRecordMask;
    Record* r = record_at(t, index);
    if (r != nullptr && matches_inner(*r, key)) return index;
  }
  return kNoRecord;
}

MASQ_INLINE u32 find_outer(const Tables& t, const Settings& s, const Key& key, u64 hash) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    u32 slot = atomic_load(&t.outer_slots[slot_at(hash, i, t.records_max)]);
    if (slot == 0 || slot >> 24 != static_cast<u32>(hash >> 56)) continue;
    u32 index = slot & kSlotRecordMask;
    Record* r = record_at(t, index);
    if (r != nullptr && matches_outer(s, *r, key)) return index;
  }
  return kNoRecord;
}

// Has another record than `self` this outer key, or is it about to? Expired ones count too.
MASQ_INLINE bool has_twin(const Tables& t, const Settings& s, const Key& key, u64 hash, u32 self) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    u32 slot = atomic_load(&t.outer_slots[slot_at(hash, i, t.records_max)]);
    if (slot == 0 || slot >> 24 != static_cast<u32>(hash >> 56)) continue;
    u32 index = slot & kSlotRecordMask;
    Record* r = record_at(t, index);
    if (r != nullptr && index != self && has_outer_key(s, *r, key) && r->state >= State::claiming)
      return true;
  }
  return false;
}

// The mapping of an internal endpoint towards one external address. `key.remote` is empty.
MASQ_INLINE u32 find_mapping(const Tables& t, const Key& key, u64 hash, u32 external) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    u32 slot = atomic_load(&t.inner_slots[slot_at(hash, i, t.records_max)]);
    if (slot == 0 || slot >> 24 != static_cast<u32>(hash >> 56)) continue;
    u32 index = slot & kSlotRecordMask;
    Record* r = record_at(t, index);
    if (r != nullptr && matches_inner(*r, key) && r->external == external) return index;
  }
  return kNoRecord;
}

MASQ_INLINE bool slots_insert(u32* slots, u64 hash, u32 record, u32 records_max) {
  u32 wanted = slot_make(hash, record);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    u32* slot = &slots[slot_at(hash, i, records_max)];
    if (atomic_load(slot) == 0 && atomic_exchange_if(slot, 0, wanted) == 0) return true;
  }
  return false;
}

MASQ_INLINE void slots_remove(u32* slots, u64 hash, u32 record, u32 records_max) {
  u32 wanted = slot_make(hash, record);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    if (atomic_exchange_if(&slots[slot_at(hash, i, records_max)], wanted, 0) == wanted) return;
  }
}

// Words of hints that one try reads, each about 4096 places. In the largest table a search may so
// end before it has seen all; the next one goes on from there.
inline constexpr u32 kPlaceWords = 512;
inline constexpr u32 kPlaceTries = 3;  // what was found may be lost to another, or a hint may lie

// Takes a free place for a record, or kNoRecord. The search through the hints and what follows it
// are apart, and nothing behind the loop depends on its counter: so the verifier walks what follows
// once and not once a turn.
MASQ_INLINE u32 record_take(const Tables& t, u32 start_bit) {
  u32 full_mask = t.records_max / 4096 - 1;
  u32 word_mask = t.records_max / 64 - 1;
  u32 f = t.shared->record_cursor & full_mask;
#pragma clang loop unroll(disable)
  for (u32 attempt = 0; attempt < kPlaceTries; ++attempt) {
    u64 hints = 0;
#pragma clang loop unroll(disable)
    for (u32 i = 0; i <= full_mask && i < kPlaceWords; ++i) {
      hints = ~atomic_load(&t.record_full[f]);
      if (hints != 0) break;
      f = (f + 1) & full_mask;
    }
    if (hints == 0) continue;
    u32 word = (f << 6 | pick_bit(hints, start_bit + attempt)) & word_mask;
    u64 room = ~atomic_load(&t.record_used[word]);
    if (room == 0) {
      pool_note_full(t.record_used, t.record_full, word << 6);
      continue;
    }
    u32 index = (word << 6 | pick_bit(room, start_bit)) & (t.records_max - 1);
    if (!pool_take(t.record_used, t.record_full, index)) continue;
    if (t.shared->record_cursor != f) t.shared->record_cursor = f;
    return index;
  }
  t.shared->record_cursor = f;
  return kNoRecord;
}

// Gives back a place that no index leads to and no look-up can know.
MASQ_INLINE void record_give(const Tables& t, u32 index) {
  index &= t.records_max - 1;
  pool_give(t.record_used, t.record_full, index);
}

MASQ_INLINE u32 pool_protocol(u8 protocol) {
  return protocol == kProtocolTcp ? 0 : protocol == kProtocolUdp ? 1 : 2;
}

MASQ_INLINE PortPool& pool_of(const Tables& t, u32 external, u8 protocol) {
  return t.ports[(external & (kExternalsMax - 1)) * kPoolProtocols + pool_protocol(protocol)];
}

}  // namespace masq
