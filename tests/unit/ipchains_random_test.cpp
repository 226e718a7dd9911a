// ipchains under random words: it never crashes, ends with 0, 1 or 2, says why when it does not end
// with 0, and has changed nothing then. And whatever rules there are, what ipchains-save writes
// ipchains-restore reads as the same rules.
#include <gtest/gtest.h>

#include <cstdio>

#include "compat/ipchains_save.h"
#include "unit/ipchains_world.h"
#include "unit/random_rules.h"

namespace masq {
namespace {

using test::FakeWorld;
using test::Random;
using test::RandomRules;

constexpr u32 kLines = 150'000;

const char* const kWords[] = {"-A",
                              "-I",
                              "-D",
                              "-R",
                              "-C",
                              "-L",
                              "-F",
                              "-Z",
                              "-N",
                              "-X",
                              "-P",
                              "-M",
                              "-S",
                              "-h",
                              "-V",
                              "-p",
                              "-s",
                              "-d",
                              "-j",
                              "-i",
                              "-y",
                              "-f",
                              "-b",
                              "-l",
                              "-o",
                              "-m",
                              "-t",
                              "-v",
                              "-n",
                              "-x",
                              "!",
                              "!",
                              "--sport",
                              "--dport",
                              "--icmp-type",
                              "--line-numbers",
                              "--no-warn",
                              "--append",
                              "--de",
                              "--set",
                              "--syn",
                              "--source=1.2.3.4",
                              "-nvL",
                              "-LZ",
                              "-ML",
                              "-MS",
                              "input",
                              "forward",
                              "output",
                              "mine",
                              "other",
                              "ACCEPT",
                              "DENY",
                              "REJECT",
                              "MASQ",
                              "REDIRECT",
                              "RETURN",
                              "tcp",
                              "udp",
                              "icmp",
                              "all",
                              "47",
                              "gre",
                              "0/0",
                              "10.0.0.0/8",
                              "1.2.3.4",
                              "s2",
                              "many",
                              "nobody",
                              "1.2.3.4/33",
                              "80",
                              "www",
                              "1024:",
                              ":1023",
                              "5:4",
                              "ping",
                              "echo-re",
                              "8",
                              "eth0",
                              "ppp+",
                              "1",
                              "2",
                              "0x01",
                              "0x10",
                              "+1",
                              "-1",
                              "99999999999",
                              "",
                              "-",
                              "--",
                              "a234567890123456",
                              "\xff\xfe",
                              "a\tb",
                              "%s%n",
                              "--help=x"};

// What usually stands behind an option, so that some lines make sense.
const char* const kBeginnings[] = {
    "-A input",   "-A forward",  "-A mine",
    "-I input 1", "-D input 1",  "-D input",
    "-R input 1", "-N mine",     "-X mine",
    "-P input",   "-M -S 1 2 3", "-L -n",
    "-F input",   "-F",          "-C input -p tcp -s 1.2.3.4 5 -d 5.6.7.8 80 -i eth0"};
const char* const kPhrases[] = {"-p tcp",
                                "-p udp",
                                "-p icmp",
                                "-p ! tcp",
                                "-s 10.0.0.0/8",
                                "-d ! 1.2.3.4",
                                "-s 0/0 80",
                                "-d 0/0 www",
                                "--dport 1:5",
                                "-j ACCEPT",
                                "-j DENY",
                                "-j mine",
                                "-j MASQ",
                                "-y",
                                "! -y",
                                "-f",
                                "-l",
                                "-i ppp+",
                                "-i ! eth0",
                                "-m 5",
                                "-t 01 10",
                                "-o 9",
                                "-b",
                                "-s many",
                                "-v",
                                "-j RETURN",
                                "-j REDIRECT 8080"};

template <std::size_t n>
std::string one_of(Random& random, const char* const (&words)[n]) {
  return words[random() % n];
}

std::vector<std::string> random_line(Random& random) {
  std::vector<std::string> words;
  if (random() % 3 != 0) {
    words = test::words_of(one_of(random, kBeginnings));
    for (u32 n = random() % 4; n > 0; --n)
      for (const std::string& word : test::words_of(one_of(random, kPhrases)))
        words.push_back(word);
  }
  const u32 stray = words.empty() ? random() % 8 : random() % 8 == 0;
  for (u32 n = stray; n > 0; --n)
    words.insert(words.begin() + random() % (words.size() + 1), one_of(random, kWords));
  if (!words.empty() && random() % 10 == 0) {  // a broken word
    std::string& word = words[random() % words.size()];
    if (!word.empty()) word[random() % word.size()] = static_cast<char>(random());
  }
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += "[" + word + "]";
  return out;
}

TEST(IpchainsRandom, EveryLineIsDoneWholeOrNotAtAll) {
  Random random(1);
  FakeWorld world;
  u32 of_code[4] = {0, 0, 0, 0};
  for (u32 line = 0; line < kLines; ++line) {
    if (line % 200 == 0) world.rules = RuleSet::plain();
    const std::vector<std::string> words = random_line(random);
    const u32 stores = world.stores;
    const bool looks = line % 50 == 0;
    const std::string before = looks ? rules_to_json(world.rules) : "";
    const CommandResult result = run_ipchains(words, world);
    ASSERT_GE(result.exit_code, 0) << joined(words);
    ASSERT_LE(result.exit_code, 2) << joined(words);
    of_code[result.exit_code] += 1;
    if (result.exit_code == 0) continue;
    ASSERT_EQ(world.stores, stores) << joined(words);
    if (looks) {
      ASSERT_EQ(rules_to_json(world.rules), before) << joined(words);
    }
    ASSERT_EQ(result.out, "") << joined(words);
    ASSERT_EQ(result.err.compare(0, 10, "ipchains: "), 0) << joined(words) << result.err;
    ASSERT_GT(result.err.find('\n'), 20u) << joined(words) << result.err;
    ASSERT_EQ(result.err.back(), '\n');
  }
  std::printf("%u lines done, %u refused, %u not understood\n", of_code[0], of_code[1], of_code[2]);
  for (const u32 each : {of_code[0], of_code[1], of_code[2]}) EXPECT_GT(each, kLines / 50);
}

// Whatever the commands have made of the rules, files can keep it.
TEST(IpchainsRandom, WhatTheCommandsMakeCanBeKept) {
  Random random(2);
  FakeWorld world;
  for (u32 line = 0; line < 3000; ++line) {
    run_ipchains(random_line(random), world);
    if (line % 10 != 0) continue;
    const Result<RuleSet> again = rules_from_json(rules_to_json(world.rules));
    ASSERT_TRUE(again) << again.error().sentence;
    ASSERT_EQ(rules_to_json(*again), rules_to_json(world.rules));
    run_ipchains({"-L", "-n", "-v"}, world);
  }
}

TEST(IpchainsRandom, WhatIsSavedIsRestored) {
  u32 rules = 0;
  for (u32 seed = 0; seed < 3000; ++seed) {
    FakeWorld world;
    world.rules = RandomRules(seed, true).rules();
    const std::string before = rules_to_json(world.rules);
    const CommandResult saved = run_ipchains_save({}, world);
    ASSERT_EQ(saved.exit_code, 0);
    for (const Chain& chain : world.rules.chains()) rules += static_cast<u32>(chain.rules.size());
    world.rules = RuleSet::empty();
    world.text = saved.out;
    const CommandResult restored = run_ipchains_restore({}, world);
    ASSERT_EQ(restored.exit_code, 0) << restored.err << saved.out;
    ASSERT_EQ(rules_to_json(world.rules), before) << saved.out;
  }
  EXPECT_GT(rules, 10'000u);
}

struct Saving : testing::Test {
  FakeWorld world;
  void does(const std::string& line) {
    EXPECT_EQ(run_ipchains(test::words_of(line), world).exit_code, 0) << line;
  }
  CommandResult restore(const std::string& options, const std::string& text) {
    world.text = text;
    return run_ipchains_restore(test::words_of(options), world);
  }
  // Ends with 1, says so, and has changed nothing.
  void refuses(const std::string& text, const std::string& sentence) {
    const std::string before = rules_to_json(world.rules);
    const CommandResult result = restore("", text);
    EXPECT_EQ(result.exit_code, 1) << text;
    EXPECT_NE(result.err.find(sentence), std::string::npos) << result.err;
    EXPECT_EQ(rules_to_json(world.rules), before);
  }
};

TEST_F(Saving, AsTextOfChainsAndRules) {
  does("-N ppp-in");
  does("-P input DENY");
  does("-A input -s 0/0 67 -d 0/0 68 -p udp -i eth1 -j ACCEPT");
  does("-A input -i ! ppp+ -s ! 10.0.0.0/8 -p ! 47 -j ppp-in");
  does("-A ppp-in -p tcp ! -y -d 1.2.3.4 ! 80 -l -o 100 -m +5 -t 01 10 -j REDIRECT 8080");
  does("-A ppp-in ! -f");
  const CommandResult saved = run_ipchains_save({}, world);
  EXPECT_EQ(saved.out,
            ":input DENY\n"
            ":forward ACCEPT\n"
            ":output ACCEPT\n"
            ":ppp-in -\n"
            "-A input -s 0.0.0.0/0.0.0.0 67:67 -d 0.0.0.0/0.0.0.0 68:68 -i eth1 -p 17 -j ACCEPT\n"
            "-A input -s ! 10.0.0.0/255.0.0.0 -d 0.0.0.0/0.0.0.0 -i ! ppp+ -p ! 47 -j ppp-in\n"
            "-A ppp-in -s 0.0.0.0/0.0.0.0 -d 1.2.3.4/255.255.255.255 ! 80:80 -p 6 -j REDIRECT "
            "8080 ! -y -l -o 100 -m +0x5 -t 0x01 0x10\n"
            "-A ppp-in -s 0.0.0.0/0.0.0.0 -d 0.0.0.0/0.0.0.0 ! -f\n");
  EXPECT_EQ(saved.err, "Saving `input'.\nSaving `forward'.\nSaving `output'.\nSaving `ppp-in'.\n");
  const CommandResult one = run_ipchains_save({"forward", "-v"}, world);
  EXPECT_EQ(one.out, ":forward ACCEPT\n");
  EXPECT_EQ(run_ipchains_save({"none"}, world).exit_code, 1);
  EXPECT_EQ(run_ipchains_save({"-q"}, world).exit_code, 2);
  EXPECT_EQ(run_ipchains_save({"input", "output"}, world).exit_code, 2);
}

TEST_F(Saving, RestoresWhatDistributionsWrote) {
  const CommandResult result = restore("-v",
                                       "# Written by a tool.\r\n"
                                       ":input ACCEPT\r\n"
                                       "\r\n"
                                       "-A input -s 0/0 -d 0/0 -i lo -j ACCEPT\r\n"
                                       "-A input -p tcp -s 0/0 -d 0/0 0:1023 -y -j REJECT\r\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(world.rules.find("input")->rules.size(), 2u);
  EXPECT_EQ(result.out.substr(0, 19), "Restoring `input'.\n");
  EXPECT_NE(result.out.find("REJECT  tcp opt   -y----"), std::string::npos) << result.out;
}

TEST_F(Saving, AsksBeforeItFlushes) {
  const std::string text = ":mine -\n-A mine -j DENY\n-A input -j mine\n";
  does("-N mine");
  does("-A mine -j ACCEPT");
  CommandResult result = restore("", text);
  EXPECT_EQ(result.out, "Restoring `mine'.\nSkipping `mine'.\n");
  EXPECT_EQ(world.questions, "Chain `mine' already exists. Skip or flush? [S/f]? ");
  ASSERT_EQ(world.rules.find("mine")->rules.size(), 1u);
  EXPECT_EQ(world.rules.find("mine")->rules[0].target, RuleTarget::accept);
  EXPECT_EQ(world.rules.find("input")->rules.size(), 1u);
  world.answers_flush = true;
  result = restore("", text);
  EXPECT_EQ(result.out, "Restoring `mine'.\nFlushing `mine'.\n");
  ASSERT_EQ(world.rules.find("mine")->rules.size(), 1u);
  EXPECT_EQ(world.rules.find("mine")->rules[0].target, RuleTarget::deny);
  world.questions.clear();
  world.answers_flush = false;
  result = restore("-f", text);
  EXPECT_EQ(result.out, "Restoring `mine'.\nFlushing `mine'.\n");
  EXPECT_EQ(world.questions, "");
}

TEST_F(Saving, NamesTheLineThatIsWrong) {
  refuses(":input DENY\n-A input -j NONE\n", "ipchains-restore: line 2: No target by that name\n");
  refuses(":input DENY\n\n-A input -s -j MASQ\n", "line 3: host/network `-j' not found");
  refuses(":input NONSENSE\n", "line 1: `NONSENSE' is no policy");
  refuses(":input -\n", "line 1: `input' needs a policy");
  refuses(":input\n", "line 1: a chain's line is");
  refuses(":mine ACCEPT\n", "line 1: No chain by that name");
  refuses("-F\n", "line 1: only rules");
  refuses("*filter\n", "line 1: unexpected word `*filter'");
  refuses("-A mine -j DENY\n", "line 1: No chain by that name");
  EXPECT_EQ(restore("-p", "-A mine -j DENY\n-A input -j other\n").exit_code, 0);
  EXPECT_EQ(world.rules.chains().size(), kBuiltInChains + 2u);
  EXPECT_EQ(restore("-q", "").exit_code, 2);
  EXPECT_EQ(restore("x", "").exit_code, 2);
  EXPECT_EQ(restore("-", "").exit_code, 2);
  world.writable = false;
  refuses(":input DENY\n", "Permission denied");
}

}  // namespace
}  // namespace masq
