// What masqd makes of the ring of packets to be logged: limits at their edges.
#include "gateway/packet_logger.h"

#include <gtest/gtest.h>

#include <memory>

namespace masq {
namespace {

class Ring final : public AnyDatapath {
 public:
  Ring() : table_(std::make_unique<RuleTable>()), own_settings_(std::make_unique<Settings>()) {
    tables_.rules = table_.get();
    settings_ = own_settings_.get();
    settings_->rules_generation = 7;
  }

  PacketLog& log() { return table_->log; }
  void note(u32 packets, u16 generation = 7) {
    for (u32 i = 0; i < packets; ++i) {
      const u32 number = ++log().written;
      LoggedPacket& at = log().packets[number & (kLoggedMax - 1)];
      at.number = number;
      at.generation = generation;
    }
  }

  const char* name() const override { return "user"; }
  bool outlives_daemon() const override { return false; }
  bool sees_own_packets() const override { return false; }
  CounterTotals counters() const override { return {}; }
  Ticks now() const override { return 0; }
  RuleTotals rule_totals(u32) const override { return {}; }
  void clear_rule_totals(u32) override {}
  void wait_for_readers() override {}
  void forget_judgements() override {}
  Status set_own_addresses(const OwnAddresses&) override { return Done{}; }
  Status set_clock() override { return Done{}; }
  Status start_sweeper() override { return Done{}; }

 private:
  std::unique_ptr<RuleTable> table_;
  std::unique_ptr<Settings> own_settings_;
};

TEST(PacketLogger, WritesSoManyAtOnceAndSoManyASecond) {
  Ring ring;
  PacketLogger logger;
  ring.note(kLogLinesAtOnce);
  EXPECT_EQ(logger.take(ring, 10000).size(), kLogLinesAtOnce);
  EXPECT_EQ(ring.log().left_out, 0u);
  ring.note(1);
  const std::vector<std::string> said = logger.take(ring, 10000);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0], "Packet log: 1 packets for rules with -l are not written down here.");
  EXPECT_EQ(ring.log().left_out, 1u);
  ring.note(kLogLinesPerS + 1);
  EXPECT_EQ(logger.take(ring, 11000).size(), kLogLinesPerS + 1u);  // one line says what is missing
  EXPECT_EQ(ring.log().left_out, 2u);
  EXPECT_EQ(ring.log().taken, ring.log().written);
}

TEST(PacketLogger, WhatIsMissingIsSaidOnceASecond) {
  Ring ring;
  PacketLogger logger;
  ring.note(kLogLinesAtOnce + 5);
  EXPECT_EQ(logger.take(ring, 10000).size(), kLogLinesAtOnce + 1u);
  ring.note(3);
  EXPECT_EQ(logger.take(ring, 10010).size(), 0u);
  const std::vector<std::string> said = logger.take(ring, 11010);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_NE(said[0].find(" 3 packets"), std::string::npos);
}

TEST(PacketLogger, TheRingHoldsSoManyAndTheRestIsLost) {
  Ring ring;
  PacketLogger logger;
  ring.note(kLoggedMax);
  logger.take(ring, 10000);
  EXPECT_EQ(ring.log().lost, 0u);
  EXPECT_EQ(ring.log().left_out, kLoggedMax - kLogLinesAtOnce);
  ring.note(kLoggedMax + 1);
  logger.take(ring, 20000);
  EXPECT_EQ(ring.log().lost, 1u);
}

TEST(PacketLogger, WhatIsBeingWrittenIsTakenAtTheNextLook) {
  Ring ring;
  PacketLogger logger;
  ring.note(2);
  ring.log().packets[2].number = 0;
  EXPECT_EQ(logger.take(ring, 10000).size(), 1u);
  EXPECT_EQ(logger.take(ring, 10200).size(), 0u);
  ring.log().packets[2].number = 2;
  EXPECT_EQ(logger.take(ring, 10400).size(), 1u);
  EXPECT_EQ(ring.log().lost, 0u);
}

TEST(PacketLogger, WhoseRulesHaveGoneIsLost) {
  Ring ring;
  PacketLogger logger;
  ring.note(1, 6);
  EXPECT_EQ(logger.take(ring, 10000).size(), 1u);
  ring.note(1, 5);
  logger.take(ring, 10000);
  EXPECT_EQ(ring.log().lost, 1u);
}

}  // namespace
}  // namespace masq
