// The rule chains as the administrator speaks of them: by name, in order, with counters. Every
// command language (ipchains, ipfwadm, masq.toml) changes one RuleSet; `compile_rules` makes of it
// what the core walks (core/rules.h).
//
// The chains input, forward and output are always there, in this order and before all others. A
// change either succeeds whole or leaves the set as it was. Errors are the reasons of ipchains(8).
//
// Limits: core/rules.h; names of chains have 1 to kChainNameMost characters.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/rules.h"
#include "policy/result.h"

namespace masq {

inline constexpr std::size_t kChainNameMost = 8;
inline constexpr std::size_t kInterfaceNameMost = 15;

struct AddressMatch {
  Ipv4 address{}, mask{};  // `address` has no bit outside the mask; a zero mask fits every address
  bool inverted = false;
  friend bool operator==(const AddressMatch& a, const AddressMatch& b) {
    return same(a.address, b.address) && same(a.mask, b.mask) && a.inverted == b.inverted;
  }
};

// Ports, host order, ends included; for ICMP a type (as the source) or a code.
struct PortMatch {
  u16 first = 0, last = 0xffff;
  bool inverted = false;
  bool operator==(const PortMatch&) const = default;
  bool is_any() const { return first == 0 && last == 0xffff && !inverted; }
};

enum class Asked : u8 { either, yes, no };

enum class MarkChange : u8 { none, set, add };  // subtracting is adding modulo 2^32

struct Rule {
  AddressMatch source, destination;
  PortMatch source_ports, destination_ports;
  std::string interface;    // empty: any
  bool any_suffix = false;  // every interface whose name begins so ("ppp+")
  bool interface_inverted = false;
  u8 protocol = 0;  // 0: all
  bool protocol_inverted = false;
  Asked syn = Asked::either;  // TCP with SYN and neither ACK nor RST
  Asked later_fragment = Asked::either;

  bool log = false;
  u8 tos_and = 0xff, tos_xor = 0;
  MarkChange mark_change = MarkChange::none;
  u32 mark = 0;
  bool copies = false;     // -o: a copy for a program
  u16 copy_most = 0xffff;  // bytes of it

  RuleTarget target = RuleTarget::none;
  std::string chain;      // of RuleTarget::chain
  u16 redirect_port = 0;  // 0: as it was

  u64 packets = 0, bytes = 0;

  // Everything but the counters and, as `ipchains -D` has it, the mark.
  bool same_rule(const Rule& other) const;
  // Fields that go together: ports with TCP, UDP or ICMP only, SYN with TCP only, neither with
  // later fragments; REDIRECT with TCP or UDP; a name for an interface and for a chain.
  bool is_sound() const;
};

struct Chain {
  std::string name;
  RuleTarget policy =
      RuleTarget::go_back;     // built-in: accept, deny, reject, or (forward) masquerade
  u64 packets = 0, bytes = 0;  // that came to the policy
  std::vector<Rule> rules;
};

// Why a change cannot be made; the command languages have a sentence for each.
enum class RuleFault : u8 {
  none,
  no_chain,   // no chain by that name
  no_target,  // the rule leads to a chain that is not there
  chain_exists,
  chain_not_empty,
  chain_in_use,  // a rule leads there
  built_in,      // that cannot be done with a built-in chain (or only with one)
  bad_name,      // a chain cannot have that name
  bad_policy,    // such a policy cannot be
  bad_target,    // MASQ outside forward, REDIRECT outside input, in a built-in chain
  bad_match,     // the rule asks for what no packet has (see is_sound)
  no_rule,       // no such number, or no such rule
  too_many,      // rules and chains together
};

class RuleSet {
 public:
  // As Linux has it at boot: no rules, every policy ACCEPT.
  static RuleSet empty();
  // What masq does where nobody has said anything: as empty, but forward's policy is MASQ.
  static RuleSet plain();

  const std::vector<Chain>& chains() const { return chains_; }
  const Chain* find(const std::string& name) const;
  // How many rules lead to it.
  u32 references(const std::string& name) const;
  bool is_plain() const;  // nothing but what plain() has; counters do not matter

  // Rules and the ends of all chains: slots of core/rules.h.
  std::size_t slots() const;

  // Numbers begin with 1, as the languages have it. `insert` takes one more than there are rules.
  RuleFault append(const std::string& chain, const Rule& rule);
  RuleFault insert(const std::string& chain, u32 number, const Rule& rule);
  RuleFault replace(const std::string& chain, u32 number, const Rule& rule);
  RuleFault remove(const std::string& chain, u32 number);
  RuleFault remove(const std::string& chain, const Rule& rule);  // the first that is the same
  RuleFault flush(const std::string& chain);
  RuleFault create(const std::string& chain);
  RuleFault destroy(const std::string& chain);
  RuleFault set_policy(const std::string& chain, RuleTarget policy);
  RuleFault clear_counters(const std::string& chain);

  // For whoever reads the kernel's counters: chain and rule by their places; the rule behind the
  // last one is the policy, or the end of a chain of the administrator's.
  void count(std::size_t chain, std::size_t rule, u64 packets, u64 bytes);

 private:
  std::vector<Chain> chains_;
};

// Which interfaces there are, and the bit that each has in RuleSlot::interfaces.
struct RuleInterface {
  std::string name;
  u32 bit;  // 0..kRuleInterfacesMax - 1
};

// Where a slot comes from: places in RuleSet::chains() and Chain::rules (or one behind: the end).
struct SlotOrigin {
  u16 chain, rule;
};

struct CompiledRules {
  std::array<u16, kBuiltInChains> starts{};
  std::vector<RuleSlot> slots;
  std::vector<SlotOrigin> origins;  // of each slot
  bool asks_for_syn = false;        // some slot tells SYN segments from others
};

// What the core walks. An interface that is not there fits no slot (and every one that inverts it).
// So does one that has no bit: RuleView::interface 0 fits what asks for none, or inverts one.
CompiledRules compile_rules(const RuleSet& rules, const std::vector<RuleInterface>& interfaces);

// As files keep it: whole, with counters. What cannot be read is one sentence.
// A target, or a policy, as rules name it; "-" for none, and for a chain, which has its own name.
const char* policy_name(RuleTarget policy);

std::string rules_to_json(const RuleSet& rules);
Result<RuleSet> rules_from_json(const std::string& text);

}  // namespace masq
