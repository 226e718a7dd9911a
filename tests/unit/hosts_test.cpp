// The table of inner hosts: when it is full, and the bucket of tokens at the edges of its clock.
// Its limits are shown by tests/packets/host_*.pkt, its races by tests/unit/interleave.
#include <gtest/gtest.h>

#include <cstdio>

#include "unit/test_world.h"

namespace masq {
namespace {

Key of_host(u32 n) {
  return Key{ipv4_from_host(0x0a000001 + n), test::ip(198, 51, 100, 1), port_from_host(5000),
             port_from_host(9), kProtocolUdp};
}

// Every flow is another host's, which is as bad as it can be.
TEST(Hosts, FullTableRefusesNewHostsOnly) {
  Settings settings = test::plain_settings();
  settings.flows_max = kRecordsMin / 2 - 1;
  TableMemory memory(kRecordsMin);
  memory.exclude_ports(settings);
  test::TestWorld world{memory.tables(), settings};
  u32 index = kNoRecord, refused = 0, first_refused = 0, kept = 0;
  for (u32 n = 0; n < settings.flows_max; ++n) {
    const Reason reason = world.flow(of_host(n), State::udp, index);
    if (reason == Reason::none) {
      kept = n;
      continue;
    }
    EXPECT_EQ(reason, Reason::hosts_full);
    if (refused++ == 0) first_refused = n;
  }
  std::printf("of %u hosts with one flow each %u found no place, the first was number %u\n",
              settings.flows_max, refused, first_refused);
  EXPECT_NE(refused, 0u);
  EXPECT_GT(first_refused, settings.flows_max / 3);
  EXPECT_LT(refused, settings.flows_max / 10);
  // A host that has a place goes on.
  Key other = of_host(kept);
  other.near_port = port_from_host(5001);
  EXPECT_EQ(world.flow(other, State::udp, index), Reason::none);
  const auto wrong = verify(world.tables, settings, world.now, 0);
  EXPECT_TRUE(wrong.empty()) << describe(wrong);
  // When all have gone there is place again, and nothing is left of them.
  world.now += settings.udp;
  world.sweep();
  for (u32 place = 0; place < hosts_max(kRecordsMin); ++place) {
    EXPECT_EQ(world.tables.hosts[place].flows, 0u);
    EXPECT_EQ(world.tables.hosts[place].mappings, 0u);
  }
  world.now += kPause;
  world.sweep();
  EXPECT_EQ(world.flow(of_host(first_refused), State::udp, index), Reason::none);
}

// Which of several external addresses of one interface hosts get.
struct Paired : testing::Test {
  static constexpr u32 kHosts = 4000;
  Settings settings = test::plain_settings();
  TableMemory memory{kRecordsMin};
  test::TestWorld world{memory.tables(), settings};

  void addresses(u32 n) {
    for (u32 i = 0; i < n; ++i)
      settings.externals[i] = {test::ip(203, 0, 113, 2 + i), 10, kExternalLive, 1};
  }
  u32 of(u32 host) { return masq::paired_external(world, ipv4_from_host(0x0a000001 + host), 0); }
};

TEST_F(Paired, HostsAreSpreadAndNoneMovesForNothing) {
  addresses(4);
  u32 before[kHosts], count[5] = {}, moved = 0;
  for (u32 h = 0; h < kHosts; ++h) ++count[before[h] = of(h)];
  for (u32 i = 0; i < 4; ++i) EXPECT_NEAR(count[i], kHosts / 4.0, kHosts / 20.0) << i;
  addresses(5);
  for (u32 h = 0; h < kHosts; ++h) {
    const u32 now = of(h);
    moved += now != before[h];
    EXPECT_TRUE(now == before[h] || now == 4) << h;
  }
  EXPECT_NEAR(moved, kHosts / 5.0, kHosts / 20.0);
  // One of another interface is nobody's.
  settings.externals[2].ifindex = 11;
  for (u32 h = 0; h < kHosts; ++h) EXPECT_NE(of(h), 2u);
  EXPECT_EQ(masq::paired_external(world, ipv4_from_host(1), 2), 2u);
}

TEST_F(Paired, AHostKeepsItsAddressWhileItHasFlows) {
  constexpr u32 kBusy = 50;
  settings.externals[1].state = settings.externals[2].state = kExternalFree;
  u32 index = kNoRecord, next[kBusy];
  for (u32 h = 0; h < kBusy; ++h)
    ASSERT_EQ(world.flow(of_host(h), State::udp, index, of(h)), Reason::none);
  // However many come later, and though its own serves no more.
  addresses(kExternalsMax);
  settings.externals[0].serves = 0;
  for (u32 h = 0; h < kHosts; ++h) EXPECT_EQ(of(h) == 0, h < kBusy) << h;
  // When it goes the hosts get others, and do not come back when the place is another address's.
  settings.externals[0].state = kExternalGone;
  for (u32 h = 0; h < kBusy; ++h) {
    EXPECT_NE(next[h] = of(h), 0u);
    ASSERT_EQ(world.flow(of_host(h), State::udp, index, next[h]), Reason::none);
  }
  settings.externals[0] = {test::ip(203, 0, 113, 200), 10, kExternalLive, 1};
  for (u32 h = 0; h < kBusy; ++h) EXPECT_EQ(of(h), next[h]) << h;
  // Without flows nothing is left of it.
  world.now += settings.udp;
  world.sweep();
  for (u32 i = 1; i < kExternalsMax; ++i) settings.externals[i].serves = 0;
  for (u32 h = 0; h < kBusy; ++h) EXPECT_EQ(of(h), 0u) << h;
}

TEST(Hosts, RateAcrossTheWrapOfTheClock) {
  Settings settings = test::plain_settings();
  settings.host_new_per_s = 1;
  settings.host_new_burst = 2;
  Host host{};
  const Ticks start = 0u - 10;
  EXPECT_TRUE(host_may_begin(settings, host, start));
  EXPECT_TRUE(host_may_begin(settings, host, start));
  EXPECT_FALSE(host_may_begin(settings, host, start));
  EXPECT_FALSE(host_may_begin(settings, host, start + ticks_from_s(1) - 1));
  EXPECT_TRUE(host_may_begin(settings, host, start + ticks_from_s(1)));
  // A processor whose clock is a little behind earns nothing, and takes nothing away.
  EXPECT_FALSE(host_may_begin(settings, host, start + ticks_from_s(1) - 5));
  EXPECT_FALSE(host_may_begin(settings, host, start + 2 * ticks_from_s(1) - 1));
  EXPECT_TRUE(host_may_begin(settings, host, start + 2 * ticks_from_s(1)));
  // However long it was quiet, even half the way round the clock.
  const Ticks later = start + 0x90000000u;
  EXPECT_TRUE(host_may_begin(settings, host, later));
  EXPECT_TRUE(host_may_begin(settings, host, later));
  EXPECT_FALSE(host_may_begin(settings, host, later));
}

}  // namespace
}  // namespace masq
