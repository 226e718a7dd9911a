// The bit pool and the port pool against sets.
#include "core/port_pool.h"

#include <gtest/gtest.h>

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

TEST_F(Ports, FindKeepsParityAndHalf) {
  for (u32 i = 0; i < 200000; ++i) {
    const u32 parity = i & 1;
    const bool low = i & 2, whole = i & 4;
    const u32 port = port_find_free(*pool, parity, low, whole, random());
    if (port == kNothing) continue;
    ASSERT_LT(port, 65536u);
    ASSERT_FALSE(port_is_used(*pool, static_cast<u16>(port)));
    ASSERT_EQ(port & 1, parity);
    if (low) {
      ASSERT_LT(port, 1024u);
    }
    if (!low && !whole) {
      ASSERT_GE(port, 1024u);
    }
    if (i % 4 == 0) port_take(*pool, static_cast<u16>(port));
  }
}

// With the hints exact, whatever is free is found: the search may only fail when nothing is.
TEST_F(Ports, FindsTheLastFreeOne) {
  exclude_all_but(1, 0);
  for (int i = 0; i < 20000; ++i) {
    const u16 port = static_cast<u16>(random());
    port_give(*pool, port);
    const bool low = port < 1024;
    ASSERT_EQ(port_find_free(*pool, port & 1, low, false, random()), port);
    ASSERT_EQ(port_find_free(*pool, port & 1, false, true, random()), port);
    ASSERT_EQ(port_find_free(*pool, ~port & 1, low, false, random()), kNothing);
    ASSERT_EQ(port_find_free(*pool, port & 1, !low, false, random()), kNothing);
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
    found = port_find_free(*pool, 0, false, false, before);
  }
  EXPECT_EQ(found, kMisled);
  EXPECT_EQ(port_find_free(*pool, 0, false, false, before), 40000u);
  EXPECT_EQ(port_find_free(*pool, 0, false, false, random()), 40000u);
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
      for (u32 i = 0; i < kShareTries; ++i) {
        const u32 port = shared_port_at(s, dice, i);
        ASSERT_TRUE(port >= 1024 && in_pool(s, port)) << port;
        seen.insert(port);
      }
      ASSERT_EQ(seen.size(), c.ports < kShareTries ? c.ports : kShareTries);
      first.insert(shared_port_at(s, dice, 0));
    }
    EXPECT_GE(first.size(), c.ports < 100 ? c.ports : 950u) << "the first one can be guessed";
  }
  Settings low{};
  for (PortRange& range : low.pool) range = {1, 0};
  low.pool[0] = {512, 1023};
  EXPECT_EQ(shared_port_at(low, 0, 0), kNothing);
}

// RFC 6056: every port is chosen as often as any other, also those behind a long run of used ones.
TEST_F(Ports, ChoiceIsSpread) {
  constexpr u32 kEach = 64;
  exclude_all_but(1, 0);
  std::vector<u32> free;
  for (u32 port = 1024; port < 65536; port += 2)
    if (port <= 32767 || port >= 61000) free.push_back(port);
  for (const u32 port : free) port_give(*pool, static_cast<u16>(port));
  std::map<u32, u32> hits;
  for (u32 i = 0; i < kEach * free.size(); ++i)
    ++hits[port_find_free(*pool, 0, false, false, random())];
  double chi = 0;
  for (const u32 port : free) chi += (hits[port] - 64.0) * (hits[port] - 64.0) / kEach;
  const double freedom = static_cast<double>(free.size()) - 1;
  EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom));
  EXPECT_LT(hits[61000], 2 * kEach);
}

}  // namespace
}  // namespace masq
