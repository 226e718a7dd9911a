// The administrator's rules: chains as ipchains(8) has them, and what they say of one packet.
//
// A rule set is one array of slots. A chain is a run of slots, tried one after another; its last
// slot fits every packet and is the chain's end: the policy of a built-in chain, "go back" of
// another. So the walk knows one kind of thing only. policy/rules.h makes the array from names.
//
// A walk looks at a packet as a RuleView: what is in it, and the one interface that the chain asks
// for (input: where it came in, forward and output: where it goes out). It gathers the target, what
// happens to the type of service and the mark, and the slots that fitted, by which packets and
// bytes are counted.
//
// What belongs to no whole transport header (a later fragment) fits no slot that asks for ports, an
// ICMP type or a SYN, inverted or not, as in Linux 2.2 (ipchains-HOWTO section 4.1.3).
//
// Limits: kRuleSlotsMax slots; kRuleDepthMax chains under way at once, and a chain that is entered
// while it is under way, or one deeper, refuses the packet; so does a walk of more than
// kRuleStepsMax slots, since chains that lead to each other several times over make ever longer
// ones. kRuleTraceMost slots are remembered, so whoever counts must be content with these.
#pragma once

#include "core/packet.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kRuleSlotsMax = 4096;  // of a rule set, with one for the end of each chain
inline constexpr u32 kRuleDepthMax = 16;
inline constexpr u32 kRuleStepsMax = 4 * kRuleSlotsMax;  // for one packet in one built-in chain
inline constexpr u32 kRuleTraceMost = 24;
inline constexpr u32 kRuleTracePlaces = 32;    // a mask is cheaper for the verifier
inline constexpr u32 kRuleInterfacesMax = 32;  // each is a bit

static_assert((kRuleDepthMax & (kRuleDepthMax - 1)) == 0, "it masks places");
static_assert(kRuleStepsMax <= 0xffff, "RuleWalk::fitted counts them");

// The built-in chains: the first slots of the array say where they begin.
enum RuleChain : u32 { kChainInput = 0, kChainForward, kChainOutput, kBuiltInChains };
inline constexpr u32 kRuleChainPlaces = 4;  // a mask is cheaper for the verifier
inline constexpr u16 kNotEntered = 0xffff;

enum class RuleTarget : u8 {
  none,        // counted, and on to the next slot
  accept,      //
  deny,        // without a word
  reject,      // with an ICMP error
  masquerade,  //
  redirect,    // to a port of the gateway itself
  chain,       // on in another chain
  go_back,     // on behind the slot that led into this chain
  loop,        // no target of a slot: chains lead in a circle, too deep, or the walk is too long
  count
};

// RuleSlot::inverted
inline constexpr u8 kRuleNotSource = 0x01;
inline constexpr u8 kRuleNotDestination = 0x02;
inline constexpr u8 kRuleNotProtocol = 0x04;
inline constexpr u8 kRuleNotSourcePorts = 0x08;
inline constexpr u8 kRuleNotDestinationPorts = 0x10;
inline constexpr u8 kRuleNotInterface = 0x20;  // with no bit: every interface

// RuleSlot::needs
inline constexpr u8 kRuleSyn = 0x01;    // TCP with SYN and neither ACK nor RST
inline constexpr u8 kRuleNoSyn = 0x02;  // TCP, and not that
inline constexpr u8 kRuleLater = 0x04;  // the second or a later fragment
inline constexpr u8 kRuleNotLater = 0x08;
inline constexpr u8 kRulePorts = 0x10;  // the port ranges count (for ICMP: type and code)

// RuleSlot::does
inline constexpr u8 kRuleLogs = 0x01;
inline constexpr u8 kRuleMarks = 0x02;       // the mark becomes `mark`
inline constexpr u8 kRuleAddsToMark = 0x04;  // `mark` is added to it, modulo 2^32
inline constexpr u8 kRuleCopies = 0x08;      // a copy of the packet goes to a program
inline constexpr u8 kRuleStops = 0x10;       // the end of a built-in chain

// The mark of a packet that is redirected: this, and the port; 0: the port it is addressed to.
inline constexpr u32 kRedirectMark = 0x4d510000;
inline constexpr u32 kRedirectMarkMask = 0xffff0000;

struct RuleSlot {
  Ipv4 source, source_mask;
  Ipv4 destination, destination_mask;
  u32 interfaces;                           // bit of each one that is named
  u16 source_first, source_last;            // ports, host order; ICMP: the type
  u16 destination_first, destination_last;  // ICMP: the code
  u8 protocol;                              // 0: any
  u8 inverted, needs, does;
  RuleTarget target;
  u8 tos_and, tos_xor;  // the new type of service: (old & and) ^ xor
  u8 reserved;
  u16 to;  // chain: its first slot; redirect: the port, 0: as it was; go_back: the chain's end
  u16 copy_most;  // bytes of the packet
  u32 mark;
};

static_assert(sizeof(RuleSlot) == 44);

// What a chain looks at.
struct RuleView {
  Ipv4 source, destination;
  u32 interface;    // its bit; 0: none that rules could name
  u16 source_port;  // host order; ICMP: type, and code as the destination port
  u16 destination_port;
  u8 protocol;
  u8 has_ports;  // TCP, UDP or ICMP whose header is there
  u8 is_syn;
  u8 is_later;
};

// How the chains stand to a packet, gathered over all that it passes.
struct RuleWalk {
  RuleView view;
  u16 at;     // the slot that is next
  u16 depth;  // chains under way beside the built-in one
  RuleTarget target;
  u8 does;  // of the slots that fitted
  u8 tos_and, tos_xor;
  u32 mark;
  u16 port;    // of redirect
  u16 fitted;  // slots that fitted, also those that there was no room for
  u16 trace[kRuleTracePlaces];
  u16 back[kRuleDepthMax];    // the slots that led on
  u16 chains[kRuleDepthMax];  // where those chains begin
  // Of each built-in chain that the packet has come to: how many slots had fitted by then, and what
  // its interface was.
  u16 entered[kRuleChainPlaces];
  u32 interfaces[kRuleChainPlaces];
};

MASQ_INLINE void rules_begin(RuleWalk& w) {
  w.does = 0;
  w.tos_and = 0xff;
  w.tos_xor = 0;
  w.mark = 0;
  w.port = 0;
  w.fitted = 0;
  w.target = RuleTarget::accept;
  for (u32 i = 0; i < kRuleChainPlaces; ++i) w.entered[i] = kNotEntered;
}

// Before it enters the built-in chain.
MASQ_INLINE void rules_note_chain(RuleWalk& w, u32 chain) {
  w.entered[chain & (kRuleChainPlaces - 1)] = w.fitted;
  w.interfaces[chain & (kRuleChainPlaces - 1)] = w.view.interface;
}

// Into a built-in chain, which begins at `start`.
MASQ_INLINE void rules_enter(RuleWalk& w, u32 start) {
  w.at = static_cast<u16>(start);
  w.depth = 0;
  w.target = RuleTarget::none;
}

// 1 if it does.
MASQ_INLINE u32 rule_fits(const RuleSlot& s, const RuleView& v) {
  u32 source =
      ((v.source.be & s.source_mask.be) == s.source.be) ^ ((s.inverted & kRuleNotSource) != 0);
  u32 destination = ((v.destination.be & s.destination_mask.be) == s.destination.be) ^
                    ((s.inverted & kRuleNotDestination) != 0);
  u32 protocol =
      (s.protocol == 0) | ((s.protocol == v.protocol) ^ ((s.inverted & kRuleNotProtocol) != 0));
  u32 interface = ((s.interfaces & v.interface) != 0) ^ ((s.inverted & kRuleNotInterface) != 0);
  if (!(source & destination & protocol & interface)) return 0;
  if (s.needs == 0) return 1;
  if ((s.needs & kRuleLater) && !v.is_later) return 0;
  if ((s.needs & kRuleNotLater) && v.is_later) return 0;
  if ((s.needs & (kRuleSyn | kRuleNoSyn)) &&
      (!v.has_ports || v.protocol != kProtocolTcp || ((s.needs & kRuleSyn) != 0) != v.is_syn))
    return 0;
  if (!(s.needs & kRulePorts)) return 1;
  u32 from = (v.source_port >= s.source_first && v.source_port <= s.source_last) ^
             ((s.inverted & kRuleNotSourcePorts) != 0);
  u32 to = (v.destination_port >= s.destination_first && v.destination_port <= s.destination_last) ^
           ((s.inverted & kRuleNotDestinationPorts) != 0);
  return v.has_ports & from & to;
}

// On in the chain that begins at `start`, from the slot `here`.
MASQ_INLINE bool rules_descend(RuleWalk& w, u32 here, u16 start) {
  u32 refused = w.depth >= kRuleDepthMax;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kRuleDepthMax; ++i) {
    if (i >= w.depth) break;
    refused |= w.chains[i] == start;
  }
  if (refused) {
    w.target = RuleTarget::loop;
    return false;
  }
  w.back[w.depth & (kRuleDepthMax - 1)] = static_cast<u16>(here);
  w.chains[w.depth & (kRuleDepthMax - 1)] = start;
  w.depth += 1;
  w.at = start;
  return true;
}

// Behind the slot that led into this chain; in a built-in chain to its end, which has the policy.
MASQ_INLINE bool rules_return(RuleWalk& w, u16 end) {
  if (w.depth == 0) {
    w.at = end;
    return true;
  }
  w.depth -= 1;
  w.at = static_cast<u16>(w.back[w.depth & (kRuleDepthMax - 1)] + 1);
  return true;
}

// Does what the slot at `here` says, which fits. False when the walk has come to its end.
MASQ_INLINE bool rules_take(const RuleSlot& s, u32 here, RuleWalk& w) {
  w.at = static_cast<u16>(here + 1);
  u32 place = w.fitted < kRuleTraceMost ? w.fitted : kRuleTraceMost - 1;
  // The verifier before Linux 6.5 forgets how small the number is where it is spilt.
  w.trace[opaque(place) & (kRuleTracePlaces - 1)] = static_cast<u16>(here);
  w.fitted += 1;
  w.does |= s.does;
  w.tos_xor = static_cast<u8>((w.tos_xor & s.tos_and) ^ s.tos_xor);
  w.tos_and &= s.tos_and;
  if (s.does & kRuleMarks) w.mark = (s.does & kRuleAddsToMark) ? w.mark + s.mark : s.mark;
  switch (s.target) {
    case RuleTarget::none:
      return true;
    case RuleTarget::chain:
      return rules_descend(w, here, s.to);
    case RuleTarget::go_back:
      return rules_return(w, s.to);
    default:
      w.target = s.target;
      w.port = s.to;
      return false;
  }
}

// One slot, and on. False when the walk has come to its end.
MASQ_INLINE bool rules_step(const RuleSlot& s, RuleWalk& w) {
  u32 here = w.at;
  w.at = static_cast<u16>(here + 1);
  return rule_fits(s, w.view) ? rules_take(s, here, w) : true;
}

// The walk to its end, over an array of `count` slots; the kernel's programs make the same steps in
// a loop of their own.
MASQ_INLINE void rules_walk(const RuleSlot* slots, u32 count, RuleWalk& w) {
  for (u32 i = 0; i < kRuleStepsMax; ++i) {
    if (w.at >= count) break;
    if (!rules_step(slots[w.at], w)) return;
  }
  w.target = RuleTarget::loop;
}

}  // namespace masq
