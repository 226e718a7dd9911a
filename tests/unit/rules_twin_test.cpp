// The walk over compiled slots against a plain reading of the manual (tests/unit/chain_twin.h), on
// random rule sets and packets. What must occur in them is counted, so that the test does not grow
// empty unnoticed.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "unit/chain_twin.h"
#include "unit/random.h"

namespace masq {
namespace {

using test::ChainTwin;
using test::TwinOutcome;
using test::TwinPacket;

constexpr u32 kSets = 100'000;
constexpr u32 kPacketsOfEach = 4;

// Interfaces that rules name: away0 is not there. Packets come in on those that are, and on one
// that has no bit, whose name is empty here.
const char* const kNames[] = {"eth0", "eth1", "ppp0", "ppp11", "lo", "eth0.5", "away0", ""};
const std::vector<RuleInterface> kInterfaces{{"eth0", 3},  {"eth1", 0}, {"ppp0", 31},
                                             {"ppp11", 7}, {"lo", 1},   {"eth0.5", 12}};
const u32 kAddresses[] = {0x0a000001, 0x0a000102, 0xc0a80206, 0xc0a80107, 0xffffffff, 0};
const u32 kMasks[] = {0xffffffff, 0xffffff00, 0xff000000, 0xff00ff00, 0x00000001, 0x80000000};
const u16 kPorts[] = {0, 3, 8, 21, 80, 1023, 1024, 61000, 65095, 65535};
const u8 kProtocols[] = {kProtocolTcp, kProtocolTcp, kProtocolUdp, kProtocolIcmp, 47};

class Maker {
 public:
  explicit Maker(u32 seed) : random_(seed) {}

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
    p.source = one_of(kAddresses) ^ (chance(4) ? random_() & 0xff : 0);
    p.destination = one_of(kAddresses);
    p.protocol = one_of(kProtocols);
    p.later_fragment = chance(6);
    p.has_header = !p.later_fragment && p.protocol != 47;
    if (p.has_header) {
      p.from_port = one_of(kPorts);
      p.to_port = one_of(kPorts);
      p.syn = p.protocol == kProtocolTcp && chance(2);
      p.ack = p.protocol == kProtocolTcp && chance(3);
      p.rst = p.protocol == kProtocolTcp && chance(5);
    }
    p.interface = one_of(kNames);
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
    const u32 mask = chance(8) ? 0 : one_of(kMasks);
    match.mask = ipv4_from_host(mask);
    match.address = ipv4_from_host(one_of(kAddresses) & mask);
    match.inverted = chance(3);
    return match;
  }

  PortMatch ports() {
    PortMatch match;
    if (!chance(2)) return match;
    match.first = one_of(kPorts);
    match.last = one_of(kPorts);
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
    if (rule.target == RuleTarget::redirect) rule.redirect_port = one_of(kPorts);
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
      rule.protocol = one_of(kProtocols);
      rule.protocol_inverted = chance(4);
      if (rule.protocol != 47 && !rule.protocol_inverted) {
        rule.source_ports = ports();
        rule.destination_ports = ports();
      }
      if (rule.protocol == kProtocolTcp && chance(2)) rule.syn = asked();
    }
    if (chance(5)) rule.later_fragment = asked();
    if (chance(3)) {
      rule.interface = chance(3) ? "ppp" : one_of(kNames);
      rule.any_suffix = rule.interface == "ppp" || (chance(4) && !rule.interface.empty());
      rule.interface_inverted = chance(3) && !rule.interface.empty();
    }
    rule.log = chance(4);
    rule.copies = chance(8);
    if (chance(4)) {
      rule.tos_and = static_cast<u8>(random_());
      rule.tos_xor = static_cast<u8>(random_());
    }
    if (chance(4)) {
      rule.mark_change = chance(2) ? MarkChange::set : MarkChange::add;
      rule.mark = chance(2) ? random_() : random_() % 9;
    }
    set_target(rule, user_chains);
    return rule;
  }

  test::Random random_;
  std::vector<std::string> names_;
  bool counts_mostly_ = false;
};

RuleView view_of(const TwinPacket& p) {
  RuleView view{};
  view.source = ipv4_from_host(p.source);
  view.destination = ipv4_from_host(p.destination);
  for (const RuleInterface& each : kInterfaces)
    if (each.name == p.interface) view.interface = 1u << each.bit;
  view.source_port = static_cast<u16>(p.from_port);
  view.destination_port = static_cast<u16>(p.to_port);
  view.protocol = p.protocol;
  view.has_ports = p.has_header;
  view.is_syn = p.syn && !p.ack && !p.rst;
  view.is_later = p.later_fragment;
  return view;
}

std::string hit_of(const RuleSet& set, const CompiledRules& compiled, u16 slot) {
  const SlotOrigin origin = compiled.origins[slot];
  const Chain& chain = set.chains()[origin.chain];
  return chain.name + " " +
         (origin.rule == chain.rules.size() ? "end" : std::to_string(origin.rule + 1));
}

// What differs, or nothing.
std::string difference(const RuleSet& set, const CompiledRules& compiled, const RuleWalk& walk,
                       const TwinOutcome& twin, const TwinPacket& packet) {
  if (walk.target != twin.verdict) return "verdict";
  if (walk.target == RuleTarget::redirect && walk.port != twin.redirect_port) return "port";
  if (walk.mark != twin.mark) return "mark";
  if (static_cast<u8>((packet.tos & walk.tos_and) ^ walk.tos_xor) != twin.tos) return "tos";
  if (((walk.does & kRuleLogs) != 0) != twin.logged) return "log";
  if (((walk.does & kRuleCopies) != 0) != twin.copied) return "copy";
  if (((walk.does & kRuleStops) != 0) != twin.policy) return "policy";
  if (walk.fitted != twin.hits.size()) return "number of rules that fitted";
  for (std::size_t i = 0; i < twin.hits.size(); ++i) {
    std::size_t place = i;
    if (i >= kRuleTraceMost - 1) {  // of the rest only the last one is remembered
      if (i + 1 < twin.hits.size()) continue;
      place = kRuleTraceMost - 1;
    }
    if (hit_of(set, compiled, walk.trace[place]) != twin.hits[i]) return "rules that fitted";
  }
  return "";
}

TEST(RulesTwin, SaysTheSameOfRandomPackets) {
  std::map<RuleTarget, u32> verdicts;
  u32 long_traces = 0, of_fragments = 0, nameless = 0, logged = 0, through_policy = 0;
  std::size_t deepest = 0;
  for (u32 seed = 0; seed < kSets; ++seed) {
    Maker make(seed);
    const RuleSet set = make.rules();
    const CompiledRules compiled = compile_rules(set, kInterfaces);
    ChainTwin twin(set);
    for (u32 n = 0; n < kPacketsOfEach; ++n) {
      const TwinPacket packet = make.packet();
      const u32 chain = (seed + n) % kBuiltInChains;
      RuleWalk walk{};
      walk.view = view_of(packet);
      rules_begin(walk);
      rules_enter(walk, compiled.starts[chain]);
      rules_walk(compiled.slots.data(), static_cast<u32>(compiled.slots.size()), walk);
      const TwinOutcome expected = twin.of(set.chains()[chain].name, packet);
      ASSERT_EQ(difference(set, compiled, walk, expected, packet), "")
          << "seed " << seed << ", packet " << n << "\n"
          << rules_to_json(set);
      verdicts[expected.verdict] += 1;
      long_traces += expected.hits.size() > kRuleTraceMost;
      of_fragments += packet.later_fragment && expected.hits.size() > 1;
      nameless += packet.interface.empty();
      logged += expected.logged;
      through_policy += expected.policy;
      deepest = std::max(deepest, expected.hits.size());
    }
  }
  for (RuleTarget each : {RuleTarget::accept, RuleTarget::deny, RuleTarget::reject,
                          RuleTarget::masquerade, RuleTarget::redirect, RuleTarget::loop}) {
    std::printf("verdict %u: %u\n", static_cast<u32>(each), verdicts[each]);
    EXPECT_GT(verdicts[each], 500u) << static_cast<u32>(each);
  }
  std::printf("%u long traces, %u of fragments, %u logged, %u by policy, at most %zu rules\n",
              long_traces, of_fragments, logged, through_policy, deepest);
  EXPECT_GT(long_traces, 100u);
  EXPECT_GT(of_fragments, 1000u);
  EXPECT_GT(nameless, 1000u);
  EXPECT_GT(logged, 1000u);
  EXPECT_GT(through_policy, 1000u);
}

}  // namespace
}  // namespace masq
