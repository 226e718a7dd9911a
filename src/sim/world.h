// The simulated world: inner hosts, links, the gateway, servers outside, and what travels.
//
//   hosts on lan and lan2 -- links -- gateway -- links (loss, a smaller MTU) -- servers
//
// Everything that happens is an event of one queue, and every choice comes from one seed, so a run
// is repeated exactly by its seed. The hosts are honest; src/sim/attack.cpp is not.
//
// Limits: hosts answer ICMP errors only as far as path MTU discovery needs; one path MTU for all.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "sim/gateway.h"
#include "sim/link.h"
#include "sim/tcp_end.h"

namespace masq::sim {

// The shape of one run, made from its seed.
struct Shape {
  GatewayPlan gateway;
  LinkPlan inner, outer;
  u32 path_mtu = 1500;  // somewhere outside
  bool addresses_change = false;
  u32 attacks = 300;  // of a thousand actions
  u8 filtering = kFilterAddressAndPort;
};
Shape shape_of(u64 seed);

struct Host {
  u32 address = 0;
  u32 link = 0;
  u16 id_base = 0;  // each host numbers its datagrams in a range of its own
  u16 ids = 0;
  u16 next_port = 40000;
};

inline constexpr u32 kOfMeeting = 1u << 31;  // in the first word of a datagram's payload

// An exchange of datagrams, or of ICMP queries if the server's port is 0.
struct Exchange {
  u32 number = 0;
  u8 protocol = kUdp;
  u32 link = 0;
  Endpoint client, server;
  u32 answered = 0;
};

// Two inner hosts that know each other's external endpoint from a server, and write there.
struct Meeting {
  u32 number = 0;
  Endpoint host[2], external[2];
  u32 received = 0;
};

struct Talk {
  Connection connection;
  std::unique_ptr<TcpEnd> client, server;
};

class World {
 public:
  World(u64 seed, const Modes& modes);
  ~World();

  // Prints every packet in whose words this text occurs.
  void show(const std::string& about) { about_ = about; }

  // Throws Broken.
  void run(u32 time_s);

  const Events& events() const { return events_; }
  std::string last_packets() const;
  std::string summary() const;

 private:
  friend class Traffic;
  friend class Attack;

  struct Seen {
    Nanos at;
    const char* where;
    Data packet;
    bool done = false;
    Passage out;
  };

  void schedule_burst();
  void burst();
  void act();
  void sweep_later();
  void change_address();
  void change_more();
  void change_slow(bool well);
  u32 some_external(u32 link);

  // Ways for a packet.
  void from_inner(u32 link, const Data& packet, const Note& note);
  void from_outer(const Data& packet, const Note& note);
  void at_gateway_from_inner(u32 link, const Data& packet, const Note& note);
  void at_gateway_from_outer(const Data& packet, const Note& note);
  void deliver(bool from_inside, const Passage& p);
  void at_inner(const Data& packet);
  void at_outer(const Data& packet);
  void over_path(const Data& packet);
  static std::string text_of(const Seen& s);
  void coming(const char* where, const Data& packet);
  void gone(const Passage& p);
  void check_ends();

  // Ends.
  void inner_receives(const Datagram& d);
  void meeting_receives(const Datagram& d);
  void outer_receives(const Datagram& d);
  void tcp_to_server(const Datagram& d);
  void error_to_inner(const Datagram& d);
  void answer(const Datagram& d);
  void disguise(Datagram& answer);
  bool whole(std::map<std::array<u32, 3>, std::map<u32, Data>>& pieces, const Data& packet,
             Datagram& d);
  Host& host_of(u32 address);
  void send_from_host(Host& host, Datagram d, const Note& note, u32 mtu);
  static u32 outer_link_of(u32 address);

  Random random_;
  const Shape shape_;
  Events events_;
  GatewayNode gateway_;
  Link inner_link_, outer_link_;
  std::vector<Host> hosts_;
  std::vector<u32> servers_;
  std::deque<Talk> talks_;
  std::deque<Exchange> exchanges_;
  std::deque<Meeting> meetings_;
  std::map<std::pair<Endpoint, Endpoint>, Talk*> by_client_, by_server_;  // near, far
  std::map<std::pair<Endpoint, u32>, Talk*> by_start_;  // server, the client's first number
  std::map<std::array<u32, 3>, std::map<u32, Data>> inner_pieces_, outer_pieces_;
  std::deque<Seen> last_;
  std::unique_ptr<class Traffic> traffic_;
  std::unique_ptr<class Attack> attack_;
  std::string about_;
  u64 packets_ = 0, answers_ = 0, bytes_ = 0;
  u16 server_ids_ = 0;
  Nanos end_ = 0;
};

}  // namespace masq::sim
