// Fragments without a transport header, by what the first fragment of their datagram decided.
//
// The first fragment leaves an entry (source, destination, protocol, identification, direction)
// that names the flow's record; later ones find it. Direct buckets of four, entries live
// kFragmentLife (RFC 1122 3.3.2 gives reassembly 60 to 120 s, Linux waits 30), nothing is evicted
// before that. Both reading and writing take the stripe lock of the key, so no entry is ever seen
// half written; an entry whose record has been reused since (its version differs) is a miss.
//
// Limit: fragments that come before their first one find nothing (RFC 4787 REQ-14 asks for more).
#pragma once

#include "core/packet.h"
#include "core/table.h"

namespace masq {

inline constexpr u32 kFragmentsMax = 4096;
inline constexpr u32 kFragmentBucket = 4;
inline constexpr Ticks kFragmentLife = ticks_from_s(30);

struct Fragment {
  Ipv4 source;
  Ipv4 destination;
  u16 id;
  u8 protocol;
  u8 direction;
  u32 record;
  Ticks seen;
  u16 version;
  u16 used;
  u32 reserved[2];
};

static_assert(sizeof(Fragment) == 32);

MASQ_INLINE u64 fragment_hash(const Settings& s, const Packet& p, u32 direction) {
  return keyed_hash(
      s.secret, p.source.be | static_cast<u64>(p.destination.be) << 32,
      p.id | static_cast<u64>(p.protocol) << 16 | static_cast<u64>(direction) << 24 | 1ull << 63);
}

MASQ_INLINE bool is_fragment_of(const Fragment& f, const Packet& p, u32 direction) {
  return f.used && same(f.source, p.source) && same(f.destination, p.destination) && f.id == p.id &&
         f.protocol == p.protocol && f.direction == direction;
}

// Remembers the first fragment's flow. False if the bucket is full of younger datagrams.
template <class World>
MASQ_INLINE bool fragment_remember(World& w, const Packet& p, u32 direction, u32 record,
                                   u16 version) {
  u64 hash = fragment_hash(w.settings, p, direction);
  u32 base = (static_cast<u32>(hash) & (kFragmentsMax / kFragmentBucket - 1)) * kFragmentBucket;
  bool stored = false;
  if (!w.lock(static_cast<u32>(hash >> 32) & (kStripes - 1))) return false;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kFragmentBucket; ++i) {
    Fragment& f = w.tables.fragments[base + i];
    if (f.used && !elapsed(w.now, f.seen, kFragmentLife) && !is_fragment_of(f, p, direction))
      continue;
    f.source = p.source;
    f.destination = p.destination;
    f.id = p.id;
    f.protocol = p.protocol;
    f.direction = static_cast<u8>(direction);
    f.record = record;
    f.version = version;
    f.seen = w.now;
    f.used = 1;
    stored = true;
    break;
  }
  w.unlock();
  return stored;
}

// The record that the first fragment's datagram belongs to, or kNoRecord.
template <class World>
MASQ_INLINE u32 fragment_find(World& w, const Packet& p, u32 direction) {
  u64 hash = fragment_hash(w.settings, p, direction);
  u32 base = (static_cast<u32>(hash) & (kFragmentsMax / kFragmentBucket - 1)) * kFragmentBucket;
  u32 record = kNoRecord;
  u16 version = 0;
  if (!w.lock(static_cast<u32>(hash >> 32) & (kStripes - 1))) return kNoRecord;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kFragmentBucket; ++i) {
    Fragment& f = w.tables.fragments[base + i];
    if (!is_fragment_of(f, p, direction) || elapsed(w.now, f.seen, kFragmentLife)) continue;
    record = f.record;
    version = f.version;
    break;
  }
  w.unlock();
  Record* r = record == kNoRecord ? nullptr : record_at(w.tables, record);
  if (r == nullptr || r->version != version || !in_force(w.settings, *r, w.now)) return kNoRecord;
  return record;
}

}  // namespace masq
