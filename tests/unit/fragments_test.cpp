// The table of fragmented datagrams: which entry a new one takes, beside a plain reading of the
// rules; and one lock for all that lies in one bucket.
#include "core/fragments.h"

#include <gtest/gtest.h>

#include <map>

#include "unit/random.h"
#include "unit/test_world.h"

namespace masq {
namespace {

// How long ago an entry was made; negative where the clock of another processor is ahead.
using Age = long long;

struct Fit {
  bool own, unused, held;
  u32 share, age;
};

bool has_gone(const Fragment& f, u32 age) {
  return f.used == kFragmentFree || age >= (f.used == kFragmentHeld ? kHeldLife : kFragmentLife);
}

Fit plain_fit(const Fragment* bucket, u32 i, const Packet& p, Age age) {
  const Fragment& f = bucket[i];
  const u32 old = age < 0 ? 0 : static_cast<u32>(age);
  Fit fit{same(f.source, p.source) && same(f.destination, p.destination) && f.id == p.id &&
              f.protocol == p.protocol && f.direction == kOut && f.used != kFragmentFree,
          has_gone(f, old), f.used == kFragmentHeld, same(f.source, p.source) ? 1u : 0u, old};
  for (u32 j = 0; j < kFragmentBucket; ++j) fit.share += same(bucket[j].source, f.source);
  return fit;
}

TEST(Fragments, FitnessIsThatOfThePlainReading) {
  test::Random random(1);
  u32 seen[8] = {};
  for (u32 turn = 0; turn < 200000; ++turn) {
    const Ticks now = random();
    Fragment bucket[kFragmentBucket] = {};
    Age ages[kFragmentBucket];
    for (u32 i = 0; i < kFragmentBucket; ++i) {
      const Age some[] = {0,
                          1,
                          -3,
                          -900,
                          static_cast<Age>((random() % (kFragmentLife))),
                          static_cast<Age>((random() % (2 * kHeldLife))),
                          kHeldLife - 1,
                          kHeldLife,
                          kFragmentLife - 1,
                          kFragmentLife,
                          0x7fffffff,
                          0x80000000,
                          0xfffff000};
      ages[i] = some[(random() % (std::size(some)))];
      Fragment& f = bucket[i];
      f.seen = now - static_cast<Ticks>(ages[i]);
      f.used = static_cast<u16>((random() % 3));
      f.source = Ipv4{(random() % 3)};
      f.destination = Ipv4{(random() % 2)};
      f.id = static_cast<u16>((random() % 2));
      f.protocol = static_cast<u8>((random() % 2));
      f.direction = static_cast<u8>((random() % 2));
    }
    Packet p{};
    p.source = Ipv4{(random() % 3)};
    p.destination = Ipv4{(random() % 2)};
    p.id = static_cast<u16>((random() % 2));
    p.protocol = static_cast<u8>((random() % 2));
    for (u32 i = 0; i < kFragmentBucket; ++i) {
      const Fit plain = plain_fit(bucket, i, p, ages[i]);
      const u32 fitness = fragment_fitness(bucket, i, p, kOut, now);
      ASSERT_EQ((fitness & kFitOwn) != 0, plain.own);
      ASSERT_EQ((fitness & kFitUnused) != 0, plain.unused);
      ASSERT_EQ((fitness & kFitHeld) != 0, plain.held);
      ASSERT_EQ(fitness % kFitHeld / kFitShare, plain.share);
      if (!plain.unused) {
        ASSERT_EQ(fitness % kFitShare, plain.age);
      }
      ++seen[plain.own * 4 + plain.unused * 2 + plain.held];
    }
  }
  for (const u32 times : seen) EXPECT_GT(times, 1000u);
}

TEST(Fragments, OneLockForABucket) {
  test::Random random(2);
  std::map<u32, u32> stripes;
  for (u32 i = 0; i < 100000; ++i) {
    const u64 hash = random() | static_cast<u64>(random()) << 32;
    const u32 stripe = fragment_stripe(hash);
    EXPECT_LT(stripe, kStripes);
    EXPECT_EQ(stripes.try_emplace(fragment_bucket(hash), stripe).first->second, stripe);
  }
  EXPECT_EQ(stripes.size(), kFragmentsMax / kFragmentBucket);
}

}  // namespace
}  // namespace masq
