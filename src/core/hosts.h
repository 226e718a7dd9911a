// The inner hosts that have flows: what each of them has, and what it may have.
//
// One entry a host, for as long as it has flows: how many flows, mappings, TCP connections that are
// opening, a bucket of tokens for new flows. A new flow is counted at its host before anything is
// taken for it, and refused if that reaches a limit (RFC 6888 REQ-4, REQ-5); flows that exist are
// never touched. So one host that scans or floods meets its own limits, and places and ports stay
// for the others. The gateway's own flows are not counted.
//
// The address of an entry and the number of its flows are one word. Adding a flow is one atomic
// addition, under the stripe lock of the host's hash, so that two processors do not enter it twice.
// So are the limits looked at. Taking one away needs no lock, since it happens behind other locks
// or none: the last makes the word 0, and the place is free. Where that came between the look and
// the addition, the word is another's by then, and the addition is undone. The other counters end
// at 0 by themselves when the last flow goes, so a new host begins with them as they are.
//
// An entry may lie in 16 places, and there are at least as many places as flows: a host without
// flows has no entry, so whoever cannot find a place stands before a full flow table too, unless
// most flows are each another host's. Then new hosts are refused (hosts_full) until others go. No
// outsider can make an entry. A host that forges its neighbours' addresses uses up their shares;
// that is for the switch to prevent.
//
// Where an interface has several external addresses, all mappings of a host get the same one (RFC
// 4787 REQ-2, "paired"). Which, says a keyed hash of host and address, the highest of which wins
// (rendezvous hashing: Thaler and Ravishankar, 1998): so hosts are spread, every processor gets the
// same answer, and it is the same as long as the secret is. A host with flows keeps the address
// that it has, whatever is added meanwhile; the entry knows it. Limit: two packets that begin a
// host's first flows at the very moment when an address is added may get different ones.
//
// A TCP flow changes its state without a lock, by each of its packets. Whether it counts as opening
// is therefore a bit of its own (Record::host), and who changes the bit changes the count.
#pragma once

#include "core/reasons.h"
#include "core/table.h"

namespace masq {

// What is 0 in a place that nobody has. An entry is as small as half a cache line.
struct Host {
  u64 flows;     // the address, and in the upper half how many flows it has
  u64 bucket;    // in the upper half when a flow began, in the lower what is owed; host_may_begin
  u32 mappings;  //
  u32 opening;   // flows in state tcp_opening
  u32 refused;   // new flows refused for one of the limits, since it has had flows
  u32 has;       // a bit for each external address that it has got since it has had flows
};

static_assert(sizeof(Host) == 32);

// What a forward lets in is counted at an address that no host has (`forward` as in the record).
MASQ_INLINE Ipv4 host_of_forward(u16 forward) {
  return ipv4_from_host(forward);
}

inline constexpr u32 kNoHost = 0;  // place 0 is never used
inline constexpr u32 kHostBucket = 8;
inline constexpr u32 kHostProbes = 2 * kHostBucket;
inline constexpr u32 kHostOpening = 1u << 31;  // in Record::host, beside the place
inline constexpr u32 kHostMapping = 1u << 30;  // likewise, of a flow with which its mapping went
inline constexpr u64 kOneMore = 1ull << 32;    // of the count in an upper half

// At least as many as there may be flows (records_for in gateway/datapath.cpp).
MASQ_INLINE constexpr u32 hosts_max(u32 records_max) {
  return records_max / 2;
}

MASQ_INLINE u32 host_count(u64 word) {
  return static_cast<u32>(word >> 32);
}

MASQ_INLINE u64 host_hash(const Settings& s, Ipv4 address) {
  return keyed_hash(s.secret, address.be, 2ull << 40);  // key_hash has 0 and 1 there
}

// The i-th place (0..15) where a host of this hash may lie.
MASQ_INLINE u32 host_place(u64 hash, u32 i, u32 records_max) {
  u32 bucket = static_cast<u32>(hash >> (24 * (i / kHostBucket))) &
               (hosts_max(records_max) / kHostBucket - 1);
  return bucket * kHostBucket + (i & (kHostBucket - 1));
}

// `host` as in Record::host.
MASQ_INLINE Host* host_at(const Tables& t, u32 host) {
  u32 place = opaque(host & ~(kHostOpening | kHostMapping));
  if (place == kNoHost || place >= hosts_max(t.records_max)) return nullptr;
  // The verifier before Linux 6.5 forgets the comparison where the number is spilt.
  return &t.hosts[opaque(place) & (hosts_max(t.records_max) - 1)];
}

MASQ_INLINE u32 host_find(const Tables& t, Ipv4 address, u64 hash) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kHostProbes; ++i) {
    u32 place = host_place(hash, i, t.records_max);
    if (static_cast<u32>(atomic_load(&t.hosts[place].flows)) == address.be) return place;
  }
  return kNoHost;
}

// One flow less. The place is free after the last, unless it has got a new one meanwhile.
MASQ_INLINE void host_drop_flow(Host& h) {
  u64 before = atomic_add(&h.flows, -kOneMore);
  if (host_count(before) == 1) atomic_exchange_if(&h.flows, before - kOneMore, static_cast<u64>(0));
}

// One flow more; returns how many there were before, or kNothing if the place is not this host's
// any more.
MASQ_INLINE u32 host_add_flow(Host& h, Ipv4 address) {
  u64 before = atomic_add(&h.flows, kOneMore);
  if (static_cast<u32>(before) == address.be) return host_count(before);
  host_drop_flow(h);
  return kNothing;
}

// Under the lock of the hash. Adds a flow to the host's entry, which is made if there is none. Sets
// `flows` to how many there were before. kNoHost if there is no place.
MASQ_INLINE u32 host_enter(const Tables& t, Ipv4 address, u64 hash, u32& flows) {
  u32 place = host_find(t, address, hash);
  Host* h = host_at(t, place);
  flows = h == nullptr ? kNothing : host_add_flow(*h, address);
  if (flows != kNothing) return place;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kHostProbes; ++i) {
    place = host_place(hash, i, t.records_max);
    u64* at = &t.hosts[place].flows;
    if (place == kNoHost || atomic_load(at) != 0) continue;
    // Without its address, so that nobody finds it before all is as in a new entry.
    if (atomic_exchange_if(at, static_cast<u64>(0), kOneMore) != 0) continue;
    flows = 0;
    t.hosts[place].bucket = 0;
    t.hosts[place].has = 0;
    t.hosts[place].refused = 0;
    atomic_add(at, static_cast<u64>(address.be));
    return place;
  }
  return kNoHost;
}

// Under the lock. Takes a token from the bucket of new flows. What a host owes is counted, so that
// a new entry, all 0, is a full bucket: each new flow adds a second's worth of ticks, and each tick
// that passes takes away as many as flows may begin in a second. (Ticks of a second: 953; the rate
// is kept to within a thousandth.)
MASQ_INLINE bool host_may_begin(const Settings& s, Host& h, Ticks now) {
  constexpr u64 kCost = ticks_from_s(1);
  Ticks looked = host_count(h.bucket);
  u64 owed = static_cast<u32>(h.bucket);
  // The clock of the processor before may have been a little ahead.
  bool ahead = owed != 0 && now - looked > 0u - static_cast<u32>(kCost);
  Ticks stamp = ahead ? looked : now;
  u64 earned = static_cast<u64>(stamp - looked) * s.host_new_per_s;
  u64 left = earned >= owed ? 0 : owed - earned;
  if (s.host_new_per_s != 0 && left + kCost > kCost * s.host_new_burst) return false;
  if (s.host_new_per_s != 0) h.bucket = static_cast<u64>(stamp) << 32 | (left + kCost);
  return true;
}

// Under the lock. May the host have one flow more than `flows`? Counts it as opening if it is.
MASQ_INLINE Reason host_may_have(const Settings& s, Host& h, u32 flows, bool opening, Ticks now) {
  if (s.host_flows != 0 && flows >= s.host_flows) return Reason::host_flows;
  // Signed: the bit of a flow is changed before the count.
  u32 before = opening ? atomic_add(&h.opening, 1) : 0;
  Reason reason = Reason::none;
  if (opening && s.host_opening != 0 &&
      static_cast<i32>(before) >= static_cast<i32>(s.host_opening))
    reason = Reason::host_opening;
  else if (!host_may_begin(s, h, now))
    reason = Reason::host_rate;
  if (opening && reason != Reason::none) atomic_add(&h.opening, static_cast<u32>(-1));
  return reason;
}

// How much external address number `i` is to be preferred for the mappings of a host, whose entry
// is at `place` if it has one, on the interface of `external`; 0: not at all. The lower bits are
// `i`.
MASQ_INLINE u64 rank_external(const Tables& t, const Settings& s, u32 place, Ipv4 host,
                              u32 external, u32 i) {
  const External& e = s.externals[i & (kExternalsMax - 1)];
  Host* h = host_at(t, place);
  bool had = h != nullptr && (h->has >> i & 1);
  if (e.state != kExternalLive) {
    // So that it does not hold for the next address that gets this place.
    if (had) atomic_clear_bits(&h->has, 1u << i);
    return 0;
  }
  if (e.ifindex != s.externals[external & (kExternalsMax - 1)].ifindex) return 0;
  if (!had && e.serves == 0) return 0;
  u64 hash =
      keyed_hash(s.secret, host.be | static_cast<u64>(e.address.be) << 32, 3ull << 40) >> 8 | 1;
  return static_cast<u64>(had) << 62 | hash << 4 | i;
}

// Which external address a host's new mapping gets on the interface of `external`, which is
// returned if none serves there.
template <class World>
MASQ_INLINE u32 paired_external(World& w, Ipv4 host, u32 external) {
  u32 place = host_find(w.tables, host, host_hash(w.settings, host));
  u64 best = external;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kExternalsMax; ++i) {
    u64 rank = w.rank_external(place, host, external, i);
    if (rank > best) best = rank;
  }
  return static_cast<u32>(best) & (kExternalsMax - 1);
}

// Counts a new flow at its host, which `host` then is, with mappings at `external`; or says why it
// may not have it.
template <class World>
MASQ_INLINE Reason host_hold(World& w, Ipv4 address, u32 external, bool opening, u32& host) {
  u64 hash = host_hash(w.settings, address);
  u32 flows = 0;
  if (!w.lock(static_cast<u32>(hash) & (kStripes - 1))) return Reason::internal_error;
  u32 place = host_enter(w.tables, address, hash, flows);
  Host* h = host_at(w.tables, place);
  Reason reason =
      h == nullptr ? Reason::hosts_full : host_may_have(w.settings, *h, flows, opening, w.now);
  if (h != nullptr && reason != Reason::none) {
    atomic_add(&h->refused, 1);
    host_drop_flow(*h);
  } else if (h != nullptr) {
    atomic_set_bits(&h->has, 1u << (external & (kExternalsMax - 1)));
  }
  w.unlock();
  if (reason == Reason::none) host = opening ? place | kHostOpening : place;
  return reason;
}

MASQ_INLINE void host_drop_mapping(const Tables& t, u32 host) {
  Host* h = host_at(t, host);
  if (h != nullptr) atomic_add(&h->mappings, static_cast<u32>(-1));
}

// Gives back what a flow counted for at its host; the flow itself last, for the place may be
// another's then.
MASQ_INLINE void host_release(const Tables& t, u32 host) {
  Host* h = host_at(t, host);
  if (h == nullptr) return;
  if (host & kHostOpening) atomic_add(&h->opening, static_cast<u32>(-1));
  if (host & kHostMapping) atomic_add(&h->mappings, static_cast<u32>(-1));
  host_drop_flow(*h);
}

// Counts a mapping that is to be made, at a host where its flow is counted.
MASQ_INLINE Reason host_add_mapping(const Tables& t, const Settings& s, u32 host) {
  Host* h = host_at(t, host);
  if (h == nullptr) return Reason::none;
  u32 before = atomic_add(&h->mappings, 1);
  if (s.host_ports == 0 || before < s.host_ports) return Reason::none;
  atomic_add(&h->refused, 1);
  host_drop_mapping(t, host);
  return Reason::host_ports;
}

// After a packet of a TCP flow that was in state `before`: is it counted as opening if it is? The
// state is written before the bit is read, by an operation that keeps this order, and read again
// after the bit was changed; so whoever comes last sees what the others have written.
MASQ_INLINE void host_follow(const Tables& t, Record& r, State before) {
  bool counted = r.host & kHostOpening;
  if (r.state == before && counted == (r.state == State::tcp_opening)) return;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 4; ++i) {
    u32 is = atomic_add(&r.host, 0);
    bool opening = r.state == State::tcp_opening;
    u32 should = opening ? is | kHostOpening : is & ~kHostOpening;
    Host* h = host_at(t, is);
    if (h == nullptr || is == should) return;
    if (atomic_exchange_if(&r.host, is, should) == is)
      atomic_add(&h->opening, opening ? 1 : static_cast<u32>(-1));
  }
}

}  // namespace masq
