// The IPv4 identification of what leaves translated (RFC 6864, RFC 7857 section 8).
//
// Behind one address the identifications of two inner hosts may be equal, and their fragments would
// be put together by the receiver. So each datagram that is or may be cut on its way (all but
// "atomic" ones: DF set and no fragment) gets a new one, as if the gateway had made it: unique for
// source, destination and protocol until 65536 others have gone there. All fragments of a datagram
// get the same, by their entry in the fragment table. Atomic datagrams keep theirs, which means
// nothing.
//
// Counters are shared by the pairs of addresses that a keyed hash sends to them, and each pair sees
// its counter moved by a secret distance: who watches one destination learns nothing of another's.
// Limits: with more than 65536 such datagrams to one destination within the time that a receiver
// waits for fragments identifications come round, as with every sender (RFC 6864 section 4.3); what
// the gateway itself sends untranslated has the kernel's identifications.
#pragma once

#include "core/atomic.h"
#include "core/hash.h"
#include "core/packet.h"
#include "core/table.h"

namespace masq {

MASQ_INLINE bool is_atomic(const Packet& p) {
  return p.dont_fragment && !p.first_fragment && p.kind != Kind::fragment;
}

// Takes one for each datagram that a large segment will become; they count up from the first, as
// the kernel counts where it cuts. Network order.
template <class World>
MASQ_INLINE u16 take_identification(World& w, Ipv4 source, const Packet& p) {
  u64 hash = keyed_hash(w.settings.secret, source.be | static_cast<u64>(p.destination.be) << 32,
                        p.protocol | 1ull << 62);
  u32 counted = atomic_add(&w.tables.shared->ids[hash & (kIdCounters - 1)], p.segments);
  return swap16(static_cast<u16>(counted + static_cast<u32>(hash >> 32)));
}

}  // namespace masq
