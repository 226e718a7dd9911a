// The rule chains: what changes are taken and refused, the limits at their edges, what is compiled,
// and what files keep. That the walk means what the old commands mean is shown by
// tests/unit/rules_twin_test.cpp.
#include "policy/rules.h"

#include <gtest/gtest.h>

#include "unit/test_world.h"

namespace masq {
namespace {

Rule rule_to(RuleTarget target, const std::string& chain = "") {
  Rule rule;
  rule.target = target;
  rule.chain = chain;
  return rule;
}

Rule counting(u32 mark) {
  Rule rule;
  rule.mark_change = MarkChange::set;
  rule.mark = mark;
  return rule;
}

// Makes the change, and says whether the set is as before where there is a fault.
template <class Change>
RuleFault tried(RuleSet& set, Change change) {
  const std::string before = rules_to_json(set);
  const RuleFault fault = change(set);
  EXPECT_EQ(fault == RuleFault::none, rules_to_json(set) != before);
  return fault;
}

RuleFault append(RuleSet& set, const std::string& chain, const Rule& rule) {
  return tried(set, [&](RuleSet& s) { return s.append(chain, rule); });
}

RuleWalk walk_of(const RuleSet& set, RuleChain chain, const RuleView& view = {},
                 const std::vector<RuleInterface>& interfaces = {}) {
  const CompiledRules compiled = compile_rules(set, interfaces);
  RuleWalk walk{};
  walk.view = view;
  rules_begin(walk);
  rules_enter(walk, compiled.starts[chain]);
  rules_walk(compiled.slots.data(), static_cast<u32>(compiled.slots.size()), walk);
  return walk;
}

std::vector<u32> marks_of(const RuleSet& set, const std::string& chain) {
  std::vector<u32> marks;
  for (const Rule& rule : set.find(chain)->rules) marks.push_back(rule.mark);
  return marks;
}

TEST(Rules, BeginsWithTheBuiltInChains) {
  const RuleSet set = RuleSet::empty();
  ASSERT_EQ(set.chains().size(), kBuiltInChains);
  EXPECT_EQ(set.chains()[kChainInput].name, "input");
  EXPECT_EQ(set.chains()[kChainForward].name, "forward");
  EXPECT_EQ(set.chains()[kChainOutput].name, "output");
  for (const Chain& chain : set.chains()) EXPECT_EQ(chain.policy, RuleTarget::accept);
  EXPECT_FALSE(set.is_plain());
  EXPECT_TRUE(RuleSet::plain().is_plain());
  EXPECT_EQ(RuleSet::plain().find("forward")->policy, RuleTarget::masquerade);
  RuleSet other = RuleSet::plain();
  other.count(kChainForward, 0, 3, 180);
  EXPECT_TRUE(other.is_plain());
  other.create("a");
  EXPECT_FALSE(other.is_plain());
  other.destroy("a");
  other.append("output", Rule{});
  EXPECT_FALSE(other.is_plain());
}

TEST(Rules, RulesKeepTheirOrder) {
  RuleSet set = RuleSet::empty();
  for (u32 mark : {1, 2, 3}) EXPECT_EQ(append(set, "input", counting(mark)), RuleFault::none);
  EXPECT_EQ(set.insert("input", 1, counting(10)), RuleFault::none);
  EXPECT_EQ(set.insert("input", 5, counting(11)), RuleFault::none);
  EXPECT_EQ(set.insert("input", 3, counting(12)), RuleFault::none);
  EXPECT_EQ(marks_of(set, "input"), (std::vector<u32>{10, 1, 12, 2, 3, 11}));
  EXPECT_EQ(set.replace("input", 6, counting(20)), RuleFault::none);
  EXPECT_EQ(set.remove("input", 1), RuleFault::none);
  EXPECT_EQ(set.remove("input", 3), RuleFault::none);
  EXPECT_EQ(marks_of(set, "input"), (std::vector<u32>{1, 12, 3, 20}));
  for (const u32 number : {0u, 5u, ~0u}) {
    EXPECT_EQ(tried(set, [&](RuleSet& s) { return s.remove("input", number); }),
              RuleFault::no_rule);
    EXPECT_EQ(tried(set, [&](RuleSet& s) { return s.replace("input", number, Rule{}); }),
              RuleFault::no_rule);
  }
  for (const u32 number : {0u, 6u, ~0u})
    EXPECT_EQ(tried(set, [&](RuleSet& s) { return s.insert("input", number, Rule{}); }),
              RuleFault::no_rule);
  EXPECT_EQ(set.flush("input"), RuleFault::none);
  EXPECT_TRUE(set.find("input")->rules.empty());
}

// The first that is the same goes; its mark and its counters do not matter, all else does.
TEST(Rules, RemovesByWhatTheRuleSays) {
  RuleSet set = RuleSet::empty();
  Rule logs = counting(2);
  logs.log = true;
  set.append("input", counting(1));
  set.append("input", logs);
  set.append("input", counting(3));
  set.count(kChainInput, 0, 7, 7);
  EXPECT_EQ(set.remove("input", counting(99)), RuleFault::none);
  EXPECT_EQ(marks_of(set, "input"), (std::vector<u32>{2, 3}));
  EXPECT_EQ(set.remove("input", Rule{}), RuleFault::none);
  EXPECT_EQ(tried(set, [](RuleSet& s) { return s.remove("input", Rule{}); }), RuleFault::no_rule);
  EXPECT_EQ(set.remove("input", logs), RuleFault::none);
}

TEST(Rules, ChainsComeAndGo) {
  RuleSet set = RuleSet::empty();
  auto destroy = [&](const std::string& name) {
    return tried(set, [&](RuleSet& s) { return s.destroy(name); });
  };
  EXPECT_EQ(append(set, "input", rule_to(RuleTarget::chain, "a")), RuleFault::no_target);
  EXPECT_EQ(append(set, "a", Rule{}), RuleFault::no_chain);
  EXPECT_EQ(set.create("a"), RuleFault::none);
  EXPECT_EQ(tried(set, [](RuleSet& s) { return s.create("a"); }), RuleFault::chain_exists);
  EXPECT_EQ(tried(set, [](RuleSet& s) { return s.create("input"); }), RuleFault::chain_exists);
  EXPECT_EQ(append(set, "input", rule_to(RuleTarget::chain, "a")), RuleFault::none);
  EXPECT_EQ(append(set, "a", Rule{}), RuleFault::none);
  EXPECT_EQ(set.references("a"), 1u);
  EXPECT_EQ(destroy("a"), RuleFault::chain_not_empty);
  set.flush("a");
  EXPECT_EQ(destroy("a"), RuleFault::chain_in_use);
  set.flush("input");
  EXPECT_EQ(destroy("a"), RuleFault::none);
  EXPECT_EQ(destroy("a"), RuleFault::no_chain);
  EXPECT_EQ(destroy("forward"), RuleFault::built_in);
  EXPECT_EQ(append(set, "input", rule_to(RuleTarget::chain, "output")), RuleFault::no_target);
}

TEST(Rules, NamesOfChains) {
  RuleSet set = RuleSet::empty();
  for (const char* good : {"a", "12345678", "good-dmz", "a!", "x=y", "accept"})
    EXPECT_EQ(set.create(good), RuleFault::none) << good;
  for (const char* bad :
       {"", "123456789", "a b", "-a", "!a", "ACCEPT", "RETURN", "MASQ", "\x7f", "a\n", "\xc3\xa4"})
    EXPECT_EQ(tried(set, [&](RuleSet& s) { return s.create(bad); }), RuleFault::bad_name) << bad;
}

TEST(Rules, PoliciesAndTargetsWhereTheyCanBe) {
  RuleSet set = RuleSet::empty();
  set.create("a");
  auto policy = [&](const char* chain, RuleTarget target) {
    RuleSet copy = set;
    return copy.set_policy(chain, target);
  };
  for (const char* chain : {"input", "forward", "output"}) {
    for (RuleTarget good : {RuleTarget::accept, RuleTarget::deny, RuleTarget::reject})
      EXPECT_EQ(policy(chain, good), RuleFault::none);
    for (RuleTarget bad : {RuleTarget::none, RuleTarget::redirect, RuleTarget::chain,
                           RuleTarget::go_back, RuleTarget::loop})
      EXPECT_EQ(policy(chain, bad), RuleFault::bad_policy);
  }
  EXPECT_EQ(policy("input", RuleTarget::masquerade), RuleFault::bad_policy);
  EXPECT_EQ(policy("forward", RuleTarget::masquerade), RuleFault::none);
  EXPECT_EQ(policy("output", RuleTarget::masquerade), RuleFault::bad_policy);
  EXPECT_EQ(policy("a", RuleTarget::accept), RuleFault::built_in);
  EXPECT_EQ(policy("b", RuleTarget::accept), RuleFault::no_chain);

  Rule redirect = rule_to(RuleTarget::redirect);
  redirect.protocol = kProtocolTcp;
  const Rule masquerade = rule_to(RuleTarget::masquerade);
  EXPECT_EQ(append(set, "input", masquerade), RuleFault::bad_target);
  EXPECT_EQ(append(set, "forward", masquerade), RuleFault::none);
  EXPECT_EQ(append(set, "output", masquerade), RuleFault::bad_target);
  EXPECT_EQ(append(set, "a", masquerade), RuleFault::none);
  EXPECT_EQ(append(set, "input", redirect), RuleFault::none);
  EXPECT_EQ(append(set, "forward", redirect), RuleFault::bad_target);
  EXPECT_EQ(append(set, "output", redirect), RuleFault::bad_target);
  EXPECT_EQ(append(set, "a", redirect), RuleFault::none);
  EXPECT_EQ(append(set, "input", rule_to(RuleTarget::loop)), RuleFault::bad_target);
}

// Each of these asks for what no packet has, or for what no command could mean.
TEST(Rules, FieldsThatDoNotGoTogether) {
  RuleSet set = RuleSet::empty();
  std::vector<Rule> wrong(14);
  wrong[0].source_ports.first = 5;  // ports of every protocol
  wrong[1].source_ports = {5, 4, false};
  wrong[1].protocol = kProtocolTcp;
  wrong[2].syn = Asked::yes;
  wrong[3].syn = Asked::no;
  wrong[3].protocol = kProtocolUdp;
  wrong[4].protocol = kProtocolTcp;
  wrong[4].protocol_inverted = true;
  wrong[4].destination_ports.last = 80;
  wrong[5].protocol = kProtocolTcp;
  wrong[5].later_fragment = Asked::yes;
  wrong[5].syn = Asked::yes;
  wrong[6].protocol = kProtocolTcp;
  wrong[6].later_fragment = Asked::yes;
  wrong[6].source_ports.last = 80;
  wrong[7].interface = "a234567890123456";
  wrong[8].any_suffix = true;
  wrong[9].interface_inverted = true;
  wrong[10].protocol_inverted = true;
  wrong[11].target = RuleTarget::redirect;
  wrong[12].target = RuleTarget::chain;
  wrong[13].chain = "a";
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    const RuleFault fault = append(set, "input", wrong[i]);
    EXPECT_EQ(fault, RuleFault::bad_match) << i;
  }
  Rule longest;
  longest.interface = "a23456789012345";
  EXPECT_EQ(append(set, "input", longest), RuleFault::none);
}

TEST(Rules, AsManyAsThereAreSlots) {
  RuleSet set = RuleSet::empty();
  set.create("a");
  while (set.slots() < kRuleSlotsMax - 1) ASSERT_EQ(set.append("a", Rule{}), RuleFault::none);
  RuleSet other = set;
  EXPECT_EQ(set.create("b"), RuleFault::none);
  EXPECT_EQ(set.create("c"), RuleFault::too_many);
  EXPECT_EQ(other.append("input", Rule{}), RuleFault::none);
  EXPECT_EQ(other.append("input", Rule{}), RuleFault::too_many);
  EXPECT_EQ(other.insert("a", 1, Rule{}), RuleFault::too_many);
  EXPECT_EQ(other.replace("a", 1, counting(1)), RuleFault::none);
  EXPECT_EQ(compile_rules(other, {}).slots.size(), kRuleSlotsMax);
  other.set_policy("input", RuleTarget::deny);
  other.replace("input", 1, rule_to(RuleTarget::chain, "a"));
  const RuleWalk walk = walk_of(other, kChainInput);
  EXPECT_EQ(walk.target, RuleTarget::deny);
  EXPECT_EQ(walk.fitted, kRuleSlotsMax - 2);  // all but the ends of the other two
  EXPECT_EQ(walk.mark, 1u);
}

std::string nth(u32 n) {
  return fmt::format("c{}", n);
}

// Each chain leads to the next one; the last accepts.
RuleSet nested(u32 chains) {
  RuleSet set = RuleSet::empty();
  set.set_policy("input", RuleTarget::deny);
  for (u32 n = 1; n <= chains; ++n) set.create(nth(n));
  set.append("input", rule_to(RuleTarget::chain, nth(1)));
  for (u32 n = 1; n < chains; ++n) set.append(nth(n), rule_to(RuleTarget::chain, nth(n + 1)));
  set.append(nth(chains), rule_to(RuleTarget::accept));
  return set;
}

TEST(Rules, AsDeepAsChainsCanLead) {
  const RuleWalk deepest = walk_of(nested(kRuleDepthMax), kChainInput);
  EXPECT_EQ(deepest.target, RuleTarget::accept);
  EXPECT_EQ(deepest.depth, kRuleDepthMax);
  EXPECT_EQ(walk_of(nested(kRuleDepthMax + 1), kChainInput).target, RuleTarget::loop);
  // All the way back again.
  RuleSet set = nested(kRuleDepthMax);
  set.flush(nth(kRuleDepthMax));
  const RuleWalk back = walk_of(set, kChainInput);
  EXPECT_EQ(back.target, RuleTarget::deny);
  EXPECT_EQ(back.depth, 0u);
}

TEST(Rules, CirclesEnd) {
  RuleSet set = nested(3);
  set.flush(nth(3));
  set.append(nth(3), rule_to(RuleTarget::chain, nth(1)));
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::loop);
  set.flush(nth(3));
  set.append(nth(3), rule_to(RuleTarget::chain, nth(3)));
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::loop);
  // Twice one after the other is no circle.
  set.flush(nth(3));
  set.append("input", rule_to(RuleTarget::chain, nth(1)));
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::deny);
}

// Every chain leads to the next one twice: 2^n walks of the last.
RuleSet doubling(u32 chains) {
  RuleSet set = RuleSet::empty();
  for (u32 n = 1; n <= chains; ++n) set.create(nth(n));
  for (u32 twice = 0; twice < 2; ++twice)
    for (u32 n = 1; n < chains; ++n) set.append(nth(n), rule_to(RuleTarget::chain, nth(n + 1)));
  set.append("input", rule_to(RuleTarget::chain, nth(1)));
  return set;
}

TEST(Rules, WalksEndInTime) {
  // n chains are 2^n - 1 visits: of those, 2^(n-1) to the last with one slot, the others of three.
  // With the slots of the built-in chain 2^(n+1) - 1 of them.
  RuleSet set = doubling(13);
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::accept);
  const u32 left = kRuleStepsMax - ((1u << 14) - 1);
  for (u32 i = 0; i < left; ++i) set.append("input", Rule{});
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::accept);
  set.append("input", Rule{});
  EXPECT_EQ(walk_of(set, kChainInput).target, RuleTarget::loop);
  EXPECT_EQ(walk_of(doubling(16), kChainInput).target, RuleTarget::loop);
}

TEST(Rules, ReturnGoesBackOrToThePolicy) {
  RuleSet set = RuleSet::empty();
  set.create("a");
  set.append("input", rule_to(RuleTarget::chain, "a"));
  set.append("input", counting(5));
  set.append("input", rule_to(RuleTarget::go_back));
  set.append("input", rule_to(RuleTarget::accept));
  set.append("a", rule_to(RuleTarget::go_back));
  set.append("a", rule_to(RuleTarget::accept));
  set.set_policy("input", RuleTarget::reject);
  const RuleWalk walk = walk_of(set, kChainInput);
  EXPECT_EQ(walk.target, RuleTarget::reject);
  EXPECT_EQ(walk.mark, 5u);
  EXPECT_TRUE(walk.does & kRuleStops);
  EXPECT_EQ(walk.fitted, 5u);
}

// The first ones, and always the one that decides.
TEST(Rules, RemembersAsManySlotsAsThereIsRoomFor) {
  for (const u32 rules : {kRuleTraceMost - 1, kRuleTraceMost, kRuleTraceMost + 7}) {
    RuleSet set = RuleSet::empty();
    for (u32 i = 0; i < rules; ++i) set.append("input", Rule{});
    const RuleWalk walk = walk_of(set, kChainInput);
    EXPECT_EQ(walk.fitted, rules + 1);
    for (u32 i = 0; i + 1 < kRuleTraceMost && i < rules; ++i) EXPECT_EQ(walk.trace[i], i);
    EXPECT_EQ(walk.trace[std::min(rules, kRuleTraceMost - 1)], rules);
  }
}

TEST(Rules, EverySlotKnowsItsRule) {
  RuleSet set = nested(2);
  const CompiledRules compiled = compile_rules(set, {});
  ASSERT_EQ(compiled.slots.size(), compiled.origins.size());
  EXPECT_EQ(compiled.starts[kChainInput], 0u);
  EXPECT_EQ(compiled.starts[kChainForward], 2u);
  EXPECT_EQ(compiled.starts[kChainOutput], 3u);
  const std::vector<std::pair<u16, u16>> expected{{0, 0}, {0, 1}, {1, 0}, {2, 0},
                                                  {3, 0}, {3, 1}, {4, 0}, {4, 1}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(compiled.origins[i].chain, expected[i].first);
    EXPECT_EQ(compiled.origins[i].rule, expected[i].second);
  }
  EXPECT_FALSE(compiled.asks_for_syn);
  Rule syn;
  syn.protocol = kProtocolTcp;
  syn.syn = Asked::no;
  set.append(nth(1), syn);
  EXPECT_TRUE(compile_rules(set, {}).asks_for_syn);
}

TEST(Rules, CountsGoToTheRuleOrToThePolicy) {
  RuleSet set = RuleSet::empty();
  set.append("forward", Rule{});
  set.count(kChainForward, 0, 2, 120);
  set.count(kChainForward, 0, 1, 40);
  set.count(kChainForward, 1, 5, 500);
  set.count(kChainForward, 2, 9, 9);
  set.count(9, 0, 9, 9);
  EXPECT_EQ(set.find("forward")->rules[0].packets, 3u);
  EXPECT_EQ(set.find("forward")->rules[0].bytes, 160u);
  EXPECT_EQ(set.find("forward")->packets, 5u);
  EXPECT_EQ(set.find("forward")->bytes, 500u);
  EXPECT_EQ(set.clear_counters("forward"), RuleFault::none);
  EXPECT_EQ(set.find("forward")->rules[0].packets, 0u);
  EXPECT_EQ(set.find("forward")->bytes, 0u);
  EXPECT_EQ(set.clear_counters("none"), RuleFault::no_chain);
}

TEST(Rules, InterfacesByNamePrefixAndInversion) {
  const std::vector<RuleInterface> interfaces{{"eth0", 0}, {"eth1", 5}, {"ppp0", 31}, {"lo", 32}};
  auto fits = [&](const char* name, bool any_suffix, bool inverted, u32 bit) {
    Rule rule = rule_to(RuleTarget::deny);
    rule.interface = name;
    rule.any_suffix = any_suffix;
    rule.interface_inverted = inverted;
    RuleSet set = RuleSet::empty();
    EXPECT_EQ(set.append("input", rule), RuleFault::none);
    RuleView view{};
    view.interface = bit;
    return walk_of(set, kChainInput, view, interfaces).target == RuleTarget::deny;
  };
  const u32 eth0 = 1, eth1 = 1u << 5, ppp0 = 1u << 31, nameless = 0;
  EXPECT_TRUE(fits("eth0", false, false, eth0));
  EXPECT_FALSE(fits("eth0", false, false, eth1));
  EXPECT_FALSE(fits("eth", false, false, eth0));
  EXPECT_TRUE(fits("eth", true, false, eth1));
  EXPECT_TRUE(fits("eth1", true, false, eth1));
  EXPECT_FALSE(fits("eth", true, false, ppp0));
  EXPECT_TRUE(fits("eth", true, true, ppp0));
  EXPECT_FALSE(fits("eth0", false, true, eth0));
  EXPECT_TRUE(fits("eth0", false, true, eth1));
  for (const u32 each : {eth0, eth1, ppp0, nameless}) {
    EXPECT_FALSE(fits("away0", false, false, each));
    EXPECT_TRUE(fits("away0", false, true, each));
    EXPECT_TRUE(fits("", false, false, each));
  }
  EXPECT_FALSE(fits("eth0", false, false, nameless));
  EXPECT_TRUE(fits("eth0", false, true, nameless));
  EXPECT_FALSE(fits("lo", false, false, nameless));  // it has no bit
}

TEST(Rules, TypeOfServiceAndMarkAddUp) {
  RuleSet set = RuleSet::empty();
  Rule first = counting(7), second = counting(~0u - 1), third;
  first.tos_and = 0x01;
  first.tos_xor = 0x14;
  second.mark_change = MarkChange::add;
  second.tos_and = 0xf3;
  second.tos_xor = 0x08;
  set.append("input", first);
  set.append("input", second);
  set.append("input", third);
  const RuleWalk walk = walk_of(set, kChainInput);
  EXPECT_EQ(walk.mark, 5u);
  for (u32 old = 0; old < 256; ++old)
    EXPECT_EQ((old & walk.tos_and) ^ walk.tos_xor, ((((old & 0x01) ^ 0x14) & 0xf3) ^ 0x08)) << old;
}

// A set that uses every field.
RuleSet of_everything() {
  RuleSet set = RuleSet::plain();
  set.create("a");
  Rule rule;
  rule.source = {test::ip(10, 0, 0, 0), test::ip(255, 0, 0, 0), true};
  rule.destination = {test::ip(10, 0, 5, 0), test::ip(255, 0, 255, 0), false};
  rule.source_ports = {0, 1023, true};
  rule.destination_ports = {80, 80, false};
  rule.interface = "ppp";
  rule.any_suffix = rule.interface_inverted = true;
  rule.protocol = kProtocolTcp;
  rule.syn = Asked::no;
  rule.later_fragment = Asked::no;
  rule.log = true;
  rule.tos_and = 0x01;
  rule.tos_xor = 0x10;
  rule.mark_change = MarkChange::add;
  rule.mark = 0xffffffff;
  rule.copies = true;
  rule.copy_most = 256;
  rule.target = RuleTarget::redirect;
  rule.redirect_port = 8080;
  rule.packets = ~0ull;
  rule.bytes = 1ull << 40;
  set.append("input", rule);
  Rule other;
  other.protocol = 47;
  other.protocol_inverted = true;
  other.later_fragment = Asked::yes;
  other.mark_change = MarkChange::set;
  other.target = RuleTarget::chain;
  other.chain = "a";
  set.append("output", other);
  for (RuleTarget target : {RuleTarget::none, RuleTarget::accept, RuleTarget::deny,
                            RuleTarget::reject, RuleTarget::masquerade, RuleTarget::go_back})
    set.append("a", rule_to(target));
  set.set_policy("output", RuleTarget::reject);
  set.set_policy("input", RuleTarget::deny);
  set.count(kChainOutput, 1, 12, 1200);
  return set;
}

void expect_same_rule(const Rule& a, const Rule& b) {
  EXPECT_TRUE(a.same_rule(b));
  EXPECT_EQ(a.mark_change, b.mark_change);
  EXPECT_EQ(a.mark, b.mark);
  EXPECT_EQ(a.packets, b.packets);
  EXPECT_EQ(a.bytes, b.bytes);
}

TEST(Rules, FilesKeepEverything) {
  const RuleSet set = of_everything();
  const Result<RuleSet> again = rules_from_json(rules_to_json(set));
  ASSERT_TRUE(again) << again.error().sentence;
  ASSERT_EQ(again->chains().size(), set.chains().size());
  for (std::size_t i = 0; i < set.chains().size(); ++i) {
    const Chain &a = set.chains()[i], &b = again->chains()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.policy, b.policy);
    EXPECT_EQ(a.packets, b.packets);
    EXPECT_EQ(a.bytes, b.bytes);
    ASSERT_EQ(a.rules.size(), b.rules.size());
    for (std::size_t r = 0; r < a.rules.size(); ++r) expect_same_rule(a.rules[r], b.rules[r]);
  }
}

// One place of a good text replaced each time: a sentence that names what is wrong.
TEST(Rules, BrokenFilesAreRefused) {
  const std::string good = rules_to_json(of_everything());
  struct Case {
    const char *from, *to, *says;
  };
  const Case cases[] = {
      {"\"chains\"", "\"chain\"", "`chains`"},
      {"\"name\": \"a\"", "\"name\": \"input\"", "twice"},
      {"\"name\": \"a\"", "\"name\": \"123456789\"", "name"},
      {"\"name\": \"a\"", "\"name\": \"b\"", "not there"},
      {"\"name\": \"forward\"", "\"name\": \"b\"", "chain `forward`"},
      {"\"policy\": \"return\"", "\"policy\": \"accept\"", "policy"},
      {"\"policy\": \"reject\"", "\"policy\": \"masq\"", "policy"},
      {"\"policy\": \"reject\"", "\"policy\": \"nonsense\"", "`policy` cannot be `nonsense`"},
      {"\"protocol\": 47", "\"protocol\": 256", "`protocol` must be a whole number from 0 to 255"},
      {"\"protocol\": 47", "\"protocol\": -1", "`protocol`"},
      {"\"protocol\": 47", "\"protocol\": \"tcp\"", "`protocol`"},
      {"\"protocol\": 47", "\"protokoll\": 47", "no field `protokoll`"},
      {"\"protocol\": 6", "\"protocol\": 47", "go together"},
      {"\"address\": \"10.0.0.0\"", "\"address\": \"10.0.0.1\"", "outside the mask"},
      {"\"address\": \"10.0.0.0\"", "\"address\": \"10.0.0\"", "IPv4"},
      {"\"address\": \"10.0.0.0\"", "\"address\": 10", "`source`"},
      {"\"last\": 1023", "\"last\": 65536", "`source_ports`"},
      {"\"last\": 80", "\"last\": 79", "go together"},
      {"\"log\": true", "\"log\": 1", "`log` must be true or false"},
      {"\"interface\": \"ppp\"", "\"interface\": 3", "`interface` must be a text"},
      {"\"syn\": \"no\"", "\"syn\": \"maybe\"", "`syn` cannot be `maybe`"},
      {"\"syn\": \"no\"", "\"syn\": \"\"", "`syn` cannot be ``"},
      {"\"target\": \"masq\"", "\"target\": \"\"", "`target` cannot be ``"},
      {"\"target\": \"masq\"", "\"target\": 1", "`target` must be a text"},
      {"\"target\": \"masq\"", "\"target\": \"redirect\"", "go together"},
      {"\"target\": \"redirect\"", "\"target\": \"masq\"", "target"},
      {"\"bytes\": 1200", "\"bytes\": 1e99", "`bytes`"},
  };
  ASSERT_TRUE(rules_from_json(good));
  for (const Case& each : cases) {
    std::string text = good;
    const auto at = text.find(each.from);
    ASSERT_NE(at, std::string::npos) << each.from;
    text.replace(at, std::string(each.from).size(), each.to);
    const Result<RuleSet> read = rules_from_json(text);
    ASSERT_FALSE(read) << each.to;
    EXPECT_NE(read.error().sentence.find(each.says), std::string::npos) << read.error().sentence;
  }
  for (const char* text :
       {"", "[]", "{}", "7", "{\"chains\": []}", "{\"chains\": [1, 2, 3]}", "{\"chains\": 1}", "{"})
    EXPECT_FALSE(rules_from_json(text)) << text;
  for (std::size_t length = 0; length < good.size(); length += 7)
    EXPECT_FALSE(rules_from_json(good.substr(0, length)));
}

}  // namespace
}  // namespace masq
