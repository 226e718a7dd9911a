// Predictions: over given tables, with given answers, they say what was known and what is new.
#include "engine/predict.h"

#include <gtest/gtest.h>

#include "packets/packet_text.h"
#include "unit/test_world.h"

namespace masq::test {
namespace {

constexpr u32 kLan = 2, kWan = 10;
const Ipv4 kExternal = ip(203, 0, 113, 2);

struct Asked {
  u32 routes = 0, sockets = 0, addresses = 0;
  Ipv4 route_source{};
};

class Predict : public ::testing::Test {
 protected:
  Predict() : memory_(kRecordsMin), settings_(plain_settings()) {
    memory_.exclude_ports(settings_);
    settings_.interfaces[kLan] = {kLan,          Zone::inside,       0,   {0}, 0,
                                  kExternalsMax, ip(192, 168, 2, 1), 1500};
    settings_.interfaces[kWan] = {kWan, Zone::outside, 0, {0}, 0, 0, kExternal, 1500};
    settings_.block_ipv6 = 1;
  }

  EngineAnswers answers() {
    EngineAnswers a;
    a.route = [this](Ipv4 destination, Ipv4 source) {
      ++asked_.routes;
      asked_.route_source = source;
      const bool in = (destination.be & swap32(0xffffff00)) == ip(192, 168, 2, 0).be;
      if (same(destination, kExternal))
        return EngineRoute{destination, 32, RouteKind::local, 0, {}};
      return EngineRoute{destination, 32, RouteKind::forward, in ? kLan : kWan,
                         in ? destination : ip(203, 0, 113, 1)};
    };
    a.socket = [this](u8, Ipv4, Port port, Ipv4, Port) {
      ++asked_.sockets;
      return to_host(port) == socket_;
    };
    a.is_outer_address = [this](Ipv4 address) {
      ++asked_.addresses;
      return same(address, kExternal);
    };
    return a;
  }

  Prediction ask(Engine& engine, const std::string& words, DropSide side) {
    std::size_t at = 0;
    Data data = build_packet(parse_packet(split_words(words), at), variables_, {});
    const u32 length = static_cast<u32>(data.size());
    data.resize(length + 64);
    Frame frame{data.data(), length, length + 64};
    return predict(engine, frame, side, side == DropSide::inside ? kLan : kWan, 0);
  }

  TableMemory memory_;
  Settings settings_;
  Asked asked_;
  u32 socket_ = 0;
  Variables variables_;
};

TEST_F(Predict, a_new_flow_is_new_and_then_known) {
  Engine engine(memory_.tables(), settings_, answers());
  engine.set_time(1ull << 40);
  const char* words = "udp 192.168.2.4:5000 > 198.51.100.1:9";
  const Prediction first = ask(engine, words, DropSide::inside);
  EXPECT_EQ(first.outcome.action, Action::forward);
  EXPECT_FALSE(first.flow_before || first.mapping_before);
  ASSERT_TRUE(first.flow_after && first.mapping_after);
  EXPECT_TRUE(same(first.sent.source, kExternal));
  EXPECT_TRUE(same(first.sent.source_port, first.mapping_after->record.external_port));
  EXPECT_EQ(first.flows, 0u);
  EXPECT_TRUE(same(first.route.next_hop, ip(203, 0, 113, 1)));
  const Prediction again = ask(engine, words, DropSide::inside);
  ASSERT_TRUE(again.flow_before && again.mapping_before);
  EXPECT_TRUE(again.flow_before->in_force);
  EXPECT_EQ(again.flow_before->index, first.flow_after->index);
  EXPECT_EQ(again.flows, 1u);
  // It was made in the tables that were given, and they are whole.
  EXPECT_EQ(memory_.tables().shared->flows, 1u);
  EXPECT_TRUE(engine.verify(0).empty()) << describe(engine.verify(0));
}

TEST_F(Predict, an_expired_flow_is_said_to_be_so) {
  Engine engine(memory_.tables(), settings_, answers());
  engine.set_time(1ull << 40);
  ask(engine, "udp 192.168.2.4:5000 > 198.51.100.1:9", DropSide::inside);
  engine.set_time((1ull << 40) + 301ull * 1000000000);
  const Prediction late = ask(engine, "udp 192.168.2.4:5000 > 198.51.100.1:9", DropSide::inside);
  ASSERT_TRUE(late.flow_before && late.flow_after);
  EXPECT_FALSE(late.flow_before->in_force);
  EXPECT_NE(late.flow_before->index, late.flow_after->index);
}

TEST_F(Predict, from_outside_the_route_is_that_to_the_inner_host) {
  Engine engine(memory_.tables(), settings_, answers());
  engine.set_time(1ull << 40);
  const Prediction out = ask(engine, "udp 192.168.2.4:5000 > 198.51.100.1:9", DropSide::inside);
  variables_["$a"] = to_host(out.sent.source_port);
  const Prediction in = ask(engine, "udp 198.51.100.1:9 > 203.0.113.2:$a", DropSide::outside);
  EXPECT_EQ(in.outcome.action, Action::forward);
  EXPECT_EQ(in.route.ifindex, kLan);
  EXPECT_TRUE(same(in.sent.destination, ip(192, 168, 2, 4)));
  const Prediction other = ask(engine, "udp 198.51.100.1:10 > 203.0.113.2:$a", DropSide::outside);
  EXPECT_EQ(other.outcome.reason, Reason::no_mapping);
  EXPECT_FALSE(other.flow_before);
  ASSERT_TRUE(other.mapping_before);
  EXPECT_TRUE(same(other.mapping_before->record.internal_address, ip(192, 168, 2, 4)));
}

TEST_F(Predict, the_answers_are_asked_for_and_heeded) {
  Engine engine(memory_.tables(), settings_, answers());
  engine.set_time(1ull << 40);
  engine.add_route({Ipv4{0}, 0, RouteKind::none, 0, Ipv4{0}});  // not asked any more
  socket_ = 2000;
  const Prediction taken = ask(engine, "udp 198.51.100.1:9 > 203.0.113.2:2000", DropSide::outside);
  EXPECT_EQ(taken.outcome.action, Action::to_stack);
  EXPECT_TRUE(taken.socket);
  const Prediction free = ask(engine, "udp 198.51.100.1:9 > 203.0.113.2:2001", DropSide::outside);
  EXPECT_EQ(free.outcome.reason, Reason::no_mapping);
  EXPECT_FALSE(free.socket);
  EXPECT_EQ(ask(engine, "udp 192.168.2.4:1 > 198.51.100.1:9", DropSide::inside).outcome.action,
            Action::forward);
  EXPECT_GT(asked_.routes, 0u);
  EXPECT_GT(asked_.sockets, 0u);
  EXPECT_GT(asked_.addresses, 0u);
  EXPECT_NE(asked_.route_source.be, 0u);
}

TEST_F(Predict, a_later_fragment_has_the_flow_of_its_first) {
  Engine engine(memory_.tables(), settings_, answers());
  engine.set_time(1ull << 40);
  const std::string datagram = "udp 192.168.2.4:5000 > 198.51.100.1:9 len 64 id 5 slice ";
  EXPECT_FALSE(ask(engine, datagram + "24-48", DropSide::inside).flow_before);
  const Prediction first = ask(engine, datagram + "0-24", DropSide::inside);
  const Prediction second = ask(engine, datagram + "24-48", DropSide::inside);
  ASSERT_TRUE(first.flow_after && second.flow_before);
  EXPECT_EQ(second.flow_before->index, first.flow_after->index);
}

}  // namespace
}  // namespace masq::test
