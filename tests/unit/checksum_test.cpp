// The checksum and its update against the most obvious computation.
#include "wire/checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "unit/random.h"

namespace masq {
namespace {

// RFC 1071, word by word.
u16 recomputed(const std::vector<u16>& words) {
  u32 sum = 0;
  for (u16 w : words) {
    sum += w;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return static_cast<u16>(~sum);
}

TEST(Checksum, FoldsAnySum) {
  EXPECT_EQ(checksum_fold(0), 0);
  EXPECT_EQ(checksum_fold(0xffff), 0xffff);
  EXPECT_EQ(checksum_fold(0x10000), 1);
  EXPECT_EQ(checksum_fold(0xffffffff), 0xffff);
  EXPECT_EQ(checksum_fold(0xffffffffffffull), 0xffff);
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000000; ++i) {
    const u64 sum = random() >> (random() % 48 + 16);
    EXPECT_EQ(checksum_fold(sum), sum == 0 ? 0 : (sum - 1) % 0xffff + 1) << sum;
  }
}

void check_pair(u16 from, u16 to) {
  const u16 delta = checksum_difference(from, to);
  // A packet of the changed word and one other, which takes every remarkable value.
  for (u32 other : {0x0001u, 0x7fffu, 0xfffeu, 0xffffu, static_cast<u32>(from) ^ 0xffff,
                    static_cast<u32>(to) ^ 0xffff}) {
    const std::vector<u16> before{from, static_cast<u16>(other)},
        after{to, static_cast<u16>(other)};
    const u16 updated = checksum_update(recomputed(before), delta);
    const u16 expected = recomputed(after);
    // Only a packet of zeros sums up to 0 itself; the two zeros mean the same then.
    if (updated != expected &&
        !(static_cast<u16>(~updated) == 0 || static_cast<u16>(~expected) == 0))
      FAIL() << from << " " << to << " " << other;
    ASSERT_EQ(updated % 0xffff, expected % 0xffff);
  }
}

TEST(Checksum, UpdateEqualsRecomputationSampled) {
  const std::vector<u32> edges{0, 1, 2, 0xff, 0x100, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff};
  for (u32 edge : edges)
    for (u32 v = 0; v <= 0xffff; ++v) {
      check_pair(static_cast<u16>(edge), static_cast<u16>(v));
      check_pair(static_cast<u16>(v), static_cast<u16>(edge));
    }
  test::Random random(2);
  for (int i = 0; i < 2000000; ++i)
    check_pair(static_cast<u16>(random()), static_cast<u16>(random()));
}

TEST(Checksum, UpdateNeverTurnsZeroIntoItsOtherForm) {
  // RFC 1624 section 3: with equation 3 a changed packet that is not all zeros never gets 0xffff.
  test::Random random(3);
  for (int i = 0; i < 1000000; ++i) {
    const std::vector<u16> before{static_cast<u16>(random() | 1), static_cast<u16>(random())};
    const std::vector<u16> after{before[0], static_cast<u16>(random())};
    EXPECT_EQ(checksum_update(recomputed(before), checksum_difference(before[1], after[1])),
              recomputed(after));
  }
}

TEST(Checksum, SumOfBytes) {
  // The example of RFC 1071 section 3, of which the order of bytes is the packet's here.
  const u8 bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(swap16(checksum_fold(checksum_sum(bytes, 8))), 0xddf2);
  EXPECT_EQ(swap16(checksum_fold(checksum_sum(bytes, 7))), 0xddf2 - 0xf7);
  EXPECT_EQ(checksum_sum(bytes, 0), 0u);
}

TEST(Checksum, AddressesAreTwoWords) {
  test::Random random(4);
  for (int i = 0; i < 1000000; ++i) {
    const u32 from = random(), to = random();
    const std::vector<u16> before{static_cast<u16>(from), static_cast<u16>(from >> 16), 0x4500};
    const std::vector<u16> after{static_cast<u16>(to), static_cast<u16>(to >> 16), 0x4500};
    EXPECT_EQ(checksum_update(recomputed(before), checksum_difference(Ipv4{from}, Ipv4{to})),
              recomputed(after));
  }
}

TEST(Checksum, UdpZeroMeansNone) {
  EXPECT_EQ(checksum_update_udp(0, 0x1234), 0);
  // ~0x0001 + 0x0001 = 0xffff, whose complement 0 is sent as 0xffff (RFC 768).
  EXPECT_EQ(checksum_update(1, 1), 0);
  EXPECT_EQ(checksum_update_udp(1, 1), 0xffff);
}

}  // namespace
}  // namespace masq
