// Making flows and mappings and taking them away, at the edges of every limit.
#include "core/flows.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "unit/random.h"
#include "unit/test_world.h"

namespace masq {
namespace {

using test::key_of;
using test::TestWorld;

class Flows : public testing::Test {
 protected:
  Settings settings = test::plain_settings();
  std::unique_ptr<TableMemory> memory;
  std::unique_ptr<TestWorld> world;

  TestWorld& start(u32 records_max = kRecordsMin) {
    memory = std::make_unique<TableMemory>(records_max);
    memory->exclude_ports(settings);
    world = std::unique_ptr<TestWorld>(new TestWorld{memory->tables(), settings});
    return *world;
  }
  void set_pool(u16 first, u16 last) {
    for (PortRange& range : settings.pool) range = {1, 0};
    settings.pool[0] = {first, last};
  }
  u32 flow(const Key& key, State state = State::udp, u32 external = 0) {
    u32 index = kNoRecord;
    EXPECT_EQ(world->flow(key, state, index, external), Reason::none);
    EXPECT_NE(index, kNoRecord);
    return index;
  }
  Reason refusal(const Key& key, State state = State::udp) {
    u32 index = kNoRecord;
    const Reason reason = world->flow(key, state, index);
    EXPECT_EQ(index == kNoRecord, reason != Reason::none);
    return reason;
  }
  u16 port(u32 index) const { return to_host(world->record(index).external_port); }
  void audit(Ticks overdue_max = ticks_from_s(kTimeoutMax_s)) {
    const auto violations = verify(world->tables, settings, world->now, overdue_max);
    EXPECT_TRUE(violations.empty()) << describe(violations);
  }
  u32 find(const Key& key) const {
    const u32 index = find_inner(world->tables, key, key_hash(settings, key, kOut));
    if (index == kNoRecord || !in_force(settings, world->record(index), world->now))
      return kNoRecord;
    return index;
  }
  u32 find_in(u32 index) const {
    const Key key = outer_key(settings, world->record(index));
    return find_outer(world->tables, settings, key, key_hash(settings, key, kIn));
  }
};

TEST_F(Flows, OneMappingForManyFlows) {
  start();
  const u32 first = flow(key_of(1, 5000, 1, 9));
  for (u16 i = 0; i < 100; ++i) EXPECT_EQ(port(flow(key_of(1, 5000, 2, i))), port(first));
  EXPECT_EQ(world->tables.shared->flows, 101u);
  EXPECT_EQ(world->tables.shared->mappings, 1u);
  EXPECT_EQ(find_in(first), first);
  audit();
}

TEST_F(Flows, EndpointIndependentUnderCollision) {
  start();
  std::set<u32> ports;
  std::map<u32, u16> of_host;
  for (u32 remote = 1; remote < 5; ++remote)
    for (u32 host = 1; host <= 100; ++host) {
      const u16 p = port(flow(key_of(host, 5000, remote, 9)));
      if (remote == 1) {
        EXPECT_TRUE(ports.insert(p).second) << "one port for two hosts";
        of_host[host] = p;
      }
      EXPECT_EQ(p, of_host[host]);
    }
  audit();
}

TEST_F(Flows, ExactlyFlowsMax) {
  settings.flows_max = 7;
  start();
  for (u16 i = 0; i < 7; ++i) flow(key_of(i, 5000, 1, 9));
  EXPECT_EQ(refusal(key_of(8, 5000, 1, 9)), Reason::flow_table_full);
  EXPECT_EQ(world->tables.shared->flows, 7u);
  EXPECT_NE(find(key_of(3, 5000, 1, 9)), kNoRecord) << "nothing in force is evicted";
  audit();
  world->now += settings.udp;
  world->sweep();
  for (u16 i = 0; i < 7; ++i) flow(key_of(static_cast<u32>(100 + i), 5000, 1, 9));
  EXPECT_EQ(refusal(key_of(8, 5000, 1, 9)), Reason::flow_table_full);
  audit();
}

// In the largest table of its kind, where inner hosts have a mapping for every flow.
TEST_F(Flows, TheGatewayHasSomeBeyond) {
  settings.flows_max = kRecordsMin / 2 - 1 - kFlowsOwn;
  start();
  const auto own = [this](u16 port) {
    Key key = key_of(1, port, 1, 9);
    key.near_address = settings.externals[0].address;
    world->new_flow = NewFlow{key, 0, State::udp, kFlagLocal, true, 0, Port{0}};
    world->making.hash = key_hash(settings, key, kOut);
    return make_flow(*world);
  };
  for (u16 i = 0; i < settings.flows_max; ++i) flow(key_of(i % 100, 5000 + i, 1, 9));
  for (u16 i = 0; i < kFlowsOwn; ++i) EXPECT_EQ(own(static_cast<u16>(40000 + i)), Reason::none);
  EXPECT_EQ(own(41000), Reason::flow_table_full);
  EXPECT_EQ(refusal(key_of(9999, 5000, 1, 9)), Reason::flow_table_full);
  audit();
}

TEST_F(Flows, EveryPlaceCanBeUsed) {
  settings.flows_max = kRecordsMin;
  start();
  u32 made = 0;
  for (u16 i = 0; made + 2 < kRecordsMin; ++i, ++made) flow(key_of(1, 5000, 1, i));
  // One place is record 0, one is the mapping's.
  EXPECT_EQ(refusal(key_of(1, 5000, 2, 1)), Reason::flow_table_full);
  EXPECT_EQ(refusal(key_of(2, 5000, 2, 1)), Reason::flow_table_full);
  audit();
}

TEST_F(Flows, ExactlyAsManyMappingsAsPorts) {
  for (const u8 protocol : {kProtocolUdp, kProtocolTcp}) {
    set_pool(40000, 40015);
    start();
    std::set<u32> ports;
    for (u16 i = 0; i < 16; ++i)
      EXPECT_TRUE(
          ports.insert(port(flow(key_of(1, static_cast<u16>(5000 + i), 1, 9, protocol)))).second);
    EXPECT_EQ(*ports.begin(), 40000u);
    EXPECT_EQ(*ports.rbegin(), 40015u);
    EXPECT_EQ(refusal(key_of(2, 7000, 1, 9, protocol)), Reason::ports_exhausted);
    EXPECT_EQ(refusal(key_of(2, 7001, 1, 9, protocol)), Reason::ports_exhausted);
    audit();
    world->now += settings.udp;
    world->sweep();
    EXPECT_EQ(world->tables.shared->mappings, 0u);
    for (u16 i = 0; i < 16; ++i) flow(key_of(3, static_cast<u16>(5000 + i), 1, 9, protocol));
    audit();
  }
}

TEST_F(Flows, EveryParityServesInATinyPool) {
  // Sixteen endpoints of one parity get all sixteen ports, their own parity first.
  set_pool(40000, 40015);
  start();
  for (u16 i = 0; i < 16; ++i) {
    const u16 p = port(flow(key_of(1, static_cast<u16>(5000 + 2 * i), 1, 9)));
    EXPECT_EQ(p & 1, i < 8 ? 0 : 1) << i;
  }
  EXPECT_EQ(refusal(key_of(1, 6000, 1, 9)), Reason::ports_exhausted);
}

TEST_F(Flows, LowPortsStayLowWhileThereAreAny) {
  set_pool(1000, 1025);
  start();
  u32 low = 0;
  for (u16 i = 0; i < 26; ++i) {
    const u16 p = port(flow(key_of(1, static_cast<u16>(i + 1), 1, 9)));
    if (i < 24) {
      EXPECT_LT(p, 1024) << i;
    }
    low += p < 1024;
  }
  EXPECT_EQ(low, 24u);
  EXPECT_EQ(refusal(key_of(1, 99, 1, 9)), Reason::ports_exhausted);
}

TEST_F(Flows, HighPortsNeverBecomeLow) {
  set_pool(1000, 1025);
  start();
  for (u16 i = 0; i < 2; ++i)
    EXPECT_GE(port(flow(key_of(1, static_cast<u16>(5000 + i), 1, 9))), 1024);
  EXPECT_EQ(refusal(key_of(1, 6000, 1, 9)), Reason::ports_exhausted);
  EXPECT_EQ(refusal(key_of(1, 6001, 1, 9)), Reason::ports_exhausted);
}

TEST_F(Flows, IcmpIdentifiersAreAPoolOfTheirOwn) {
  set_pool(40000, 40000);
  start();
  std::set<u32> ids;
  for (u16 i = 0; i < 900; ++i)
    EXPECT_TRUE(ids.insert(port(flow(key_of(1, i, 1, 0, kProtocolIcmp), State::icmp))).second);
  flow(key_of(1, 5000, 1, 9));
  flow(key_of(1, 5000, 1, 9, kProtocolTcp), State::tcp_opening);
  audit();
}

TEST_F(Flows, EachStateExpiresOnItsTick) {
  struct Case {
    State state;
    u16 remote_port;
    Ticks timeout;
  };
  const Settings& s = settings;
  const Case cases[] = {{State::udp, 9, s.udp},
                        {State::udp, 53, s.dns},
                        {State::icmp, 0, s.icmp},
                        {State::tcp_opening, 80, s.tcp_opening},
                        {State::tcp_established, 80, s.tcp_established},
                        {State::tcp_fin_out, 80, s.tcp_established},
                        {State::tcp_fin_in, 80, s.tcp_established},
                        {State::tcp_closing, 80, s.tcp_closing},
                        {State::tcp_transitory, 80, s.tcp_closing}};
  // Also across the moment when the clock goes round.
  for (const Ticks begin : {Ticks{1000000}, 0u - 5, 0u - ticks_from_s(20)})
    for (const Case& c : cases) {
      start();
      world->now = begin;
      const u8 protocol = c.state == State::icmp  ? kProtocolIcmp
                          : c.state == State::udp ? kProtocolUdp
                                                  : kProtocolTcp;
      const Key key = key_of(1, 5000, 1, c.remote_port, protocol);
      const u32 index = flow(key, c.state);
      world->now = begin + c.timeout - 1;
      EXPECT_EQ(find(key), index);
      world->sweep();
      EXPECT_EQ(world->record(index).state, c.state);
      world->now = begin + c.timeout;
      EXPECT_EQ(find(key), kNoRecord);
      world->sweep();
      EXPECT_EQ(world->record(index).state, State::dead);
      EXPECT_EQ(world->tables.shared->flows, 0u);
      EXPECT_EQ(world->tables.shared->mappings, 0u);
      audit(0);
    }
}

TEST_F(Flows, APlaceRestsBeforeItIsUsedAgain) {
  start();
  const u32 index = flow(key_of(1, 5000, 1, 9));
  const u16 version = world->record(index).version;
  world->now += settings.udp;
  const Ticks dead_since = world->now;
  world->sweep();
  world->now = dead_since + kPause - 1;
  world->sweep();
  EXPECT_EQ(world->record(index).state, State::dead);
  EXPECT_TRUE(world->tables.record_used[index >> 6] >> (index & 63) & 1);
  world->now = dead_since + kPause;
  world->sweep();
  EXPECT_EQ(world->record(index).state, State::free);
  EXPECT_FALSE(world->tables.record_used[index >> 6] >> (index & 63) & 1);
  audit(0);
  EXPECT_EQ(flow(key_of(1, 5000, 1, 9)), index);
  EXPECT_NE(world->record(index).version, version) << "or a fragment would follow a stranger";
}

TEST_F(Flows, MappingGoesWithItsLastFlow) {
  start();
  flow(key_of(1, 5000, 1, 9));
  world->now += ticks_from_s(100);
  const u16 p = port(flow(key_of(1, 5000, 2, 9)));
  world->now += ticks_from_s(200) + 2;
  world->sweep();
  EXPECT_EQ(world->tables.shared->flows, 1u);
  EXPECT_EQ(world->tables.shared->mappings, 1u);
  EXPECT_TRUE(port_is_used(pool_of(world->tables, 0, kProtocolUdp), p));
  world->now += ticks_from_s(100) + 2;
  world->sweep();
  EXPECT_EQ(world->tables.shared->mappings, 0u);
  EXPECT_FALSE(port_is_used(pool_of(world->tables, 0, kProtocolUdp), p));
  audit(0);
}

// An endpoint whose flows have all expired and not been swept speaks again: it is served at once,
// by the mapping that is still there.
TEST_F(Flows, ExpiredFlowIsReplacedInPlace) {
  start();
  const Key key = key_of(1, 5000, 1, 9);
  const u16 p = port(flow(key));
  world->now += settings.udp + 5;
  EXPECT_EQ(find(key), kNoRecord);
  const u32 index = flow(key);
  EXPECT_EQ(port(index), p);
  EXPECT_EQ(world->tables.shared->flows, 1u);
  EXPECT_EQ(world->tables.shared->mappings, 1u);
  audit();
  // With a port that would not be chosen again, too: the mapping has it as long as it is there.
  start();
  PortPool& pool = pool_of(world->tables, 0, kProtocolUdp);
  EXPECT_TRUE(port_take(pool, p));
  const u16 other = port(flow(key));
  EXPECT_NE(other, p);
  port_give(pool, p);
  world->now += settings.udp + 5;
  EXPECT_EQ(port(flow(key)), other);
  audit();
  // Also when no second port could be had.
  set_pool(40000, 40000);
  start();
  flow(key);
  world->now += settings.udp + 5;
  flow(key);
  audit();
}

TEST_F(Flows, ExternalAddressGoesAndComesBack) {
  start();
  const Key key = key_of(1, 5000, 1, 9);
  const u32 old = flow(key);
  const u16 old_port = port(old);
  settings.externals[0].state = kExternalGone;
  EXPECT_EQ(find(key), kNoRecord);
  // A new address: a new mapping there.
  const u32 index = flow(key, State::udp, 1);
  EXPECT_NE(index, old);
  EXPECT_EQ(world->record(index).external, 1);
  audit();
  // A flow that nobody touched meanwhile resumes when the address comes back in time.
  const Key other = key_of(2, 5000, 1, 9);
  settings.externals[0].state = kExternalLive;
  const u32 kept = flow(other);
  settings.externals[0].state = kExternalGone;
  EXPECT_EQ(find(other), kNoRecord);
  settings.externals[0].state = kExternalLive;
  EXPECT_EQ(find(other), kept);
  EXPECT_EQ(find_in(kept), kept);
  // Gone and swept it is no more.
  settings.externals[0].state = kExternalGone;
  world->sweep();
  settings.externals[0].state = kExternalLive;
  EXPECT_EQ(find(other), kNoRecord);
  audit(0);
  (void)old_port;
}

// --- sharing -------------------------------------------------------------------------------------

class Sharing : public Flows {
 protected:
  u32 tcp(u32 host, u16 port, u32 remote) {
    return flow(key_of(host, port, remote, 80, kProtocolTcp), State::tcp_opening);
  }
  Reason tcp_refusal(u32 host, u16 port, u32 remote) {
    return refusal(key_of(host, port, remote, 80, kProtocolTcp), State::tcp_opening);
  }
  bool shares(u32 index) const { return world->record(index).mapping == kNoRecord; }
};

TEST_F(Sharing, BeginsWhenNoPortIsFreeAndEndsWithTheTuples) {
  set_pool(40000, 40003);
  start();
  for (u16 i = 0; i < 4; ++i) EXPECT_FALSE(shares(tcp(1, static_cast<u16>(5000 + i), 1)));
  // All four ports have a flow to remote 1: it can be reached by nobody else.
  EXPECT_EQ(tcp_refusal(2, 5000, 1), Reason::ports_exhausted);
  for (u32 remote = 2; remote < 6; ++remote) {
    std::set<u32> ports;
    for (u32 host = 2; host < 6; ++host) {
      const u32 index = tcp(host, 5000, remote);
      EXPECT_TRUE(shares(index));
      EXPECT_EQ(find_in(index), index);
      ports.insert(port(index));
    }
    EXPECT_EQ(ports.size(), 4u) << "one tuple for two flows";
    EXPECT_EQ(tcp_refusal(6, 5000, remote), Reason::ports_exhausted);
  }
  EXPECT_EQ(world->tables.shared->mappings, 4u);
  audit();
  // A port that is free again is given for itself.
  world->now += settings.tcp_opening;
  world->sweep();
  EXPECT_EQ(world->tables.shared->flows, 0u);
  EXPECT_FALSE(shares(tcp(2, 5000, 1)));
  audit(0);
}

TEST_F(Sharing, IsNotForUdpNorIcmp) {
  set_pool(40000, 40000);
  start();
  flow(key_of(1, 5000, 1, 9));
  EXPECT_EQ(refusal(key_of(2, 5000, 2, 9)), Reason::ports_exhausted);
  PortPool& ids = pool_of(world->tables, 0, kProtocolIcmp);
  for (u32 id = 0; id < 65536; ++id) port_take(ids, static_cast<u16>(id));
  EXPECT_EQ(refusal(key_of(2, 5000, 2, 0, kProtocolIcmp), State::icmp), Reason::ports_exhausted);
}

// Who has a mapping, and wants to go where another one shares its port already, shares as well.
TEST_F(Sharing, OwnerOfAPortStepsAside) {
  set_pool(40000, 40001);
  start();
  const u32 owner = tcp(1, 5000, 1);
  const u32 other = tcp(2, 5000, 1);
  const u32 guest = tcp(3, 5000, 2);
  ASSERT_TRUE(shares(guest));
  const u32 host = port(guest) == port(owner) ? 1 : 2;
  const u32 aside = tcp(host, 5000, 2);
  EXPECT_TRUE(shares(aside));
  EXPECT_NE(port(aside), port(guest));
  EXPECT_EQ(find_in(guest), guest);
  EXPECT_EQ(find_in(aside), aside);
  EXPECT_EQ(tcp_refusal(3 - host, 5000, 2), Reason::ports_exhausted);
  EXPECT_FALSE(shares(tcp(3 - host, 5000, 3)));
  EXPECT_EQ(world->record(owner).mapping == world->record(other).mapping, false);
  audit();
}

// A port that comes free while others share it is not given for a flow that would meet them.
TEST_F(Sharing, AFreePortWithGuestsIsNotForTheirRemote) {
  set_pool(40000, 40000);
  start();
  tcp(1, 5000, 1);
  const u32 guest = tcp(2, 5000, 2);
  ASSERT_TRUE(shares(guest));
  world->now += settings.tcp_opening - 1;
  world->record(guest).last_seen = world->now;
  world->now += 1;
  world->sweep();
  EXPECT_EQ(world->tables.shared->mappings, 0u);
  EXPECT_EQ(tcp_refusal(3, 5000, 2), Reason::ports_exhausted);
  EXPECT_FALSE(shares(tcp(3, 5000, 3)));
  EXPECT_EQ(find_in(guest), guest);
  audit();
}

// What goes to an external endpoint must not come from the same: it would come back to its sender.
TEST_F(Sharing, NeverTowardsItself) {
  set_pool(40000, 40000);
  start();
  tcp(1, 5000, 1);
  Key key = key_of(2, 5000, 1, 40000, kProtocolTcp);
  key.remote_address = settings.externals[0].address;
  EXPECT_EQ(refusal(key, State::tcp_opening), Reason::ports_exhausted);
}

TEST_F(Sharing, PortsOfSocketsAreNotShared) {
  set_pool(40000, 40003);
  start();
  for (u16 i = 0; i < 4; ++i) tcp(1, static_cast<u16>(5000 + i), 1);
  world->sockets = {40001, 40002};
  std::set<u32> ports;
  for (u32 host = 2; host < 4; ++host) ports.insert(port(tcp(host, 5000, 2)));
  EXPECT_EQ(ports, (std::set<u32>{40000, 40003}));
  EXPECT_EQ(tcp_refusal(4, 5000, 2), Reason::ports_exhausted);
}

// Against the plainest form of it: a map from tuples to flows. Nobody is refused while a tuple is
// left, and no tuple has two flows.
TEST_F(Sharing, EqualsAMap) {
  set_pool(40000, 40011);
  start();
  std::map<u64, std::pair<u64, Ticks>> tuples;  // port and remote -> flow and when it was seen
  test::Random random(11);
  u64 shared = 0, refused = 0;
  for (int i = 0; i < 60000; ++i) {
    world->now += random() % 2000;
    const u32 host = random() % 30, remote = 1 + random() % 5;
    const u64 name = host << 8 | remote;
    const Key key = key_of(host, 5000, remote, 80, kProtocolTcp);
    u32 index = kNoRecord;
    if (random() % 20 == 0) {
      world->sweep();
      std::erase_if(tuples, [&](const auto& t) {
        return elapsed(world->now, t.second.second, settings.tcp_opening);
      });
    }
    u32 used = 0;
    for (u32 p = 40000; p < 40012; ++p) {
      const auto it = tuples.find(p << 8 | remote);
      used += it != tuples.end();  // also an expired one of its own, until it is swept
    }
    const Reason reason = world->flow(key, State::tcp_opening, index);
    ASSERT_TRUE(reason == Reason::none || (reason == Reason::ports_exhausted && used == 12))
        << "refused with " << used << " of 12 tuples used";
    if (reason != Reason::none) {
      ++refused;
      continue;
    }
    Record& r = world->record(index);
    r.last_seen = world->now;
    ASSERT_EQ(find_in(index), index) << "an answer would not find its way";
    const u64 tuple = static_cast<u64>(port(index)) << 8 | remote;
    const auto it = tuples.find(tuple);
    ASSERT_TRUE(it == tuples.end() || it->second.first == name) << "one tuple, two flows";
    std::erase_if(tuples, [&](const auto& t) { return t.second.first == name; });
    tuples[tuple] = {name, world->now};
    shared += shares(index);
    if (random() % 5000 == 0) audit();
  }
  EXPECT_GT(shared, 1000u);
  EXPECT_GT(refused, 1000u);
  audit();
}

// --- and again for itself ------------------------------------------------------------------------

// Four hosts have a block of 128 ports each: host n those from 30080 + 128 n. The rest of the pool
// is from 30592 on.
class InBlocks : public Sharing {
 protected:
  InBlocks() {
    set_pool(30000, 31999);
    settings.port_blocks[2] = {ipv4_from_host(0xc0a80200), ipv4_from_host(~3u), 1, 0, {}};
    EXPECT_EQ(lay_blocks(settings), kPortBlocksMax);
    settings.flows_max = 4000;
    start(8192);
  }
  static u32 first_of(u32 host) { return 30080 + 128 * host; }
  static constexpr u32 kRest = 30592;
};

TEST_F(InBlocks, AHostHasEveryPortOfItsBlockAndNoOther) {
  for (const u32 host : {0u, 3u, 1u}) {
    std::set<u32> ports;
    for (u16 i = 0; i < 128; ++i) {
      const u16 inner = static_cast<u16>(i % 3 == 0 ? 100 + i : 5000 + i);  // low ones too
      const u16 given = port(flow(key_of(host, inner, 1, 9)));
      ASSERT_TRUE(given >= first_of(host) && given < first_of(host) + 128) << given;
      ports.insert(given);
      if (i < 32) {
        ASSERT_EQ(given & 1, inner & 1);
      }
    }
    EXPECT_EQ(ports.size(), 128u);
    EXPECT_EQ(refusal(key_of(host, 6000, 1, 9)), Reason::ports_exhausted);
    EXPECT_EQ(refusal(key_of(host, 600, 1, 9)), Reason::ports_exhausted);
  }
  const u16 neighbour = port(flow(key_of(2, 5000, 1, 9)));
  EXPECT_TRUE(neighbour >= first_of(2) && neighbour < first_of(3)) << neighbour;
  audit();
}

TEST_F(InBlocks, TheOthersHaveWhatIsLeft) {
  for (u32 i = 0; i < 32000 - kRest; ++i) {
    const u16 given = port(flow(key_of(4, static_cast<u16>(5000 + i), 1, 9)));
    ASSERT_TRUE(given >= kRest && given < 32000) << given;
  }
  EXPECT_EQ(refusal(key_of(200, 5000, 1, 9)), Reason::ports_exhausted);
  EXPECT_EQ(port(flow(key_of(3, 5000, 1, 9))) / 128u, first_of(3) / 128u);
  audit();
}

TEST_F(InBlocks, TcpSharesWithinTheBlock) {
  for (u32 i = 0; i < 128; ++i) EXPECT_FALSE(shares(tcp(3, static_cast<u16>(5000 + i), 1)));
  std::set<u32> ports;
  for (u32 i = 0; i < 60; ++i) {
    const u32 index = tcp(3, static_cast<u16>(6000 + i), 2);
    EXPECT_TRUE(shares(index));
    ASSERT_EQ(port(index) / 128u, first_of(3) / 128u);
    ports.insert(port(index));
  }
  EXPECT_EQ(ports.size(), 60u);
  EXPECT_EQ(tcp_refusal(3, 7000, 1), Reason::ports_exhausted);
  EXPECT_EQ(port(tcp(2, 5000, 1)) / 128u, first_of(2) / 128u);
  audit();
}

TEST_F(InBlocks, AreTheSameForIdentifiersAndForEachExternalAddress) {
  for (u16 i = 0; i < 20; ++i) {
    const Key query = key_of(1, i, 1, 0, kProtocolIcmp);
    EXPECT_EQ(port(flow(query, State::icmp)) / 128u, first_of(1) / 128u);
    EXPECT_GE(port(flow(key_of(9, i, 1, 0, kProtocolIcmp), State::icmp)), kRest);
    EXPECT_EQ(port(flow(key_of(1, 5000 + i, 1, 9), State::udp, 2)) / 128u, first_of(1) / 128u);
  }
  audit();
}

// What the gateway itself sends from a port that is for blocks gets another one.
TEST_F(InBlocks, AreNotForTheGateway) {
  for (const u32 own : {30464u, 30591u, 30592u, 31999u}) {
    Key key = key_of(1, static_cast<u16>(own), 1, 9);
    key.near_address = settings.externals[0].address;
    world->new_flow = NewFlow{key, 0, State::udp, kFlagLocal, true, 0, Port{0}};
    world->making.hash = key_hash(settings, key, kOut);
    ASSERT_EQ(make_flow(*world), Reason::none);
    const u16 given = port(world->making.flow);
    EXPECT_GE(given, kRest);
    EXPECT_EQ(given == own, own >= kRest) << own;
  }
  audit();
}

TEST_F(Flows, PortsOfSocketsAreNotGiven) {
  set_pool(40000, 40003);
  start();
  world->sockets = {40001, 40003};
  // Each finds one of the two free ports or is refused; never a socket's.
  std::set<u32> ports;
  for (u16 i = 0; i < 8; ++i) {
    u32 index = kNoRecord;
    if (world->flow(key_of(1, static_cast<u16>(5000 + i), 1, 9), State::udp, index) == Reason::none)
      ports.insert(port(index));
  }
  EXPECT_EQ(ports, (std::set<u32>{40000, 40002}));
  audit();
}

TEST_F(Flows, SocketsDoNotHideFreePorts) {
  set_pool(40000, 40015);
  start();
  world->sockets = {40000, 40002, 40004};
  std::set<u32> ports;
  for (u16 i = 0; i < 13; ++i) {
    u32 index = kNoRecord;
    ASSERT_EQ(world->flow(key_of(1, static_cast<u16>(5000 + i), 1, 9), State::udp, index),
              Reason::none)
        << "with " << ports.size() << " of 13 ports given";
    ports.insert(port(index));
  }
  EXPECT_EQ(ports.size(), 13u);
  audit();
}

// Random making, touching, expiring and sweeping against a set of what must be there.
TEST_F(Flows, EqualASet) {
  settings.flows_max = 1500;
  start();
  std::map<u64, Ticks> twin;  // name of a flow -> last seen
  test::Random random(7);
  for (int i = 0; i < 60000; ++i) {
    world->now += random() % 400;
    const u32 name = random() % 4000;
    const Key key = key_of(name % 40, static_cast<u16>(5000 + name / 400), name / 40 % 10, 9);
    const auto it = twin.find(name);
    const bool alive = it != twin.end() && world->now - it->second < settings.udp;
    ASSERT_EQ(find(key) != kNoRecord, alive);
    u32 index = kNoRecord;
    if (world->flow(key, State::udp, index) == Reason::none) {
      world->record(index).last_seen = world->now;
      twin[name] = world->now;
    }
    if (random() % 500 == 0) world->sweep();
    if (random() % 5000 == 0) audit();
  }
  audit();
}

// Where the index has no place for the permission of a filtering by address, there is a flow
// without: nothing is left that nobody holds.
TEST_F(Flows, NoPlaceForAPermission) {
  settings.filtering = kFilterAddress;
  settings.filters_open = 1;
  start();
  const Key key{test::ip(192, 168, 2, 4), test::ip(198, 51, 100, 1), port_from_host(5000),
                port_from_host(9), kProtocolUdp};
  const u64 hash = key_hash(settings, permission_key(key), kOut);
  std::set<u32> filled;
  for (u32 i = 0; i < 2 * kBucketSlots; ++i) {
    const u32 at = slot_at(hash, i, kRecordsMin);
    if (world->tables.inner_slots[at] == 0) filled.insert(at);
    world->tables.inner_slots[at] = slot_make(~hash, kRecordsMin - 1);  // another key's
  }
  const u32 made = flow(key);
  EXPECT_EQ(world->record(world->record(made).mapping).state, State::mapping);
  EXPECT_EQ(world->tables.shared->mappings, 1u);
  for (u32 at : filled) world->tables.inner_slots[at] = 0;
  audit();
  world->now += settings.udp;
  world->sweep();
  EXPECT_EQ(world->tables.shared->mappings, 0u);
  audit();
}

}  // namespace
}  // namespace masq
