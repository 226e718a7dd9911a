// The engine, standing in the network of the packet scripts.
#include "engine/engine.h"
#include "packets/gateway.h"

#include <cstring>

namespace masq::test {

namespace {

// The same number of records as the kernel's table has for so many flows.
u32 records_for_flows(u32 flows_max) {
  u32 records = kRecordsMin;
  while (records < flows_max * 2 + 1) records *= 2;
  return records;
}

class EngineGateway : public Gateway {
 public:
  EngineGateway(const Settings& settings, const Plan& plan, u8 link_header_length)
      : engine_(records_for_flows(settings.flows_max), settings), l3_(link_header_length) {
    for (const PortPlan& port : plan) {
      const Ipv4 address = address_of(port.address);
      const Ipv4 network{address.be & swap32(0xffffff00)};
      const Ipv4 broadcast{network.be | swap32(0xff)};
      engine_.add_route({network, 24, RouteKind::forward, port.ifindex, Ipv4{0}});
      engine_.add_route({address, 32, RouteKind::local, 0, Ipv4{0}});
      engine_.add_route({broadcast, 32, RouteKind::local, 0, Ipv4{0}});
    }
    const auto via = [&](const char* prefix, u32 length, u32 port, const char* next_hop) {
      engine_.add_route({address_of(prefix), length, RouteKind::forward, plan[port].ifindex,
                         address_of(next_hop)});
    };
    via("0.0.0.0", 0, 2, "203.0.113.1");
    via("100.64.0.0", 16, 3, "192.0.2.1");
    engine_.add_route({address_of("100.65.0.0"), 16, RouteKind::none, 0, Ipv4{0}});
    engine_.add_route({address_of("127.0.0.0"), 8, RouteKind::local, 0, Ipv4{0}});
  }

  Passed pass(Hook hook, u32 ifindex, u32 from, u16 ether_type, const Data& packet,
              u32 segment_size, u32 segments, SlowKind back) override {
    Data buffer(hook == Hook::from_slow ? sizeof(SlowHeader) : l3_);
    if (hook == Hook::from_slow) {
      const SlowHeader h{kSlowMark, back, 0, 0, 0, kSlowMark, 0, ifindex, kEtherTypeIpv4};
      std::memcpy(buffer.data(), &h, sizeof(h));
    } else if (l3_ >= 2) {
      buffer[l3_ - 2u] = static_cast<u8>(ether_type >> 8);
      buffer[l3_ - 1u] = static_cast<u8>(ether_type);
    }
    buffer.insert(buffer.end(), packet.begin(), packet.end());
    const u32 length = static_cast<u32>(buffer.size());
    buffer.resize(length + 64);
    Frame frame{buffer.data(), length, length + 64, segment_size, segments};
    Outcome outcome{};
    switch (hook) {
      case Hook::in_lan:
        outcome = engine_.inside(frame, ifindex);
        break;
      case Hook::in_wan:
        outcome = engine_.outside(frame, ifindex);
        break;
      case Hook::out_wan:
        outcome = engine_.leaving(frame, ifindex, from);
        break;
      case Hook::out_lan:
        outcome = engine_.entering(frame, ifindex, from);
        break;
      case Hook::from_slow:
        outcome = engine_.from_slow(frame);
        break;
    }
    const bool slow = outcome.action == Action::slow || outcome.action == Action::stack_and_slow;
    const std::size_t l3 = slow || hook == Hook::from_slow ? sizeof(SlowHeader) : l3_;
    Passed passed{Fate::drop, Data(buffer.begin() + l3, buffer.begin() + frame.length)};
    if (outcome.action == Action::slow) {
      passed.fate = Fate::slow;
      std::memcpy(&passed.slow, buffer.data(), sizeof(passed.slow));
    }
    if (outcome.action == Action::stack_and_slow) passed.fate = Fate::stack;
    if (outcome.action == Action::forward || is_answer(outcome.action)) passed.fate = Fate::forward;
    if (outcome.action == Action::to_stack) passed.fate = Fate::stack;
    return passed;
  }

  void slow_beat() override { engine_.slow_beat(); }
  void set_time(u64 ns) override { engine_.set_time(ns); }
  void sweep() override { engine_.sweep_all(); }
  Settings& settings() override { return engine_.settings(); }
  void set_interface(const Interface& interface) override {
    Interface mine = interface;
    mine.link_header_length = l3_;
    engine_.set_interface(mine);
  }
  void add_outer_address(Ipv4 address) override {
    engine_.add_outer_address(address);
    engine_.add_route({address, 32, RouteKind::local, 0, Ipv4{0}});
  }
  void open_socket(u8 protocol, Ipv4 address, u16 port) override {
    engine_.add_socket({protocol, address, port_from_host(port)});
  }
  const Tables& tables() const override { return engine_.tables(); }
  const Drops& drops() const override { return engine_.drops(); }
  Totals totals() const override {
    const EngineCounters c = engine_.counters();
    return {c.reasons, c.traffic};
  }

 private:
  Engine engine_;
  const u8 l3_;
};

}  // namespace

Plan default_plan() {
  return {{{"lan", "192.168.2.1", Zone::inside, kExternalsMax, 2},
           {"lan2", "192.168.3.1", Zone::inside, kExternalsMax, 3},
           {"wan", "203.0.113.2", Zone::outside, 0, 4},
           {"wan2", "192.0.2.2", Zone::outside, 1, 5},
           {"vpn", "10.9.0.1", Zone::other, kExternalsMax, 6}}};
}

std::unique_ptr<Gateway> make_engine(const Settings& settings, const Plan& plan,
                                     u8 link_header_length) {
  return std::make_unique<EngineGateway>(settings, plan, link_header_length);
}

}  // namespace masq::test
