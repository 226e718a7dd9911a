// Random rule sets and packets that often fit each other, the same for a seed in every run.
#pragma once

#include "unit/chain_twin.h"
#include "unit/random.h"

namespace masq::test {

// Interfaces that rules name: away0 is not there. Packets come in on those that are, and on one
// that has no bit, whose name is empty here.
inline const char* const kRandomNames[] = {"eth0", "eth1",   "ppp0",  "ppp11",
                                           "lo",   "eth0.5", "away0", ""};
inline const u32 kRandomAddresses[] = {0x0a000001, 0x0a000102, 0xc0a80206,
                                       0xc0a80107, 0xffffffff, 0};
inline const u32 kRandomMasks[] = {0xffffffff, 0xffffff00, 0xff000000,
                                   0xff00ff00, 0x00000001, 0x80000000};
inline const u16 kRandomPorts[] = {0, 3, 8, 21, 80, 1023, 1024, 61000, 65095, 65535};
inline const u8 kRandomProtocols[] = {kProtocolTcp, kProtocolTcp, kProtocolUdp, kProtocolIcmp, 47};

// With `as_commands_have_it` only what the old commands could say: some types of service and types
// of ICMP they refuse.
class RandomRules {
 public:
  explicit RandomRules(u32 seed, bool as_commands_have_it = false)
      : random_(seed), as_commands_have_it_(as_commands_have_it) {}

  RuleSet rules() {
    RuleSet set = RuleSet::empty();
    const u32 user_chains = random_() % 6;
    names_ = {"input", "forward", "output"};
    for (u32 i = 0; i < user_chains; ++i) {
      names_.push_back("c" + std::to_string(i));
      set.create(names_.back());
    }
    counts_mostly_ = chance(10);  // so that many rules fit one packet
    for (const std::string& name : names_)
      for (u32 n = random_() % (counts_mostly_ ? 60 : 7); n > 0; --n)
        set.append(name, rule(user_chains));
    for (u32 i = 0; i < kBuiltInChains; ++i) set.set_policy(names_[i], policy());
    return set;
  }

  TwinPacket packet() {
    TwinPacket p;
    p.source = one_of(kRandomAddresses) ^ (chance(4) ? random_() & 0xff : 0);
    p.destination = one_of(kRandomAddresses);
    p.protocol = one_of(kRandomProtocols);
    p.later_fragment = chance(6);
    p.has_header = !p.later_fragment && p.protocol != 47;
    if (p.has_header) {
      p.from_port = one_of(kRandomPorts);
      p.to_port = one_of(kRandomPorts);
      p.syn = p.protocol == kProtocolTcp && chance(2);
      p.ack = p.protocol == kProtocolTcp && chance(3);
      p.rst = p.protocol == kProtocolTcp && chance(5);
    }
    p.interface = one_of(kRandomNames);
    if (p.interface == "away0") p.interface = "";
    p.tos = static_cast<u8>(random_());
    return p;
  }

 private:
  bool chance(u32 of) { return random_() % of == 0; }

  template <class Value, std::size_t n>
  Value one_of(const Value (&values)[n]) {
    return values[random_() % n];
  }

  AddressMatch address() {
    AddressMatch match;
    if (!chance(3)) return match;
    const u32 mask = chance(8) ? 0 : one_of(kRandomMasks);
    match.mask = ipv4_from_host(mask);
    match.address = ipv4_from_host(one_of(kRandomAddresses) & mask);
    match.inverted = chance(3);
    return match;
  }

  PortMatch ports() {
    PortMatch match;
    if (!chance(2)) return match;
    match.first = one_of(kRandomPorts);
    match.last = one_of(kRandomPorts);
    if (match.first > match.last) std::swap(match.first, match.last);
    match.inverted = chance(3);
    return match;
  }

  Asked asked() { return chance(2) ? Asked::yes : Asked::no; }

  RuleTarget policy() {
    constexpr RuleTarget policies[] = {RuleTarget::accept, RuleTarget::deny, RuleTarget::reject,
                                       RuleTarget::masquerade};
    return one_of(policies);
  }

  void set_target(Rule& rule, u32 user_chains) {
    constexpr RuleTarget targets[] = {
        RuleTarget::none,       RuleTarget::none,     RuleTarget::accept,  RuleTarget::deny,
        RuleTarget::reject,     RuleTarget::redirect, RuleTarget::go_back, RuleTarget::chain,
        RuleTarget::masquerade, RuleTarget::chain,    RuleTarget::chain};
    rule.target = one_of(targets);
    if (counts_mostly_ && !chance(20)) rule.target = RuleTarget::none;
    if (rule.target == RuleTarget::redirect) rule.redirect_port = one_of(kRandomPorts);
    if (rule.target != RuleTarget::chain) return;
    if (user_chains == 0)
      rule.target = RuleTarget::none;
    else
      rule.chain = "c" + std::to_string(random_() % user_chains);
  }

  // What does not go together, or not in its chain, the set refuses; then there is one rule less.
  Rule rule(u32 user_chains) {
    Rule rule;
    rule.source = address();
    rule.destination = address();
    if (chance(2)) {
      rule.protocol = one_of(kRandomProtocols);
      rule.protocol_inverted = chance(4);
      const bool says_types = rule.protocol == kProtocolIcmp && as_commands_have_it_;
      if (rule.protocol != 47 && !rule.protocol_inverted && !says_types) {
        rule.source_ports = ports();
        rule.destination_ports = ports();
      }
      if (rule.protocol == kProtocolTcp && chance(2)) rule.syn = asked();
    }
    if (chance(5)) rule.later_fragment = asked();
    if (chance(3)) {
      rule.interface = chance(3) ? "ppp" : one_of(kRandomNames);
      rule.any_suffix = rule.interface == "ppp" || (chance(4) && !rule.interface.empty());
      rule.interface_inverted = chance(3) && !rule.interface.empty();
    }
    rule.log = chance(4);
    rule.copies = chance(8);
    if (chance(4)) {
      rule.tos_and = static_cast<u8>(as_commands_have_it_ ? 0x01 : random_());
      rule.tos_xor = static_cast<u8>(as_commands_have_it_ ? 0x02 << random_() % 4 : random_());
    }
    if (chance(4)) {
      rule.mark_change = chance(2) ? MarkChange::set : MarkChange::add;
      rule.mark = chance(2) ? random_() : random_() % 9;
    }
    set_target(rule, user_chains);
    return rule;
  }

  Random random_;
  bool as_commands_have_it_;
  std::vector<std::string> names_;
  bool counts_mostly_ = false;
};

}  // namespace masq::test
