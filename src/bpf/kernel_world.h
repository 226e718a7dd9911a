// The kernel's side of core/world.h: tables in maps, time from jiffies (which cost
// nothing, where the clock costs more than the translation), routes from
// bpf_fib_lookup, locks from bpf_spin_lock.
#pragma once

#include "bpf/maps.h"
#include "bpf/questions.h"
#include "core/step.h"

namespace masq::bpf {

template <class T, class Map>
MASQ_INLINE T* first_of(Map& map) {
  u32 zero = 0;
  return static_cast<T*>(map_lookup(&map, &zero));
}

extern "C" {
u32 masq_find_port_words(u32 hook);
u32 masq_choose_port(u32 hook, u32 i);
u32 masq_take_chosen(__sk_buff* skb, u32 hook, u32 i, u32 chosen);
u32 masq_take_record(u32 start_bit);
u32 masq_choose_shared_port(__sk_buff* skb, u32 hook, u32 i);
u32 masq_is_taken_outside(u32 hook, u32 port);
u32 masq_link_flow(u32 hook);
u64 masq_rank_external(u32 place, u32 host, u32 external, u32 i);
u32 masq_external_for(u32 hook, u32 host, u32 external);
u32 masq_hold_host(u32 hook);
u32 masq_settle_host(u32 hook, u32 reason);
u32 masq_prepare_flow(__sk_buff* skb, u32 hook);
u32 masq_may_open(__sk_buff* skb, u32 hook, u32 ifindex);
u32 masq_follow(u32 hook, u32 index, u32 direction);
u32 masq_judge_and_follow(u32 hook, u32 index, u32 direction, u32 inner_ifindex);
u32 masq_hairpin_external(__sk_buff* skb, u32 hook);
u32 masq_no_way();
u32 masq_is_forged(__sk_buff* skb, u32 hook, u32 wrong);
u32 masq_has_own_flow(u32 hook);
u32 masq_find_fragment(u32 hook, u32 direction);
u32 masq_hand_over(u32 hook, u32 mtu, u32 otherwise);
u32 masq_walk_chain(u32 hook, u32 chain);
u32 masq_count_slots(u32 hook);
u32 masq_rule_bit(u32 ifindex);
u32 masq_take_down(u32 hook, u32 direction);
u32 masq_remember_path(u32 hook);
u32 masq_judge_side(u32 hook, u32 index, u32 direction, u32 inner, u32 about_error);
u32 masq_judge_alone(u32 hook, u32 chain);
u32 masq_judge_between(u32 hook, u32 to_ifindex);
u32 masq_judge_new(u32 hook, u32 external);
u32 masq_judge_flow(u32 hook, u32 index, u32 direction, u32 inner_ifindex);
u32 masq_find_range(u64 wanted);
u32 masq_choose_target(u32 hook, u32 place);
u32 masq_forward_of(__sk_buff* skb, u32 hook);
u32 masq_marks_arrival(__sk_buff* skb, u32 hook);
u32 masq_judge_forwarded(__sk_buff* skb, u32 hook, u32 inner_ifindex);
u32 masq_make_forwarded(__sk_buff* skb, u32 hook, u32 external);
u32 masq_note_control(u32 hook);
u32 masq_take_off_flow(u32 hook, u32 index);
u32 masq_take_off_waiting(u32 hook, u32 index);
u32 masq_awaits_address();
}

// What an address is for the gateway: an OwnAddress, or 0 if it is none of its own.
MASQ_INLINE u32 own_address(Ipv4 address) {
  u32* own = static_cast<u32*>(map_lookup(&mq_own, &address.be));
  return own == nullptr ? 0 : *own;
}

struct KernelWorld {
  Tables tables;
  const Settings& settings;
  Ticks now;
  u32 ifindex;
  const Interface& interface;
  __sk_buff* skb;
  Scratch& scratch;
  u32 hook;
  NewFlow& new_flow;
  Making& making;
  SlowSide& slow;
  FragmentFound& fragment;
  Stripe* stripe;

  MASQ_INLINE bool lock(u32 number) {
    stripe = static_cast<Stripe*>(map_lookup(&mq_stripes, &number));
    if (stripe == nullptr) return false;
    spin_lock(&stripe->lock);
    return true;
  }
  MASQ_INLINE void unlock() { spin_unlock(&stripe->lock); }

  // A look-up costs as much as the rest of the translation, so the answer is kept for a moment, per
  // pair of addresses (rules may choose by source). The daemon ends all of them with a new
  // generation whenever a route changes.
  MASQ_INLINE void route(Ipv4 destination, Ipv4 source, Route& out) {
    out = Route{};
    u32 place =
        (destination.be * 0x9e3779b1u ^ source.be * 0x85ebca6bu) >> 20 & (kCachedRoutes - 1);
    auto* cached = static_cast<CachedRoute*>(map_lookup(&mq_routes, &place));
    if (cached == nullptr) return;
    if (!same(cached->destination, destination) || !same(cached->source, source) ||
        cached->generation != settings.route_generation ||
        elapsed(now, cached->asked, kRouteLife) || cached->ifindex == 0) {
      out.kind = ask_route(destination, source);
      if (out.kind != RouteKind::forward) return;
      cached->destination = destination;
      cached->source = source;
      cached->asked = now;
      cached->generation = settings.route_generation;
      cached->ifindex = scratch.fib.ifindex;
      cached->next_hop = Ipv4{scratch.fib.ipv4_dst};
      keep_neighbour(*cached);
    }
    out.kind = RouteKind::forward;
    out.way = place;
    out.ifindex = cached->ifindex;
    out.next_hop = cached->next_hop;
    out.external = kExternalsMax;
    const Interface* to = find_interface(settings, cached->ifindex);
    if (to == nullptr) return;
    out.zone = to->zone;
    out.external = to->external;
    out.mtu = to->mtu;
  }

  MASQ_INLINE void keep_neighbour(CachedRoute& cached) const {
    const Interface* to = find_interface(settings, cached.ifindex);
    // Zero if the neighbour is unknown; before Linux 6.1.15 it may be told all the same.
    const u8* its = scratch.fib.dmac;
    bool known = (its[0] | its[1] | its[2] | its[3] | its[4] | its[5]) != 0;
    bool ethernet = to != nullptr && to->link_header_length == kEthernetHeaderLength;
    cached.neighbour = known && ethernet ? kNeighbourKnown : kNeighbourUnknown;
    __builtin_memcpy(cached.destination_link, its, sizeof(cached.destination_link));
    __builtin_memcpy(cached.source_link, scratch.fib.smac, sizeof(cached.source_link));
  }

  // The answer is in scratch.fib.
  MASQ_INLINE RouteKind ask_route(Ipv4 destination, Ipv4 source) {
    FibAnswer answer = ask_fib(skb, scratch.fib, constants.loopback_ifindex, destination, source);
    if (answer == FibAnswer::forward) return RouteKind::forward;
    // The same answer for the gateway's own addresses and for those without any route.
    bool own = answer == FibAnswer::not_forwarded && own_address(destination) != 0;
    return own ? RouteKind::local : RouteKind::none;
  }

  MASQ_INLINE bool port_has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote,
                                   Port remote_port) {
    return ask_socket(skb, scratch.tuple, protocol, address, port, remote, remote_port);
  }

  MASQ_INLINE bool is_outer_address(Ipv4 address) { return own_address(address) == kOwnOuter; }

  MASQ_INLINE u64 rank_external(u32 place, Ipv4 host, u32 external, u32 i) {
    return masq_rank_external(place, host.be, external, i);
  }
  MASQ_INLINE u32 external_for(Ipv4 host, u32 external) {
    return masq_external_for(hook, host.be, external);
  }
  MASQ_INLINE Reason hold_host() { return static_cast<Reason>(masq_hold_host(hook)); }
  MASQ_INLINE void settle_host(Reason reason) { masq_settle_host(hook, static_cast<u32>(reason)); }
  MASQ_INLINE Reason prepare_flow() { return static_cast<Reason>(masq_prepare_flow(skb, hook)); }
  MASQ_INLINE void find_port_words() { masq_find_port_words(hook); }
  MASQ_INLINE u32 choose_port(u32 i) { return masq_choose_port(hook, i); }
  MASQ_INLINE u32 take_chosen(u32 i, u32 chosen) { return masq_take_chosen(skb, hook, i, chosen); }
  MASQ_INLINE u32 take_record(u32 start_bit) { return masq_take_record(start_bit); }
  MASQ_INLINE u32 choose_shared_port(u32 i) { return masq_choose_shared_port(skb, hook, i); }
  MASQ_INLINE bool is_taken_outside(u32 port) { return masq_is_taken_outside(hook, port) != 0; }
  MASQ_INLINE Reason link_flow() { return static_cast<Reason>(masq_link_flow(hook)); }

  // The packet is always the one of the scratch.
  MASQ_INLINE u32 hairpin_external([[maybe_unused]] const Packet& p) {
    return masq_hairpin_external(skb, hook);
  }
  MASQ_INLINE Reason no_way() { return static_cast<Reason>(masq_no_way()); }
  MASQ_INLINE bool awaits_address() const { return masq_awaits_address() != 0; }
  MASQ_INLINE bool has_own_flow([[maybe_unused]] const Packet& p) {
    return masq_has_own_flow(hook) != 0;
  }
  MASQ_INLINE bool is_forged([[maybe_unused]] const Packet& p, Zone wrong) {
    return masq_is_forged(skb, hook, static_cast<u32>(wrong)) != 0;
  }
  MASQ_INLINE bool is_second_half() const { return scratch.hairpin_ifindex != 0; }
  MASQ_INLINE Reason may_open([[maybe_unused]] const Packet& p) {
    return static_cast<Reason>(masq_may_open(skb, hook, ifindex));
  }
  MASQ_INLINE Reason follow([[maybe_unused]] const Packet& p, u32 index, u8 direction,
                            u32 inner_ifindex, Verdict& v) {
    Reason reason =
        static_cast<Reason>(masq_judge_and_follow(hook, index, direction, inner_ifindex));
    v = scratch.verdict;
    return reason;
  }

  MASQ_INLINE u32 find_fragment([[maybe_unused]] const Packet& p, u32 direction) {
    return masq_find_fragment(hook, direction);
  }
  MASQ_INLINE Verdict hand_over([[maybe_unused]] const Packet& p, u16 mtu, Reason otherwise) {
    masq_hand_over(hook, mtu, static_cast<u32>(otherwise));
    return scratch.verdict;
  }

  MASQ_INLINE RuleScratch& rules() const { return scratch.rules; }
  MASQ_INLINE void walk_chain(u32 chain) { masq_walk_chain(hook, chain); }
  MASQ_INLINE u32 rule_bit(u32 at) { return masq_rule_bit(at); }
  MASQ_INLINE void take_down(u32 direction) { masq_take_down(hook, direction); }
  MASQ_INLINE u32 remember_path() { return masq_remember_path(hook); }
  MASQ_INLINE void judge_side(u32 index, u32 direction, u32 inner, bool error) {
    masq_judge_side(hook, index, direction, inner, error);
  }
  MASQ_INLINE Reason judge_alone([[maybe_unused]] const Packet& p, u32 chain) {
    return static_cast<Reason>(masq_judge_alone(hook, chain));
  }
  MASQ_INLINE Reason judge_between([[maybe_unused]] const Packet& p, u32 to_ifindex) {
    return static_cast<Reason>(masq_judge_between(hook, to_ifindex));
  }
  MASQ_INLINE Reason judge_new([[maybe_unused]] const Packet& p, u32 external) {
    return static_cast<Reason>(masq_judge_new(hook, external));
  }
  MASQ_INLINE void count_slots([[maybe_unused]] const Packet& p) { masq_count_slots(hook); }
  MASQ_INLINE void count_path(const Packet& p, u32 path, u32 direction) {
    u32 at = (rules().generation & 1u) * kRulePathsMax + path;
    auto* counts = static_cast<RulePathCount*>(map_lookup(&mq_path_counts, &at));
    if (counts == nullptr) return;
    RuleCount one = rule_count_of(p);
    counts->sides[direction & 1].packets += one.packets;
    counts->sides[direction & 1].bytes += one.bytes;
  }
  MASQ_INLINE void count_unremembered([[maybe_unused]] const Packet& p) {
    Counters* c = first_of<Counters>(mq_counters);
    if (c != nullptr) c->traffic[static_cast<u32>(Traffic::rules_unremembered)] += 1;
  }

  MASQ_INLINE ForwardMemory* forwards() const { return first_of<ForwardMemory>(mq_forwards); }
  MASQ_INLINE u32 find_range(u64 wanted) { return masq_find_range(wanted); }
  MASQ_INLINE ForwardChoice& forward_choice() const { return scratch.forward_choice; }
  MASQ_INLINE void choose_target([[maybe_unused]] const Packet& p, u32 place) {
    masq_choose_target(hook, place);
  }
  MASQ_INLINE u32 forward_of([[maybe_unused]] const Packet& p) {
    return masq_forward_of(skb, hook);
  }
  MASQ_INLINE bool marks_arrival([[maybe_unused]] const Packet& p) {
    return masq_marks_arrival(skb, hook) != 0;
  }
  MASQ_INLINE Reason judge_forwarded([[maybe_unused]] const Packet& p, u32 inner_ifindex) {
    return static_cast<Reason>(masq_judge_forwarded(skb, hook, inner_ifindex));
  }
  MASQ_INLINE Reason make_forwarded([[maybe_unused]] const Packet& p, u32 external) {
    return static_cast<Reason>(masq_make_forwarded(skb, hook, external));
  }
  MASQ_INLINE void note_control([[maybe_unused]] const Packet& p) { masq_note_control(hook); }
  MASQ_INLINE void take_off_flow(u32 index) { masq_take_off_flow(hook, index); }
  MASQ_INLINE void take_off_waiting(u32 index) { masq_take_off_waiting(hook, index); }

  MASQ_INLINE u32 largest_datagram(const Packet& p) {
    return skb->gso_size == 0 ? p.total_length : p.headers + skb->gso_size;
  }
};

MASQ_INLINE Ticks read_clock(const Settings& settings) {
  return ticks_from_ns(jiffies64() * settings.jiffy_ns + settings.clock_base_ns +
                       settings.time_offset_ns);
}

MASQ_INLINE KernelWorld world_of(__sk_buff* skb, const Settings& settings, Scratch& scratch,
                                 u32 hook, u32 ifindex, const Interface& interface) {
  return KernelWorld{
      {},   settings,         read_clock(settings), ifindex,      interface,        skb,    scratch,
      hook, scratch.new_flow, scratch.making,       scratch.slow, scratch.fragment, nullptr};
}

// For what does not look at the interface.
MASQ_INLINE KernelWorld world_of(__sk_buff* skb, const Settings& settings, Scratch& scratch,
                                 u32 hook, u32 ifindex = 0) {
  return world_of(skb, settings, scratch, hook, ifindex, settings.interfaces[0]);
}

MASQ_INLINE Scratch* scratch_of(u32 hook) {
  return static_cast<Scratch*>(map_lookup(&mq_scratch, &hook));
}

// The interface where the packet first came in.
MASQ_INLINE u32 came_in(const __sk_buff* skb, const Scratch& scratch) {
  return scratch.slow_ifindex != 0 ? scratch.slow_ifindex : skb->ifindex;
}

// The interface as which's its packet is looked at.
MASQ_INLINE u32 seen_on(const __sk_buff* skb, const Scratch& scratch) {
  return scratch.hairpin_ifindex != 0 ? scratch.hairpin_ifindex : came_in(skb, scratch);
}

// Which tables a program needs. Each costs a look-up, and those of the packets of known flows are
// most of what their translation costs.
enum Needed : u32 {
  kRecords = 1,
  kInnerSlots = 2,
  kOuterSlots = 4,
  kPlaces = 8,
  kPorts = 16,
  kFragments = 32,
  kHosts = 64,
  kShared = 128,
  kRules = 256,
  kWhole = 255,
};

template <u32 needed, class T, class Map>
MASQ_INLINE bool open_table(u32 which, T*& table, Map& map) {
  if ((needed & which) == 0) return true;
  table = first_of<T>(map);
  return table != nullptr;
}

// The tables, or false if a map is missing (which the loader excludes, but the verifier does not
// know). What is not `needed` stays null, and the verifier refuses a program that uses it.
template <u32 needed = kWhole>
MASQ_INLINE bool open_tables(Tables& t) {
  bool there = open_table<needed>(kRecords, t.records, mq_records) &&
               open_table<needed>(kInnerSlots, t.inner_slots, mq_inner) &&
               open_table<needed>(kOuterSlots, t.outer_slots, mq_outer) &&
               open_table<needed>(kPlaces, t.record_used, mq_used) &&
               open_table<needed>(kPlaces, t.record_full, mq_full) &&
               open_table<needed>(kPorts, t.ports, mq_ports) &&
               open_table<needed>(kFragments, t.fragments, mq_fragments) &&
               open_table<needed>(kHosts, t.hosts, mq_hosts) &&
               open_table<needed>(kShared, t.shared, mq_shared) &&
               open_table<needed>(kRules, t.rules, mq_rules) &&
               open_table<needed>(kRules, t.paths, mq_paths);
  t.records_max = constants.records_max;
  return there;
}

}  // namespace masq::bpf
