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

#include "core/drops.h"
#include "core/reasons.h"
#include "core/slow.h"
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

// In network order; 0 if the frame is too short to say.
u16 ether_type_of(const Frame& frame, u32 l3);

// Reads the packet whose IPv4 header is at `l3`.
Reason read_packet(Frame& frame, u32 l3, Packet& p);

// What became of a frame; its bytes are changed accordingly unless it was dropped.
struct Outcome {
  Action action;    // icmp_error, reset: the frame is now the answer, to be sent to `ifindex`
  Reason reason;    // of drop and of those
  bool translated;  //
  u32 ifindex;      // where to: forward and answers
  Ipv4 next_hop;    //
  Verdict verdict;  // what the core said; empty where it was not asked
  bool redirected;  // to_stack: by a rule, to this port; 0: to the one it is addressed to
  u16 redirect_port;
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

// Answers to the core's questions from elsewhere, instead of the lists that the engine is given.
struct EngineAnswers {
  // The kind, and for `forward` the interface and the next hop; the engine fills in the rest.
  std::function<EngineRoute(Ipv4 destination, Ipv4 source)> route;
  std::function<bool(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port)> socket;
  std::function<bool(Ipv4 address)> is_outer_address;
};

struct EngineCounters {
  std::array<u64, kReasonCount> reasons{};
  std::array<u64, kTrafficCount> traffic{};
};

class Engine {
 public:
  // A table of its own.
  Engine(u32 records_max, const Settings& settings);
  // In memory of the caller's (table_memory.h), which goes on as it is after the engine: a new
  // table, or one that is taken over.
  Engine(void* memory, u32 records_max, const Settings& settings, EngineAnswers answers = {});
  Engine(void* memory, u32 records_max, EngineAnswers answers = {});
  // Over tables that lie elsewhere, are in order, and stay there; settings, counters and what is
  // remembered of refusals are the engine's own.
  Engine(const Tables& tables, const Settings& settings, EngineAnswers answers);

  Settings& settings() { return settings_; }
  const Settings& settings() const { return settings_; }
  const Tables& tables() const { return tables_; }
  const Drops& drops() const { return beside_.drops; }

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

  // What comes back from the slow path, as it says by its link header (core/slow.h); the frame is
  // afterwards as if it had come in with an Ethernet header. What goes there (Action::slow,
  // stack_and_slow) has its link header changed to say so, or gets one: then it needs 14 bytes of
  // room.
  Outcome from_slow(Frame& frame);
  // The slow path is there at this moment.
  void slow_beat() { atomic_store(&tables_.shared->slow_beat, now()); }

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
  Hop hop_at(const Frame& frame, u32 ifindex, bool egress);
  Outcome from_inside(Frame& frame, u32 ifindex, u32 l3, SlowSide slow);
  Outcome from_outside(Frame& frame, u32 ifindex, u32 l3, u32 seen_on, SlowSide slow);
  Outcome to_slow(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome carry_out(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome judge_own(Frame& frame, Hop& hop);
  Outcome send_icmp_error(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome send_reset(Frame& frame, Hop& hop, const Packet& p, const Verdict& v);
  Outcome drop(Reason reason, const Hop& hop, const Packet& p);
  Outcome drop_unread(Reason reason, const Hop& hop, Frame& frame);
  void count(Reason reason, const Hop& hop, const Packet& p);
  void count(Traffic what, u64 n);
  bool answer_allowed();
  bool is_arp_for_others(const Frame& frame, u32 l3, bool leaving) const;

  Engine(std::unique_ptr<TableMemory> memory, EngineAnswers answers);

  EngineRoute find_route(Ipv4 destination, Ipv4 source) const;

  std::unique_ptr<TableMemory> memory_;  // none if the tables lie elsewhere
  std::unique_ptr<Companion> own_;       // then this is there
  Tables tables_;
  Companion& beside_;
  Settings& settings_;
  EngineAnswers answers_;
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
