// What a stage keeps, and what is made of a script that has run.
#include "compat/run_script.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "compat/stage.h"

namespace masq {
namespace {

class StageTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/masq-stage-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    ASSERT_TRUE(open().write(kStageWhole, ""));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  Stage open() { return std::move(*Stage::open(folder_)); }

  std::string folder_;
};

TEST(StagedTimeoutsTest, WhatIsSetIsReadAgainAndNothingElse) {
  const StagedTimeouts none = *timeouts_from_json("");
  EXPECT_EQ(none.tcp_s + none.tcp_fin_s + none.udp_s, 0u);
  const StagedTimeouts read = *timeouts_from_json(timeouts_to_json({7200, 10, 160}));
  EXPECT_EQ(read.tcp_s, 7200u);
  EXPECT_EQ(read.tcp_fin_s, 10u);
  EXPECT_EQ(read.udp_s, 160u);
  for (const char* bad : {"[]", "{}", R"({"tcp_established_s":-1,"tcp_closing_s":0,"udp_s":0})",
                          R"({"tcp_established_s":4294967296,"tcp_closing_s":0,"udp_s":0})",
                          R"({"tcp_established_s":"1","tcp_closing_s":0,"udp_s":0})"})
    EXPECT_FALSE(timeouts_from_json(bad)) << bad;
}

TEST_F(StageTest, WhatIsWrittenIsReadAgain) {
  Stage stage = open();
  EXPECT_EQ(*stage.read("rules.json"), "");
  ASSERT_TRUE(stage.write("rules.json", "[]\n"));
  EXPECT_EQ(*stage.read("rules.json"), "[]\n");
  ASSERT_TRUE(stage.write("rules.json", ""));
  EXPECT_EQ(*stage.read("rules.json"), "");
}

TEST_F(StageTest, LinksAreNotFollowed) {
  std::filesystem::create_symlink("/etc/passwd", folder_ + "/rules.json");
  EXPECT_FALSE(open().read("rules.json"));
}

TEST_F(StageTest, FailuresAreKeptInOrder) {
  Stage stage = open();
  ASSERT_TRUE(stage.add_failure({{"ipchains", "-X", "a b"}, 1, "No chain by that name"}));
  ASSERT_TRUE(stage.add_failure({{"modprobe", "\xff"}, 255, ""}));
  std::vector<CommandFailure> failures = *stage.failures();
  ASSERT_EQ(failures.size(), 2u);
  EXPECT_EQ(failures[0].command, (std::vector<std::string>{"ipchains", "-X", "a b"}));
  EXPECT_EQ(failures[0].exit_code, 1);
  EXPECT_EQ(failures[0].message, "No chain by that name");
  EXPECT_EQ(failures[1].exit_code, 255);
}

TEST_F(StageTest, FailureWithEndlessWordsIsKeptWithoutThem) {
  Stage stage = open();
  ASSERT_TRUE(stage.add_failure(
      {{"ipchains", std::string(10 * kFailureBytesMost, 'x')}, 2, std::string(100000, 'y')}));
  ASSERT_TRUE(stage.add_failure({{"ipchains"}, 1, ""}));
  ASSERT_EQ(stage.failures()->size(), 2u);
  EXPECT_EQ((*stage.failures())[0].exit_code, 2);
  EXPECT_LE(stage.read(kStageFailures)->size(), 2 * kFailureBytesMost);
}

TEST_F(StageTest, FailuresOfManyAtOnceAreAllKept) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([this, i] {
      Stage stage = open();
      for (int k = 0; k < 50; ++k)
        EXPECT_TRUE(stage.add_failure({{"ipchains", std::to_string(i)}, 1, "no"}));
    });
  for (std::thread& each : threads) each.join();
  std::vector<CommandFailure> failures = *open().failures();
  EXPECT_EQ(failures.size(), 400u);
  for (const CommandFailure& each : failures) EXPECT_EQ(each.command.size(), 2u);
}

TEST_F(StageTest, NoMoreFailuresAreKeptThanTheLimit) {
  Stage stage = open();
  std::string text;
  for (std::size_t i = 0; i < kFailuresMost + 5; ++i)
    text += R"({"command":["a"],"exit_code":1,"message":""})"
            "\n";
  ASSERT_TRUE(stage.write(kStageFailures, text));
  EXPECT_EQ(stage.failures()->size(), kFailuresMost);
}

TEST_F(StageTest, NoteThatCannotBeReadIsAFailure) {
  Stage stage = open();
  ASSERT_TRUE(stage.write(kStageFailures, "nonsense\n"));
  ASSERT_EQ(stage.failures()->size(), 1u);
  EXPECT_EQ((*stage.failures())[0].exit_code, 1);
}

TEST_F(StageTest, FailureThatCannotBeNotedCounts) {
  Stage stage = open();
  std::filesystem::create_directory(folder_ + "/" + kStageFailures);
  EXPECT_FALSE(stage.add_failure({{"ipchains"}, 1, ""}));
  std::filesystem::remove(folder_ + "/" + kStageFailures);
  ASSERT_EQ(stage.failures()->size(), 1u);
  EXPECT_TRUE((*stage.failures())[0].command.empty());
}

TEST(Stage, WithoutAFolderThereIsASentence) {
  Result<Stage> stage = Stage::open("/nonexistent/stage");
  ASSERT_FALSE(stage);
  EXPECT_NE(stage.error().sentence.find("`masq run-script`"), std::string::npos);
}

ScriptRun good() {
  ScriptRun run;
  run.end = ScriptEnd::exited;
  return run;
}

TEST(ScriptRun, WhatWentWellIsAppliedWithoutAWord) {
  EXPECT_TRUE(may_apply(good(), false));
  EXPECT_TRUE(report_of(good(), "rc.firewall", false).empty());
}

TEST(ScriptRun, AfterOneFailureNothingIsAppliedUnlessAsked) {
  ScriptRun run = good();
  run.effects.failures.push_back(
      {{"ipchains", "-A", "forward", "-s", "-j", "MASQ"}, 2, "host `-j' not found", {35}});
  EXPECT_FALSE(may_apply(run, false));
  EXPECT_TRUE(may_apply(run, true));
  std::vector<std::string> report = report_of(run, "rc.firewall", false);
  ASSERT_EQ(report.size(), 2u);
  EXPECT_EQ(report[0],
            "rc.firewall, line 35: `ipchains -A forward -s -j MASQ` failed with exit code 2: host "
            "`-j' not found.");
  EXPECT_NE(report[1].find("Nothing of it is applied"), std::string::npos);
  EXPECT_NE(report[1].find("--keep-going"), std::string::npos);
  EXPECT_EQ(report_of(run, "rc.firewall", true).back(),
            "What succeeded is applied, as --keep-going asks.");
}

TEST(ScriptRun, EndWithAnErrorCountsAsAFailure) {
  ScriptRun run = good();
  run.exit_code = 1;
  EXPECT_FALSE(may_apply(run, false));
  EXPECT_TRUE(may_apply(run, true));
  run = good();
  run.left_running = {"dhcpd"};
  EXPECT_FALSE(may_apply(run, false));
  EXPECT_TRUE(may_apply(run, true));
}

TEST(ScriptRun, ScriptThatDidNotEndByItselfIsNeverApplied) {
  for (ScriptEnd end :
       {ScriptEnd::killed, ScriptEnd::interrupted, ScriptEnd::too_slow, ScriptEnd::lost}) {
    ScriptRun run = good();
    run.end = end;
    EXPECT_FALSE(may_apply(run, false));
    EXPECT_FALSE(may_apply(run, true));
    EXPECT_EQ(report_of(run, "rc.firewall", true).back(), "Nothing of it is applied.");
  }
}

TEST(ScriptRun, UnknownSwitchIsReportedAndNoFailure) {
  ScriptRun run = good();
  run.effects.switches.push_back({"kernel/printk", "3", nullptr});
  EXPECT_TRUE(may_apply(run, false));
  std::vector<std::string> report = report_of(run, "rc.firewall", false);
  ASSERT_EQ(report.size(), 1u);
  EXPECT_NE(report[0].find("/proc/sys/kernel/printk"), std::string::npos);
}

}  // namespace
}  // namespace masq
