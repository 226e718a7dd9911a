// An executable reading of the RFCs: what a masquerading gateway must do with one packet after
// another, in the slowest and plainest way. One std::map of sessions, no indexes, no locks, no
// records that are used again; timers are compared to the tick.
//
//   RFC 4787  REQ-1 one external endpoint for an internal one; REQ-2 one external address of a link
//             for an inner host; REQ-3 no external endpoint for two; REQ-5, 6 timers;
//             REQ-8 filtering, of each inner host its own; REQ-9 hairpinning; REQ-12 ICMP ends
//             nothing
//   RFC 5382  REQ-1, 4a, 5, 7, 10; RFC 7857 section 2: states and timers of TCP
//   RFC 5961  what forged segments may not do: only what is in sequence counts
//   RFC 6888  REQ-4: limits of an inner host
//   RFC 5508  REQ-1, 2, 3, 4, 5, 6; RFC 1812 5.2.2, 5.3.1: sound headers, time to live
//
// The gateway's own packets from ports that mappings could have get mappings as well, so that no
// answer to one is ever taken for another's.
//
// It does not choose ports: the implementation's choice is taken over by `chosen`, which says
// whether it was a legal one. Nor does it choose the address of a host that has none yet: `prefers`
// is asked for it before the port, because REQ-2 lets a host be refused whose address has no port
// left while others have some. A mapping lasts until the sweep after its last session: till then
// its port stays its own. Limit: of fragments only what comes in order.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/record.h"
#include "core/settings.h"
#include "sim/datagram.h"

namespace masq::test {

// `again`: translated outward, and then to be asked about as what came in from outside (`link`).
enum class Must { refuse, pass, stack, again };

struct Answer {
  Must must = Must::refuse;
  u32 link = 0;           // pass: where to
  bool outward = false;   //
  bool translate = true;  // else only routed, or left as it is
  bool chooses = false;   // pass: the port is the implementation's choice, to be told by chosen()
  sim::Endpoint near;     // pass: the endpoint that takes the place of the packet's
  const char* why = "";
};

struct RfcLink {
  u32 index, network, own;
  bool inside;
  u32 external;  // 0: none, or inside
  u32 mtu;
  std::vector<u32> more = {};  // other external addresses, which inner hosts get as well

  bool has(u32 address) const {
    return address == external || std::find(more.begin(), more.end(), address) != more.end();
  }
};

// Times in ticks.
struct RfcTimers {
  u64 established, opening, closing, udp, dns, icmp, fragment;
};

// Of one inner host; 0: no limit. `at_once`: new sessions that may begin at the same moment.
struct RfcLimits {
  u32 sessions = 0, mappings = 0, opening = 0, new_per_s = 0, at_once = 0;
};

class RfcModel {
 public:
  using Endpoint = sim::Endpoint;
  using Datagram = sim::Datagram;

  struct Key {
    u8 protocol = 0;
    Endpoint internal, remote;
    auto operator<=>(const Key&) const = default;
  };
  // One direction of a TCP connection: kOut from inside, kIn from outside.
  struct Half {
    bool seen = false;
    u32 end = 0, acknowledged = 0, window = 0;
    int scale = -1;
  };
  struct Session {
    Endpoint external;
    u64 number = 0;       // of this life
    u64 mapping = 0;      // likewise of its mapping's
    bool local = false;   // the gateway's own
    bool shares = false;  // its external port, and has no mapping
    State state = State::udp;
    u64 last_seen = 0;
    Half half[2];
    std::optional<u32> syn_again;  // what would acknowledge the last SYN on an open connection
  };

  std::vector<RfcLink> links;  // the first one outside is the default route
  u32 second_network = 0;      // a /16 that is reached by the last link
  std::vector<u32> outer;      // the gateway's own addresses outside, past and present
  std::vector<u16> sockets;    // UDP ports of the gateway
  PortRange pool[2] = {};
  RfcTimers timers{};
  u32 sessions_max = 0;
  // External addresses that are not there: since when. Their sessions wait for them.
  std::map<u32, u64> gone_since;
  u64 absence = 0;       // how long
  u32 own_sessions = 0;  // beyond, for the gateway itself
  RfcLimits limits;
  bool udp_refresh_inbound = false;
  std::map<u32, Filtering> filtering;  // of inner hosts; others: address- and port-dependent
  std::function<u32(u32 host, u32 link)> prefers;  // where a host that has no address there begins

  Answer outward(u64 now, u32 link, const sim::Data& packet);
  Answer inward(u64 now, u32 link, const sim::Data& packet, bool again = false);
  Answer leaving(u64 now, u32 link, const sim::Data& packet);  // sent by the gateway itself
  const Key& choosing() const { return choosing_; }  // the session whose port is being chosen
  std::string chosen(u64 now, Endpoint external);    // empty if legal
  void sweep(u64 now);

  const std::map<Key, Session>& sessions() const { return sessions_; }
  bool in_force(u64 now, const Key& key, const Session& s) const;
  bool waits(u64 now, const Key& key, const Session& s) const;

 private:
  // The way of a datagram: that of a session, or of a mapping alone (then `session` is 0).
  struct Fragment {
    u64 seen, session, mapping;
    Key key;
  };

  const RfcLink* link_to(u32 address) const;
  u64 timer_of(const Key& key, const Session& s) const;
  bool is_live(u32 external) const;
  u32 paired(u32 host, const RfcLink& to) const;
  Session* find(u64 now, const Key& key);
  const Session* mapping_of(u8 protocol, Endpoint internal, u32 external) const;
  const Fragment* fragment(u64 now, u32 outward, const Datagram& d);
  bool has_socket(u8 protocol, u16 port) const;
  bool in_pool(u16 port) const;
  bool is_held(u8 protocol, Endpoint external, Endpoint internal) const;
  bool is_taken(const Key& key, Endpoint external) const;
  bool may_share(const Key& key, Endpoint external) const;
  bool can_share(const Key& key, u32 external) const;
  int rank(const Key& key, u32 external, u16 port) const;
  int best_rank(const Key& key, u32 external) const;
  Filtering filtering_of(const Key& key, const Session& s) const;
  bool is_nobodys(u32 source) const;
  bool is_forged(u32 source, bool inside) const;
  const RfcLink* hairpin_link(u64 now, const Datagram& d, bool& is_hairpin);
  const Session* let_in(const Key& outside, Key& inside) const;
  bool belongs(u32 link, const Datagram& d) const;
  bool may_begin(u64 now, const Key& key);
  bool may_map(const Key& key) const;
  Answer make(u64 now, u32 link, const RfcLink& to, const Datagram& d, const Key& key, bool local);
  Answer unclaimed(const Datagram& d, const Key& outside) const;
  void touch(u64 now, const Key& key, Session& s, const Datagram& d, u32 direction);
  void begin(Session& s, const Datagram& d) const;
  bool tcp(Session& s, const Datagram& d, u32 direction);
  bool in_sequence(const Session& s, const Datagram& d, u32 direction) const;
  Answer going(const RfcLink& to, const Datagram& d, std::size_t size, bool outward,
               Endpoint near) const;

  std::map<Key, Session> sessions_;
  std::map<std::vector<u32>, Fragment> fragments_;
  std::map<u32, std::pair<u64, u64>> owed_;  // of an inner host: ticks for new sessions, and when
  u64 lives_ = 0;
  Key choosing_;
  const RfcLink* choosing_at_ = nullptr;
  // What an expired session of the same ends shares: not free for the next one until the sweep.
  Endpoint before_;
};

}  // namespace masq::test
