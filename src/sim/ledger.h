// The oracle: what went through the gateway so far, and so what may and what must go through next.
//
// It knows nothing of the core's table. Of every session (protocol, internal and remote endpoint)
// it keeps two times: until the *floor* the gateway must still know it, whatever happens (its RFC
// minimum as configured, RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2); after the *ceiling* it
// must have forgotten it. Between the two it may do either: for TCP the oracle follows only what
// the honest ends know of their connection, not every number on the way.
//
// Limits: slack of five seconds, for segments that overtake each other; timers to the tick are the
// differential test's.
#pragma once

#include <algorithm>
#include <map>

#include "core/verdict.h"
#include "sim/datagram.h"
#include "sim/events.h"
#include "sim/invariants.h"

namespace masq::sim {

// What a sender says of its packet. Travels beside it.
struct Note {
  bool honest = false;
  bool fits = false;            // honest TCP: its sender was told how large it may be
  bool established = false;     // honest TCP: its sender takes the connection for open
  Endpoint client{};            // honest TCP: whose connection it is
  Endpoint listener{};          // honest TCP between inner hosts: and whose too
  const bool* ended = nullptr;  // honest TCP: both ends have closed by now, or one has given up
};

inline bool is_of(const Note& note, Endpoint inner) {
  return note.client == inner || note.listener == inner;
}

// What became of a packet.
struct Passage {
  Action action = Action::drop;
  Reason reason = Reason::none;
  u32 ifindex = 0;
  Data packet;
  // From inside to an external address (hairpin): the source was translated, and then it was looked
  // at from outside. If that refused it, `packet` is what was refused.
  bool turned = false;
};

inline bool is_slow(const Passage& p) {
  return p.action == Action::slow || p.action == Action::stack_and_slow;
}

// The links and addresses round the gateway, as the oracle sees them.
struct Place {
  u32 ifindex;
  Zone zone;
  u32 network, own;  // a /24 each; the gateway's address there
  u32 mtu;
  u32 external = 0;       // outside: its live external address, 0 if none
  std::vector<u32> more;  // and others that are live

  bool has_external(u32 address) const {
    return address != 0 &&
           (address == external || std::find(more.begin(), more.end(), address) != more.end());
  }
};

// The external ports of the hosts of a network: `ports` of them for each, one host after another.
struct Blocks {
  u32 network = 0, hosts = 0;  // addresses from `network` on
  u32 first = 0, ports = 0;

  u32 end() const { return first + hosts * ports; }
};

class Ledger {
 public:
  Ledger(const Settings& settings, const Modes& modes) : settings_(settings), modes_(modes) {}

  std::map<u32, Place> places;              // by interface
  std::map<u32, bool> outer;                // addresses that are or were the gateway's, and if live
  std::vector<std::pair<u8, u16>> sockets;  // of the gateway: protocol, port
  std::vector<Blocks> blocks;
  bool cuts = false;  // there is a slow path
  u32 hosts = 0;      // inner hosts that there are at most

  // Came from inside, came from outside, was sent by the gateway itself.
  void judge_outward(Nanos now, u32 from, const Data& in, const Note& note, const Passage& p);
  void judge_inward(Nanos now, u32 from, const Data& in, const Note& note, const Passage& p);
  void judge_leaving(u32 to, const Data& in, const Passage& p);

  void external_gone(u32 address);
  void forget(Nanos now);  // what is past its ceiling

  // Until when an internal endpoint keeps an external one for certain.
  Nanos floor_of(u8 protocol, Endpoint internal, Endpoint external) const;
  // Could this host have this external port, as far as blocks are concerned?
  bool may_have_port(u32 host, u16 port) const;
  // How many are its own, 0 if it has no block.
  u32 block_of(u32 host) const;

  std::size_t sessions() const { return sessions_.size(); }
  // Where the session of an internal endpoint shows outside; port 0 if there is none in force.
  Endpoint external_of(Nanos now, u8 protocol, Endpoint internal, Endpoint remote) const;

 private:
  struct Key {
    u8 protocol = 0;
    Endpoint near, remote;
    auto operator<=>(const Key&) const = default;
  };
  struct Session {
    Endpoint external;
    Nanos floor = 0, ceiling = 0;
    bool revived = false;   // its external address has been away
    bool only_syn = false;  // TCP: nothing but its SYN has passed
    bool was_open = false;  // TCP: an honest end has taken it for open
  };
  // What an inner host has: at least, at most.
  struct Share {
    u32 flows[2] = {}, ports[2] = {}, opening[2] = {};
  };
  // Its new sessions, each a second's worth of nanoseconds, less what the limit allows: those that
  // are certain, and those that are possible.
  struct Begun {
    u64 owed = 0, may_owe = 0;
    Nanos at = 0, looked = 0;
  };
  struct MappingKey {
    u8 protocol = 0;
    Endpoint internal;
    u32 external = 0;
    auto operator<=>(const MappingKey&) const = default;
  };
  struct FragmentKey {
    u32 source = 0, destination = 0;
    u16 id = 0;
    u8 protocol = 0;
    bool outward = false;
    auto operator<=>(const FragmentKey&) const = default;
  };
  struct First {
    Nanos seen = 0;
    Endpoint near;  // as the packet showed it on the other side
    Key session;
    u16 new_id = 0;  // as it was sent outside
    Endpoint to{};   // of a hairpin: the inner host that it reached
  };

  bool is_inner(u32 address) const;
  const Place* place_of(u32 address) const;
  void check_no_inner(const Datagram& out, const Data& packet) const;
  void check_change(u32 from, const Data& in, bool outward, Endpoint near, const Passage& p) const;
  int mss_within(u32 from, u32 to, int mss) const;
  void check_change(const Data& in, Data wanted, std::vector<u32> unsure, bool outward,
                    const Passage& p) const;
  void check_routed(const Data& in, const Passage& p) const;
  void check_refused(Nanos now, const Key& inner, const Datagram& d, const Note& note,
                     const Passage& p, bool outward) const;
  void check_error(u32 from, const Data& in, const Passage& p) const;
  void check_stack(const Datagram& d, bool inward) const;
  void sent_out(Nanos now, u32 from, const Datagram& d, const Datagram& out, const Note& note);
  void passed_out(Nanos now, const Datagram& d, const Datagram& out, const Note& note);
  Share share_of(Nanos now, u32 host) const;
  void check_paired(Nanos now, u32 host, u32 external) const;
  void check_share(Nanos now, const Key& key, const Datagram& d, Session& s);
  void check_limits(Nanos now, const Datagram& d, const Passage& p);
  void turned(Nanos now, const Datagram& d, const Datagram& out, const Note& note);
  void hairpinned(Nanos now, u32 from, const Data& in, const Datagram& d, const Datagram& out,
                  const Note& note, const Passage& p);
  void check_meeting(Nanos now, const Data& in, const Datagram& d, const Datagram& out,
                     const Note& note, const Passage& p) const;
  void check_mapping(Nanos now, u8 protocol, Endpoint internal, Endpoint remote, Endpoint external);
  void answered(Nanos now, const Key& key, const Note& note);
  void extend(Nanos now, Session& s, const Key& key, const Note& note, bool outward);
  bool is_expected(Nanos now, const Key& outside) const;
  const Session* allowed_in(Nanos now, const Key& key, Endpoint external) const;
  void note_first(Nanos now, const Datagram& d, bool outward, Endpoint near, const Key& session,
                  u16 new_id);
  void passed_in(Nanos now, const Datagram& d, const Datagram& out, const Note& note);
  const First* first_of(Nanos now, const Datagram& d, bool outward) const;

  const Settings& settings_;
  const Modes modes_;
  std::map<Key, Session> sessions_;
  std::map<Key, Endpoint> by_external_;  // near: the external endpoint -> the internal one
  std::map<MappingKey, Endpoint> mappings_;
  std::map<std::pair<u8, Endpoint>, Endpoint> holders_;  // protocol, external -> internal
  std::map<FragmentKey, First> firsts_;
  std::map<u32, Begun> begun_;  // by inner host
};

}  // namespace masq::sim
