// Rules as lines of masq.toml: what each line means, what is wrong with others and where, and that
// every rule set survives being written and read.
#include "policy/rule_words.h"

#include <gtest/gtest.h>

#include "policy/config.h"
#include "unit/random_rules.h"

namespace masq {
namespace {

Rule rule(const std::string& text) {
  Result<Rule> read = rule_from_text(text);
  EXPECT_TRUE(read) << text << ": " << (read ? "" : read.error().sentence);
  return read ? *read : Rule{};
}

std::string wrong(const std::string& text) {
  Result<Rule> read = rule_from_text(text);
  return read ? "nothing is wrong" : read.error().sentence;
}

ParsedConfig config_with(const std::string& rules) {
  return parse_config(rules);
}

std::string mistakes_of(const std::string& toml) {
  std::string all;
  for (const ConfigMistake& each : parse_config(toml).mistakes)
    all += fmt::format("{}: {}\n", each.line, each.sentence);
  return all;
}

// Types and codes beyond a byte fit nothing and have no words.
bool has_words(const Rule& r) {
  const bool is_icmp = r.protocol == kProtocolIcmp && !r.protocol_inverted;
  const auto fits = [](const PortMatch& m) { return m.is_any() || m.last <= 255; };
  return !is_icmp || (fits(r.source_ports) && fits(r.destination_ports));
}

TEST(RuleWords, EachWordSaysWhatItSays) {
  Rule r = rule(
      "masquerade tcp from 192.168.2.0/24 from-port 1024-65535 to not 10.0.0.1 port not 22 "
      "syn on not ppp* tos 0x01/0x10 mark +7 log");
  EXPECT_EQ(r.target, RuleTarget::masquerade);
  EXPECT_EQ(r.protocol, kProtocolTcp);
  EXPECT_EQ(to_host(r.source.address), 0xc0a80200u);
  EXPECT_EQ(to_host(r.source.mask), 0xffffff00u);
  EXPECT_FALSE(r.source.inverted);
  EXPECT_EQ(to_host(r.destination.address), 0x0a000001u);
  EXPECT_EQ(to_host(r.destination.mask), 0xffffffffu);
  EXPECT_TRUE(r.destination.inverted);
  EXPECT_EQ(r.source_ports, (PortMatch{1024, 65535, false}));
  EXPECT_EQ(r.destination_ports, (PortMatch{22, 22, true}));
  EXPECT_EQ(r.syn, Asked::yes);
  EXPECT_EQ(r.interface, "ppp");
  EXPECT_TRUE(r.any_suffix);
  EXPECT_TRUE(r.interface_inverted);
  EXPECT_EQ(r.tos_and, 0x01);
  EXPECT_EQ(r.tos_xor, 0x10);
  EXPECT_EQ(r.mark_change, MarkChange::add);
  EXPECT_EQ(r.mark, 7u);
  EXPECT_TRUE(r.log);

  r = rule("deny icmp type echo-request code 0");
  EXPECT_EQ(r.source_ports, (PortMatch{8, 8, false}));
  EXPECT_EQ(r.destination_ports, (PortMatch{0, 0, false}));
  r = rule("redirect to-port 3128 tcp port 80");
  EXPECT_EQ(r.redirect_port, 3128);
  r = rule("jump web protocol not udp later-fragment");
  EXPECT_EQ(r.chain, "web");
  EXPECT_TRUE(r.protocol_inverted);
  EXPECT_EQ(r.later_fragment, Asked::yes);
  r = rule("count copy 64 mark 5 no-later-fragment on ppp\\*");
  EXPECT_EQ(r.target, RuleTarget::none);
  EXPECT_EQ(r.copy_most, 64);
  EXPECT_EQ(r.mark_change, MarkChange::set);
  EXPECT_EQ(r.interface, "ppp*");
  EXPECT_FALSE(r.any_suffix);
}

TEST(RuleWords, WhatIsWrongIsSaid) {
  EXPECT_NE(wrong("accept").find("allow, deny"), std::string::npos);
  EXPECT_NE(wrong("allow port 22").find("\"tcp\" or \"udp\""), std::string::npos);
  EXPECT_NE(wrong("allow tcp port 22-21").find("no port"), std::string::npos);
  EXPECT_NE(wrong("allow tcp port 65536").find("no port"), std::string::npos);
  EXPECT_NE(wrong("allow tcp port 0-65535").find("leave it out"), std::string::npos);
  EXPECT_NE(wrong("allow icmp type 256").find("0 to 255"), std::string::npos);
  EXPECT_NE(wrong("allow udp type 8").find("need \"icmp\""), std::string::npos);
  EXPECT_NE(wrong("allow from 192.168.2.1/24").find("192.168.2.0"), std::string::npos);
  EXPECT_NE(wrong("allow from 192.168.2.0/33").find("names no network"), std::string::npos);
  EXPECT_NE(wrong("allow udp syn").find("need \"tcp\""), std::string::npos);
  EXPECT_NE(wrong("allow tcp udp").find("said twice"), std::string::npos);
  EXPECT_NE(wrong("allow tcp syn no-syn").find("said twice"), std::string::npos);
  EXPECT_NE(wrong("allow on 1234567890123456").find("1 to 15"), std::string::npos);
  EXPECT_NE(wrong("allow on").find("1 to 15"), std::string::npos);
  EXPECT_NE(wrong("redirect icmp").find("\"tcp\" or \"udp\""), std::string::npos);
  EXPECT_NE(wrong("jump").find("name of a chain"), std::string::npos);
  EXPECT_NE(wrong("allow quickly").find("not a word"), std::string::npos);
  EXPECT_NE(wrong("allow mark 4294967296").find("no number"), std::string::npos);
  EXPECT_NE(wrong("allow protocol 0").find("no protocol"), std::string::npos);
  EXPECT_NE(wrong("allow tos 0x01").find("joined"), std::string::npos);
  EXPECT_NE(wrong("").find("empty"), std::string::npos);
}

TEST(RuleWords, EveryRandomSetComesBack) {
  u32 rules = 0;
  for (u32 seed = 1; seed <= 3000; ++seed) {
    RuleSet set = test::RandomRules(seed).rules();
    const RuleSet whole = set;
    for (const Chain& chain : whole.chains())
      for (std::size_t i = chain.rules.size(); i > 0; --i) {
        if (has_words(chain.rules[i - 1])) continue;
        ASSERT_EQ(set.remove(chain.name, static_cast<u32>(i)), RuleFault::none);
      }
    const std::string toml = rules_to_toml(set);
    const ParsedConfig parsed = parse_config(toml);
    for (const ConfigMistake& each : parsed.mistakes)  // RandomRules makes circles too
      ASSERT_TRUE(each.sentence.find("circle") != std::string::npos ||
                  each.sentence.find("more than") != std::string::npos)
          << toml << each.sentence;
    ASSERT_TRUE(parsed.config.rules);
    ASSERT_EQ(rules_to_toml(*parsed.config.rules), toml);
    ASSERT_EQ(parsed.config.rules->chains().size(), set.chains().size());
    for (std::size_t place = 0; place < set.chains().size(); ++place) {
      const Chain &was = set.chains()[place], &is = parsed.config.rules->chains()[place];
      ASSERT_EQ(is.name, was.name);
      ASSERT_EQ(is.policy, was.policy);
      ASSERT_EQ(is.rules.size(), was.rules.size()) << toml;
      for (std::size_t i = 0; i < was.rules.size(); ++i, ++rules) {
        ASSERT_TRUE(is.rules[i].same_rule(was.rules[i])) << words_of(was.rules[i]);
        ASSERT_EQ(is.rules[i].mark_change, was.rules[i].mark_change);
        const bool marks = was.rules[i].mark_change != MarkChange::none;
        ASSERT_EQ(is.rules[i].mark, marks ? was.rules[i].mark : 0);
      }
    }
  }
  EXPECT_GT(rules, 20000u);
}

TEST(RuleWords, NamesThatLookLikeWords) {
  for (const char* name : {"not", "ppp*", "\\", "\\*", "not*", "log", "a\"b", "a\\b"})
    for (bool inverted : {false, true})
      for (bool any_suffix : {false, true}) {
        Rule r;
        r.interface = name;
        r.interface_inverted = inverted;
        r.any_suffix = any_suffix;
        RuleSet set = RuleSet::plain();
        ASSERT_EQ(set.append("input", r), RuleFault::none);
        const ParsedConfig parsed = parse_config(rules_to_toml(set));
        ASSERT_TRUE(parsed.mistakes.empty()) << parsed.mistakes[0].sentence;
        EXPECT_TRUE(parsed.config.rules->chains()[0].rules[0].same_rule(r)) << words_of(r);
      }
}

TEST(ConfigRules, ChainsWithoutATableAreThePlainOnes) {
  const ParsedConfig parsed = config_with("[rules.input]\npolicy = \"deny\"\n");
  ASSERT_TRUE(parsed.mistakes.empty());
  EXPECT_EQ(parsed.config.rules->find("input")->policy, RuleTarget::deny);
  EXPECT_EQ(parsed.config.rules->find("forward")->policy, RuleTarget::masquerade);
  EXPECT_EQ(parsed.config.rules->find("output")->policy, RuleTarget::accept);
  EXPECT_FALSE(parse_config("").config.rules);
}

TEST(ConfigRules, MistakesHaveTheirLines) {
  EXPECT_EQ(
      mistakes_of("[rules.forward]\nrules = [\n\"masquerade\",\n\"quickly\",\n]\n"),
      "1: The chain forward needs a `policy`: what becomes of packets that fit no rule.\n"
      "4: A rule begins with what it does: allow, deny, reject, masquerade, redirect, return, "
      "jump or count, and not with \"quickly\".\n");
  EXPECT_EQ(mistakes_of("[rules.input]\npolicy = \"allow\"\nrules = [\n\"jump web\",\n]\n"),
            "4: There is no chain web to jump to; [rules.web] makes it.\n");
  EXPECT_EQ(mistakes_of("[rules.input]\npolicy = \"masquerade\"\n"),
            "2: The policy of input must be \"allow\", \"deny\" or \"reject\".\n");
  EXPECT_EQ(
      mistakes_of("[rules.input]\npolicy = \"allow\"\nrules = [\"masquerade\"]\n"),
      "3: \"masquerade\" can stand in forward and in chains of your own, and not in input.\n");
  EXPECT_EQ(mistakes_of("[rules.a]\npolicy = \"deny\"\n"),
            "2: Only input, forward and output have a policy, and not a; from the end of other "
            "chains a packet goes back.\n");
  EXPECT_EQ(mistakes_of("[rules.a]\nrules = [\"jump b\"]\n\n[rules.b]\nrules = [\n\"count\",\n"
                        "\"jump a\",\n]\n"),
            "7: The jump to a closes a circle of chains: packets that come here would be refused."
            "\n");
  EXPECT_NE(mistakes_of("[rules.input]\npolicy = \"allow\"\nrule = []\n").find("3: `rule` is not"),
            std::string::npos);
  EXPECT_NE(mistakes_of("[rules.far-too-long]\n").find("1: A chain cannot have the name"),
            std::string::npos);
  EXPECT_NE(mistakes_of("rules = 1\n").find("1: `rules` must be a table"), std::string::npos);
}

// `chains` of them, each leading to the next.
std::string in_a_row(u32 chains) {
  std::string text = "[rules.input]\npolicy = \"allow\"\nrules = [\"jump c1\"]\n";
  for (u32 i = 1; i <= chains; ++i)
    text += fmt::format("[rules.c{}]\nrules = [\"{}\"]\n", i,
                        i == chains ? "deny" : fmt::format("jump c{}", i + 1));
  return text;
}

TEST(ConfigRules, SixteenChainsInARowAreAllowed) {
  EXPECT_EQ(mistakes_of(in_a_row(kRuleDepthMax)), "");
  EXPECT_EQ(mistakes_of(in_a_row(kRuleDepthMax + 1)),
            "3: 17 chains lead into each other below input; 16 can.\n");
}

std::string so_many(const char* rule, std::size_t n) {
  std::string text = "rules = [\n";
  for (std::size_t i = 0; i < n; ++i) text += fmt::format("\"{}\",\n", rule);
  return text + "]\n";
}

TEST(ConfigRules, AsManyRulesAsThereIsRoomFor) {
  const std::string head = "[rules.input]\npolicy = \"allow\"\n";
  EXPECT_EQ(mistakes_of(head + so_many("deny tcp", kRuleSlotsMax - kBuiltInChains)), "");
  EXPECT_EQ(mistakes_of(head + so_many("deny tcp", kRuleSlotsMax - kBuiltInChains + 1)),
            "4097: There are more than 4096 rules and chains together.\n");
}

TEST(ConfigRules, WalksAreNotTooLong) {
  // input: its jumps and its end, and each time the chain's 1024 steps.
  const std::string a = "[rules.a]\n" + so_many("count", 1023);
  const std::string input = "[rules.input]\npolicy = \"allow\"\n";
  EXPECT_EQ(mistakes_of(input + so_many("jump a", 15) + a), "");
  EXPECT_NE(mistakes_of(input + so_many("jump a", 16) + a).find("more than 16384 rules in input"),
            std::string::npos);
}

TEST(ConfigRules, TheWholeConfigurationComesBack) {
  const std::string text =
      "external = \"eth0\"\nforwards = [\"tcp 80 192.168.2.5\"]\n[timeouts]\nudp_s = 120\n"
      "[rules.web]\nrules = [\"allow tcp port 80\"]\n[rules.forward]\npolicy = \"deny\"\n"
      "rules = [\"jump web\", \"masquerade from 192.168.2.0/24 on eth0\"]\n";
  const ParsedConfig first = parse_config(text);
  ASSERT_TRUE(first.mistakes.empty());
  const ParsedConfig second = parse_config(to_toml(first.config));
  ASSERT_TRUE(second.mistakes.empty()) << to_toml(first.config);
  EXPECT_EQ(to_toml(second.config), to_toml(first.config));
  EXPECT_EQ(rules_text(second.config), rules_text(first.config));
  EXPECT_EQ(second.config.udp_s, 120u);
}

}  // namespace
}  // namespace masq
