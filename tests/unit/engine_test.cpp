// What only the engine does among the shells: checksums that are completed later, memory of the
// caller's that another engine goes on with, answers of the caller's about routes and sockets, and
// sweeping a part of the table at a time.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "unit/test_world.h"

namespace masq {
namespace {

constexpr u32 kInside = 2, kOutside = 3;
const Ipv4 kHost = test::ip(192, 168, 2, 4), kRemote = test::ip(198, 51, 100, 2);

Settings settings() {
  Settings s = test::plain_settings();
  s.externals[0].ifindex = kOutside;
  return s;
}

void set_up(Engine& engine) {
  engine.set_interface(
      {kInside, Zone::inside, 0, {}, 0, kExternalsMax, test::ip(192, 168, 2, 1), 1500});
  engine.set_interface(
      {kOutside, Zone::outside, 0, {}, 0, 0, settings().externals[0].address, 1500});
  engine.add_outer_address(settings().externals[0].address);
  engine.add_route({test::ip(192, 168, 2, 0), 24, RouteKind::forward, kInside, Ipv4{0}});
  engine.add_route({Ipv4{0}, 0, RouteKind::forward, kOutside, test::ip(203, 0, 113, 1)});
}

u64 sum_of(const u8* bytes, u32 length) {
  u64 sum = 0;
  for (u32 i = 0; i + 1 < length; i += 2) sum += static_cast<u64>(bytes[i] | bytes[i + 1] << 8);
  return length % 2 != 0 ? sum + bytes[length - 1] : sum;
}

// The sum of the pseudo header of a packet without options.
u64 pseudo_sum(const u8* packet, u32 length) {
  return sum_of(packet + 12, 8) + swap16(packet[9]) + swap16(static_cast<u16>(length - 20));
}

struct Datagram {
  std::vector<u8> bytes = std::vector<u8>(512);
  Frame frame{};

  // With a whole checksum, or with the pseudo header's sum in its place.
  Datagram(u8 protocol, u32 payload, bool partial, u8 ttl = 64) {
    const u32 transport = protocol == kProtocolTcp ? 20 : 8, length = 20 + transport + payload;
    Ipv4Header ip{};
    ip.version_ihl = 0x45;
    ip.total_length = swap16(static_cast<u16>(length));
    ip.ttl = ttl;
    ip.protocol = protocol;
    ip.source = kHost;
    ip.destination = kRemote;
    std::memcpy(bytes.data(), &ip, sizeof ip);
    ip.checksum = static_cast<u16>(~checksum_fold(sum_of(bytes.data(), 20)));
    std::memcpy(bytes.data(), &ip, sizeof ip);
    const u16 ports[2] = {swap16(4000), swap16(80)};
    std::memcpy(&bytes[20], ports, sizeof ports);
    if (protocol == kProtocolTcp) {
      bytes[32] = 0x50;
      bytes[33] = kTcpSyn;
    } else {
      bytes[24] = static_cast<u8>((length - 20) >> 8);
      bytes[25] = static_cast<u8>(length - 20);
    }
    std::iota(bytes.begin() + 20 + transport, bytes.begin() + length, u8{1});
    const u64 pseudo = pseudo_sum(bytes.data(), length);
    const u16 field =
        partial ? checksum_fold(pseudo)
                : static_cast<u16>(~checksum_fold(pseudo + sum_of(&bytes[20], length - 20)));
    std::memcpy(&bytes[field_at()], &field, sizeof field);
    frame = {bytes.data(), length, static_cast<u32>(bytes.size())};
    if (partial) frame.checksum_start = 20;
  }

  u32 field_at() const { return bytes[9] == kProtocolTcp ? 36 : 26; }
  // What hardware does at the end.
  void complete() {
    const u16 field = static_cast<u16>(~checksum_fold(sum_of(&bytes[20], frame.length - 20)));
    std::memcpy(&bytes[field_at()], &field, sizeof field);
  }
  bool is_right() const {
    return checksum_fold(pseudo_sum(bytes.data(), frame.length) +
                         sum_of(&bytes[20], frame.length - 20)) == 0xffff;
  }
};

TEST(Engine, AChecksumThatIsCompletedLaterComesOutRight) {
  for (u8 protocol : {kProtocolTcp, kProtocolUdp}) {
    for (u32 payload : {0u, 1u, 7u, 100u}) {
      for (bool partial : {false, true}) {
        Engine engine(kRecordsMin, settings());
        set_up(engine);
        Datagram d(protocol, payload, partial);
        ASSERT_EQ(engine.inside(d.frame, kInside).action, Action::forward);
        EXPECT_NE(std::memcmp(&d.bytes[12], &kHost, 4), 0);
        if (partial) d.complete();
        EXPECT_TRUE(d.is_right()) << int{protocol} << " " << payload << " " << partial;
      }
    }
  }
}

TEST(Engine, AChecksumElsewhereInThePacketIsNoneOfItsBusiness) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  Datagram d(kProtocolUdp, 60, false);
  d.frame.checksum_start = 48;  // of a packet inside this one
  ASSERT_EQ(engine.inside(d.frame, kInside).action, Action::forward);
  EXPECT_TRUE(d.is_right());
}

TEST(Engine, AnIcmpErrorQuotesACompleteChecksum) {
  for (u32 payload : {4u, 5u}) {
    Engine engine(kRecordsMin, settings());
    set_up(engine);
    engine.set_time(10000000000);  // by now some errors may be sent
    Datagram whole(kProtocolUdp, payload, false, 1), partial(kProtocolUdp, payload, true, 1);
    ASSERT_EQ(engine.inside(whole.frame, kInside).action, Action::icmp_error);
    ASSERT_EQ(engine.inside(partial.frame, kInside).action, Action::icmp_error);
    EXPECT_EQ(whole.bytes, partial.bytes);
  }
}

TEST(Engine, AnotherEngineGoesOnInTheSameMemory) {
  std::vector<u64> memory(TableMemory::size_for(kRecordsMin) / 8 + 8);
  void* place = memory.data() + 8 - (reinterpret_cast<std::size_t>(memory.data()) % 64) / 8;
  Datagram first(kProtocolUdp, 10, false), second(kProtocolUdp, 10, false);
  {
    Engine engine(place, kRecordsMin, settings());
    set_up(engine);
    ASSERT_EQ(engine.inside(first.frame, kInside).action, Action::forward);
    EXPECT_TRUE(engine.verify(0).empty());
  }
  Engine engine(place, kRecordsMin);
  engine.add_outer_address(settings().externals[0].address);
  engine.add_route({Ipv4{0}, 0, RouteKind::forward, kOutside, test::ip(203, 0, 113, 1)});
  EXPECT_TRUE(engine.verify(0).empty());
  EXPECT_EQ(engine.tables().shared->flows, 1u);
  // No route to the inner network is known yet: only a flow that is there already can go on.
  ASSERT_EQ(engine.inside(second.frame, kInside).action, Action::forward);
  // But for the identification, with its checksum.
  EXPECT_TRUE(std::equal(first.bytes.begin() + 12, first.bytes.end(), second.bytes.begin() + 12,
                         second.bytes.end()));
  EXPECT_EQ(engine.counters().traffic[static_cast<u32>(Traffic::translated_out)], 2u);
}

TEST(Engine, ItAsksForRoutesAndSockets) {
  Ipv4 asked_source{};
  u32 sockets_asked = 0;
  EngineAnswers answers;
  answers.route = [&](Ipv4 destination, Ipv4 source) {
    asked_source = source;
    const bool inner = same(destination, kHost);
    return EngineRoute{destination, 32, RouteKind::forward, inner ? kInside : kOutside, Ipv4{0}};
  };
  answers.socket = [&](u8, Ipv4, Port, Ipv4, Port) { return ++sockets_asked <= 2; };
  std::vector<u64> memory(TableMemory::size_for(kRecordsMin) / 8);
  Engine engine(memory.data(), kRecordsMin, settings(), answers);
  set_up(engine);
  engine.clear_routes();
  Datagram d(kProtocolUdp, 10, false);
  const Outcome out = engine.inside(d.frame, kInside);
  ASSERT_EQ(out.action, Action::forward);
  EXPECT_TRUE(same(out.next_hop, kRemote));
  EXPECT_FALSE(asked_source.be == 0);
  EXPECT_EQ(sockets_asked, 3u) << "a port that a socket has is not given away";
}

TEST(Engine, SweepingInPartsReachesEveryPlace) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  Datagram d(kProtocolUdp, 10, false);
  ASSERT_EQ(engine.inside(d.frame, kInside).action, Action::forward);
  engine.set_time(1000ull * 1000000000);
  for (u32 i = 0; i < 10; ++i) engine.sweep(kRecordsMin / 10 + 1);
  EXPECT_EQ(engine.tables().shared->flows, 0u);
  EXPECT_EQ(engine.tables().shared->sweep_turns, 1u);
}

// Two built-in chains with one rule each: forward lets UDP to port 80 out, with MASQ, and output
// accepts; what else comes to forward is refused.
void set_rules(Engine& engine, u8 forward_does, u8 output_does) {
  RuleHalf& half = engine.tables().rules->halves[1];
  for (RuleSlot& slot : half.slots) {
    slot.inverted = kRuleNotInterface;
    slot.tos_and = 0xff;
    slot.target = RuleTarget::accept;
  }
  half.starts[kChainForward] = 1;
  half.starts[kChainOutput] = 3;
  half.slots[1].protocol = kProtocolUdp;
  half.slots[1].needs = kRulePorts;
  half.slots[1].source_last = 0xffff;
  half.slots[1].destination_first = half.slots[1].destination_last = 80;
  half.slots[1].target = RuleTarget::masquerade;
  half.slots[1].does = forward_does;
  half.slots[1].tos_and = 0x01;
  half.slots[1].tos_xor = 0x10;
  half.slots[2].target = RuleTarget::deny;
  half.slots[3].does = output_does;
  engine.settings().rules_generation = 1;
}

// A fragment of a datagram of which it is the first, or the second.
Datagram fragment_of(u16 field) {
  Datagram made(kProtocolUdp, 8, false);
  Ipv4Header ip{};
  std::memcpy(&ip, made.bytes.data(), sizeof ip);
  ip.id = swap16(77);
  ip.fragment = swap16(field);
  ip.checksum = 0;
  std::memcpy(made.bytes.data(), &ip, sizeof ip);
  ip.checksum = static_cast<u16>(~checksum_fold(sum_of(made.bytes.data(), 20)));
  std::memcpy(made.bytes.data(), &ip, sizeof ip);
  return made;
}

TEST(Engine, WritesDownEachPacketOfAFlowThatMeetsARuleWithLogging) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  set_rules(engine, kRuleLogs, kRuleLogs);
  const PacketLog& log = engine.tables().rules->log;
  for (u32 n = 1; n <= 3; ++n) {
    Datagram sent(kProtocolUdp, 8, false);
    ASSERT_EQ(engine.inside(sent.frame, kInside).action, Action::forward);
    EXPECT_EQ(log.written, 2 * n);
    const LoggedPacket &before = log.packets[2 * n - 1], &behind = log.packets[2 * n];
    EXPECT_EQ(before.number, 2 * n - 1);
    EXPECT_EQ(before.slot, 1);
    EXPECT_EQ(before.source.be, kHost.be);
    EXPECT_EQ(before.source_port, 4000);
    EXPECT_EQ(before.length, 36);
    EXPECT_EQ(before.tos, 0);
    EXPECT_EQ(behind.number, 2 * n);
    EXPECT_EQ(behind.slot, 3);
    EXPECT_EQ(behind.source.be, settings().externals[0].address.be);
    EXPECT_EQ(behind.destination.be, kRemote.be);
    EXPECT_EQ(behind.destination_port, 80);
    EXPECT_EQ(behind.tos, 0x10);
    EXPECT_EQ(behind.generation, 1);
  }
  EXPECT_EQ(engine.counters().traffic[static_cast<u32>(Traffic::rules_unremembered)], 0u);
}

TEST(Engine, WithoutSuchARuleNothingIsWrittenDown) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  set_rules(engine, 0, 0);
  Datagram sent(kProtocolUdp, 8, false);
  ASSERT_EQ(engine.inside(sent.frame, kInside).action, Action::forward);
  EXPECT_EQ(engine.tables().rules->log.written, 0u);
}

TEST(Engine, OfADatagramInFragmentsTheFirstIsWrittenDownAndAllPass) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  set_rules(engine, kRuleLogs, 0);
  const PacketLog& log = engine.tables().rules->log;
  Datagram first = fragment_of(0x2000), second = fragment_of(2);
  ASSERT_EQ(engine.inside(first.frame, kInside).action, Action::forward);
  ASSERT_EQ(engine.inside(second.frame, kInside).action, Action::forward);
  EXPECT_EQ(log.written, 1u);
  EXPECT_EQ(log.packets[1].fragment, 0x2000);
}

TEST(Engine, WhatIsRefusedIsWrittenDownToo) {
  Engine engine(kRecordsMin, settings());
  set_up(engine);
  set_rules(engine, kRuleLogs, 0);
  engine.tables().rules->halves[1].slots[1].target = RuleTarget::deny;
  Datagram sent(kProtocolUdp, 8, false);
  EXPECT_EQ(engine.inside(sent.frame, kInside).reason, Reason::rules_deny);
  EXPECT_EQ(engine.tables().rules->log.written, 1u);
}

}  // namespace
}  // namespace masq
