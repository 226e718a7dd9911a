// The two indexes and the free places against maps, and how full the index may get.
#include "core/table.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "unit/random.h"
#include "unit/test_world.h"

namespace masq {
namespace {

TEST(Index, EqualsAMap) {
  const Settings s = test::plain_settings();
  TableMemory memory(kRecordsMin);
  const Tables& t = memory.tables();
  std::map<u64, u32> twin;  // name of a key -> record
  test::Random random(1);
  std::vector<u32> places;
  for (u32 i = 1; i < t.records_max; ++i) places.push_back(i);
  const auto key = [](u32 name) {
    return test::key_of(name % 97, static_cast<u16>(name / 97), 5, 80, kProtocolTcp);
  };
  for (int i = 0; i < 300000; ++i) {
    const u32 name = random() % 6000;
    const u64 hash = key_hash(s, key(name), kOut);
    const auto it = twin.find(name);
    ASSERT_EQ(find_inner(t, key(name), hash), it == twin.end() ? kNoRecord : it->second);
    if (it != twin.end()) {
      slots_remove(t.inner_slots, hash, it->second, t.records_max);
      t.records[it->second].state = State::free;
      places.push_back(it->second);
      twin.erase(it);
    } else if (!places.empty()) {
      const u32 index = places.back();
      Record& r = t.records[index];
      fill_record(r, key(name), Port{1}, 0, kNoRecord, 0, 0);
      set_state(r, State::udp);
      if (!slots_insert(t.inner_slots, hash, index, t.records_max)) continue;
      places.pop_back();
      twin[name] = index;
    }
  }
  u32 slots = 0;
  for (u32 i = 0; i < (bucket_mask(t.records_max) + 1) * kBucketSlots; ++i)
    slots += t.inner_slots[i] != 0;
  EXPECT_EQ(slots, twin.size());
}

// The index has two slots a record. With every record in use, and so half of the slots, an
// insertion must practically never fail.
TEST(Index, InsertionHardlyEverFailsAtHalfLoad) {
  u64 failed = 0, tried = 0;
  u32 fullest = 0;
  for (u64 secret = 0; secret < 8; ++secret) {
    Settings s = test::plain_settings();
    s.secret[0] = secret;
    constexpr u32 kRecords = 1 << 18;
    std::vector<u32> slots((bucket_mask(kRecords) + 1) * kBucketSlots);
    for (u32 i = 1; i < kRecords; ++i, ++tried) {
      const Key key =
          test::key_of(i & 255, static_cast<u16>(1024 + (i >> 8)), 7, 443, kProtocolTcp);
      failed += !slots_insert(slots.data(), key_hash(s, key, kOut), i, kRecords);
    }
    for (u32 bucket = 0; bucket <= bucket_mask(kRecords); ++bucket) {
      u32 used = 0;
      for (u32 i = 0; i < kBucketSlots; ++i) used += slots[bucket * kBucketSlots + i] != 0;
      fullest += used == kBucketSlots;
    }
  }
  std::printf("%llu of %llu insertions failed up to half of the slots used; %u buckets full\n",
              failed, tried, fullest);
  EXPECT_LT(static_cast<double>(failed), 1e-5 * static_cast<double>(tried));
}

TEST(Places, EveryOneIsGivenOnceAndThenNone) {
  TableMemory memory(kRecordsMin * 4);
  const Tables& t = memory.tables();
  test::Random random(2);
  std::set<u32> taken;
  for (u32 i = 1; i < t.records_max; ++i) {
    const u32 index = record_take(t, random());
    ASSERT_NE(index, kNoRecord) << i;
    ASSERT_TRUE(taken.insert(index).second);
    ASSERT_LT(index, t.records_max);
  }
  EXPECT_EQ(record_take(t, 5), kNoRecord);
  for (int i = 0; i < 5000; ++i) {
    const u32 index = 1 + random() % (t.records_max - 1);
    record_give(t, index);
    ASSERT_EQ(record_take(t, random()), index);
  }
}

TEST(Time, ElapsedAcrossTheWrap) {
  EXPECT_FALSE(elapsed(0xffffffff, 0xfffffff0, 16));
  EXPECT_TRUE(elapsed(0, 0xfffffff0, 16));
  EXPECT_FALSE(elapsed(5, 6, 0)) << "a clock that is a little behind";
  EXPECT_TRUE(elapsed(5, 5, 0));
  EXPECT_FALSE(
      elapsed(0, 0xffffffff - ticks_from_s(kTimeoutMax_s) + 2, ticks_from_s(kTimeoutMax_s)));
  EXPECT_TRUE(elapsed(0, 0u - ticks_from_s(kTimeoutMax_s), ticks_from_s(kTimeoutMax_s)));
  EXPECT_EQ(seconds_from_ticks(ticks_from_s(7440)), 7440u);
}

}  // namespace
}  // namespace masq
