// The bit pool and the port pool against sets.
#include "core/blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "unit/random.h"

namespace masq {
namespace {

TEST(BitPool, PicksTheFirstBitFromAPlaceOn) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    u64 word = random() & random() & random();
    if (word == 0) word = 1;
    const u32 from = static_cast<u32>(random()) & 127;
    u32 expected = from & 63;
    while (!(word >> expected & 1)) expected = (expected + 1) & 63;
    ASSERT_EQ(pick_bit(word, from), expected);
  }
}

TEST(BitPool, EqualsASet) {
  constexpr u32 kThings = 8192;
  std::vector<u64> used(kThings / 64), full(kThings / 4096);
  std::set<u32> twin;
  test::Random random(2);
  for (int i = 0; i < 400000; ++i) {
    // Runs of mostly taking and mostly giving, so that words fill up and empty.
    const u32 n = random() % kThings;
    if (random() % 100 < ((i / 50000) % 2 == 0 ? 80u : 20u)) {
      ASSERT_EQ(pool_take(used.data(), full.data(), n), twin.insert(n).second);
    } else if (twin.erase(n) != 0) {
      pool_give(used.data(), full.data(), n);
    }
    if (i % 1000 != 0) continue;
    for (u32 word = 0; word < kThings / 64; ++word) {
      for (u32 bit = 0; bit < 64; ++bit)
        ASSERT_EQ(used[word] >> bit & 1, twin.count(word * 64 + bit));
      ASSERT_EQ(full[word / 64] >> (word % 64) & 1, used[word] == ~0ull);
    }
  }
}

// The halves, the whole, and blocks: of one word, over the border of two words of hints, at the
// end.
constexpr PortWords kSearched[] = {kLowPorts, kHighPorts, kWholePool, {77, 1},
                                   {60, 10},  {64, 64},   {448, 64},  {100, 412}};

bool lies_in(PortWords words, u32 port) {
  return port >> 7 >= words.first && port >> 7 < words.first + words.count;
}

class Ports : public testing::Test {
 protected:
  std::unique_ptr<PortPool> pool = std::make_unique<PortPool>();
  std::set<u32> taken;
  std::mt19937_64 random{3};

  void exclude_all_but(u32 first, u32 last) {
    for (u32 port = 0; port < 65536; ++port)
      if (port < first || port > last) port_take(*pool, static_cast<u16>(port));
  }
};

TEST_F(Ports, EqualASet) {
  for (int i = 0; i < 500000; ++i) {
    const u16 port = static_cast<u16>(random());
    if (random() & 1) {
      ASSERT_EQ(port_take(*pool, port), taken.insert(port).second);
    } else if (taken.erase(port) != 0) {
      port_give(*pool, port);
    }
    const u16 other = static_cast<u16>(random());
    ASSERT_EQ(port_is_used(*pool, other), taken.count(other) != 0);
  }
}

TEST_F(Ports, FindKeepsParityAndWords) {
  for (u32 i = 0; i < 200000; ++i) {
    const u32 parity = i & 1;
    const PortWords words = kSearched[(i >> 1) % std::size(kSearched)];
    const u32 port = port_find_free(*pool, parity, words, random());
    if (port == kNothing) continue;
    ASSERT_LT(port, 65536u);
    ASSERT_FALSE(port_is_used(*pool, static_cast<u16>(port)));
    ASSERT_EQ(port & 1, parity);
    ASSERT_TRUE(lies_in(words, port)) << port;
    if (i % 4 == 0) port_take(*pool, static_cast<u16>(port));
  }
}

// With the hints exact, whatever is free is found: the search may only fail when nothing is.
TEST_F(Ports, FindsTheLastFreeOne) {
  exclude_all_but(1, 0);
  for (int i = 0; i < 20000; ++i) {
    const u16 port = static_cast<u16>(random());
    port_give(*pool, port);
    for (const PortWords words : kSearched) {
      ASSERT_EQ(port_find_free(*pool, port & 1, words, random()),
                lies_in(words, port) ? port : kNothing);
      ASSERT_EQ(port_find_free(*pool, ~port & 1, words, random()), kNothing);
    }
    port_take(*pool, port);
  }
}

// A hint that a race has left clear over a full word misleads one search at most.
TEST_F(Ports, AMisledSearchSetsTheHintRight) {
  exclude_all_but(40000, 40000);
  const u32 lying = 45000 >> 7;
  pool->full[0][lying >> 6] &= ~(1ull << (lying & 63));
  u64 before = 0;
  u32 found = 40000;
  for (u32 i = 0; i < 1000 && found == 40000; ++i) {
    before = random();
    found = port_find_free(*pool, 0, kHighPorts, before);
  }
  EXPECT_EQ(found, kMisled);
  EXPECT_EQ(port_find_free(*pool, 0, kHighPorts, before), 40000u);
  EXPECT_EQ(port_find_free(*pool, 0, kHighPorts, random()), 40000u);
}

// The ports that a flow tries to share: of a small pool all of them, of a large one some that are
// spread over it; never a low one, nor one that is not in the pool.
TEST(SharedPorts, AreOfThePoolAndSpread) {
  struct Case {
    PortRange ranges[2];
    u32 ports;  // from 1024 on
  };
  for (const Case& c : {Case{{{40000, 40000}, {1, 0}}, 1}, Case{{{1000, 1025}, {40000, 40001}}, 4},
                        Case{{{1, 1023}, {2000, 2000 + kShareTries - 1}}, kShareTries},
                        Case{{{1024, 32767}, {61000, 65535}}, 36280}}) {
    Settings s{};
    for (PortRange& range : s.pool) range = {1, 0};
    s.pool[1] = c.ranges[0];
    s.pool[3] = c.ranges[1];
    std::mt19937_64 random(4);
    std::set<u32> first;
    for (u32 n = 0; n < 1000; ++n) {
      std::set<u32> seen;
      const u64 dice = random();
      ASSERT_EQ(shared_port_at(s, kHighPorts, dice, c.ports), kNothing);
      for (u32 i = 0; i < kShareTries && i < c.ports; ++i) {
        const u32 port = shared_port_at(s, kHighPorts, dice, i);
        ASSERT_TRUE(port >= 1024 && in_pool(s, port)) << port;
        seen.insert(port);
      }
      ASSERT_EQ(seen.size(), c.ports < kShareTries ? c.ports : kShareTries);
      first.insert(shared_port_at(s, kHighPorts, dice, 0));
    }
    EXPECT_GE(first.size(), c.ports < 100 ? c.ports : 950u) << "the first one can be guessed";
  }
  Settings low{};
  for (PortRange& range : low.pool) range = {1, 0};
  low.pool[0] = {512, 1023};
  EXPECT_EQ(shared_port_at(low, kHighPorts, 0, 0), kNothing);
}

// Those of a block, from its first to its last port; and what a range has of the words behind.
TEST(SharedPorts, AreOfTheBlock) {
  Settings s{};
  for (PortRange& range : s.pool) range = {1, 0};
  s.pool[1] = {1024, 32767};
  s.pool[2] = {61000, 65535};
  std::mt19937_64 random(6);
  const std::pair<PortWords, PortRange> cases[] = {{{9, 1}, {1152, 1279}},
                                                   {{255, 1}, {32640, 32767}},
                                                   {{250, 12}, {32000, 32767}},
                                                   {{470, 42}, {61000, 65535}}};
  for (const auto& [words, range] : cases) {
    std::set<u32> seen;
    for (u32 n = 0; n < 20000; ++n) seen.insert(shared_port_at(s, words, random(), n % 64));
    EXPECT_EQ(*seen.begin(), range.first);
    EXPECT_EQ(*seen.rbegin(), range.last);
    EXPECT_EQ(shared_ports(s, words), range.last - range.first + 1u);
  }
}

// RFC 6056: every port is chosen as often as any other, also those behind a long run of used ones.
TEST_F(Ports, ChoiceIsSpread) {
  constexpr u32 kEach = 64;
  for (const auto& ranges : std::vector<std::vector<PortRange>>{
           {{1024, 32767}, {61000, 65535}}, {{20000, 29999}}, {{20000, 20999}}, {{50000, 50255}}}) {
    Settings s{};
    for (PortRange& range : s.pool) range = {1, 0};
    std::copy(ranges.begin(), ranges.end(), std::begin(s.pool));
    *pool = {};
    exclude_all_but(1, 0);
    std::vector<u32> free;
    for (u32 port = 0; port < 65536; port += 2)
      if (in_pool(s, static_cast<u16>(port))) free.push_back(port);
    for (const u32 port : free) port_give(*pool, static_cast<u16>(port));
    std::map<u32, u32> hits;
    const PortWords words = words_behind_blocks(s, true);
    for (u32 i = 0; i < kEach * free.size(); ++i) ++hits[port_find_free(*pool, 0, words, random())];
    double chi = 0;
    for (const u32 port : free) chi += (hits[port] - 64.0) * (hits[port] - 64.0) / kEach;
    const double freedom = static_cast<double>(free.size()) - 1;
    EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom)) << "from " << ranges[0].first;
    EXPECT_LT(hits[ranges.back().first], 2 * kEach);
  }
}

}  // namespace
}  // namespace masq
