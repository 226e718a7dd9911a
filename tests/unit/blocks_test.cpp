// Blocks of external ports against a plain count of ports.
#include "core/blocks.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace masq {
namespace {

struct Network {
  u32 address, length, words;
};

Settings settings_with(std::initializer_list<PortRange> pool,
                       std::initializer_list<Network> networks) {
  Settings s{};
  for (PortRange& range : s.pool) range = {1, 0};
  std::copy(pool.begin(), pool.end(), s.pool);
  u32 i = 0;
  for (const Network& network : networks) {
    PortBlocks& blocks = s.port_blocks[i++];
    blocks.network = ipv4_from_host(network.address);
    blocks.mask = ipv4_from_host(~0u << (32 - network.length));
    blocks.words = static_cast<u16>(network.words);
  }
  return s;
}

// The first port of each host's block, found port by port. Empty: there is no room.
std::map<u32, u32> laid_out_plainly(const Settings& s) {
  std::map<u32, u32> first_ports;
  u32 next = 1024;
  for (const PortBlocks& blocks : s.port_blocks) {
    if (blocks.words == 0) continue;
    const u32 ports = blocks.words * 128u;
    for (u64 n = 0; n < hosts_of(blocks); ++n) {
      const auto lies_in_one_range = [&] {
        for (const PortRange& range : s.pool)
          if (range.first <= next && next + ports - 1 <= range.last) return true;
        return false;
      };
      while (next + ports <= 65408 && !lies_in_one_range()) next += 128;
      if (next + ports > 65408) return {};
      first_ports[to_host(blocks.network) + static_cast<u32>(n)] = next;
      next += ports;
    }
  }
  return first_ports;
}

constexpr u32 kInner = 0xc0a80200, kSecond = 0xc0a80300;

void compare(Settings& s) {
  const std::map<u32, u32> plainly = laid_out_plainly(s);
  const u32 no_room = lay_blocks(s);
  ASSERT_EQ(no_room == kPortBlocksMax, !plainly.empty());
  if (plainly.empty()) return;
  std::map<u32, u32> owners;
  for (const auto& [host, first] : plainly) {
    PortWords block{};
    ASSERT_TRUE(find_block(s, ipv4_from_host(host), block));
    ASSERT_EQ(block.first * kWordPorts, first) << (host & 255);
    for (u32 port = first; port < first + block.count * kWordPorts; ++port) {
      ASSERT_TRUE(owners.emplace(port, host).second) << port << " has two owners";
      ASSERT_TRUE(port >= 1024 && in_pool(s, port)) << port;
      ASSERT_TRUE(is_for_blocks(s, static_cast<u16>(port))) << port;
    }
  }
  for (const bool halves : {false, true}) {
    const PortWords rest = words_behind_blocks(s, halves);
    ASSERT_EQ(rest.first * kWordPorts, owners.rbegin()->first + 1);
    ASSERT_EQ(rest.first + rest.count, kPortWords);
  }
  PortWords block{};
  EXPECT_FALSE(find_block(s, ipv4_from_host(plainly.begin()->first - 1), block));
  EXPECT_FALSE(find_block(s, ipv4_from_host(plainly.rbegin()->first + 1), block));
}

TEST(Blocks, AreWhatAPlainCountSays) {
  std::mt19937_64 random(5);
  u32 fitting = 0;
  for (u32 i = 0; i < 3000; ++i) {
    const u16 low = static_cast<u16>(1 + random() % 40000);
    const u16 high = static_cast<u16>(low + random() % (60000 - low));
    Settings s = settings_with({{1, 1023}, {1024, low}, {high, 65535}}, {});
    if (low < 1024) s.pool[1] = {1, 0};
    const u32 networks = 1 + static_cast<u32>(random() % 4);
    for (u32 n = 0; n < networks; ++n) {
      PortBlocks& blocks = s.port_blocks[random() % 2 == 0 ? n : n + 4];
      blocks.network = ipv4_from_host(kInner + 1024 * n);
      blocks.mask = ipv4_from_host(~0u << (random() % 8));
      blocks.words = static_cast<u16>(1 + random() % (random() % 2 == 0 ? 3 : 64));
    }
    compare(s);
    if (HasFatalFailure()) return;
    fitting += lay_blocks(s) == kPortBlocksMax;
  }
  EXPECT_GT(fitting, 300u);
  EXPECT_LT(fitting, 2900u);
}

// The usual pool has room for 128 ports a host of a /24: 248 hosts below the gateway's own ports, 8
// above them.
TEST(Blocks, OfTheUsualPool) {
  Settings s = settings_with({{1, 1023}, {1024, 32767}, {61000, 65535}}, {{kInner, 24, 1}});
  compare(s);
  PortWords block{};
  ASSERT_TRUE(find_block(s, ipv4_from_host(kInner + 247), block));
  EXPECT_EQ(block.first * kWordPorts, 32640u);
  ASSERT_TRUE(find_block(s, ipv4_from_host(kInner + 248), block));
  EXPECT_EQ(block.first * kWordPorts, 61056u);
  EXPECT_EQ(words_behind_blocks(s, true).first * kWordPorts, 62080u);
}

TEST(Blocks, FillAPoolToTheLastWord) {
  Settings s = settings_with({{1024, 65535}}, {{kInner, 24, 1}, {kSecond, 25, 1}});
  compare(s);
  Settings exact = settings_with({{20480, 20480 + 255}}, {{kInner, 31, 1}});
  compare(exact);
  EXPECT_EQ(lay_blocks(exact), kPortBlocksMax);
  Settings one_less = settings_with({{20480, 20480 + 254}}, {{kInner, 31, 1}});
  EXPECT_EQ(lay_blocks(one_less), 0u);
  Settings last = settings_with({{65408, 65535}}, {{kInner, 32, 1}});
  EXPECT_EQ(lay_blocks(last), 0u);
}

TEST(Blocks, AreNoneWithoutNetworks) {
  Settings s = settings_with({{1, 1023}, {1024, 32767}, {61000, 65535}}, {});
  EXPECT_EQ(lay_blocks(s), kPortBlocksMax);
  PortWords block{};
  EXPECT_FALSE(find_block(s, ipv4_from_host(0), block));
  EXPECT_EQ(words_behind_blocks(s, true).first, kHighPorts.first);
  EXPECT_EQ(words_behind_blocks(s, false).first, kWholePool.first);
  for (u32 port = 0; port < 65536; ++port)
    ASSERT_FALSE(is_for_blocks(s, static_cast<u16>(port))) << port;
}

}  // namespace
}  // namespace masq
