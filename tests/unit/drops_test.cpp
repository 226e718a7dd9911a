// The memory of refused packets: what is kept, and that nobody's flood pushes out what others had.
#include "core/drops.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "unit/test_world.h"

namespace masq::test {
namespace {

Packet from(Ipv4 source, u16 port) {
  Packet p{};
  p.source = source;
  p.destination = ip(198, 51, 100, 1);
  p.source_port = port_from_host(port);
  p.protocol = kProtocolUdp;
  p.kind = Kind::udp;
  return p;
}

void note(Drops& drops, const Packet& p, Reason reason, DropSide side = DropSide::inside) {
  note_drop(drops, p, reason, side, 2, kEtherTypeIpv4, 1000);
}

// What is remembered of this source, oldest first by number.
std::vector<Drop> of(const Drops& drops, Ipv4 source) {
  std::vector<Drop> found;
  for (const Drop& d : drops.drops)
    if (d.number != 0 && same(d.source, source)) found.push_back(d);
  std::sort(found.begin(), found.end(),
            [](const Drop& a, const Drop& b) { return a.number < b.number; });
  return found;
}

const Ipv4 kHost = ip(192, 168, 2, 4);

TEST(drops, an_entry_says_what_was_read) {
  auto drops = std::make_unique<Drops>();
  Packet p = from(kHost, 5000);
  p.total_length = 77;
  p.destination_port = port_from_host(53);
  p.icmp_type = 3;
  p.tcp_flags = 0x12;
  note_drop(*drops, p, Reason::ttl_exceeded, DropSide::leaving, 9, kEtherTypeIpv4, 1234);
  const std::vector<Drop> found = of(*drops, kHost);
  ASSERT_EQ(found.size(), 1u);
  const Drop& d = found[0];
  EXPECT_EQ(d.number, 1u);
  EXPECT_EQ(d.when, 1234u);
  EXPECT_EQ(d.ifindex, 9u);
  EXPECT_TRUE(same(d.destination, p.destination));
  EXPECT_EQ(to_host(d.source_port), 5000);
  EXPECT_EQ(to_host(d.destination_port), 53);
  EXPECT_EQ(d.length, 77);
  EXPECT_EQ(d.ether_type, kEtherTypeIpv4);
  EXPECT_EQ(d.reason, Reason::ttl_exceeded);
  EXPECT_EQ(d.side, DropSide::leaving);
  EXPECT_EQ(d.protocol, kProtocolUdp);
  EXPECT_EQ(d.kind, Kind::udp);
  EXPECT_EQ(d.icmp_type, 3);
  EXPECT_EQ(d.tcp_flags, 0x12);
}

TEST(drops, of_one_kind_the_last_are_kept) {
  auto drops = std::make_unique<Drops>();
  for (u16 i = 1; i <= 100; ++i) note(*drops, from(kHost, i), Reason::malformed);
  const std::vector<Drop> found = of(*drops, kHost);
  ASSERT_EQ(found.size(), kDropsPerLane);
  for (u32 i = 0; i < kDropsPerLane; ++i)
    EXPECT_EQ(to_host(found[i].source_port), 100 - kDropsPerLane + 1 + i);
}

TEST(drops, a_flood_of_another_reason_or_side_pushes_nothing_out) {
  auto drops = std::make_unique<Drops>();
  note(*drops, from(kHost, 1), Reason::malformed);
  for (u32 reason = 1; reason < kReasonCount; ++reason)
    for (u32 side = 0; side < static_cast<u32>(DropSide::count); ++side) {
      if (static_cast<Reason>(reason) == Reason::malformed && side == 0) continue;
      for (u16 i = 0; i < 100; ++i)
        note(*drops, from(kHost, static_cast<u16>(1000 + i)), static_cast<Reason>(reason),
             static_cast<DropSide>(side));
    }
  bool kept = false;
  for (const Drop& d : of(*drops, kHost)) kept |= to_host(d.source_port) == 1;
  EXPECT_TRUE(kept);
}

TEST(drops, one_wild_host_has_a_lane_of_its_kind_and_no_more) {
  auto drops = std::make_unique<Drops>();
  for (u32 host = 1; host < 250; ++host)
    note(*drops, from(ip(192, 168, 2, host), 1), Reason::no_route);
  u32 before = 0, after = 0;
  for (const Drop& d : drops->drops) before += d.number != 0;
  EXPECT_EQ(before, kDropLanes * kDropsPerLane);
  for (u16 i = 0; i < 1000; ++i) note(*drops, from(kHost, 7), Reason::no_route);
  for (const Drop& d : drops->drops) after += d.number != 0 && !same(d.source, kHost);
  EXPECT_EQ(after, (kDropLanes - 1) * kDropsPerLane);
}

TEST(drops, sides_follow_from_zone_and_direction) {
  EXPECT_EQ(drop_side(Zone::inside, false), DropSide::inside);
  EXPECT_EQ(drop_side(Zone::outside, false), DropSide::outside);
  EXPECT_EQ(drop_side(Zone::outside, true), DropSide::leaving);
  EXPECT_EQ(drop_side(Zone::inside, true), DropSide::entering);
}

}  // namespace
}  // namespace masq::test
