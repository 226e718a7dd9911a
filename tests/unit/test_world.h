// The smallest shell round the core: a table, a clock that the test holds, sockets by list, and no
// packets. For tests of the table and of what makes and sweeps flows.
#pragma once

#include <set>

#include "core/flows.h"
#include "core/fragments.h"
#include "engine/table_memory.h"
#include "engine/verify.h"

namespace masq::test {

inline Ipv4 ip(u32 a, u32 b, u32 c, u32 d) {
  return ipv4_from_host(a << 24 | b << 16 | c << 8 | d);
}

inline Settings plain_settings() {
  Settings s{};
  s.secret[0] = 0x0706050403020100ull;
  s.secret[1] = 0x0f0e0d0c0b0a0908ull;
  s.tcp_established = ticks_from_s(7440);
  s.tcp_opening = s.tcp_closing = ticks_from_s(240);
  s.udp = ticks_from_s(300);
  s.dns = ticks_from_s(30);
  s.icmp = ticks_from_s(60);
  s.flows_max = 1000;
  s.pool[0] = {1024, 65535};
  s.pool[1] = {512, 1023};
  s.pool[2] = s.pool[3] = {1, 0};
  for (u32 i = 0; i < 3; ++i) s.externals[i] = {ip(203, 0, 113, 2 + i), 10 + i, kExternalLive, 1};
  return s;
}

struct TestWorld {
  Tables tables;
  const Settings& settings;
  Ticks now = 1000000;
  std::set<u32> sockets{};  // ports
  NewFlow new_flow{};
  Making making{};
  bool locked = false;

  bool lock(u32) {
    locked = true;
    return true;
  }
  void unlock() { locked = false; }
  bool port_has_socket(u8, Ipv4, Port port, Ipv4, Port) {
    return sockets.count(to_host(port)) != 0;
  }
  u64 rank_external(u32 place, Ipv4 host, u32 external, u32 i) const {
    return masq::rank_external(tables, settings, place, host, external, i);
  }
  ForwardMemory* forwards() const { return tables.forwards; }
  u32 find_range(u64 wanted) const {
    return masq::find_range(tables.forwards->halves[settings.forwards_generation % kForwardHalves],
                            wanted);
  }
  Reason hold_host() { return masq::hold_host(*this); }
  void settle_host(Reason reason) { masq::settle_host(*this, reason); }
  Reason prepare_flow() { return masq::prepare_flow(*this); }
  void find_port_words() { masq::find_port_words(*this); }
  u32 choose_port(u32 i) { return masq::choose_port(*this, i); }
  u32 take_chosen(u32 i, u32 chosen) { return masq::take_chosen(*this, i, chosen); }
  u32 take_record(u32 start_bit) { return record_take(tables, start_bit); }
  u32 choose_shared_port(u32 i) { return masq::choose_shared_port(*this, i); }
  bool is_taken_outside(u32 port) { return masq::is_taken_outside(*this, port); }
  Reason link_flow() { return masq::link_flow(*this); }

  // Finds the flow in force or makes one.
  Reason flow(const Key& key, State state, u32& index, u32 external = 0) {
    const u64 hash = key_hash(settings, key, kOut);
    index = find_inner(tables, key, hash);
    if (index != kNoRecord && in_force(settings, tables.records[index], now) &&
        tables.records[index].external == external)
      return Reason::none;
    new_flow = NewFlow{};
    new_flow.inner = key;
    new_flow.external = external;
    new_flow.state = state;
    making.hash = hash;
    const Reason reason = make_flow(*this);
    index = making.flow;
    return reason;
  }
  void sweep() {
    for (u32 i = 0; i < tables.records_max; ++i) sweep_record(*this, i);
  }
  Record& record(u32 index) const { return tables.records[index]; }
};

inline Key key_of(u32 host, u16 port, u32 remote, u16 remote_port, u8 protocol = kProtocolUdp) {
  return Key{ipv4_from_host(0xc0a80200 + host), ipv4_from_host(0xc6336400 + remote),
             port_from_host(port), port_from_host(remote_port), protocol};
}

}  // namespace masq::test
