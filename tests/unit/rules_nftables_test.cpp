// The rules in the language of nft, as text: what a look at it shows without a kernel. What the
// kernel makes of it is in own_rules_twin.cpp.
#include "policy/rules_nftables.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace masq {
namespace {

const std::vector<NftInterface> kTwo{{"in0", 3, true, false, false},
                                     {"out0", 4, true, true, false}};

Rule lead_to(const std::string& chain) {
  Rule rule;
  rule.target = RuleTarget::chain;
  rule.chain = chain;
  return rule;
}

Rule with(RuleTarget target) {
  Rule rule;
  rule.target = target;
  return rule;
}

std::string text_of(const RuleSet& rules, const std::vector<NftInterface>& interfaces = kTwo) {
  Result<std::string> text = rules_to_nftables(rules, interfaces, 7);
  return text ? *text : text.error().sentence;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// `chains` of the administrator's, each leading to the next.
RuleSet in_a_row(u32 chains) {
  RuleSet set = RuleSet::plain();
  for (u32 i = 0; i < chains; ++i) set.create("c" + std::to_string(i));
  for (u32 i = 0; i + 1 < chains; ++i)
    set.append("c" + std::to_string(i), lead_to("c" + std::to_string(i + 1)));
  set.append("input", lead_to("c0"));
  return set;
}

TEST(RulesNftables, NothingIsNeededForWhatJudgesNothingOfTheGatewaysOwn) {
  RuleSet set = RuleSet::plain();
  EXPECT_EQ(text_of(set), "");
  set.append("forward", with(RuleTarget::deny));
  EXPECT_EQ(text_of(set), "");
  set.set_policy("output", RuleTarget::deny);
  EXPECT_TRUE(has(text_of(set), "hook postrouting priority 200; policy drop;"));
  EXPECT_TRUE(has(text_of(set), "hook prerouting priority -451; policy accept;"));
}

TEST(RulesNftables, RedirectsByTheKernelsOwnTranslation) {
  RuleSet set = RuleSet::plain();
  EXPECT_EQ(redirects_to_nftables(set, 7), "");
  Rule rule = with(RuleTarget::redirect);
  rule.protocol = kProtocolTcp;
  rule.redirect_port = 3128;
  set.append("input", rule);
  const std::string marked = fmt::format("{}", kRedirectMark | 3128);
  for (const std::string& text : {redirects_to_nftables(set, 7), text_of(set)})
    EXPECT_TRUE(has(text, "meta mark " + marked + " redirect to :3128\n"));
  EXPECT_TRUE(has(text_of(set), "meta mark set " + marked + " accept"));
  EXPECT_FALSE(has(redirects_to_nftables(set, 7), "hook postrouting"));
  rule.redirect_port = 0;
  set.append("input", rule);
  EXPECT_TRUE(has(text_of(set), fmt::format("meta mark {} redirect\n", kRedirectMark)));
  std::vector<NftInterface> bridged = kTwo;
  bridged[0].bridge = true;
  EXPECT_TRUE(has(text_of(set, bridged), "what comes by a bridge (in0) cannot be redirected"));
}

TEST(RulesNftables, TheGenerationHasItsChain) {
  RuleSet set = RuleSet::plain();
  set.append("input", with(RuleTarget::deny));
  EXPECT_TRUE(has(text_of(set), "add chain ip masq_own " + nft_generation(7) + "\n"));
}

TEST(RulesNftables, APlaceIsReadBackAndNothingElseIs) {
  ASSERT_TRUE(place_of("2.4095"));
  EXPECT_EQ(place_of("2.4095")->chain, 2);
  EXPECT_EQ(place_of("2.4095")->rule, 4095);
  for (const char* other : {"", "2", "2.", "2.5 ", "a.b", "2.65536", "65536.2", "-1.2x"})
    EXPECT_FALSE(place_of(other)) << other;
}

TEST(RulesNftables, OnlyWhatIsSentCounts) {
  RuleSet set = RuleSet::plain();
  set.append("input", with(RuleTarget::none));
  set.append("output", with(RuleTarget::none));
  const std::string text = text_of(set);
  EXPECT_FALSE(has(text, "prerouting counter"));
  EXPECT_TRUE(has(text, "add rule ip masq_own postrouting counter  comment \"2.0\"\n"));
  EXPECT_TRUE(has(text, "add rule ip masq_own postrouting counter comment \"2.1\"\n"));
}

TEST(RulesNftables, AnInterfaceWhoseNameMeansSomethingIsKnownByItsIndex) {
  RuleSet set = RuleSet::plain();
  Rule rule = with(RuleTarget::deny);
  rule.interface = "o\"*";
  set.append("input", rule);
  const std::string text = text_of(set, {{"in0", 3}, {"o\"*", 4, false, true}});
  EXPECT_FALSE(has(text, "o\"*"));
  EXPECT_TRUE(has(text, "prerouting iif { 4 } drop"));
  EXPECT_TRUE(has(text, "iifname != { \".\", \"in0\" } iif != { 0, 3, 4 } accept"));
}

TEST(RulesNftables, AnInterfaceThatIsNotThereFitsNothingAndInvertedEverything) {
  RuleSet set = RuleSet::plain();
  Rule rule = with(RuleTarget::deny);
  rule.interface = "ppp";
  rule.any_suffix = true;
  set.append("input", rule);
  EXPECT_FALSE(has(text_of(set), "drop"));
  rule.interface_inverted = true;
  set.append("input", rule);
  EXPECT_TRUE(has(text_of(set), "add rule ip masq_own prerouting drop\n"));
}

TEST(RulesNftables, BridgesAreJudgedBehindTheCopyOfMasqd) {
  RuleSet set = RuleSet::plain();
  set.append("input", with(RuleTarget::deny));
  EXPECT_FALSE(has(text_of(set), "hook input"));
  const std::string text = text_of(set, {{"in0", 3, true, false, true}, {"out0", 4, true, true}});
  EXPECT_TRUE(has(text, "add rule ip masq_own prerouting iifname { \".\", \"in0\" } accept\n"));
  for (const char* hook : {"input", "forward"}) {
    EXPECT_TRUE(has(text, fmt::format("type filter hook {} priority -299;", hook)));
    EXPECT_TRUE(has(text, fmt::format("add rule ip masq_own {} iifname != {{ \".\", \"in0\" }} "
                                      "iif != {{ 0, 3 }} accept\n",
                                      hook)));
    EXPECT_TRUE(has(text, fmt::format("add rule ip masq_own {} drop\n", hook)));
  }
  EXPECT_TRUE(has(text, "masq_own forward oifname { \".\", \"in0\", \"out0\" } accept"));
  EXPECT_FALSE(has(text, "masq_own input oifname"));
}

TEST(RulesNftables, AskingForAnAddressMayAlwaysLeaveOutside) {
  RuleSet set = RuleSet::plain();
  set.set_policy("output", RuleTarget::deny);
  const std::string text = text_of(set), asks = "ip saddr 0.0.0.0 ip daddr 255.255.255.255";
  EXPECT_TRUE(has(text, "postrouting oifname { \".\", \"out0\" } " + asks));
  EXPECT_TRUE(has(text, "postrouting oif { 0, 4 } " + asks));
}

TEST(RulesNftables, LaterFragmentsHaveNoTransportHeader) {
  const std::string whole = "ip protocol 6 ip frag-off & 0x1fff == 0 ";
  RuleSet set = RuleSet::plain();
  Rule rule = with(RuleTarget::deny);
  rule.protocol = kProtocolTcp;
  rule.syn = Asked::no;
  set.append("input", rule);
  EXPECT_TRUE(has(text_of(set), whole + "@th,104,8 & 0x16 != 0x02 drop"));
  rule.syn = Asked::either;
  rule.source_ports = {80, 80, true};
  set.append("output", rule);
  EXPECT_TRUE(has(text_of(set), whole + "@th,0,16 != 80 counter drop"));
  rule.source_ports = {};
  rule.later_fragment = Asked::yes;
  set.append("output", rule);
  EXPECT_TRUE(has(text_of(set), "ip protocol 6 ip frag-off & 0x1fff != 0 counter drop"));
}

TEST(RulesNftables, ACircleIsCutWhereItCloses) {
  RuleSet set = RuleSet::plain();
  for (const char* name : {"one", "two"}) set.create(name);
  set.append("one", lead_to("two"));
  set.append("two", lead_to("one"));
  set.append("input", lead_to("one"));
  set.append("input", lead_to("two"));
  const std::string text = text_of(set);
  // one and two by it, two and one by it; each of the inner ones refuses.
  for (const char* rule : {"in_0 jump in_1", "in_1 drop", "in_2 jump in_3", "in_3 drop",
                           "prerouting jump in_0", "prerouting jump in_2"})
    EXPECT_TRUE(has(text, std::string("add rule ip masq_own ") + rule + "\n")) << rule;
  EXPECT_FALSE(has(text, "in_4"));
}

TEST(RulesNftables, AChainThatLeadsNowhereBackIsThereOnce) {
  RuleSet set = RuleSet::plain();
  for (const char* name : {"a", "b", "c"}) set.create(name);
  for (const char* name : {"a", "b"}) set.append(name, lead_to("c"));
  for (const char* name : {"a", "b", "c"}) set.append("input", lead_to(name));
  set.append("c", with(RuleTarget::deny));
  const std::string text = text_of(set);
  EXPECT_TRUE(has(text, "add chain ip masq_own in_2\n"));
  EXPECT_FALSE(has(text, "add chain ip masq_own in_3\n"));
}

TEST(RulesNftables, FifteenChainsDeepAndNoMore) {
  EXPECT_TRUE(has(text_of(in_a_row(kNftDepthMax)), "add table"));
  const std::string sentence = text_of(in_a_row(kNftDepthMax + 1));
  EXPECT_EQ(sentence,
            "With the data path user no more than 15 chains can lead into each other below input "
            "and output.");
  // Also where the chain below is known from elsewhere.
  RuleSet set = in_a_row(kNftDepthMax);
  set.create("above");
  set.append("above", lead_to("c0"));
  EXPECT_TRUE(has(text_of(set), "add table"));
  set.append("input", lead_to("above"));
  EXPECT_EQ(text_of(set), sentence);
  // A type of service that depends on the old one takes a chain.
  set = in_a_row(kNftDepthMax);
  Rule rule;
  rule.tos_and = 0xe1;
  set.append("c13", rule);
  EXPECT_TRUE(has(text_of(set), "add table"));
  set.append("c14", rule);
  EXPECT_EQ(text_of(set), sentence);
}

TEST(RulesNftables, AWalkOfSoManyRulesAndNoMore) {
  RuleSet set = RuleSet::plain();
  set.create("long");
  // Fifteen times the chain with its end, the rules that lead there, and the policy; the rest
  // singly.
  for (u32 i = 0; i < 1022; ++i) set.append("long", with(RuleTarget::none));
  for (u32 i = 0; i < 15; ++i) set.append("input", lead_to("long"));
  u64 steps = 15 * (1022 + 1) + 15 + 1;
  for (; steps < kRuleStepsMax; ++steps) set.append("input", with(RuleTarget::none));
  EXPECT_TRUE(has(text_of(set), "add table"));
  set.append("input", with(RuleTarget::none));
  EXPECT_TRUE(has(text_of(set), "one packet could pass more than 16384 rules"));
}

TEST(RulesNftables, CirclesOfManyChainsAreRefused) {
  RuleSet set = RuleSet::plain();
  for (u32 i = 0; i < 14; ++i) set.create("c" + std::to_string(i));
  for (u32 i = 0; i < 14; ++i)
    for (u32 j = 0; j < 14; ++j)
      set.append("c" + std::to_string(i), lead_to("c" + std::to_string(j)));
  set.append("output", lead_to("c0"));
  EXPECT_TRUE(has(text_of(set), "lead in more circles than the data path user can have"));
}

}  // namespace
}  // namespace masq
