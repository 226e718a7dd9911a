// Fragments without a transport header, by what the first fragment of their datagram decided.
//
// The first fragment leaves an entry (source, destination, protocol, identification, direction)
// that names the flow's record, and the identification that the datagram has outside; later ones
// find it. Direct buckets of four, entries live kFragmentLife (RFC 1122 3.3.2 gives reassembly 60
// to 120 s, Linux waits 30). Both reading and writing take the lock of the bucket, so no entry is
// ever seen half written; an entry whose record has been reused since (its version differs) is a
// miss.
//
// A new datagram always finds a place. In a full bucket the source that then has most entries there
// loses its oldest: so whoever floods pushes out what is its own, and a single source may have as
// many datagrams under way as there are places. That throws out what is open, which masq does
// nowhere else; but to refuse would let one source shut out all. Only a fifth source in one bucket
// takes anybody's last one, the oldest; and fragments of one datagram follow each other closely.
//
// Fragments that overlap are passed on, for the receiver to judge (Linux drops the datagram). They
// can not hide ports (core/packet.h refuses tiny ones, RFC 3128), and a second first fragment of
// another flow gets an identification of its own, so two flows are never put together into one.
//
// A fragment that comes before its first one goes to the slow path (core/slow.h, RFC 4787 REQ-14)
// and leaves an entry that says so for kHeldLife. Meanwhile the first one goes there too, so that
// it comes back before the others. Such an entry gives way to any other that needs its place:
// fragments without a first one can not hurt those that come in order (RFC 4787 REQ-14a).
#pragma once

#include "core/packet.h"
#include "core/slow.h"
#include "core/table.h"

namespace masq {

// Half a megabyte. A host that sends 8 KB datagrams at 1 Gbit/s keeps each for a second.
inline constexpr u32 kFragmentsMax = 16384;
inline constexpr u32 kFragmentBucket = 4;
inline constexpr Ticks kFragmentLife = ticks_from_s(30);

enum FragmentUse : u16 {
  kFragmentFree = 0,
  kFragmentKnown,  // its first fragment has passed
  kFragmentHeld,   // the slow path waits for its first fragment
};

struct Fragment {
  Ipv4 source;
  Ipv4 destination;
  u16 id;
  u8 protocol;
  u8 direction;
  u32 record;
  Ticks seen;
  u16 version;
  u16 used;    // FragmentUse
  u16 new_id;  // outwards: the identification outside, network order
  u16 reserved;
  u32 reserved2;
};

static_assert(sizeof(Fragment) == 32);
static_assert(kFragmentKnown == 1 && kFragmentHeld == 2);

// What is known of the datagram that a fragment belongs to.
struct FragmentFound {
  u32 record;  // or kNoRecord
  u16 new_id;
  u8 held;       // by the slow path
  u8 displaced;  // this datagram has taken the place of another that was under way
};

MASQ_INLINE u64 fragment_hash(const Settings& s, const Packet& p, u32 direction) {
  return keyed_hash(
      s.secret, p.source.be | static_cast<u64>(p.destination.be) << 32,
      p.id | static_cast<u64>(p.protocol) << 16 | static_cast<u64>(direction) << 24 | 1ull << 63);
}

// How well an entry would do for a datagram: the highest of these bits, below them how many entries
// of its bucket are of its source, the datagram's own counted, and how old it is.
inline constexpr u32 kFitOwn = 1u << 22;
inline constexpr u32 kFitUnused = 1u << 21;  // or forgotten
inline constexpr u32 kFitHeld = 1u << 20;    // waits for its first fragment: gives way
inline constexpr u32 kFitShare = 1u << 16;
static_assert(kFragmentLife < kFitShare && (kFragmentBucket + 1) * kFitShare < kFitHeld);

// 1 if `n` is 0, else 0; without a branch.
MASQ_INLINE u32 is_zero(u32 n) {
  return static_cast<u32>((static_cast<u64>(opaque(n)) - 1) >> 63);
}

// Without branches, for the verifier goes every way through all the entries of a bucket.
MASQ_INLINE u32 fragment_fitness(const Fragment* bucket, u32 i, const Packet& p, u32 direction,
                                 Ticks now) {
  const Fragment& f = bucket[i];
  u32 unused = is_zero(f.used);
  u32 held = f.used >> 1;
  u32 differs = (f.source.be ^ p.source.be) | (f.destination.be ^ p.destination.be) |
                static_cast<u32>(f.id ^ p.id) | static_cast<u32>(f.protocol ^ p.protocol) |
                (f.direction ^ direction);
  u32 age = now - f.seen;
  age &= is_zero(~age >> 10) - 1;  // the clock of another processor may have been a second ahead
  u32 life = kFragmentLife - held * (kFragmentLife - kHeldLife);
  u32 forgotten = 1 - static_cast<u32>((static_cast<u64>(age) - life) >> 63);
  u32 share = is_zero(p.source.be ^ f.source.be);
#pragma clang loop unroll(full)
  for (u32 j = 0; j < kFragmentBucket; ++j) share += is_zero(bucket[j].source.be ^ f.source.be);
  return (is_zero(differs) & ~unused) * kFitOwn + (unused | forgotten) * kFitUnused +
         held * kFitHeld + share * kFitShare + (age & (kFitShare - 1));
}

MASQ_INLINE void fragment_fill(Fragment& f, const Packet& p, u32 direction, Ticks now,
                               FragmentUse use) {
  f.source = p.source;
  f.destination = p.destination;
  f.id = p.id;
  f.protocol = p.protocol;
  f.direction = static_cast<u8>(direction);
  f.record = kNoRecord;
  f.version = 0;
  f.new_id = 0;
  f.seen = now;
  f.used = use;
}

// The first place of a datagram's bucket, and the stripe that locks the bucket.
MASQ_INLINE u32 fragment_bucket(u64 hash) {
  return (static_cast<u32>(hash) & (kFragmentsMax / kFragmentBucket - 1)) * kFragmentBucket;
}
MASQ_INLINE u32 fragment_stripe(u64 hash) {
  return fragment_bucket(hash) / kFragmentBucket & (kStripes - 1);
}

// Under the lock: the entry that would do best for this datagram, and how well (`fitness`).
template <class World>
MASQ_INLINE Fragment& fragment_place(World& w, const Packet& p, u32 direction, u64 hash,
                                     u32& fitness) {
  u32 base = fragment_bucket(hash), best = 0;
  fitness = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kFragmentBucket; ++i) {
    u32 fits = fragment_fitness(w.tables.fragments + base, i, p, direction, w.now);
    best = fits > fitness ? i : best;
    fitness = fits > fitness ? fits : fitness;
  }
  // Once more within bounds: the verifier before Linux 6.5 loses them in the sum.
  u32 place = opaque(base + (best & (kFragmentBucket - 1)));
  return w.tables.fragments[place & (kFragmentsMax - 1)];
}

// Remembers the first fragment's flow. `new_id` is the identification that its datagram gets
// outside; if the first fragment has been here before, it becomes the one that it got then.
// fragment_without_first means: others of the datagram wait for this one in the slow path.
template <class World>
MASQ_INLINE Reason fragment_remember(World& w, const Packet& p, u32 direction, u32 record,
                                     u16 version, u16& new_id) {
  u64 hash = fragment_hash(w.settings, p, direction);
  u32 fitness = 0;
  Reason reason = Reason::none;
  bool waits = may_go_slow(w);
  if (!w.lock(fragment_stripe(hash))) return Reason::internal_error;
  Fragment& f = fragment_place(w, p, direction, hash, fitness);
  bool mine = fitness >= kFitOwn && !(fitness & kFitUnused);
  if (mine && f.used == kFragmentHeld && waits) {
    reason = Reason::fragment_without_first;
  } else {
    if (mine && f.used == kFragmentKnown && f.record == record && f.version == version &&
        !w.slow.fresh_id)
      new_id = f.new_id;
    fragment_fill(f, p, direction, w.now, kFragmentKnown);
    f.record = record;
    f.version = version;
    f.new_id = new_id;
  }
  w.unlock();
  w.fragment.held = reason == Reason::fragment_without_first;
  w.fragment.displaced = fitness < kFitHeld;
  return reason;
}

// The record that the datagram of a fragment belongs to, or kNoRecord; the rest is in w.fragment.
// If nothing is known of the datagram and the slow path can wait for its first fragment, it is held
// from now on.
template <class World>
MASQ_INLINE u32 fragment_find(World& w, const Packet& p, u32 direction) {
  u64 hash = fragment_hash(w.settings, p, direction);
  u32 fitness = 0;
  u16 version = 0;
  bool waits = may_go_slow(w);
  FragmentFound found{kNoRecord, 0, 0, 0};
  if (!w.lock(fragment_stripe(hash))) return kNoRecord;
  Fragment& f = fragment_place(w, p, direction, hash, fitness);
  bool mine = fitness >= kFitOwn && !(fitness & kFitUnused);
  if (mine && f.used == kFragmentKnown) {
    found.record = f.record;
    found.new_id = f.new_id;
    version = f.version;
  } else if (waits && fitness >= kFitHeld) {
    if (!mine) fragment_fill(f, p, direction, w.now, kFragmentHeld);
    found.held = 1;
  }
  w.unlock();
  Record* r = found.record == kNoRecord ? nullptr : record_at(w.tables, found.record);
  if (r == nullptr || r->version != version || !in_force(w.settings, *r, w.now))
    found.record = kNoRecord;
  w.fragment = found;
  return found.record;
}

}  // namespace masq
