// The dice of the simulator and of the differential test: what one seed has rolled is no part of
// what another one rolls.
#include "sim/random.h"

#include <gtest/gtest.h>

#include <set>

namespace masq::sim {
namespace {

constexpr u32 kSeeds = 64, kRolls = 4096;

TEST(Random, SeedsShareNoRolls) {
  std::set<u64> rolled;
  for (u64 seed = 0; seed < kSeeds; ++seed) {
    Random random(seed);
    for (u32 i = 0; i < kRolls; ++i) rolled.insert(random.next());
  }
  EXPECT_EQ(rolled.size(), u64{kSeeds} * kRolls);
}

TEST(Random, OneSeedRollsTheSameAgain) {
  Random one(7), other(7);
  for (u32 i = 0; i < kRolls; ++i) ASSERT_EQ(one.next(), other.next());
}

}  // namespace
}  // namespace masq::sim
