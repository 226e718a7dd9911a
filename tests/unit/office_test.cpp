// An office behind one address: 50 hosts, each with 10 new TCP connections a second, for ten
// minutes, with the default timers. Closing connections stay for 240 seconds, so three times as
// many as there are ports are there at once, and most share their port. Nobody is refused, and
// every segment reaches the host that it is for.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <random>

#include "engine/engine.h"
#include "unit/test_world.h"

namespace masq {
namespace {

constexpr u32 kInside = 2, kOutside = 3;
constexpr u32 kHosts = 50, kEachPerSecond = 10, kSeconds = 600, kServers = 20;
constexpr u32 kOpen_s = 2;           // from a connection's SYN to its FIN
constexpr u32 kSweepTurn_ms = 4000;  // as in the kernel
constexpr u64 kMillisecond_ns = 1000000;

struct Segment {
  Ipv4Header ip;
  TcpHeader tcp;
};

Segment segment(Ipv4 source, Port source_port, Ipv4 destination, Port destination_port, u8 flags,
                u32 sequence, u32 acknowledgment) {
  Segment s{};
  s.ip.version_ihl = 0x45;
  s.ip.total_length = swap16(sizeof s);
  s.ip.ttl = 64;
  s.ip.protocol = kProtocolTcp;
  s.ip.source = source;
  s.ip.destination = destination;
  u16 words[10];
  std::memcpy(words, &s.ip, sizeof words);
  u64 sum = 0;
  for (u16 word : words) sum += word;
  s.ip.checksum = static_cast<u16>(~checksum_fold(sum));
  s.tcp.source = source_port;
  s.tcp.destination = destination_port;
  s.tcp.sequence = swap32(sequence);
  s.tcp.acknowledgment = swap32(acknowledgment);
  s.tcp.data_offset = 0x50;
  s.tcp.flags = flags;
  s.tcp.window = 0xffff;
  return s;
}

struct Connection {
  Ipv4 host, server;
  Port port;
  Port external_port;
  u64 closes_ns;
};

class Office : public testing::Test {
 protected:
  Settings settings = test::plain_settings();
  std::unique_ptr<Engine> engine;
  const Port kHttps = port_from_host(443);

  void SetUp() override {
    settings.flows_max = 262143;
    settings.pool[0] = {1, 1023};  // what the kernel's usual range of local ports leaves
    settings.pool[1] = {1024, 32767};
    settings.pool[2] = {61000, 65535};
    settings.externals[0].ifindex = kOutside;
    engine = std::make_unique<Engine>(524288, settings);
    const Ipv4 external = settings.externals[0].address;
    engine->set_interface(
        {kInside, Zone::inside, 0, {}, 0, kExternalsMax, test::ip(192, 168, 2, 1), 1500});
    engine->set_interface({kOutside, Zone::outside, 0, {}, 0, 0, external, 1500});
    engine->add_outer_address(external);
    engine->add_route({test::ip(192, 168, 2, 0), 24, RouteKind::forward, kInside, Ipv4{0}});
    engine->add_route({Ipv4{0}, 0, RouteKind::forward, kOutside, test::ip(203, 0, 113, 1)});
  }

  bool out(Connection& c, u8 flags, u32 sequence, u32 acknowledgment) {
    u8 bytes[128] = {};
    Segment s = segment(c.host, c.port, c.server, kHttps, flags, sequence, acknowledgment);
    std::memcpy(bytes, &s, sizeof s);
    Frame frame{bytes, sizeof s, sizeof bytes};
    if (engine->inside(frame, kInside).action != Action::forward) return false;
    std::memcpy(&s, bytes, sizeof s);
    if (flags == kTcpSyn) c.external_port = s.tcp.source;
    return same(s.tcp.source, c.external_port) && same(s.ip.source, settings.externals[0].address);
  }
  bool in(const Connection& c, u8 flags, u32 sequence, u32 acknowledgment) {
    u8 bytes[128] = {};
    Segment s = segment(c.server, kHttps, settings.externals[0].address, c.external_port, flags,
                        sequence, acknowledgment);
    std::memcpy(bytes, &s, sizeof s);
    Frame frame{bytes, sizeof s, sizeof bytes};
    if (engine->outside(frame, kOutside).action != Action::forward) return false;
    std::memcpy(&s, bytes, sizeof s);
    return same(s.ip.destination, c.host) && same(s.tcp.destination, c.port);
  }
};

TEST_F(Office, NobodyIsRefused) {
  std::mt19937 random(1);
  std::vector<double> popularity;
  for (u32 i = 1; i <= kServers; ++i) popularity.push_back(1 / std::sqrt(i));
  std::discrete_distribution<u32> server(popularity.begin(), popularity.end());
  std::deque<Connection> open;
  u32 made = 0, flows_most = 0, lost = 0;
  u64 now_ns = kMillisecond_ns;
  const u32 step_ms = 1000 / (kHosts * kEachPerSecond);
  ASSERT_EQ(step_ms * kHosts * kEachPerSecond, 1000u);
  while (made < kHosts * kEachPerSecond * kSeconds || !open.empty()) {
    engine->set_time(now_ns);
    if (made < kHosts * kEachPerSecond * kSeconds) {
      Connection c{test::ip(192, 168, 2, 10 + made % kHosts),
                   test::ip(198, 51, 100, 1 + server(random)),
                   port_from_host(static_cast<u16>(32768 + made / kHosts)), Port{0},
                   now_ns + kOpen_s * 1000 * kMillisecond_ns};
      ++made;
      const bool opened = out(c, kTcpSyn, 100, 0) && in(c, kTcpSyn | kTcpAck, 900, 101) &&
                          out(c, kTcpAck, 101, 901);
      lost += !opened;
      if (opened) open.push_back(c);
    }
    while (!open.empty() && open.front().closes_ns <= now_ns) {
      Connection& c = open.front();
      const bool closed = out(c, kTcpFin | kTcpAck, 101, 901) &&
                          in(c, kTcpFin | kTcpAck, 901, 102) && out(c, kTcpAck, 102, 902);
      lost += !closed;
      open.pop_front();
    }
    engine->sweep(engine->tables().records_max / kSweepTurn_ms * step_ms + 1);
    flows_most = std::max(flows_most, engine->tables().shared->flows);
    now_ns += step_ms * kMillisecond_ns;
    ASSERT_LT(lost, 10u) << "after " << made << " connections";
  }
  const EngineCounters counters = engine->counters();
  const u64 sharing = counters.traffic[static_cast<u32>(Traffic::flows_sharing_port)];
  std::printf("%u connections, %u flows at once, %llu made by sharing a port\n", made, flows_most,
              sharing);
  EXPECT_EQ(lost, 0u);
  for (u32 i = 0; i < kReasonCount; ++i) EXPECT_EQ(counters.reasons[i], 0u) << "reason " << i;
  EXPECT_GT(flows_most, 100000u);
  EXPECT_GT(sharing, 100000u);
  const auto found = engine->verify(ticks_from_s(10));
  EXPECT_TRUE(found.empty()) << describe(found);
}

}  // namespace
}  // namespace masq
