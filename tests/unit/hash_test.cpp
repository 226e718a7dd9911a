// SipHash against a reference written from the paper, byte by byte and for any rounds, which in
// turn is checked against the paper's own test vector; and how well it spreads what it is used for.
#include "core/hash.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "unit/test_world.h"

namespace masq {
namespace {

// Aumasson, Bernstein: SipHash, section 2. c compression rounds, d finalization rounds.
u64 reference(int c, int d, const std::array<u8, 16>& key, const std::vector<u8>& message) {
  const auto word = [](const u8* at) {
    u64 w = 0;
    for (int i = 7; i >= 0; --i) w = w << 8 | at[i];
    return w;
  };
  const auto turn = [](u64 x, int n) { return x << n | x >> (64 - n); };
  const u64 k0 = word(key.data()), k1 = word(key.data() + 8);
  u64 v[4] = {k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull, k0 ^ 0x6c7967656e657261ull,
              k1 ^ 0x7465646279746573ull};
  const auto rounds = [&](int n) {
    while (n-- > 0) {
      v[0] += v[1];
      v[2] += v[3];
      v[1] = turn(v[1], 13);
      v[3] = turn(v[3], 16);
      v[1] ^= v[0];
      v[3] ^= v[2];
      v[0] = turn(v[0], 32);
      v[2] += v[1];
      v[0] += v[3];
      v[1] = turn(v[1], 17);
      v[3] = turn(v[3], 21);
      v[1] ^= v[2];
      v[3] ^= v[0];
      v[2] = turn(v[2], 32);
    }
  };
  std::vector<u8> padded = message;
  while (padded.size() % 8 != 7) padded.push_back(0);
  padded.push_back(static_cast<u8>(message.size()));
  for (std::size_t i = 0; i < padded.size(); i += 8) {
    const u64 m = word(&padded[i]);
    v[3] ^= m;
    rounds(c);
    v[0] ^= m;
  }
  v[2] ^= 0xff;
  rounds(d);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

std::array<u8, 16> counting_key() {
  std::array<u8, 16> key;
  for (u8 i = 0; i < 16; ++i) key[i] = i;
  return key;
}

TEST(Hash, ReferenceGivesTheVectorOfThePaper) {
  std::vector<u8> message;
  for (u8 i = 0; i < 15; ++i) message.push_back(i);
  EXPECT_EQ(reference(2, 4, counting_key(), message), 0xa129ca6149be45e5ull);
}

TEST(Hash, ReferenceGivesTheKnownVectorOf13) {
  // The first of the published SipHash-1-3 vectors: the empty message.
  EXPECT_EQ(reference(1, 3, counting_key(), {}), 0xabac0158050fc4dcull);
}

TEST(Hash, EqualsReference) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const u64 secret[2] = {random(), random()};
    const u64 words[2] = {random(), random()};
    std::array<u8, 16> key;
    std::memcpy(key.data(), secret, 16);
    std::vector<u8> message(16);
    std::memcpy(message.data(), words, 16);
    ASSERT_EQ(keyed_hash(secret, words[0], words[1]), reference(1, 3, key, message));
  }
}

// Sequential hosts and ports, the least random input there is, over buckets of 16 slots at half
// load: as many full buckets as chance would give (Poisson with mean 8), not more.
TEST(Hash, SpreadsSequentialEndpoints) {
  const Settings s = test::plain_settings();
  constexpr u32 kBuckets = 8192, kKeys = kBuckets * 8;
  std::vector<u32> first(kBuckets), second(kBuckets);
  for (u32 i = 0; i < kKeys; ++i) {
    const Key key = test::key_of(i & 255, static_cast<u16>(1024 + (i >> 8)), 1, 443);
    const u64 hash = key_hash(s, key, kOut);
    ++first[slot_at(hash, 0, kBuckets * 8) / kBucketSlots];
    ++second[slot_at(hash, kBucketSlots, kBuckets * 8) / kBucketSlots];
  }
  for (const auto* counts : {&first, &second}) {
    u32 histogram[32] = {};
    double chi = 0;
    for (u32 n : *counts) {
      ++histogram[n < 31 ? n : 31];
      chi += (n - 8.0) * (n - 8.0) / 8.0;
    }
    u32 overflowing = 0;
    for (u32 n = 17; n < 32; ++n) overflowing += histogram[n];
    std::printf("buckets with n of 8 expected keys:");
    for (u32 n = 0; n < 24; ++n) std::printf(" %u", histogram[n]);
    std::printf("; over 16: %u of %u\n", overflowing, kBuckets);
    EXPECT_NEAR(chi, kBuckets, 5 * 128.0);  // standard deviation is sqrt(2 * 8192) = 128
    EXPECT_NEAR(overflowing, 30.0, 30.0);   // 0.0037 of 8192
  }
}

TEST(Hash, DependsOnEveryInputBit) {
  const u64 secret[2] = {1, 2};
  for (u32 bit = 0; bit < 256; ++bit) {
    u64 in[4] = {1, 2, 3, 4};
    const u64 before = keyed_hash(secret, in[2], in[3]);
    in[bit / 64] ^= 1ull << (bit % 64);
    const u64 changed_secret[2] = {in[0], in[1]};
    const u64 difference = before ^ keyed_hash(changed_secret, in[2], in[3]);
    EXPECT_GE(__builtin_popcountll(difference), 12) << bit;
  }
}

}  // namespace
}  // namespace masq
