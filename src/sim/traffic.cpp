// Honest traffic, one action at a time.
#include "sim/traffic.h"

namespace masq::sim {

namespace {

constexpr Nanos kPauses[] = {50 * kMillisecond, kSecond,        20 * kSecond,   200 * kSecond,
                             238 * kSecond,     1000 * kSecond, 7000 * kSecond, 7400 * kSecond};

}  // namespace

void Traffic::act() {
  const u32 dice = w_.random_.below(100);
  if (dice < 40)
    connect();
  else if (dice < 72)
    datagrams();
  else if (dice < 75)
    meet_by_tcp();
  else if (dice < 80)
    meet();
  else if (dice < 88)
    between_inner_hosts();
  else if (dice < 94)
    error_from_inside();
  else
    by_gateway();
}

Endpoint Traffic::some_server() {
  static const std::vector<u16> kPorts = {80, 443, 53, 9, 40000};
  return {w_.random_.one_of(w_.servers_), w_.random_.one_of(kPorts)};
}

// --- TCP -----------------------------------------------------------------------------------------

void Traffic::connect() {
  Random& random = w_.random_;
  Host& host = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Talk& talk = w_.talks_.emplace_back();
  Connection& c = talk.connection;
  c.number = ++number_;
  // Every host begins with the same port, and some ask for a low one.
  const u16 port = random.chance(50) ? static_cast<u16>(700 + random.below(100)) : host.next_port++;
  c.client = {host.address, port};
  c.server = some_server();
  c.link = host.link;
  do
    c.client_start =
        random.chance(100) ? 0xffffff00u + random.below(256) : static_cast<u32>(random.next());
  while (w_.by_start_.count({c.server, c.client_start}) != 0);  // the server knows it by that
  c.server_start = static_cast<u32>(random.next());
  c.started = w_.events_.now();
  if (w_.by_client_.count({c.client, c.server}) != 0) {
    w_.talks_.pop_back();
    return;
  }
  w_.by_start_[{c.server, c.client_start}] = &talk;
  begin(talk, host);
}

void Traffic::begin(Talk& talk, Host& host) {
  Random& random = w_.random_;
  Connection& c = talk.connection;
  const auto send = [this, &host](const Datagram& d, const Note& note) {
    w_.send_from_host(host, d, note, 9000);
  };
  talk.client = std::make_unique<TcpEnd>(w_.events_, c, true, c.server, send);
  talk.client->set_window(random.between(4000, 200000),
                          random.chance(700) ? static_cast<int>(random.below(8)) : -1);
  talk.client->set_link(host.link == kLan ? w_.shape_.gateway.mtu_lan : 1500,
                        c.listener.port != 0 || random.chance(800));
  w_.by_client_[{c.client, c.server}] = &talk;
  talk.client->connect();
  converse(talk, random.between(1, 8));
}

// The next thing that happens on a connection, some time from now.
void Traffic::converse(Talk& talk, u32 steps) {
  Random& random = w_.random_;
  const Nanos pause = kPauses[random.chance(700) ? random.below(3) : random.below(8)];
  w_.events_.after(pause, [this, &talk, steps] {
    if (talk.connection.ended) return;
    if (steps == 0) return end(talk);
    TcpEnd* side = w_.random_.chance(500) ? talk.client.get() : talk.server.get();
    if (side != nullptr) side->give(w_.random_.between(1, 20000));
    converse(talk, steps - 1);
  });
}

void Traffic::end(Talk& talk) {
  Random& random = w_.random_;
  const u32 dice = random.below(100);
  if (dice < 10) return;  // left open: the gateway's timer ends it
  if (dice < 20) return talk.client->reset();
  if (talk.server == nullptr) return;
  if (dice < 25) return talk.server->reset();
  TcpEnd* first = random.chance(600) ? talk.client.get() : talk.server.get();
  TcpEnd* second = first == talk.client.get() ? talk.server.get() : talk.client.get();
  first->finish();
  // Half-closed for a while, with data from the other end.
  const Nanos pause = kPauses[random.chance(500) ? random.below(2) : random.below(8)];
  w_.events_.after(pause, [this, &talk, second] {
    if (talk.connection.ended) return;
    second->give(w_.random_.between(1, 5000));
    second->finish();
  });
}

// --- UDP and ICMP --------------------------------------------------------------------------------

void Traffic::datagrams() {
  Random& random = w_.random_;
  Host& host = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Exchange& x = w_.exchanges_.emplace_back();
  x.number = static_cast<u32>(w_.exchanges_.size() - 1);
  x.protocol = random.chance(250) ? kIcmp : kUdp;
  x.link = host.link;
  const u16 port =
      static_cast<u16>(random.chance(200) ? random.between(600, 603) : random.between(5000, 5007));
  x.client = {host.address, port};
  x.server = some_server();
  if (x.protocol == kIcmp) x.server.port = 0;
  ask(x, random.between(1, 6), 0);
}

void Traffic::ask(Exchange& x, u32 times, u32 sequence) {
  Random& random = w_.random_;
  Datagram d;
  d.protocol = x.protocol;
  d.source = x.client.address;
  d.destination = x.server.address;
  d.source_port = x.client.port;
  d.destination_port = x.server.port;
  d.type = 8;
  d.query = x.client.port;
  d.tail = static_cast<u16>(sequence);
  const u32 length = random.chance(150) ? random.between(1400, 6000) : random.between(9, 600);
  d.payload.resize(length);
  const u32 words[2] = {x.number, sequence};
  for (u32 i = 0; i < 8; ++i) d.payload[i] = static_cast<u8>(words[i / 4] >> (24 - i % 4 * 8));
  for (u32 i = 8; i < length; ++i) d.payload[i] = byte_of(x.number, true, i);
  Note note;
  note.honest = true;
  w_.send_from_host(w_.host_of(x.client.address), d, note, 1500);
  if (times == 0) return;
  static constexpr Nanos kGaps[] = {100 * kMillisecond, 5 * kSecond,   58 * kSecond, 62 * kSecond,
                                    290 * kSecond,      302 * kSecond, 29 * kSecond};
  const Nanos gap = kGaps[random.chance(500) ? random.below(2) : random.below(7)];
  w_.events_.after(gap, [this, &x, times, sequence] { ask(x, times - 1, sequence + 1); });
}

// --- between inner hosts -------------------------------------------------------------------------

// Both ask a server first, which tells each the other's external endpoint (RFC 5389, RFC 8445).
void Traffic::meet() {
  Random& random = w_.random_;
  Meeting& m = w_.meetings_.emplace_back();
  m.number = static_cast<u32>(w_.meetings_.size() - 1);
  const Endpoint server = some_server();
  const u32 n = static_cast<u32>(w_.hosts_.size());
  const u32 first = random.below(n), second = (first + random.between(1, n - 1)) % n;
  for (u32 i : {0u, 1u}) {
    const Host& host = w_.hosts_[i == 0 ? first : second];
    m.host[i] = {host.address, static_cast<u16>(random.between(5000, 5007))};
    Exchange& x = w_.exchanges_.emplace_back();
    x.number = static_cast<u32>(w_.exchanges_.size() - 1);
    x.link = host.link;
    x.client = m.host[i];
    x.server = server;
    ask(x, 0, 0);
  }
  w_.events_.after(kSecond, [this, &m, server] {
    for (u32 i : {0u, 1u})
      m.external[i] = w_.gateway_.ledger().external_of(w_.events_.now(), kUdp, m.host[i], server);
    if (m.external[0].port != 0 && m.external[1].port != 0) converse(m, w_.random_.between(2, 8));
  });
}

void Traffic::converse(Meeting& m, u32 times) {
  Random& random = w_.random_;
  const u32 from = random.below(2);
  Datagram d;
  d.source = m.host[from].address;
  d.source_port = m.host[from].port;
  d.destination = m.external[from ^ 1].address;
  d.destination_port = m.external[from ^ 1].port;
  d.payload.resize(random.chance(100) ? random.between(1400, 4000) : random.between(9, 300));
  const u32 words[2] = {m.number | kOfMeeting, from};
  for (u32 i = 0; i < 8; ++i) d.payload[i] = static_cast<u8>(words[i / 4] >> (24 - i % 4 * 8));
  for (u32 i = 8; i < d.payload.size(); ++i) d.payload[i] = byte_of(m.number, from == 0, i);
  Note note;
  note.honest = true;
  w_.send_from_host(w_.host_of(m.host[from].address), d, note, 1500);
  if (times == 0) return;
  static constexpr Nanos kGaps[] = {100 * kMillisecond, 5 * kSecond, 290 * kSecond, 302 * kSecond};
  w_.events_.after(kGaps[random.chance(700) ? random.below(2) : random.below(4)],
                   [this, &m, times] { converse(m, times - 1); });
}

// An open connection to a server outside.
Talk* Traffic::talk_to_server() {
  for (u32 i = 0; i < 10 && !w_.talks_.empty(); ++i) {
    const u32 n = static_cast<u32>(w_.talks_.size());
    Talk& t = w_.talks_[n - 1 - w_.random_.below(std::min(n, 40u))];
    if (!t.connection.ended && t.connection.listener.port == 0 && t.client->is_open()) return &t;
  }
  return nullptr;
}

// RFC 5128 section 3.4: two know from servers where the other shows outside. One opens its filter
// by a SYN of its own, which the other's refuses; then the other connects.
void Traffic::meet_by_tcp() {
  Random& random = w_.random_;
  Talk* talks[2] = {talk_to_server(), talk_to_server()};
  Endpoint shown[2];
  for (u32 i : {0u, 1u}) {
    if (talks[i] == nullptr) return;
    const Connection& known = talks[i]->connection;
    shown[i] = w_.gateway_.ledger().external_of(w_.events_.now(), kTcp, known.client, known.server);
    if (shown[i].port == 0) return;
  }
  const Connection &one = talks[0]->connection, &other = talks[1]->connection;
  // Where it shows on another link nobody has told. And no two meet twice.
  bool not_now =
      one.client.address == other.client.address ||
      World::outer_link_of(one.server.address) != World::outer_link_of(other.server.address);
  for (const auto* ends : {&w_.by_client_, &w_.by_server_})
    not_now |= ends->count({one.client, shown[1]}) + ends->count({other.client, shown[0]}) != 0;
  if (not_now) return;
  Talk& talk = w_.talks_.emplace_back();
  Connection& c = talk.connection;
  c.number = ++number_;
  c.client = one.client;
  c.server = shown[1];
  c.listener = other.client;
  c.link = one.link;
  c.started = w_.events_.now();
  do c.client_start = static_cast<u32>(random.next());
  while (w_.by_start_.count({c.listener, c.client_start}) != 0);
  c.server_start = static_cast<u32>(random.next());
  // Who shares a port shows elsewhere to others (RFC 7857 section 3).
  const GatewayPlan& plan = w_.shape_.gateway;
  c.may_fail = plan.pool[1].first != 30000 || plan.block_words[0] + plan.block_words[1] != 0;
  w_.by_server_[{c.listener, shown[0]}] = &talk;
  w_.by_start_[{c.listener, c.client_start}] = &talk;
  punch(talk, shown[0], 3);
  w_.events_.after(random.between(50, 2000) * kMillisecond,
                   [this, &talk] { begin(talk, w_.host_of(talk.connection.client.address)); });
}

void Traffic::punch(Talk& talk, Endpoint far, u32 times) {
  const Connection& c = talk.connection;
  if (times == 0 || talk.server != nullptr) return;
  Datagram d;
  d.protocol = kTcp;
  d.source = c.listener.address;
  d.source_port = c.listener.port;
  d.destination = far.address;
  d.destination_port = far.port;
  d.dont_fragment = true;
  d.sequence = c.server_start;
  d.flags = kSyn;
  d.window = 4000;
  Note note;
  note.honest = true;
  note.client = c.client;
  note.listener = c.listener;
  note.ended = &c.ended;
  w_.send_from_host(w_.host_of(c.listener.address), d, note, 1500);
  w_.events_.after(kSecond, [this, &talk, far, times] { punch(talk, far, times - 1); });
}

// --- the rest ------------------------------------------------------------------------------------

// To another inner network, and to an inner host by the external address (RFC 4787 REQ-9).
void Traffic::between_inner_hosts() {
  Random& random = w_.random_;
  Host& from = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  const Host& to = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Datagram d;
  d.source = from.address;
  d.source_port = static_cast<u16>(random.between(5000, 5007));
  d.destination = to.address;
  d.destination_port = static_cast<u16>(random.between(5000, 5007));
  d.payload = Data(20, 1);
  if (random.chance(500)) {
    d.destination = w_.some_external(kWan);
    if (d.destination == 0) return;
    const Exchange* x = w_.exchanges_.empty()
                            ? nullptr
                            : &random.one_of(std::vector<const Exchange*>{
                                  &w_.exchanges_.back(), &w_.exchanges_.front()})[0];
    if (x != nullptr && x->protocol == kUdp)
      d.destination_port =
          w_.gateway_.ledger().external_of(w_.events_.now(), kUdp, x->client, x->server).port;
  } else if (from.link == to.link) {
    return;  // never meets the gateway
  }
  w_.send_from_host(from, d, Note{}, 1500);
}

// The answer to the last exchange finds a closed port (RFC 5508 REQ-5).
void Traffic::error_from_inside() {
  if (w_.exchanges_.empty()) return;
  const Exchange& x = w_.exchanges_.back();
  if (x.protocol != kUdp) return;
  Datagram quoted;
  quoted.source = x.server.address;
  quoted.source_port = x.server.port;
  quoted.destination = x.client.address;
  quoted.destination_port = x.client.port;
  quoted.payload = Data(30, 7);
  Datagram d;
  d.protocol = kIcmp;
  d.type = 3;
  d.code = 3;
  d.source = x.client.address;
  d.destination = x.server.address;
  d.payload = encode(quoted);
  w_.send_from_host(w_.host_of(x.client.address), d, Note{}, 1500);
}

// The gateway asks a name server, from a port that mappings could have.
void Traffic::by_gateway() {
  const u32 external = w_.some_external(kWan);
  if (external == 0) return;
  Datagram d;
  d.source = external;
  d.source_port = static_cast<u16>(w_.random_.between(30000, 65535));
  d.destination = address(198, 51, 100, 1);
  d.destination_port = 53;
  d.payload = Data(12, 3);
  const Data packet = encode(d);
  w_.coming("leaving", packet);
  w_.gone(w_.gateway_.leaving(kWan, packet));
}

}  // namespace masq::sim
