// What the rules say of a packet, and how that is remembered.
//
// Viewpoints (ipchains-HOWTO section 4, facts of Linux 2.2): the input chain sees a packet as it
// came in, the forward and output chains name the interface where it goes out. Outwards a packet
// passes input and forward with the inner host's endpoint, then output with the external one. What
// comes back passes input addressed to the gateway, then output addressed to the inner host; never
// forward. ICMP errors about a flow do not pass forward either.
//
// A flow's answers are remembered. The slots that fitted in each direction, with what they do to
// the packet, are a *path*; the record keeps the path's number beside the generation of the rule
// set (Record::judged), so a packet of a known flow costs one comparison and one count. Equal paths
// are one: there are about as many as there are rules. Rules that look at single packets (SYN; ICMP
// types, since one flow may carry several) are asked for each of these. Later fragments are judged
// as their datagram was, as Linux 2.2 does when it puts them together first.
//
// Forwarding can be switched off (ip_forward of Linux 2.2). That belongs to the rule set, so it
// changes with the rules in one moment, and flows remember it as they do everything that rules say.
// Asked behind the input chain, as Linux asked when it looked for the route: what is for the
// gateway itself, or comes from there, goes on.
//
// Changing rules. There are two halves, and the generation says which one is in force: an odd one
// the second half. Whoever changes rules (gateway/rule_keeper.h) writes the other half, its paths
// being empty, and then stores the new generation: from then on each flow is judged anew at its
// next packet. Before a half is written again, all who could still be reading there are waited for.
//
// What the input chain redirects is no flow of ours: it goes to the kernel's stack with a mark that
// says to which port, and the kernel's own translation leads it there and its answers back
// (gateway/own_rules.h). So a program that listens there can ask it for the address that was meant.
// Each of its packets is asked about anew.
//
// Limits: kRulePathsMax different paths in a half; a flow for which there is no place is judged
// packet by packet, and Traffic::rules_unremembered counts these packets. So is one that meets a
// rule with -l: each of its packets is to be written down (core/packet_log.h).
#pragma once

#include "core/flows.h"
#include "core/packet_log.h"
#include "core/rules.h"

namespace masq {

inline constexpr u32 kRulePathsMax = 4096;  // of a half; number 0 is never used
inline constexpr u32 kRulePathProbes = 8;
inline constexpr u32 kRuleHalves = 2;
// Behind the last reason, since it is no refusal: the packet is for a port of the gateway's own.
inline constexpr Reason kRedirected = static_cast<Reason>(kReasonCount);
inline constexpr u32 kJudgedLogged = 0x8000;  // in Record::judged: each packet, for rules with -l
static_assert(kRulePathsMax <= kJudgedLogged);

// Which rule a slot is, for people. No program reads it.
struct RuleName {
  char chain[8];  // not ended where it has 8 characters
  u16 number;     // from 1
};

struct RuleHalf {
  u16 starts[kBuiltInChains];  // the first slot of each
  u8 asks_for_syn;             // some slot tells SYN segments from others
  u8 closed;                   // forwarding is switched off
  u32 logs;                    // some slot has kRuleLogs
  RuleSlot slots[kRuleSlotsMax];
  RuleName names[kRuleSlotsMax];
};

static_assert(__builtin_offsetof(RuleHalf, slots) == 12);

struct RuleTable {
  RuleHalf halves[kRuleHalves];
  PacketLog log;
};

// What is to be done to a packet.
struct Said {
  Reason reason;  // none: it may pass
  u8 tell;        // refused: 0 without a word, else the code of an ICMP unreachable, plus one
  u8 does;        // RuleSlot::does of all that fitted
  u8 tos_and, tos_xor;
  u8 reserved;
  u16 redirect_port;
  u32 mark;
};

// What the rules say of the packets of one direction of a flow.
struct JudgedSide {
  Said said;
  u16 reserved;
  u16 fitted;                 // how many of `trace` are there
  u16 trace[kRuleTraceMost];  // the rest is 0, so that equal ones have equal bytes
};

struct RulePath {
  u64 name;   // a hash of the sides; 0: free
  u32 ready;  // the sides are there
  u32 reserved;
  JudgedSide sides[2];  // kOut, kIn
};

static_assert(sizeof(Said) == 12 && sizeof(JudgedSide) == 64 && sizeof(RulePath) == 144);

struct RulePaths {
  RulePath halves[kRuleHalves][kRulePathsMax];
};

// Packets and bytes, of IPv4 datagrams as they are on the wire: a large segment counts as those
// that it will be cut into.
struct RuleCount {
  u64 packets, bytes;
};

struct RulePathCount {
  RuleCount sides[2];
};

static_assert(sizeof(RulePathCount) == 32);

// What the packet adds to it.
MASQ_INLINE RuleCount rule_count_of(const Packet& p) {
  u32 segments = p.segments;
  return {segments, p.total_length + (segments - 1) * p.headers};
}

// What a packet's judgement is made with; kept by the shell, since it is too large for a stack.
struct RuleScratch {
  RuleWalk walk;
  RulePath candidate;
  Said said;       // what is to be done to this packet
  u16 generation;  // of the rule set by which it is judged; 0: there are no rules
  u16 begun;       // the walk stands behind the forward chain of a new flow
  u16 done;        // the packet has been judged as one of a flow
  u16 closed;      // forwarding is switched off; known since the walk through a chain
  u16 to_log;      // it has counted for slots with -l, and is still to be written down
  u32 ifindex;     // where the packet is: came in, or goes out if it is the gateway's own
};

// The bit that stands for an interface in RuleSlot::interfaces; 0 if rules cannot name it.
MASQ_INLINE u32 rule_bit(const Settings& s, u32 ifindex) {
  const Interface* interface = find_interface(s, ifindex);
  if (interface == nullptr || interface->rule_bit == 0) return 0;
  return 1u << ((interface->rule_bit - 1) & 31);
}

// At the beginning of a packet's way.
MASQ_INLINE void rules_clear(const Settings& s, RuleScratch& rules, u32 ifindex) {
  rules.said = Said{};
  rules.said.tos_and = 0xff;
  rules.begun = 0;
  rules.done = 0;
  rules.to_log = 0;
  rules.ifindex = ifindex;
  rules.generation = static_cast<u16>(s.rules_generation);
}

MASQ_INLINE bool is_opening_syn(const Packet& p) {
  return p.kind == Kind::tcp && (p.tcp_flags & (kTcpSyn | kTcpAck | kTcpRst)) == kTcpSyn;
}

// Have the rules said this of a packet, and no other part of the gateway?
MASQ_INLINE bool is_of_rules(Reason reason) {
  return (reason >= Reason::rules_deny && reason <= Reason::rules_loop) || reason == kRedirected;
}

// The mark that a packet gets which goes to the gateway's own stack, or on.
MASQ_INLINE bool marks(const Said& said, u32& mark) {
  mark = said.reason == kRedirected ? kRedirectMark | said.redirect_port : said.mark;
  return said.reason == kRedirected || (said.does & kRuleMarks) != 0;
}

// The packet as it is.
MASQ_INLINE RuleView view_of(const Packet& p) {
  RuleView v{};
  v.source = p.source;
  v.destination = p.destination;
  v.protocol = p.protocol;
  v.is_later = p.kind == Kind::fragment;
  v.is_syn = is_opening_syn(p);
  if (p.protocol == kProtocolIcmp) {
    v.has_ports = !v.is_later;
    v.source_port = p.icmp_type;
    v.destination_port = p.icmp_code;
  } else if (p.kind == Kind::tcp || p.kind == Kind::udp) {
    v.has_ports = 1;
    v.source_port = to_host(p.source_port);
    v.destination_port = to_host(p.destination_port);
  }
  return v;
}

// A packet of the flow, in this direction and as it is before its translation; not a SYN.
MASQ_INLINE RuleView view_of(const Settings& s, const Record& r, u32 direction) {
  RuleView v{};
  bool out = direction == kOut;
  v.source = out ? r.internal_address : r.remote_address;
  v.destination = out ? r.remote_address : s.externals[r.external & (kExternalsMax - 1)].address;
  v.source_port = to_host(out ? r.internal_port : r.remote_port);
  v.destination_port = to_host(out ? r.remote_port : r.external_port);
  v.protocol = r.protocol;
  v.has_ports = 1;
  return v;
}

// The same behind the translation.
MASQ_INLINE void translate_view(const Settings& s, const Record& r, u32 direction, RuleView& v) {
  bool ports = v.has_ports && v.protocol != kProtocolIcmp;
  if (direction == kOut) {
    v.source = s.externals[r.external & (kExternalsMax - 1)].address;
    if (ports) v.source_port = to_host(r.external_port);
  } else {
    v.destination = r.internal_address;
    if (ports) v.destination_port = to_host(r.internal_port);
  }
}

// What is to come of it that the walk has ended as it did, in this chain; `forwarded`: the packet
// is not the gateway's own.
MASQ_INLINE Reason rules_reason(RuleTarget target, u32 chain, bool forwarded, u8& tell) {
  tell = 0;
  switch (target) {
    case RuleTarget::accept:
      return Reason::none;
    case RuleTarget::redirect:
      return chain == kChainInput ? kRedirected : Reason::rules_misplaced;
    case RuleTarget::masquerade:
      return chain == kChainForward ? Reason::none : Reason::rules_misplaced;
    case RuleTarget::deny:
      return Reason::rules_deny;
    case RuleTarget::reject: {
      bool host = chain == kChainForward || (chain == kChainOutput && forwarded);
      tell = 1 + (host ? kIcmpCodeHostUnreachable : kIcmpCodePortUnreachable);
      return Reason::rules_deny;
    }
    case RuleTarget::loop:
      return Reason::rules_loop;
    default:
      return Reason::rules_misplaced;
  }
}

// Into a built-in chain of this half.
MASQ_INLINE void enter_chain(const RuleHalf& half, RuleScratch& rules, u32 chain) {
  rules.closed = half.closed;
  rules_note_chain(rules.walk, chain);
  rules_enter(rules.walk, half.starts[chain]);
}

// Through one chain. False if that refuses the packet; w.rules().said tells how.
template <class World>
MASQ_INLINE bool pass_chain(World& w, u32 chain, u32 interface, bool forwarded) {
  w.rules().walk.view.interface = interface;
  w.walk_chain(chain);
  w.rules().said.reason =
      rules_reason(w.rules().walk.target, chain, forwarded, w.rules().said.tell);
  return w.rules().said.reason == Reason::none;
}

// Behind the input chain: may the packet go on to another interface?
template <class World>
MASQ_INLINE bool may_be_forwarded(World& w) {
  if (w.rules().closed == 0) return true;
  w.rules().said.reason = Reason::forwarding_off;
  return false;
}

// In which chain the slot fitted that is number `i` of those that did.
MASQ_INLINE u32 chain_of_fitted(const RuleWalk& walk, u32 i) {
  if (i >= walk.entered[kChainOutput]) return kChainOutput;
  return i >= walk.entered[kChainForward] ? kChainForward : kChainInput;
}

// Writes the packet down for slot number `i` of those that fitted, as its chain saw it; `tos` as it
// was by then. All of it into its place at once, since the kernel's stacks are full.
MASQ_INLINE void log_slot(RuleTable& rules, const RuleScratch& judged, const Packet& p, u32 i,
                          u8 tos) {
  const RuleWalk& walk = judged.walk;
  u32 chain = chain_of_fitted(walk, i);
  bool behind = chain == kChainOutput;  // perhaps translated
  bool is_icmp = p.protocol == kProtocolIcmp;
  bool has_ports =
      p.kind != Kind::fragment && (is_icmp || p.kind == Kind::tcp || p.kind == Kind::udp);
  u32 number = atomic_add(&rules.log.written, 1) + 1;
  LoggedPacket& at = rules.log.packets[opaque(number) & (kLoggedMax - 1)];
  atomic_store(&at.number, 0u);
  at.source = behind ? walk.view.source : p.source;
  at.destination = behind ? walk.view.destination : p.destination;
  u16 from = is_icmp ? p.icmp_type : to_host(p.source_port);
  u16 to = is_icmp ? p.icmp_code : to_host(p.destination_port);
  if (behind && !is_icmp) {
    from = walk.view.source_port;
    to = walk.view.destination_port;
  }
  at.source_port = has_ports ? from : kNoPort;
  at.destination_port = has_ports ? to : kNoPort;
  at.interface = walk.interfaces[chain];
  at.length = p.total_length;
  at.id = swap16(p.id);
  at.fragment = p.fragment;
  at.generation = judged.generation;
  at.slot = walk.trace[i & (kRuleTracePlaces - 1)];
  at.protocol = p.protocol;
  at.tos = tos;
  at.ttl = p.ttl;
  at.is_syn = is_opening_syn(p);
  atomic_store(&at.number, number);
}

// The same for each of them that has -l, if the packet has counted for its slots.
template <class World>
MASQ_INLINE void log_slots(World& w, const RuleTable& rules, const RuleScratch& judged,
                           const Packet& p) {
  if (p.kind == Kind::fragment && judged.done) return;
  const RuleHalf& half = rules.halves[judged.generation & 1];
  u8 tos = p.tos;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kRuleTraceMost; ++i) {
    if (i >= judged.walk.fitted) break;
    const RuleSlot& slot = half.slots[judged.walk.trace[i] & (kRuleSlotsMax - 1)];
    if (slot.does & kRuleLogs) w.log_slot(i, tos);
    tos = static_cast<u8>((tos & (slot.tos_and | 3)) ^ (slot.tos_xor & 0xfc));
  }
}

// What the walk has gathered beside the reason.
MASQ_INLINE void take_down(const RuleWalk& walk, Said& said) {
  said.does = walk.does;
  said.tos_and = walk.tos_and;
  said.tos_xor = walk.tos_xor;
  said.redirect_port = walk.port;
  said.mark = walk.mark;
}

// All of it, for a path.
MASQ_INLINE void take_down(RuleScratch& rules, u32 direction) {
  JudgedSide& side = rules.candidate.sides[direction & 1];
  const RuleWalk& walk = rules.walk;
  side.said = rules.said;
  take_down(walk, side.said);
  u32 fitted = walk.fitted;
  side.fitted = static_cast<u16>(fitted < kRuleTraceMost ? fitted : kRuleTraceMost);
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kRuleTraceMost; ++i) {
    u16 slot = walk.trace[i];
    u16 keep = static_cast<u16>(-(i < fitted));
    side.trace[i] = slot & keep;
  }
}

// Of what belongs to no flow and stays on one side, or is the gateway's own: one chain.
template <class World>
MASQ_INLINE Reason judge_alone(World& w, const Packet& p, u32 chain) {
  rules_begin(w.rules().walk);
  w.rules().walk.view = view_of(p);
  pass_chain(w, chain, w.rule_bit(w.rules().ifindex), false);
  take_down(w.rules().walk, w.rules().said);
  w.count_slots(p);
  return w.rules().said.reason;
}

// Of what is routed between inner interfaces: all three.
template <class World>
MASQ_INLINE Reason judge_between(World& w, const Packet& p, u32 to_ifindex) {
  rules_begin(w.rules().walk);
  w.rules().walk.view = view_of(p);
  u32 to = w.rule_bit(to_ifindex);
  if (pass_chain(w, kChainInput, w.rule_bit(w.rules().ifindex), true) && may_be_forwarded(w) &&
      pass_chain(w, kChainForward, to, true))
    pass_chain(w, kChainOutput, to, true);
  take_down(w.rules().walk, w.rules().said);
  w.count_slots(p);
  return w.rules().said.reason;
}

// Outwards up to the forward chain, which must say MASQ.
template <class World>
MASQ_INLINE bool pass_outwards(World& w, u32 inner, u32 outer) {
  rules_begin(w.rules().walk);
  if (!pass_chain(w, kChainInput, inner, true) || !may_be_forwarded(w) ||
      !pass_chain(w, kChainForward, outer, true))
    return false;
  if (w.rules().walk.target == RuleTarget::masquerade) return true;
  w.rules().said.reason = Reason::rules_not_masqueraded;
  return false;
}

// Before a flow is made for the packet, which would leave by this external address: asked here,
// what is refused takes no place in the table. The walk goes on in judge_flow.
template <class World>
MASQ_INLINE Reason judge_new(World& w, const Packet& p, u32 external) {
  u32 outer = w.settings.externals[external & (kExternalsMax - 1)].ifindex;
  w.rules().walk.view = view_of(p);
  bool passes = pass_outwards(w, w.rule_bit(w.rules().ifindex), w.rule_bit(outer));
  take_down(w.rules().walk, w.rules().said);
  w.rules().begun = passes;
  if (!passes) w.count_slots(p);
  return w.rules().said.reason;
}

// One direction of a flow, whose packet is the walk's view; `error`: it is an ICMP error about it.
template <class World>
MASQ_INLINE void judge_side(World& w, u32 index, u32 direction, u32 inner, bool error) {
  const Record* at = record_at(w.tables, index);
  if (at == nullptr) return;
  const Record& r = *at;
  u32 outer = w.rule_bit(w.settings.externals[r.external & (kExternalsMax - 1)].ifindex);
  bool local = r.flags & kFlagLocal;
  RuleView& view = w.rules().walk.view;
  if (direction == kOut && w.rules().begun) {
    w.rules().begun = 0;
  } else if (direction == kOut && !local && !error) {
    if (!pass_outwards(w, inner, outer)) return;
  } else {
    rules_begin(w.rules().walk);
    w.rules().said.reason = Reason::none;
    bool in = direction == kIn;
    if (in || !local)
      if (!pass_chain(w, kChainInput, in ? outer : inner, true) || (in && local)) return;
    if (!local && !may_be_forwarded(w)) return;
  }
  if (!local) translate_view(w.settings, r, direction, view);
  pass_chain(w, kChainOutput, direction == kOut ? outer : inner, !local);
}

// The number of the path that is equal to the candidate, or 0 if there is no place for it.
template <class World>
MASQ_INLINE u32 remember_path(World& w) {
  RulePath& candidate = w.rules().candidate;
  const u64* words = reinterpret_cast<const u64*>(&candidate.sides);
  u64 name = w.settings.secret[0];
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < 2 * sizeof(JudgedSide) / 8; ++i) {
    name = (name ^ words[i]) * 0x9e3779b97f4a7c15ull;
    name ^= name >> 29;
  }
  name |= 1;
  u32 found = 0;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kRulePathProbes; ++i) {
    u32 at = (static_cast<u32>(name >> 32) + i) & (kRulePathsMax - 1);
    RulePath& path = w.tables.paths->halves[w.rules().generation & 1][at];
    if (at == 0) continue;
    u64 before = atomic_exchange_if(&path.name, u64{0}, name);
    if (before == 0) {
      path.sides[kOut] = candidate.sides[kOut];
      path.sides[kIn] = candidate.sides[kIn];
      atomic_store(&path.ready, u32{1});
      found = at;
      break;
    }
    if (before == name) {
      found = atomic_load(&path.ready) ? at : 0;
      break;
    }
  }
  return found;
}

// Both directions of a flow, at one of its packets. Returns Record::judged.
template <class World>
MASQ_INLINE u32 judge_both(World& w, u32 index, Record& r, u32 inner) {
  u32 fitted = 0;
#pragma clang loop unroll(full)
  for (u32 direction = 0; direction < 2; ++direction) {
    if (direction == kIn || !w.rules().begun)
      w.rules().walk.view = view_of(w.settings, r, direction);
    w.judge_side(index, direction, inner, false);
    w.take_down(direction);
    if (w.rules().walk.fitted > fitted) fitted = w.rules().walk.fitted;
  }
  u32 judged = static_cast<u32>(w.rules().generation) << 16;
  const RulePath& candidate = w.rules().candidate;
  if ((candidate.sides[kOut].said.does | candidate.sides[kIn].said.does) & kRuleLogs)
    judged |= kJudgedLogged;
  else if (fitted <= kRuleTraceMost)
    judged |= w.remember_path();
  if ((judged & 0xffff) != 0) atomic_store(&r.judged, judged);
  return judged;
}

// A packet of a flow, or of a mapping that lets it in. `inner_ifindex`, of what comes in: the
// interface to its inner host, 0 if that is the gateway itself.
template <class World>
MASQ_INLINE Reason judge_flow(World& w, const Packet& p, u32 index, u32 direction,
                              u32 inner_ifindex) {
  Record* r = record_at(w.tables, index);
  if (r == nullptr) return Reason::internal_error;
  w.rules().done = 1;
  const RuleHalf& half = w.tables.rules->halves[w.rules().generation & 1];
  bool alone = p.protocol == kProtocolIcmp || r->state < State::udp ||
               (half.asks_for_syn && is_opening_syn(p));
  u32 inner = w.rule_bit(direction == kOut ? w.rules().ifindex : inner_ifindex);
  if (!alone) {
    u32 judged = atomic_load(&r->judged);
    if (judged >> 16 != w.rules().generation) judged = judge_both(w, index, *r, inner);
    u32 path = judged & (kRulePathsMax - 1);
    if (path != 0) {
      w.count_path(p, path, direction);
      w.rules().said =
          w.tables.paths->halves[w.rules().generation & 1][path].sides[direction & 1].said;
      return w.rules().said.reason;
    }
    if (!(judged & kJudgedLogged)) w.count_unremembered(p);
  }
  // A later fragment is judged as its datagram was.
  if (p.kind == Kind::fragment)
    w.rules().walk.view = view_of(w.settings, *r, direction);
  else if (direction != kOut || !w.rules().begun)
    w.rules().walk.view = view_of(p);
  w.judge_side(index, direction, inner, p.kind == Kind::icmp_error);
  take_down(w.rules().walk, w.rules().said);
  w.count_slots(p);
  return w.rules().said.reason;
}

}  // namespace masq
