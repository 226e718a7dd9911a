// The walk over compiled slots against a plain reading of the manual (tests/unit/chain_twin.h), on
// random rule sets and packets. What must occur in them is counted, so that the test does not grow
// empty unnoticed.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "unit/random_rules.h"

namespace masq {
namespace {

using test::ChainTwin;
using test::RandomRules;
using test::TwinOutcome;
using test::TwinPacket;

constexpr u32 kSets = 100'000;
constexpr u32 kPacketsOfEach = 4;

const std::vector<RuleInterface> kInterfaces{{"eth0", 3},  {"eth1", 0}, {"ppp0", 31},
                                             {"ppp11", 7}, {"lo", 1},   {"eth0.5", 12}};

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
    RandomRules make(seed);
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
