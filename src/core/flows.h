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
// Taking one away. A flow that has expired, or whose external address has gone, is unlinked under
// the same lock by the sweeper (or by the maker that wants its place in the index), and with the
// last flow its mapping and the external port. The sweeper gives the record back at least kPause
// later.
//
// `World` is the shell: kernel or user space. What it must offer stands in core/world.h.
// RFC 4787 REQ-1, REQ-3, REQ-5; RFC 6888 REQ-11d: nothing in force is ever evicted.
#pragma once

#include "core/hosts.h"
#include "core/reasons.h"
#include "core/table.h"
#include "wire/checksum.h"

namespace masq {

struct NewFlow {
  Key inner;       // internal endpoint and remote endpoint
  u32 external;    // which external address
  State state;     // udp, icmp or tcp_opening
  u8 flags;        // kFlagLocal or 0
  bool keep_port;  // the external port should be the internal one (the gateway's own traffic)
};

// A flow in the making: what has been taken before the lock, and what of it was used.
struct Making {
  u64 hash;          // of the flow's key in the inner index
  u64 mapping_hash;  // likewise of its mapping's
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
};

inline constexpr u32 kPortTries =
    8;  // choices that may fall on a local socket or be lost to another

// Try number `i` for the external port of the endpoint of w.new_flow; kNothing if it finds none.
// Half of the tries ask for a port as it should be, a quarter for the other parity, and the last
// quarter for either parity in the high half.
template <class World>
MASQ_INLINE u32 choose_port(World& w, u32 i) {
  const NewFlow& n = w.new_flow;
  u32 wanted = to_host(n.inner.near_port);
  bool icmp = n.inner.protocol == kProtocolIcmp;
  bool low = wanted < 1024 && !icmp && i < kPortTries * 3 / 4;
  u32 other_parity = i < kPortTries / 2 ? 0 : i < kPortTries * 3 / 4 ? 1 : i & 1;
  return port_find_free(pool_of(w.tables, n.external, n.inner.protocol), wanted ^ other_parity, low,
                        icmp, keyed_hash(w.settings.secret, w.making.mapping_hash, i + 1));
}

// Takes an external port; kNothing if there is none. Ports that sockets of the gateway have stay
// taken until one is found, so that not every try finds the same of them.
template <class World>
MASQ_INLINE u32 take_external_port(World& w) {
  const NewFlow& n = w.new_flow;
  PortPool& pool = pool_of(w.tables, n.external, n.inner.protocol);
  if (n.keep_port && port_take(pool, to_host(n.inner.near_port))) return to_host(n.inner.near_port);
  Ipv4 address = w.settings.externals[n.external & (kExternalsMax - 1)].address;
  u16 held[kPortTries];  // 0: none, which is no socket's port
  u32 found = kNothing;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortTries; ++i) {
    held[i] = 0;
    if (found != kNothing) continue;
    u32 chosen = w.choose_port(i);
    if (chosen == kNothing) continue;
    u16 port = static_cast<u16>(chosen);
    if (!port_take(pool, port)) continue;
    if (n.inner.protocol == kProtocolIcmp ||
        !w.port_has_socket(n.inner.protocol, address, port_from_host(port), Ipv4{0}, Port{0}))
      found = port;
    else
      held[i] = port;
  }
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kPortTries; ++i)
    if (held[i] != 0) port_give(pool, held[i]);
  return found;
}

MASQ_INLINE void fill_deltas(Record& r, Ipv4 external_address) {
  r.address_delta = checksum_difference(r.internal_address, external_address);
  r.endpoint_delta = checksum_fold(static_cast<u64>(r.address_delta) +
                                   checksum_difference(r.internal_port.be, r.external_port.be));
}

// Sets every field of a record that belongs to nobody else yet, or that starts a new life in place.
MASQ_INLINE void fill_record(const Settings& s, Record& r, const Key& inner, Port external_port,
                             u32 external, u32 mapping, State state, u8 flags, Ticks now) {
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
  r.policy_generation = 0;
  r.syn_again = 0;
  r.host = kNoHost;
  r.external = static_cast<u16>(external);
  r.version = static_cast<u16>(r.version + 1);
  fill_deltas(r, s.externals[external].address);
  set_state(r, state);
}

MASQ_INLINE Key inner_key(const Record& r) {
  return Key{r.internal_address, r.remote_address, r.internal_port, r.remote_port, r.protocol};
}
MASQ_INLINE Key outer_key(const Settings& s, const Record& r) {
  return Key{s.externals[r.external & (kExternalsMax - 1)].address, r.remote_address,
             r.external_port, r.remote_port, r.protocol};
}

// Under the lock. Links a filled record into both indexes, or into none.
template <class World>
MASQ_INLINE bool link_record(World& w, u32 index, const Record& r) {
  u64 outer = key_hash(w.settings, outer_key(w.settings, r), kIn);
  if (!slots_insert(w.tables.outer_slots, outer, index, w.tables.records_max)) return false;
  u64 inner = key_hash(w.settings, inner_key(r), kOut);
  if (slots_insert(w.tables.inner_slots, inner, index, w.tables.records_max)) return true;
  slots_remove(w.tables.outer_slots, outer, index, w.tables.records_max);
  return false;
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
  fill_record(w.settings, *r, key, port_from_host(static_cast<u16>(m.port)), n.external, 0,
              State::mapping, m.mapping_flags, w.now);
  if (!link_record(w, m.mapping, *r)) {
    r->state = State::free;
    return Reason::flow_table_full;
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
  fill_record(w.settings, *r, key, of.external_port, n.external, 0, State::permission, 0, w.now);
  r->sequence_end[0] = mapping;
  if (!link_record(w, m.permission, *r)) {
    r->state = State::free;
    return Reason::flow_table_full;
  }
  permission = m.permission;
  m.permission_used = true;
  of.mapping += 1;
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
  u32 mapping = kNoRecord;
  Reason reason = link_mapping(w, mapping);
  if (reason != Reason::none) return reason;
  Record* of = record_at(w.tables, mapping);
  Record* f = record_at(w.tables, m.flow);
  if (f == nullptr || of == nullptr) return Reason::internal_error;
  u32 held = mapping;
  if (of->flags & kFlagOpenToAddress) {
    reason = link_permission(w, mapping, *of, held);
    of = record_at(w.tables, held);
    if (reason != Reason::none || of == nullptr) return reason;
  }
  of->mapping += 1;  // first: the expired flow may be the last that holds the same mapping
  old = existing == kNoRecord ? nullptr : record_at(w.tables, existing);
  if (old != nullptr) m.ended = unlink_flow(w, existing, *old);
  fill_record(w.settings, *f, n.inner, of->external_port, n.external, held, n.state, n.flags,
              w.now);
  f->host = m.host;
  m.flow_used = true;
  if (!link_record(w, m.flow, *f)) {
    f->host = kNoHost;                     // given back with m.host
    m.host |= unlink_flow(w, m.flow, *f);  // takes the mapping along if it was new
    return Reason::flow_table_full;
  }
  flow = m.flow;
  return Reason::none;
}

// An external port into w.making.port, if the host may have one more.
template <class World>
MASQ_INLINE Reason take_port_for_host(World& w) {
  Reason reason = host_add_mapping(w.tables, w.settings, w.making.host);
  if (reason != Reason::none) return reason;
  w.making.port = w.take_port();
  if (w.making.port != kNothing) return Reason::none;
  host_drop_mapping(w.tables, w.making.host);
  return Reason::ports_exhausted;
}

// First half, without the lock: takes what w.new_flow will need. `m.hash` is set by the caller.
template <class World>
MASQ_INLINE Reason prepare_flow(World& w) {
  const NewFlow& n = w.new_flow;
  Making& m = w.making;
  m.flow = m.mapping = m.permission = kNoRecord;
  m.port = kNothing;
  m.flow_used = m.mapping_used = m.permission_used = false;
  if (atomic_load(&w.tables.shared->flows) >= w.settings.flows_max) return Reason::flow_table_full;
  bool filters = !(n.flags & kFlagLocal) && n.inner.protocol != kProtocolIcmp;
  m.mapping_flags = n.flags;
  if (filters)
    m.mapping_flags |= flags_of_filtering(filtering_of(w.settings, n.inner.near_address));
  Key key = mapping_key(n.inner);
  m.mapping_hash = key_hash(w.settings, key, kOut);
  u32 mapping = find_mapping(w.tables, key, m.mapping_hash, n.external);
  const Record* of = mapping == kNoRecord ? nullptr : record_at(w.tables, mapping);
  u8 flags = of != nullptr ? of->flags : m.mapping_flags;
  if (flags & kFlagOpenToAddress) {
    m.permission = w.take_record(static_cast<u32>(m.hash >> 40));
    if (m.permission == kNoRecord) return Reason::flow_table_full;
  }
  if (mapping == kNoRecord) {
    Reason reason = take_port_for_host(w);
    if (reason != Reason::none) {
      if (m.permission != kNoRecord) record_give(w.tables, m.permission);
      return reason;
    }
    m.mapping = w.take_record(static_cast<u32>(m.mapping_hash >> 48));
  }
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
  bool room = atomic_add(&w.tables.shared->flows, 1) < w.settings.flows_max;
  if (room && m.flow != kNoRecord && (m.port == kNothing || m.mapping != kNoRecord)) {
    reason = Reason::internal_error;
    if (w.lock(static_cast<u32>(m.mapping_hash) & (kStripes - 1))) {
      reason = link_locked(w, flow);
      w.unlock();
    }
  }
  if (!m.flow_used) atomic_add(&w.tables.shared->flows, static_cast<u32>(-1));
  if (m.flow != kNoRecord && !m.flow_used) record_give(w.tables, m.flow);
  if (m.permission != kNoRecord && !m.permission_used) record_give(w.tables, m.permission);
  if (m.port != kNothing && !m.mapping_used) {
    port_give(pool_of(w.tables, n.external, n.inner.protocol), static_cast<u16>(m.port));
    host_drop_mapping(w.tables, m.host);
    if (m.mapping != kNoRecord) record_give(w.tables, m.mapping);
  }
  m.flow = flow;
  return reason;
}

// Makes the flow, and the mapping if the endpoint has none; also finds a flow that others have made
// meanwhile. Takes w.new_flow and w.making.hash (of its key in the inner index).
template <class World>
MASQ_INLINE Reason make_flow(World& w) {
  Reason reason = w.hold_host();
  if (reason != Reason::none) return reason;
  reason = Reason::contention;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 && reason == Reason::contention; ++i) {
    // The mapping found in the first half may be gone in the second.
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
  return host_hold(w, n.inner.near_address, n.state == State::tcp_opening, w.making.host);
}

// After it: gives back what the flow that it replaces has counted for, and what was counted for it
// if it was not made.
template <class World>
MASQ_INLINE void settle_host(World& w, Reason reason) {
  host_release(w.tables, w.making.ended);
  if (reason != Reason::none || !w.making.flow_used) host_release(w.tables, w.making.host);
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
  if (in_force(w.settings, *r, w.now)) return;
  if (!w.lock(stripe_of(w.settings, inner_key(*r)))) return;
  u32 host = kNoHost;
  if (r->state >= State::udp && !in_force(w.settings, *r, w.now)) host = unlink_flow(w, index, *r);
  w.unlock();
  host_release(w.tables, host);
}

}  // namespace masq
