// The gateway of the simulated network: an Engine with its links and addresses, and what is counted
// on both sides of it. The only file of the simulator that knows the engine.
//
//   lan   192.168.2.1/24   inside     lan2  192.168.3.1/24  inside
//   wan   203.0.113.2/24   outside, default route        wan2  192.0.2.2/24  100.64.0.0/16
//   vpn   10.9.0.1/24      other
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/record.h"
#include "sim/ledger.h"

namespace masq {
class Engine;
class SlowPath;
struct EngineCounters;
struct Frame;
struct Outcome;
}  // namespace masq

namespace masq::sim {

inline constexpr u32 kLan = 2, kLan2 = 3, kWan = 4, kWan2 = 5, kVpn = 6;

// What a run chooses by its seed.
struct GatewayPlan {
  u32 flows_max = 2000;
  PortRange pool[2] = {{600, 1023}, {30000, 65535}};
  u32 refresh_s = 0;
  u32 block_words[2] = {};  // of 128 ports, for each host of lan and lan2
  bool slow = false;        // is there a slow path?
  u32 mtu_wan = 1500, mtu_lan = 1500;
  u16 mss_clamp = 0;
  u32 externals_wan = 1;
  u32 link_header_length = 14;
  u64 clock_ns = 0;  // what the clock shows at the beginning
  u8 udp_refresh_inbound = 0;
  u64 secret = 0;
  // Of one inner host; 0: no limit.
  u32 host_flows = 0, host_ports = 0, host_opening = 0, host_new_per_s = 0, host_new_burst = 0;
};

enum class Slow { none, serves, hangs, dead };

class GatewayNode {
 public:
  GatewayNode(const GatewayPlan& plan, const Modes& modes);
  ~GatewayNode();

  void set_time(Nanos now);
  Passage inside(u32 ifindex, const Data& packet, const Note& note);
  Passage outside(u32 ifindex, const Data& packet, const Note& note);
  Passage leaving(u32 ifindex, const Data& packet);  // sent by the gateway itself
  void sweep();
  void audit();  // the whole table

  // Takes there what a passage says, `packet` being the last that has passed.
  void to_slow(const Data& packet, const Note& note);
  void set_slow(Slow state);
  // What comes back from the slow path, and what became of it.
  std::function<void(const char* where, const Data& packet)> arriving;
  std::function<void(bool from_inside, const Passage& p)> leaving_slow;

  // The external address of a link goes away, or changes to another one; 0 for none.
  void change_external(u32 ifindex, u32 address);
  u32 external_of(u32 ifindex) const { return ledger_.places.at(ifindex).external; }
  // The others of wan: one after another comes, goes, or serves no new hosts for a while.
  void change_more(u32 which, bool live, bool serves);
  void open_socket(u8 protocol, u16 port);

  // What is known of a session, byte for byte.
  std::optional<Record> record_of(u8 protocol, Endpoint internal, Endpoint remote) const;
  u32 flows() const;
  static u32 more_of_wan(u32 which);
  u64 refused() const { return refused_; }
  u64 passed() const { return forwarded_ + to_stack_; }

  Ledger& ledger() { return ledger_; }
  const Settings& settings() const;

 private:
  struct Queued {
    Data frame, packet;
    Note note;
    u16 mtu;
  };

  Passage pass(Data buffer, u32 l3, const Data& packet,
               const std::function<Outcome(Frame&)>& action);
  Data framed(const Data& packet) const;
  void start_slow();
  void look_after_slow();
  void check_overtaking(const Data& packet, const Passage& p) const;
  void take_slow(const Queued& one);
  void back_from_slow(const Data& frame);
  void check_legs(const Data& packet, Passage& p, const EngineCounters& before) const;
  void check_counts(const Passage& p) const;
  bool has_no_port(const Data& packet, u32 external) const;
  u32 place_for(u32 external) const;
  void choose_external(u32 ifindex, u32 wanted);
  void check_cause(const Data& packet, const Passage& p, u32 from) const;

  std::unique_ptr<Engine> engine_;
  const u32 l3_;
  const u64 clock_ns_;
  Ledger ledger_;
  Nanos now_ = 0;
  Nanos last_sweep_ = 0, sweep_before_ = 0;
  u64 forwarded_ = 0, to_stack_ = 0, refused_ = 0, to_slow_ = 0;
  std::unique_ptr<SlowPath> slow_;
  Slow slow_state_ = Slow::none;
  Nanos slow_since_ = 0;
  Data slow_frame_;                                 // the last that went there
  std::vector<Queued> queued_;                      // while it hangs
  std::vector<Data> came_back_;                     // of the last
  bool first_is_back_ = false;                      //
  std::map<std::vector<u32>, Note> slow_notes_;     // of datagrams, by addresses and identification
  std::map<std::vector<u32>, Nanos> held_since_;    // datagrams that wait for their first fragment
  std::map<std::vector<u32>, Nanos> firsts_seen_;   // datagrams whose first fragment was there
  std::multimap<std::vector<u32>, Nanos> waiting_;  // fragments that are held, likewise
};

}  // namespace masq::sim
