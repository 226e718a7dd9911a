// Two threads pass packets through one engine for some rounds while one of them sweeps; after each
// round the whole table is audited. Few ports, few places, few hosts: everything collides.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cstring>
#include <memory>
#include <thread>

#include "engine/engine.h"
#include "unit/random.h"
#include "unit/test_world.h"

namespace masq {
namespace {

constexpr u32 kInside = 2, kOutside = 3;
constexpr u32 kRounds = 30;  // not seconds: what is reached must not depend on the machine's load

class Crowd {
 public:
  Crowd() {
    Settings s = test::plain_settings();
    for (PortRange& range : s.pool) range = {1, 0};
    s.pool[0] = {40000, 40255};
    s.flows_max = 900;
    s.externals[0].ifindex = kOutside;
    engine = std::make_unique<Engine>(kRecordsMin, s);
    engine->set_interface({kInside, Zone::inside, 0, {}, 0, kExternalsMax, Ipv4{0}, 1500});
    engine->set_interface({kOutside, Zone::outside, 0, {}, 0, 0, s.externals[0].address, 1500});
    engine->add_route({test::ip(192, 168, 2, 0), 24, RouteKind::forward, kInside, Ipv4{0}});
    engine->add_route({Ipv4{0}, 0, RouteKind::forward, kOutside, test::ip(203, 0, 113, 1)});
    engine->add_outer_address(s.externals[0].address);
  }

  // One datagram out, and if it went, its answer in.
  void exchange(test::Random& random) {
    u8 buffer[128] = {};
    Frame frame = datagram(buffer, test::ip(192, 168, 2, random() % 20 + 1),
                           port_from_host(static_cast<u16>(5000 + random() % 24)),
                           test::ip(198, 51, 100, random() % 5 + 1), port_from_host(9));
    const Outcome out = engine->inside(frame, kInside);
    if (out.action != Action::forward) {
      ++refused;
      return;
    }
    ++passed;
    Ipv4Header ip;
    UdpHeader udp;
    std::memcpy(&ip, buffer, sizeof(ip));
    std::memcpy(&udp, buffer + sizeof(ip), sizeof(udp));
    u8 answer[128] = {};
    Frame back = datagram(answer, ip.destination, udp.destination, ip.source, udp.source);
    const Outcome in = engine->outside(back, kOutside);
    // The mapping can only be gone again if the sweeper was wrong: nothing expires in a round.
    if (in.action != Action::forward) ++lost;
  }

  std::unique_ptr<Engine> engine;
  std::atomic<u64> passed{0}, refused{0}, lost{0};

 private:
  static Frame datagram(u8* at, Ipv4 source, Port source_port, Ipv4 destination,
                        Port destination_port) {
    Ipv4Header ip{};
    ip.version_ihl = 0x45;
    ip.total_length = swap16(28);
    ip.ttl = 64;
    ip.protocol = kProtocolUdp;
    ip.source = source;
    ip.destination = destination;
    u16 words[10];
    std::memcpy(words, &ip, sizeof(ip));
    u32 sum = 0;
    for (u16 w : words) sum += w;
    ip.checksum = static_cast<u16>(~((sum & 0xffff) + (sum >> 16)));
    const UdpHeader udp{source_port, destination_port, swap16(8), 0};
    std::memcpy(at, &ip, sizeof(ip));
    std::memcpy(at + sizeof(ip), &udp, sizeof(udp));
    return {at, 28, 128};
  }
};

TEST(Stress, TwoThreadsOneTable) {
  Crowd crowd;
  u32 rounds = 0;
  u64 now_ns = 1000000000000ull;
  crowd.engine->set_time(now_ns);
  std::atomic<bool> running{true};
  std::barrier meet(2, [&]() noexcept {
    ++rounds;
    const auto violations = crowd.engine->verify(ticks_from_s(400));
    EXPECT_TRUE(violations.empty()) << "round " << rounds << "\n" << describe(violations);
    now_ns += 40000000000ull;
    crowd.engine->set_time(now_ns);
    if (!violations.empty() || rounds == kRounds) running = false;
  });
  const auto work = [&](u32 seed, bool sweeps) {
    test::Random random(seed);
    while (running) {
      for (int i = 0; i < 150; ++i) {
        crowd.exchange(random);
        if (sweeps && i % 40 == 20) crowd.engine->sweep_all();
      }
      meet.arrive_and_wait();
    }
  };
  std::thread other(work, 1, true);
  work(2, false);
  other.join();
  std::printf("%u rounds: %llu exchanges, %llu refused\n", rounds, crowd.passed.load(),
              crowd.refused.load());
  EXPECT_EQ(crowd.lost, 0u);
  EXPECT_GT(crowd.passed, 1000u);
  EXPECT_GT(crowd.refused, 10u);
  const EngineCounters c = crowd.engine->counters();
  EXPECT_EQ(c.traffic[static_cast<u32>(Traffic::translated_out)], crowd.passed);
  EXPECT_EQ(c.reasons[static_cast<u32>(Reason::internal_error)], 0u);
}

}  // namespace
}  // namespace masq
