// The ways of packets, and what the ends do with them.
#include "sim/world.h"

#include <algorithm>

#include "sim/attack.h"
#include "sim/traffic.h"

namespace masq::sim {

namespace {

constexpr std::size_t kLastPackets = 16;
constexpr u32 kSweepsPerAudit = 40;
constexpr u32 kHosts = 7;

constexpr const char* kReasonNames[] = {"none",
#define X(name, sentence) #name,
                                        MASQ_REASONS(X)
#undef X
};

Datagram error_about(const Data& packet, u32 from, u32 mtu) {
  Datagram cause, d;
  bool right = false;
  decode(packet, cause, right);
  d.protocol = kIcmp;
  d.type = 3;
  d.code = 4;
  d.tail = static_cast<u16>(mtu);
  d.source = from;
  d.destination = cause.source;
  d.payload.assign(packet.begin(),
                   packet.begin() + std::min<long>(48, static_cast<long>(packet.size())));
  return d;
}

u32 word_of(const Data& d, std::size_t at) {
  return static_cast<u32>(d[at]) << 24 | static_cast<u32>(d[at + 1]) << 16 |
         static_cast<u32>(d[at + 2]) << 8 | d[at + 3];
}

}  // namespace

Shape shape_of(u64 seed) {
  Random dice(seed ^ 0x5eed);
  Shape s;
  s.gateway.secret = dice.next();
  const std::vector<u32> sizes = {150, 600, 2000, 2000, 5000};
  s.gateway.flows_max = dice.one_of(sizes);
  if (dice.chance(300))
    s.gateway.pool[1] = {40000, static_cast<u16>(40000 + dice.between(60, 400))};
  s.gateway.refresh_s = dice.chance(500) ? 1 : 0;
  s.gateway.mtu_wan = dice.chance(400) ? dice.between(1280, 1499) : 1500;
  s.gateway.link_header_length = dice.chance(500) ? 14 : 0;
  s.gateway.udp_refresh_inbound = dice.chance(300) ? 1 : 0;
  // The core's clock wraps every 52 days: often in the middle of a run.
  const u64 wrap = u64{1} << (32 + kTickShift);
  s.gateway.clock_ns = dice.chance(500) ? wrap - dice.below(20000) * kSecond : dice.next() % wrap;
  s.inner.loss = dice.chance(500) ? dice.below(10) : 0;
  s.inner.doubling = dice.below(10);
  s.inner.lateness = dice.below(30);
  s.inner.delay = dice.between(50, 2000) * kMicrosecond;
  s.inner.late = 5 * kMillisecond;
  s.outer.loss = dice.below(60);
  s.outer.doubling = dice.below(30);
  s.outer.lateness = dice.below(200);
  s.outer.delay = dice.between(1, 80) * kMillisecond;
  s.outer.late = dice.between(1, 300) * kMillisecond;
  s.path_mtu = dice.chance(400) ? dice.between(600, 1499) : 1500;
  s.addresses_change = dice.chance(400);
  s.attacks = dice.between(0, 600);
  s.gateway.slow = dice.chance(700);
  s.gateway.mtu_lan = dice.chance(200) ? 9000 : 1500;
  if (dice.chance(200)) s.gateway.mss_clamp = dice.chance(500) ? kMssLeft : u16{1200};
  if (s.gateway.pool[1].first == 30000 && dice.chance(300))
    for (u32& words : s.gateway.block_words) words = dice.below(3);
  if (dice.chance(400)) s.gateway.externals_wan = dice.between(2, 4);
  if (dice.chance(500)) {  // limits that one host reaches, and all together do not
    const auto maybe = [&](u32 limit) { return dice.chance(700) ? limit : 0; };
    s.gateway.host_flows = maybe(s.gateway.flows_max / (kHosts + 1) - 4);
    s.gateway.host_ports = maybe(dice.between(10, 80));
    s.gateway.host_opening = maybe(dice.between(8, 60));
    s.gateway.host_new_per_s = maybe(dice.between(1, 20));
    s.gateway.host_new_burst = s.gateway.host_new_per_s * dice.between(2, 8);
  }
  // Permissions are records too; a table that is full of flows has no place for them.
  if (s.gateway.flows_max >= 2000 && dice.chance(400)) {
    s.gateway.flows_max = 5000;
    s.filtering = dice.chance(600) ? kFilterAddress : kFilterNone;
  }
  return s;
}

namespace {

Modes with_filtering(Modes modes, u8 filtering) {
  modes.filtering = filtering;
  return modes;
}

}  // namespace

World::World(u64 seed, const Modes& modes)
    : random_(seed),
      shape_(shape_of(seed)),
      gateway_(shape_.gateway, with_filtering(modes, shape_.filtering)),
      inner_link_(events_, random_, shape_.inner),
      outer_link_(events_, random_, shape_.outer),
      traffic_(std::make_unique<Traffic>(*this)),
      attack_(std::make_unique<Attack>(*this)) {
  gateway_.ledger().hosts = kHosts;
  gateway_.arriving = [this](const char* where, const Data& packet) { coming(where, packet); };
  gateway_.leaving_slow = [this](bool from_inside, const Passage& p) {
    gone(p);
    deliver(from_inside, p);
  };
  for (u32 i = 0; i < kHosts; ++i) {
    Host host;
    host.link = i < 4 ? kLan : kLan2;
    host.address = (i < 4 ? address(192, 168, 2, 10) : address(192, 168, 3, 10)) + i;
    host.id_base = static_cast<u16>(i << 11);
    hosts_.push_back(host);
  }
  for (u32 i = 1; i <= 4; ++i) servers_.push_back(address(198, 51, 100, i));
  for (u32 i = 1; i <= 2; ++i) servers_.push_back(address(100, 64, 0, i));
  for (u32 i = 0; i < 8; ++i) {
    const bool wide =
        shape_.gateway.pool[1].first == 30000;  // a narrow pool is not for sockets too
    gateway_.open_socket(i % 2 == 0 ? kUdp : kTcp,
                         static_cast<u16>(wide ? random_.between(30000, 65535) : 20000 + i));
  }
}

World::~World() = default;

void World::run(u32 time_s) {
  end_ = time_s * kSecond;
  events_.after(0, [this] { burst(); });
  events_.after(kSecond, [this] { sweep_later(); });
  if (shape_.addresses_change) events_.after(30 * kSecond, [this] { change_address(); });
  if (shape_.gateway.slow) events_.after(40 * kSecond, [this] { change_slow(false); });
  if (shape_.gateway.externals_wan > 1) events_.after(60 * kSecond, [this] { change_more(); });
  events_.run_until(end_);
  gateway_.set_time(events_.now());
  gateway_.sweep();
  gateway_.audit();
  check_ends();
}

// Some seconds full of actions, and then a pause.
void World::burst() {
  const u32 length_ms = random_.between(500, 8000);
  const u32 actions = random_.between(5, 60);
  for (u32 i = 0; i < actions; ++i)
    events_.after(random_.below(length_ms) * kMillisecond, [this] { act(); });
  static constexpr u32 kPauses_s[] = {1, 5, 30, 61, 120, 239, 301, 900};
  const Nanos pause = kPauses_s[random_.below(random_.chance(800) ? 4 : 8)] * kSecond;
  events_.after(length_ms * kMillisecond + pause, [this] { burst(); });
}

void World::act() {
  gateway_.set_time(events_.now());
  if (random_.chance(shape_.attacks))
    attack_->act();
  else
    traffic_->act();
}

void World::sweep_later() {
  gateway_.set_time(events_.now());
  gateway_.sweep();
  inner_pieces_.clear();  // hosts do not wait long for the rest of a datagram
  outer_pieces_.clear();
  if (random_.below(kSweepsPerAudit) == 0) {
    gateway_.audit();
    check_ends();
  }
  events_.after(random_.between(500, 15000) * kMillisecond, [this] { sweep_later(); });
}

void World::change_address() {
  gateway_.set_time(events_.now());
  const u32 to = random_.chance(250) ? 0 : address(203, 0, 113, random_.between(2, 6));
  if (to != gateway_.external_of(kWan)) {
    gateway_.change_external(kWan, to);
    for (Talk& talk : talks_) talk.connection.may_fail = true;
  }
  events_.after(random_.between(20, to == 0 ? 40 : 4000) * kSecond, [this] { change_address(); });
}

void World::change_more() {
  gateway_.set_time(events_.now());
  const u32 which = random_.below(shape_.gateway.externals_wan - 1);
  const bool live = random_.chance(800);
  gateway_.change_more(which, live, random_.chance(700));
  if (!live)
    for (Talk& talk : talks_) talk.connection.may_fail = true;
  events_.after(random_.between(20, 1500) * kSecond, [this] { change_more(); });
}

// One of the external addresses of a link, 0 if it has none.
u32 World::some_external(u32 link) {
  const Place& place = gateway_.ledger().places.at(link);
  if (place.more.empty() || random_.chance(500)) return place.external;
  return random_.one_of(place.more);
}

// The slow path is killed or hangs, and is there again.
void World::change_slow(bool well) {
  gateway_.set_time(events_.now());
  gateway_.set_slow(well ? Slow::serves : random_.chance(500) ? Slow::hangs : Slow::dead);
  const Nanos pause = (well ? random_.between(20, 900) : random_.between(0, 20)) * kSecond;
  events_.after(pause + random_.below(1000) * kMillisecond, [this, well] { change_slow(!well); });
}

void World::check_ends() {
  for (const Talk& talk : talks_) {
    const Connection& c = talk.connection;
    require(!c.given_up || c.may_fail, Invariant::connection_completes, [&] {
      return std::string(sim::text_of(c.client) + " <-> " + sim::text_of(c.server) +
                         " has stalled");
    });
  }
}

// --- the ways ------------------------------------------------------------------------------------

void World::coming(const char* where, const Data& packet) {
  packets_ += 1;
  if (last_.size() == kLastPackets) last_.pop_front();
  last_.push_back(Seen{events_.now(), where, packet, false, {}});
}

void World::gone(const Passage& p) {
  last_.back().done = true;
  last_.back().out = p;
  if (about_.empty()) return;
  const std::string text = text_of(last_.back());
  if (text.find(about_) != std::string::npos) std::printf("%s", text.c_str());
}

void World::from_inner(u32 link, const Data& packet, const Note& note) {
  inner_link_.carry([this, link, packet, note] { at_gateway_from_inner(link, packet, note); });
}

void World::from_outer(const Data& packet, const Note& note) {
  outer_link_.carry([this, packet, note] { at_gateway_from_outer(packet, note); });
}

void World::at_gateway_from_inner(u32 link, const Data& packet, const Note& note) {
  gateway_.set_time(events_.now());
  coming("inside", packet);
  const Passage p = gateway_.inside(link, packet, note);
  gone(p);
  deliver(true, p);
  if (is_slow(p)) gateway_.to_slow(packet, note);
  if (p.reason < Reason::no_external_address || p.reason > Reason::host_rate) return;
  Datagram d;
  bool right = false;
  if (!decode(packet, d, right) || d.protocol != kTcp) return;
  for (const auto* talks : {&by_client_, &by_server_}) {
    const auto at = talks->find({source_of(d), destination_of(d)});
    // What was turned and then refused is no fault of the table's, but of the other one's filter.
    if (at != talks->end() && !p.turned) at->second->connection.may_fail = true;
  }
}

// What has left the gateway.
void World::deliver(bool from_inside, const Passage& p) {
  if (!from_inside) {
    if (p.action == Action::forward) inner_link_.carry([this, out = p.packet] { at_inner(out); });
  } else if (is_answer(p.action)) {
    at_inner(p.packet);
  } else if (p.action == Action::forward && (p.ifindex == kWan || p.ifindex == kWan2)) {
    outer_link_.carry([this, out = p.packet] { over_path(out); });
  } else if (p.action == Action::forward) {
    inner_link_.carry([this, out = p.packet] { at_inner(out); });
  }
}

void World::at_gateway_from_outer(const Data& packet, const Note& note) {
  gateway_.set_time(events_.now());
  coming("outside", packet);
  const bool second =
      packet.size() >= 20 && (word_of(packet, 16) & 0xffffff00) == address(192, 0, 2, 0);
  const Passage p = gateway_.outside(second ? kWan2 : kWan, packet, note);
  gone(p);
  deliver(false, p);
  if (is_slow(p)) gateway_.to_slow(packet, note);
}

// Somewhere outside the packets must be smaller.
void World::over_path(const Data& packet) {
  if (packet.size() <= shape_.path_mtu) return at_outer(packet);
  Datagram d;
  bool right = false;
  if (!decode(packet, d, right)) return;
  if (!d.dont_fragment) {
    for (const Data& piece : cut(packet, shape_.path_mtu)) at_outer(piece);
    return;
  }
  Note note;
  note.honest = true;
  from_outer(encode(error_about(packet, address(198, 19, 0, 1), shape_.path_mtu)), note);
}

// Puts fragments together; true when there is a whole datagram.
bool World::whole(std::map<std::array<u32, 3>, std::map<u32, Data>>& pieces, const Data& packet,
                  Datagram& d) {
  bool right = false;
  if (!decode(packet, d, right)) return false;
  if (!d.more && d.offset == 0) return right;
  auto& of = pieces[{d.source, d.destination, d.id | static_cast<u32>(d.protocol) << 16}];
  of[d.offset] = packet;
  Data all(of.begin()->second.begin(), of.begin()->second.begin() + 20);
  u32 next = 0;
  bool last = false;
  for (const auto& [offset, piece] : of) {
    if (offset != next) return false;
    all.insert(all.end(), piece.begin() + 20, piece.end());
    next = static_cast<u32>(all.size() - 20);
    last = !(piece[6] & 0x20);
  }
  if (!last) return false;
  pieces.erase({d.source, d.destination, d.id | static_cast<u32>(d.protocol) << 16});
  all[2] = static_cast<u8>(all.size() >> 8);
  all[3] = static_cast<u8>(all.size());
  all[6] = all[7] = all[10] = all[11] = 0;
  u32 sum = 0;
  for (u32 i = 0; i < 20; i += 2) sum += all[i] * 256u + all[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  all[10] = static_cast<u8>(~sum >> 8);
  all[11] = static_cast<u8>(~sum);
  if (!decode(all, d, right)) return false;
  require(right || d.id >= 0x8000, Invariant::checksums_right,
          [&] { return std::string("a datagram put together again: " + sim::text_of(all)); });
  return right;
}

void World::at_inner(const Data& packet) {
  Datagram d;
  if (whole(inner_pieces_, packet, d)) inner_receives(d);
}

void World::at_outer(const Data& packet) {
  Datagram d;
  if (whole(outer_pieces_, packet, d)) outer_receives(d);
}

void World::send_from_host(Host& host, Datagram d, const Note& note, u32 mtu) {
  d.id = static_cast<u16>(host.id_base | (host.ids++ & 0x7ff));
  for (const Data& piece : cut(encode(d), mtu)) from_inner(host.link, piece, note);
}

// --- the ends ------------------------------------------------------------------------------------

// Where the default route and the one to 100.64.0.0/16 lead.
u32 World::outer_link_of(u32 address) {
  return address >> 16 == (100u << 8 | 64) ? kWan2 : kWan;
}

Host& World::host_of(u32 at) {
  for (Host& host : hosts_)
    if (host.address == at) return host;
  return hosts_.front();
}

void World::inner_receives(const Datagram& d) {
  if (d.protocol == kTcp) {
    const auto at = by_client_.find({destination_of(d), source_of(d)});
    if (at != by_client_.end())
      at->second->client->receive(d);
    else
      tcp_to_server(d);
  } else if (is_icmp_error(d)) {
    error_to_inner(d);
  } else if (d.payload.size() >= 8 && (word_of(d.payload, 0) & kOfMeeting) != 0) {
    meeting_receives(d);
  } else if (d.payload.size() >= 8 && word_of(d.payload, 0) < exchanges_.size()) {
    Exchange& x = exchanges_[word_of(d.payload, 0)];
    if (x.protocol != d.protocol) return;
    bool intact = true;
    for (std::size_t i = 8; i < d.payload.size(); ++i)
      intact &= d.payload[i] == byte_of(x.number, true, i);
    require(destination_of(d) == x.client && d.source == x.server.address && intact,
            Invariant::reply_reaches_its_host, [&] {
              return std::string("the answer for " + sim::text_of(x.client) + " came to " +
                                 sim::text_of(destination_of(d)));
            });
    x.answered += 1;
    answers_ += 1;
  }
}

// What one inner host has written to the external endpoint of another.
void World::meeting_receives(const Datagram& d) {
  const u32 number = word_of(d.payload, 0) & ~kOfMeeting, from = word_of(d.payload, 4) & 1;
  if (number >= meetings_.size()) return;
  Meeting& m = meetings_[number];
  bool intact = true;
  for (std::size_t i = 8; i < d.payload.size(); ++i)
    intact &= d.payload[i] == byte_of(m.number, from == 0, i);
  // After a long pause its external endpoint may be another's.
  const auto is = [&](u32 which, bool as_known) {
    return as_known ||
           gateway_.ledger().floor_of(kUdp, m.host[which], m.external[which]) <= events_.now();
  };
  require(is(from ^ 1, destination_of(d) == m.host[from ^ 1]) &&
              is(from, source_of(d) == m.external[from]) && intact,
          Invariant::reply_reaches_its_host, [&] {
            return std::string(sim::text_of(m.host[from]) + " wrote to " +
                               sim::text_of(m.external[from ^ 1]) + ", it came to " +
                               sim::text_of(destination_of(d)) + " from " +
                               sim::text_of(source_of(d)));
          });
  m.received += 1;
}

void World::error_to_inner(const Datagram& d) {
  Datagram q;
  if (d.type != 3 || d.code != 4 || !decode_quoted(d.payload, q) || q.protocol != kTcp) return;
  const auto at = by_client_.find({source_of(q), destination_of(q)});
  if (at != by_client_.end() && d.tail >= 576) at->second->client->set_segment_max(d.tail - 40u);
}

void World::outer_receives(const Datagram& d) {
  if (d.protocol == kTcp) return tcp_to_server(d);
  if (d.protocol == kUdp || is_icmp_query(d)) answer(d);
}

void World::tcp_to_server(const Datagram& d) {
  const Endpoint server = destination_of(d), far = source_of(d);
  auto at = by_server_.find({server, far});
  const auto begun = by_start_.find({server, d.sequence});
  if ((d.flags & kSyn) && begun != by_start_.end() &&
      (at == by_server_.end() || at->second != begun->second || at->second->server == nullptr)) {
    Talk& talk = *begun->second;
    if (talk.server == nullptr) {
      const bool inner = talk.connection.listener.port != 0;
      const auto send = [this, inner](const Datagram& s, const Note& note) {
        if (inner)
          send_from_host(host_of(s.source), s, note, 1500);
        else
          from_outer(encode(s), note);
      };
      talk.server = std::make_unique<TcpEnd>(events_, talk.connection, false, far, send);
      talk.server->set_window(random_.between(4000, 200000), static_cast<int>(random_.below(8)));
      talk.server->set_link(1500, inner || random_.chance(900));
      talk.server->set_segment_max(std::min(shape_.path_mtu, shape_.gateway.mtu_wan) - 40);
      at = by_server_.insert_or_assign({server, far}, &talk).first;
    }
  }
  if (at != by_server_.end() && at->second->server != nullptr) at->second->server->receive(d);
}

// An echo server on every port.
void World::answer(const Datagram& d) {
  Datagram a = d;
  std::swap(a.source, a.destination);
  std::swap(a.source_port, a.destination_port);
  a.type = d.type == 8 ? u8{0} : u8{14};
  a.ttl = 64;
  a.id = static_cast<u16>(server_ids_++ & 0x7fff);
  if (shape_.filtering != kFilterAddressAndPort && d.protocol == kUdp) disguise(a);
  Note note;
  note.honest = true;
  for (const Data& piece : cut(encode(a), shape_.path_mtu)) from_outer(piece, note);
}

// Sometimes the answer comes from another port, or from another server, whom nobody has asked.
void World::disguise(Datagram& answer) {
  if (random_.chance(200)) answer.source_port ^= 1;
  if (answer.payload.empty() || !random_.chance(100)) return;
  answer.source = random_.one_of(servers_);
  answer.payload[0] = 0x7f;  // of no exchange
}

// --- what is said at the end ---------------------------------------------------------------------

std::string World::text_of(const Seen& s) {
  char head[64];
  std::snprintf(head, sizeof(head), "  %10.3f %-8s", static_cast<double>(s.at) / 1e9, s.where);
  std::string text = head + sim::text_of(s.packet) + "\n             ";
  if (!s.done) return text + "here\n";
  if (is_slow(s.out)) return text + "-> slow path\n";
  if (s.out.reason == Reason::none) return text + "-> " + sim::text_of(s.out.packet) + "\n";
  return text + "refused: " + kReasonNames[static_cast<u32>(s.out.reason)] + "\n";
}

std::string World::last_packets() const {
  std::string text;
  for (const Seen& s : last_) text += text_of(s);
  return text;
}

std::string World::summary() const {
  u32 completed = 0;
  for (const Talk& talk : talks_)
    completed += talk.connection.fin[0] && talk.connection.fin[1] && !talk.connection.given_up;
  u32 met = 0, turned = 0;
  for (const Meeting& m : meetings_) met += m.received != 0;
  for (const Talk& talk : talks_)
    turned += talk.connection.listener.port != 0 && talk.server != nullptr &&
              talk.server->received() != 0;
  char text[320];
  std::snprintf(text, sizeof(text),
                "%llu events, %llu packets, %llu passed, %llu refused, %zu connections, %u closed "
                "by both ends, %u between inner hosts, %llu answers, %u of %zu meetings",
                events_.steps(), packets_, gateway_.passed(), gateway_.refused(), talks_.size(),
                completed, turned, answers_, met, meetings_.size());
  return text;
}

}  // namespace masq::sim
