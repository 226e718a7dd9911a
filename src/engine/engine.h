// The user-space shell round the core: tables in memory, and everything that the kernel's shell
// asks the kernel for (time, routes, sockets, addresses) given by the caller. The simulator, the
// fuzzers, the packet tests and the slow path run on it.
//
// It does with a frame what the tc programs do with theirs (bpf/masq.bpf.cpp), byte for byte and
// count for count; tests/packets runs both and compares.
//
// Several threads may pass frames through one engine at the same time: the stripes are spin locks,
// the counters are atomic. What the world looks like (interfaces, routes, sockets, addresses, the
// settings, the clock) may be changed only while no frame is being passed.
//
// Limits: routes are searched one after the other; there is one bucket of ICMP error tokens, not
// one a processor; next hops are named, not resolved.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "core/reasons.h"
#include "core/traffic.h"
#include "core/verdict.h"
#include "engine/table_memory.h"
#include "engine/verify.h"

namespace masq {

// A frame in a buffer of the caller's. An ICMP error needs 28 bytes more than what it answers.
struct Frame {
  u8* data;
  u32 length;
  u32 capacity;
  u32 segment_size = 0;  // of a large segment that is yet to be cut: payload of each piece
  u32 segments = 0;      // and how many there will be
  // Where the part begins whose checksum is completed later, by the kernel or by hardware; the
  // field holds the pseudo header's sum until then. 0: every checksum is whole.
  u32 checksum_start = 0;
};

// What became of a frame; its bytes are changed accordingly unless it was dropped.
struct Outcome {
  Action action;    // icmp_error: the frame is now the error, to be sent to `ifindex`
  Reason reason;    // of drop and icmp_error
  bool translated;  //
  u32 ifindex;      // where to: forward and icmp_error
  Ipv4 next_hop;    //
  Verdict verdict;  // what the core said; empty where it was not asked
};

struct EngineRoute {
  Ipv4 prefix;
  u32 length;      // bits
  RouteKind kind;  // none: unreachable; local: an address or broadcast address of the gateway
  u32 ifindex;     // forward
  Ipv4 next_hop;   // 0.0.0.0: the destination itself
};

struct EngineSocket {
  u8 protocol;
  Ipv4 address;  // 0.0.0.0: any
  Port port;
};

struct EngineCounters {
  std::array<u64, kReasonCount> reasons{};
  std::array<u64, kTrafficCount> traffic{};
};

class Engine {
 public:
  using AskRoute = std::function<EngineRoute(Ipv4 destination, Ipv4 source)>;
  using AskSocket =
      std::function<bool(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port)>;

  Engine(u32 records_max, const Settings& settings);
  // In memory of the caller's (table_memory.h): a new table, or one that is taken over as it is.
  Engine(void* memory, u32 records_max, const Settings& settings);
  Engine(void* memory, u32 records_max);

  // From now on asks these instead of its own lists of routes and sockets.
  void ask(AskRoute route, AskSocket socket);

  Settings& settings() { return settings_; }
  const Settings& settings() const { return settings_; }
  const Tables& tables() const { return memory_.tables(); }

  // Nanoseconds of any clock that does not go back; Settings::time_offset_ns is added.
  void set_time(u64 ns) { time_ns_ = ns; }
  Ticks now() const { return ticks_from_ns(time_ns_ + settings_.time_offset_ns); }

  // Enters or replaces what is known of interface.ifindex; false if there is no place for it.
  bool set_interface(const Interface& interface);
  void add_route(const EngineRoute& route) { routes_.push_back(route); }
  void clear_routes() { routes_.clear(); }
  void add_outer_address(Ipv4 address) { outer_addresses_.push_back(address); }
  void clear_outer_addresses() { outer_addresses_.clear(); }
  void add_socket(const EngineSocket& socket) { sockets_.push_back(socket); }
  void clear_sockets() { sockets_.clear(); }

  // Came in on an inner or an external interface; is about to leave on one. `from` is the interface
  // where the packet came into the gateway, 0 for the gateway's own.
  Outcome inside(Frame& frame, u32 ifindex);
  Outcome outside(Frame& frame, u32 ifindex);
  Outcome leaving(Frame& frame, u32 ifindex, u32 from);
  Outcome entering(Frame& frame, u32 ifindex, u32 from);

  // The sweeper: so many places from where it stopped, or one whole pass.
  void sweep(u32 places);
  void sweep_all();

  EngineCounters counters() const;
  std::vector<Violation> verify(Ticks overdue_max) const {
    return masq::verify(tables(), settings_, now(), overdue_max);
  }

  // For the core's World.
  void lock(u32 stripe);
  void unlock(u32 stripe);
  void route(Ipv4 destination, Ipv4 source, Route& out) const;
  bool has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) const;
  bool is_outer_address(Ipv4 address) const;

 private:
  struct Hop;  // one frame on its way through
  Outcome from_outside(Frame& frame, u32 ifindex, u32 l3, bool hairpin);
  Outcome carry_out(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome send_icmp_error(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome drop(Reason reason);
  void count(Reason reason);
  void count(Traffic what, u64 n);
  bool icmp_allowed();
  bool is_arp_for_others(const Frame& frame, u32 l3, bool leaving) const;

  EngineRoute find_route(Ipv4 destination, Ipv4 source) const;

  TableMemory memory_;
  Settings& settings_;
  AskRoute ask_route_;
  AskSocket ask_socket_;
  u64 time_ns_ = 0;
  std::vector<EngineRoute> routes_;
  std::vector<EngineSocket> sockets_;
  std::vector<Ipv4> outer_addresses_;
  std::unique_ptr<std::atomic_flag[]> stripes_;
  std::atomic_flag icmp_lock_ = ATOMIC_FLAG_INIT;
  u32 icmp_tokens_ = 0;
  Ticks icmp_refilled_ = 0;
};

}  // namespace masq
