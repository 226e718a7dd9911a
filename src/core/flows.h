// Making flows and mappings, and taking them away again: the only code that changes the table.
//
// Making one. Everything that may need several tries or a question to the kernel comes first and
// without the lock: two free places, and an external port unless the endpoint has a mapping
// already. Then, under the stripe lock of the internal endpoint, the flow and the mapping are
// looked up again; what others made meanwhile is used, else ours is filled in and linked, outer
// index first. What was taken and not used is given back. So no packet waits for another's search,
// and nothing is half made when the lock is free again.
//
// Where who may send to a mapping depends on the remote address alone (address-dependent filtering,
// RFC 4787 section 5), each remote address that the internal endpoint has sent to is a
// *permission*: a record whose remote port is empty. Flows to that address hold it, and it holds
// the mapping.
//
// Before all that the flow is counted at its inner host, which may have reached a limit (hosts.h).
//
// Sharing a port. When no external port is free, a TCP flow shares one: it gets no mapping, and any
// port of the pool, or of its host's block, that nobody has towards its remote endpoint. The outer
// key tells the flows of one port apart, so no two records may have the same, and this is how: a
// record is put into the outer index as `claiming`, which no look-up takes for a flow; then its
// twin is looked for; only without one does it come into force. Of two that claim a key at the same
// moment at least one has been put in before the other one looks, so never both stay; both may
// retreat, and look for another port. A flow of a mapping does the same, because a sharing flow may
// have the mapping's port towards that remote endpoint: then it shares another port itself. UDP and
// ICMP never share; the programs that speak them rely on one external endpoint.
//
// Taking one away. A flow that has expired, or whose external address has gone, is unlinked under
// the same lock by the sweeper (or by the maker that wants its place in the index), and with the
// last flow its mapping and the external port. The sweeper gives the record back at least kPause
// later. A flow whose address has gone is out of force at once, but the sweeper leaves it a while:
// if the address comes back it goes on (settings.h: kAbsence). If its host sends again by another
// address before, it is taken off first, so that it does not count for the host's limits twice.
//
// `World` is the shell: kernel or user space. What it must offer stands in core/world.h.
// RFC 4787 REQ-1, REQ-3, REQ-5; RFC 6888 REQ-11d: nothing in force is ever evicted; RFC 7857
// section 3.
#pragma once

#include "core/blocks.h"
#include "core/forwards.h"
#include "core/hosts.h"
#include "core/reasons.h"
#include "core/table.h"
#include "wire/checksum.h"

namespace masq {

struct NewFlow {
  Key inner;          // internal endpoint and remote endpoint
  u32 external;       // which external address
  State state;        // udp, icmp or tcp_opening
  u8 flags;           // kFlagLocal or 0
  bool keep_port;     // the external port should be the internal one
  u16 forward;        // as in the record
  Port forward_port;  // then its external port
};

// One that goes out; its state is still to be said. (Written piece by piece: as a whole it would
// take room on the stack of the kernel's programs.)
MASQ_INLINE void begin_new_flow(NewFlow& n, const Key& inner, u32 external, u8 flags) {
  n.inner = inner;
  n.external = external;
  n.state = State::free;
  n.flags = flags;
  n.keep_port = (flags & kFlagLocal) != 0;
  n.forward = 0;
  n.forward_port = Port{0};
}

// Choices of a port that may fall on a local socket or be lost to another; a power of two.
inline constexpr u32 kPortTries = 8;

// A flow in the making: what has been taken before the lock, and what of it was used.
struct Making {
  u64 hash;          // of the flow's key in the inner index
  u64 mapping_hash;  // likewise of its mapping's
  u32 before;        // a flow that has the same key and is not in force, or kNoRecord
  u32 flow;          // a place for the flow; at the end the flow itself, or kNoRecord
  u32 mapping;       // a place for a mapping, or kNoRecord
  u32 permission;    // a place for a permission, or kNoRecord
  u32 port;          // an external port, or kNothing
  u32 host;          // as in the record: the inner host, where the flow is counted already
  u32 ended;         // what an expired flow counted for whose place in the index it takes
  u8 mapping_flags;  // of the mapping, if one must be made
  bool flow_used;
  bool mapping_used;
  bool permission_used;
  bool share;            // the flow shares its external port: `port` is not held
  u8 attempt;            // 0, 1, ...: each throws other dice
  u8 empty;              // a bit for each kind of try that has found the pool empty
  bool low;              // the port should be one below 1024
  PortWords words;       // else, or if there is none, one of these
  u16 held[kPortTries];  // ports that were taken and may not be used; 0: none, no socket's port
};

// What the tries ask for: half of them a port as it should be (0), a quarter the other parity (1),
// and the last quarter either parity (2, 3) in the high half.
MASQ_INLINE u32 kind_of_try(u32 i, bool low) {
  u32 last = low ? 2 : 0;  // the same search again unless the others were made in the low half
  return i < kPortTries / 2 ? 0 : i < kPortTries * 3 / 4 ? 1 : last + (i & 1);
}

// Where the endpoint of w.new_flow may have its external port: into w.making. A host with a block
// has no others, the low ones included. What the gateway itself sends has none, whatever its
// address.
template <class World>
MASQ_INLINE void find_port_words(World& w) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  bool halves = n.inner.protocol != kProtocolIcmp;
  PortWords block{};
  bool own = !(n.flags & kFlagLocal) && find_block(w.settings, n.inner.near_address, block);
  m.words = own ? block : words_behind_blocks(w.settings, halves);
  m.low = !own && halves && to_host(n.inner.near_port) < 1024;
}

// Try number `i` for the external port of the endpoint of w.new_flow; as port_find_free.
template <class World>
MASQ_INLINE u32 choose_port(World& w, u32 i) {
  const NewFlow& n = w.new_flow;
  u32 kind = kind_of_try(i, w.making.low);
  u32 dice = w.making.attempt * kPortTries + i + 1;
  PortWords words = w.making.low && kind < 2 ? kLowPorts : w.making.words;
  return port_find_free(pool_of(w.tables, n.external, n.inner.protocol),
                        to_host(n.inner.near_port) ^ (kind & 1), words,
                        keyed_hash(w.settings.secret, w.making.mapping_hash, dice));
}

// Would the new flow w.new_flow have a twin with this external port? What goes to the external
// endpoint itself counts too: by hairpinning it would come back to its own sender.
template <class World>
MASQ_INLINE bool is_taken_outside(World& w, u32 port) {
  const NewFlow& n = w.new_flow;
  Key outer{w.settings.externals[n.external & (kExternalsMax - 1)].address, n.inner.remote_address,
            port_from_host(static_cast<u16>(port)), n.inner.remote_port, n.inner.protocol};
  if (same(outer.near_address, outer.remote_address) && same(outer.near_port, outer.remote_port))
    return true;
  return has_twin(w.tables, w.settings, outer, key_hash(w.settings, outer, kIn), kNoRecord);
}

template <class World>
MASQ_INLINE bool is_port_of_socket(World& w, u32 port) {
  const NewFlow& n = w.new_flow;
  Ipv4 address = w.settings.externals[n.external & (kExternalsMax - 1)].address;
  return n.inner.protocol != kProtocolIcmp &&
         w.port_has_socket(n.inner.protocol, address, port_from_host(static_cast<u16>(port)),
                           Ipv4{0}, Port{0});
}

// Port number `i` that the flow w.new_flow could share, kNothing if it may not have that one.
template <class World>
MASQ_INLINE u32 choose_shared_port(World& w, u32 i) {
  u64 random = keyed_hash(w.settings.secret, w.making.hash, w.making.attempt);
  u32 port = shared_port_at(w.settings, w.making.words, random, i);
  if (port == kNothing || is_taken_outside(w, port) || is_port_of_socket(w, port)) return kNothing;
  return port;
}

// A port to share, kNothing if none was found. Nothing is taken.
template <class World>
MASQ_INLINE u32 find_shared_port(World& w) {
  u32 found = kNothing;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kShareTries && found == kNothing; ++i) found = w.choose_shared_port(i);
  return found;
}

// Is this port of the external address a forward's? A one-to-one forward leaves others what it does
// not use.
template <class World>
MASQ_INLINE bool is_port_of_forward(World& w, u16 port) {
  if (w.settings.forwards_generation == 0) return false;
  const NewFlow& n = w.new_flow;
  Ipv4 address = w.settings.externals[n.external & (kExternalsMax - 1)].address;
  u32 place = find_forward(w, n.inner.protocol, address, port);
  return place != kNoForward && forward_kind(w, place) != ForwardKind::one_to_one;
}

// Takes the port that try number `i` has chosen; kNothing if it was lost to another or may not be
// used. Then it is left in `held`.
template <class World>
MASQ_INLINE u32 take_chosen(World& w, u32 i, u32 chosen) {
  const NewFlow& n = w.new_flow;
  u16 port = static_cast<u16>(chosen);
  if (!port_take(pool_of(w.tables, n.external, n.inner.protocol), port)) return kNothing;
  bool twins = n.inner.protocol == kProtocolTcp || w.settings.forwards_generation != 0;
  bool taken = (twins && w.is_taken_outside(port)) || is_port_of_forward(w, port);
  if (!taken && !is_port_of_socket(w, port)) return port;
  w.making.held[i & (kPortTries - 1)] = port;
  return kNothing;
}

// Takes an external port; kNothing if there is none. Ports that sockets of the gateway have, or
// somebody towards the same remote endpoint, stay taken until one is found, so that not every try
// finds the same of them. Where a search has found the pool empty it is not made again.
template <class World>
MASQ_INLINE u32 take_external_port(World& w) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  PortPool& pool = pool_of(w.tables, n.external, n.inner.protocol);
  m.empty = 0;
  u32 found = kNothing;
#pragma clang loop unroll(full)
  for (u32 i = 0; i < kPortTries; ++i) m.held[i] = 0;
  // Not again: somebody who shares it may have it towards the same remote endpoint.
  u16 own = to_host(n.inner.near_port);
  if (n.keep_port && m.attempt == 0 && !is_for_blocks(w.settings, own)) {
    if ((n.flags & kFlagLocal) && port_take(pool, own)) return own;
    if (!(n.flags & kFlagLocal)) found = w.take_chosen(0, own);
    if (m.held[0] != 0) port_give(pool, m.held[0]);
    m.held[0] = 0;
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortTries && found == kNothing; ++i) {
    u32 kind = kind_of_try(i, m.low);
    if ((m.empty >> kind) & 1) continue;
    u32 chosen = w.choose_port(i);
    if (chosen == kNothing) m.empty |= static_cast<u8>(1u << kind);
    if (chosen < kMisled) found = w.take_chosen(i, chosen);
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortTries; ++i)
    if (m.held[i] != 0) port_give(pool, m.held[i]);
  return found;
}

// Sets every field of a record that belongs to nobody else yet. It is in force once link_record
// says so.
MASQ_INLINE void fill_record(Record& r, const Key& inner, Port external_port, u32 external,
                             u32 mapping, u8 flags, Ticks now) {
  external &= kExternalsMax - 1;
  r.internal_address = inner.near_address;
  r.remote_address = inner.remote_address;
  r.internal_port = inner.near_port;
  r.external_port = external_port;
  r.remote_port = inner.remote_port;
  r.protocol = inner.protocol;
  r.last_seen = now;
  r.mapping = mapping;
  r.sequence_end[kOut] = r.sequence_end[kIn] = 0;
  r.acknowledged[kOut] = r.acknowledged[kIn] = 0;
  r.window[kOut] = r.window[kIn] = 0;
  r.scales = 0;
  r.flags = flags;
  r.syn_again = 0;
  r.host = kNoHost;
  r.judged = 0;
  r.external = static_cast<u16>(external);
  r.version = static_cast<u16>(r.version + 1);
  r.forward = 0;
  set_state(r, State::claiming);
}

MASQ_INLINE Key inner_key(const Record& r) {
  return Key{r.internal_address, r.remote_address, r.internal_port, r.remote_port, r.protocol};
}
MASQ_INLINE Key outer_key(const Settings& s, const Record& r) {
  return Key{s.externals[r.external & (kExternalsMax - 1)].address, r.remote_address,
             r.external_port, r.remote_port, r.protocol};
}

// Under the lock. Links a filled record into both indexes and puts it in force, or neither:
// `contention` if another one has its outer key. `sole`: nobody else can have it.
template <class World>
MASQ_INLINE Reason link_record(World& w, u32 index, Record& r, State state, bool sole) {
  Key key = outer_key(w.settings, r);
  u64 outer = key_hash(w.settings, key, kIn);
  if (!slots_insert(w.tables.outer_slots, outer, index, w.tables.records_max))
    return Reason::flow_table_full;
  bool twin = !sole && has_twin(w.tables, w.settings, key, outer, index);
  u64 inner = key_hash(w.settings, inner_key(r), kOut);
  if (!twin && slots_insert(w.tables.inner_slots, inner, index, w.tables.records_max)) {
    set_state(r, state);
    return Reason::none;
  }
  slots_remove(w.tables.outer_slots, outer, index, w.tables.records_max);
  return twin ? Reason::contention : Reason::flow_table_full;
}

// Under the lock. Takes a record out of both indexes and leaves it dead.
template <class World>
MASQ_INLINE void unlink_record(World& w, u32 index, Record& r) {
  u64 inner = key_hash(w.settings, inner_key(r), kOut);
  u64 outer = key_hash(w.settings, outer_key(w.settings, r), kIn);
  slots_remove(w.tables.inner_slots, inner, index, w.tables.records_max);
  slots_remove(w.tables.outer_slots, outer, index, w.tables.records_max);
  // Out of force before the time is set anew: else a look-up between the two would find an expired
  // record revived. Dead only after: the pause must be counted from now.
  set_state(r, State::ending);
  r.last_seen = w.now;
  set_state(r, State::dead);
}

// Under the lock. Unlinks a flow, and with it what nobody holds any more: its permission, and its
// mapping with the external port. Returns what they have counted for at their host, for
// host_release when the lock is free.
template <class World>
MASQ_INLINE u32 unlink_flow(World& w, u32 index, Record& r) {
  u32 held = r.mapping;
  u32 host = atomic_exchange(&r.host, kNoHost);
  unlink_record(w, index, r);
  atomic_add(&w.tables.shared->flows, static_cast<u32>(-1));
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 && held != kNoRecord; ++i) {
    Record* m = record_at(w.tables, held);
    if (m == nullptr || (m->state != State::mapping && m->state != State::permission)) break;
    m->mapping -= 1;
    if (m->mapping != 0) break;
    bool is_mapping = m->state == State::mapping;
    u32 next = is_mapping ? kNoRecord : m->sequence_end[0];
    unlink_record(w, held, *m);
    if (is_mapping) {
      atomic_add(&w.tables.shared->mappings, static_cast<u32>(-1));
      port_give(pool_of(w.tables, m->external, m->protocol), to_host(m->external_port));
      host |= kHostMapping;
    }
    held = next;
  }
  return host;
}

MASQ_INLINE Key mapping_key(const Key& inner) {
  return Key{inner.near_address, Ipv4{0}, inner.near_port, Port{0}, inner.protocol};
}
MASQ_INLINE Key permission_key(const Key& inner) {
  return Key{inner.near_address, inner.remote_address, inner.near_port, Port{0}, inner.protocol};
}
// No packet has the key of a mapping or a permission: what it names is a flow.
MASQ_INLINE bool is_flow_key(const Key& key) {
  return key.remote_address.be != 0 && (key.remote_port.be != 0 || key.protocol == kProtocolIcmp);
}

MASQ_INLINE u8 flags_of_filtering(u8 filtering) {
  return filtering == kFilterNone      ? kFlagOpenToAll
         : filtering == kFilterAddress ? kFlagOpenToAddress
                                       : 0;
}

MASQ_INLINE Filtering filtering_of_flags(u8 flags) {
  return flags & kFlagOpenToAll       ? kFilterNone
         : flags & kFlagOpenToAddress ? kFilterAddress
                                      : kFilterAddressAndPort;
}

// Under the lock: the mapping of the endpoint, made from what was taken if there is none.
template <class World>
MASQ_INLINE Reason link_mapping(World& w, u32& mapping) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  Key key = mapping_key(n.inner);
  mapping = find_mapping(w.tables, key, m.mapping_hash, n.external);
  if (mapping != kNoRecord) return Reason::none;
  if (m.port == kNothing) return Reason::contention;  // it went away a moment ago
  Record* r = record_at(w.tables, m.mapping);
  if (r == nullptr) return Reason::internal_error;
  fill_record(*r, key, port_from_host(static_cast<u16>(m.port)), n.external, 0, m.mapping_flags,
              w.now);
  Reason reason = link_record(w, m.mapping, *r, State::mapping, true);
  if (reason != Reason::none) {
    r->state = State::free;
    return reason;
  }
  mapping = m.mapping;
  m.mapping_used = true;
  atomic_add(&w.tables.shared->mappings, 1);
  return Reason::none;
}

// Under the lock: the permission of a mapping towards the remote address of the flow.
template <class World>
MASQ_INLINE Reason link_permission(World& w, u32 mapping, Record& of, u32& permission) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  Key key = permission_key(n.inner);
  permission = find_mapping(w.tables, key, key_hash(w.settings, key, kOut), n.external);
  if (permission != kNoRecord) return Reason::none;
  Record* r = record_at(w.tables, m.permission);
  if (m.permission == kNoRecord || r == nullptr) return Reason::contention;
  fill_record(*r, key, of.external_port, n.external, 0, 0, w.now);
  r->sequence_end[0] = mapping;
  Reason reason = link_record(w, m.permission, *r, State::permission, true);
  if (reason != Reason::none) {
    r->state = State::free;
    return reason;
  }
  permission = m.permission;
  m.permission_used = true;
  of.mapping += 1;
  return Reason::none;
}

// Under the lock: what a new flow will hold, one holder more. Kept by the caller even if the flow
// comes to nothing: unlinking that lets go of it.
template <class World>
MASQ_INLINE Reason hold_mapping(World& w, u32& held, Port& external_port) {
  u32 mapping = kNoRecord;
  Reason reason = link_mapping(w, mapping);
  if (reason != Reason::none) return reason;
  Record* of = record_at(w.tables, mapping);
  if (of == nullptr) return Reason::internal_error;
  held = mapping;
  if (of->flags & kFlagOpenToAddress) {
    u32 permission = kNoRecord;
    reason = link_permission(w, mapping, *of, permission);
    // Where the index has no place for it, the flow lets in its own remote endpoint alone. To
    // refuse the flow would leave a mapping that nobody holds.
    if (reason == Reason::none) held = permission;
    if (reason != Reason::none && reason != Reason::flow_table_full) return reason;
    of = record_at(w.tables, held);
    if (of == nullptr) return Reason::internal_error;
  }
  external_port = of->external_port;
  of->mapping += 1;
  return Reason::none;
}

// Under the lock: finds or makes mapping and flow.
template <class World>
MASQ_INLINE Reason link_locked(World& w, u32& flow) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  u32 existing = find_inner(w.tables, n.inner, m.hash);
  Record* old = existing == kNoRecord ? nullptr : record_at(w.tables, existing);
  if (old != nullptr && in_force(w.settings, *old, w.now) && old->external == n.external) {
    flow = existing;
    return Reason::none;
  }
  Record* f = record_at(w.tables, m.flow);
  if (f == nullptr) return Reason::internal_error;
  u32 held = kNoRecord;
  Port external_port = port_from_host(static_cast<u16>(m.port));
  // First: the expired flow may be the last that holds the same mapping.
  Reason reason = m.share ? Reason::none : hold_mapping(w, held, external_port);
  if (reason != Reason::none) return reason;
  old = existing == kNoRecord ? nullptr : record_at(w.tables, existing);
  if (old != nullptr) m.ended = unlink_flow(w, existing, *old);
  fill_record(*f, n.inner, external_port, n.external, held, n.flags, w.now);
  f->host = m.host;
  f->forward = n.forward;
  m.flow_used = true;
  bool sole = n.inner.protocol != kProtocolTcp && w.settings.forwards_generation == 0;
  reason = link_record(w, m.flow, *f, n.state, sole);
  if (reason == Reason::none) {
    flow = m.flow;
    return reason;
  }
  f->host = kNoHost;                              // the host's count stays with m.host
  if (unlink_flow(w, m.flow, *f) & kHostMapping)  // the mapping goes along if it was new
    host_drop_mapping(w.tables, m.host);
  // The mapping's port is taken towards this remote endpoint, and the mapping has no other.
  if (reason == Reason::contention && !m.mapping_used && n.inner.protocol == kProtocolTcp)
    m.share = true;
  return reason;
}

// May everybody send to the UDP mapping of this internal endpoint?
MASQ_INLINE bool is_loose(const Settings& s, const Key& inner) {
  u32 loose = s.udp_loose > s.udp_loose_asked ? s.udp_loose : s.udp_loose_asked;
  if (loose == kUdpStrict || inner.protocol != kProtocolUdp) return false;
  return loose == kUdpLoose || to_host(inner.near_port) >= 1024;
}

// An external port into w.making.port, if the host may have one more.
template <class World>
MASQ_INLINE Reason take_port_for_host(World& w) {
  Reason reason = host_add_mapping(w.tables, w.settings, w.making.host);
  if (reason != Reason::none) return reason;
  w.making.port = take_external_port(w);
  if (w.making.port != kNothing) return Reason::none;
  host_drop_mapping(w.tables, w.making.host);
  return Reason::ports_exhausted;
}

MASQ_INLINE u32 flows_allowed(const Settings& s, const NewFlow& n) {
  return s.flows_max + ((n.flags & kFlagLocal) ? kFlowsOwn : 0);
}

// First half, without the lock: takes what w.new_flow will need. `m.hash`, `m.attempt` and
// `m.share` are set by the caller.
template <class World>
MASQ_INLINE Reason prepare_flow(World& w) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  m.flow = m.mapping = m.permission = kNoRecord;
  m.port = kNothing;
  m.flow_used = m.mapping_used = m.permission_used = false;
  if (atomic_load(&w.tables.shared->flows) >= flows_allowed(w.settings, n))
    return Reason::flow_table_full;
  Key key = mapping_key(n.inner);
  m.mapping_hash = key_hash(w.settings, key, kOut);
  if (n.forward != 0) {
    m.share = true;
    m.port = to_host(n.forward_port);
    m.flow = w.take_record(static_cast<u32>(m.hash >> 48));
    return Reason::none;
  }
  bool filters = !(n.flags & kFlagLocal) && n.inner.protocol != kProtocolIcmp;
  m.mapping_flags = n.flags;
  if (filters)
    m.mapping_flags |= is_loose(w.settings, n.inner)
                           ? kFlagOpenToAll
                           : flags_of_filtering(filtering_of(w.settings, n.inner.near_address));
  u32 mapping = find_mapping(w.tables, key, m.mapping_hash, n.external);
  const Record* of = mapping == kNoRecord ? nullptr : record_at(w.tables, mapping);
  u8 flags = of != nullptr ? of->flags : m.mapping_flags;
  if ((flags & kFlagOpenToAddress) && !m.share) {
    m.permission = w.take_record(static_cast<u32>(m.hash >> 40));
    if (m.permission == kNoRecord) return Reason::flow_table_full;
  }
  Reason reason = Reason::none;
  if (mapping == kNoRecord || m.share) w.find_port_words();
  if (mapping == kNoRecord && !m.share) {
    reason = take_port_for_host(w);
    m.share = reason == Reason::ports_exhausted && n.inner.protocol == kProtocolTcp;
  }
  if (m.share) {
    m.port = find_shared_port(w);
    reason = m.port == kNothing ? Reason::ports_exhausted : Reason::none;
  }
  if (reason != Reason::none) {
    if (m.permission != kNoRecord) record_give(w.tables, m.permission);
    return reason;
  }
  if (m.port != kNothing && !m.share)
    m.mapping = w.take_record(static_cast<u32>(m.mapping_hash >> 48));
  m.flow = w.take_record(static_cast<u32>(m.hash >> 48));
  return Reason::none;
}

// Second half: links what was taken, and gives back what is not needed. Leaves the flow in
// `m.flow`, or kNoRecord with a reason.
template <class World>
MASQ_INLINE Reason link_flow(World& w) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  u32 flow = kNoRecord;
  Reason reason = Reason::flow_table_full;
  // Counted before it is there, so that not even many processors at once make one too many.
  bool room = atomic_add(&w.tables.shared->flows, 1) < flows_allowed(w.settings, n);
  bool holds_port = m.port != kNothing && !m.share;
  if (room && m.flow != kNoRecord && (!holds_port || m.mapping != kNoRecord)) {
    reason = Reason::internal_error;
    if (w.lock(static_cast<u32>(m.mapping_hash) & (kStripes - 1))) {
      reason = link_locked(w, flow);
      w.unlock();
    }
  }
  if (!m.flow_used) atomic_add(&w.tables.shared->flows, static_cast<u32>(-1));
  if (m.flow != kNoRecord && !m.flow_used) record_give(w.tables, m.flow);
  if (m.permission != kNoRecord && !m.permission_used) record_give(w.tables, m.permission);
  if (holds_port && !m.mapping_used) {
    port_give(pool_of(w.tables, n.external, n.inner.protocol), static_cast<u16>(m.port));
    host_drop_mapping(w.tables, m.host);
    if (m.mapping != kNoRecord) record_give(w.tables, m.mapping);
  }
  m.flow = flow;
  return reason;
}

// The mapping found in the first half may be gone in the second; its port may be another's towards
// this remote endpoint; the port to share may have been lost to another; and one to spare.
inline constexpr u32 kMakeTries = 4;

// After link_flow: has it made a flow that shares its port?
MASQ_INLINE bool is_shared_now(const NewFlow& n, const Making& m) {
  return n.forward == 0 && m.share && m.flow_used && m.flow != kNoRecord;
}

// Makes the flow, and the mapping if the endpoint has none; also finds a flow that others have made
// meanwhile. Takes w.new_flow and w.making.hash (of its key in the inner index).
template <class World>
MASQ_INLINE Reason make_flow(World& w) {
  Reason reason = w.hold_host();
  if (reason != Reason::none) return reason;
  reason = Reason::contention;
  w.making.share = false;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kMakeTries && reason == Reason::contention; ++i) {
    w.making.attempt = static_cast<u8>(i);
    reason = w.prepare_flow();
    if (reason == Reason::none) reason = w.link_flow();
  }
  w.settle_host(reason);
  return reason;
}

// Before a flow is made: counts it at its inner host, if that may have one more. The gateway's own
// flows have none.
template <class World>
MASQ_INLINE Reason hold_host(World& w) {
  const NewFlow& n = w.new_flow;
  w.making.host = w.making.ended = kNoHost;
  w.making.flow_used = false;
  if (n.flags & kFlagLocal) return Reason::none;
  Ipv4 host = n.forward != 0 ? host_of_forward(n.forward) : n.inner.near_address;
  return host_hold(w, host, n.external, n.state == State::tcp_opening, w.making.host);
}

// After it: gives back what the flow that it replaces has counted for, and what was counted for it
// if it was not made.
template <class World>
MASQ_INLINE void settle_host(World& w, Reason reason) {
  host_release(w.tables, w.making.ended);
  if (reason != Reason::none || !w.making.flow_used) host_release(w.tables, w.making.host);
}

// Unlinks a flow that is not in force.
template <class World>
MASQ_INLINE void take_off(World& w, u32 index, Record& r) {
  if (!w.lock(stripe_of(w.settings, inner_key(r)))) return;
  u32 host = kNoHost;
  if (r.state >= State::udp && !in_force(w.settings, r, w.now)) host = unlink_flow(w, index, r);
  w.unlock();
  host_release(w.tables, host);
}

// Likewise, without waiting for the sweeper.
template <class World>
MASQ_INLINE void take_off_flow(World& w, u32 index) {
  Record* r = record_at(w.tables, index);
  if (index != kNoRecord && r != nullptr && r->state >= State::udp) take_off(w, index, *r);
}

// Likewise if it waits for its external address. One that has only expired gives its mapping to the
// flow that takes its place.
template <class World>
MASQ_INLINE void take_off_waiting(World& w, u32 index) {
  Record* r = record_at(w.tables, index);
  if (r != nullptr &&
      w.settings.externals[r->external & (kExternalsMax - 1)].state != kExternalLive)
    take_off_flow(w, index);
}

// The sweeper's work on one place.
template <class World>
MASQ_INLINE void sweep_record(World& w, u32 index) {
  Record* r = record_at(w.tables, index);
  if (index == kNoRecord || r == nullptr) return;
  u64 word = atomic_load(&w.tables.record_used[(index & (w.tables.records_max - 1)) >> 6]);
  if (!((word >> (index & 63)) & 1)) return;
  State state = r->state;
  if (state == State::dead) {
    if (!elapsed(w.now, r->last_seen, kPause)) return;
    r->state = State::free;
    record_give(w.tables, index);
    return;
  }
  if (state < State::udp) return;
  if (!is_kept(w.settings, *r, w.now)) take_off(w, index, *r);
}

}  // namespace masq
