// Attacks, one packet at a time. What is refused is the ledger's matter; here it is said what must
// leave the gateway's knowledge as it was.
#include "sim/attack.h"

#include <cstring>

namespace masq::sim {

void Attack::act() {
  switch (w_.random_.below(12)) {
    case 0:
    case 1:
    case 2:
      return forge_segment();
    case 3:
    case 4:
      return forge_error();
    case 5:
      return scan_from_outside();
    case 6:
      return straight_to_inner();
    case 7:
      return fragments();
    case 8:
      return forge_source();
    case 9:
      return w_.random_.chance(500) ? scan_from_inside() : flood_ports();
    case 10:
      return damage();
    default:
      return leak_by_stack();
  }
}

// An open connection with nothing under way, and where it shows outside.
bool Attack::target(Talk*& talk, Endpoint& external) {
  if (w_.talks_.empty()) return false;
  for (u32 i = 0; i < 20; ++i) {
    // Mostly one of the last.
    const u32 n = static_cast<u32>(w_.talks_.size());
    const u32 back = w_.random_.below(w_.random_.chance(700) && n > 20 ? 20 : n);
    Talk& t = w_.talks_[n - 1 - back];
    const Connection& c = t.connection;
    if (c.ended || t.server == nullptr || !t.client->is_quiet() || !t.server->is_quiet()) continue;
    if (!t.client->is_open() || !t.server->is_open()) continue;
    external = w_.gateway_.ledger().external_of(w_.events_.now(), kTcp, c.client, c.server);
    talk = &t;
    if (external.port != 0) return true;
  }
  return false;
}

// At once, without a link, so that nothing comes between looking and looking again.
void Attack::send_inert(const Data& packet, const Talk& talk, const char* what) {
  const Connection& c = talk.connection;
  const auto before = w_.gateway_.record_of(kTcp, c.client, c.server);
  w_.at_gateway_from_outer(packet, Note{});
  const auto after = w_.gateway_.record_of(kTcp, c.client, c.server);
  if (!before || !after) return;
  require(std::memcmp(&*before, &*after, sizeof(Record)) == 0, Invariant::attack_changes_nothing,
          [&] {
            return std::string(std::string(what) + " changed " + text_of(c.client) + " <-> " +
                               text_of(c.server) + ", state " +
                               std::to_string(static_cast<u32>(before->state)) + " to " +
                               std::to_string(static_cast<u32>(after->state)));
          });
}

void Attack::forge_segment() {
  Talk* talk = nullptr;
  Endpoint external;
  if (!target(talk, external)) return;
  Random& random = w_.random_;
  static const std::vector<u8> kFlags = {kRst,        kRst | kAck, kSyn,       kSyn | kAck,
                                         kFin | kAck, kFin,        kRst | kSyn};
  Datagram d;
  d.protocol = kTcp;
  d.source = talk->connection.server.address;
  d.source_port = talk->connection.server.port;
  d.destination = external.address;
  d.destination_port = external.port;
  d.flags = random.one_of(kFlags);
  d.window = static_cast<u16>(random.next());
  d.scale = d.flags & kSyn && random.chance(500) ? static_cast<int>(random.below(15)) : -1;
  const u32 exact = talk->server->next_sequence();
  const u32 distance = random.chance(700) ? random.between(2, 3000) : random.between(2, 0x7fffffff);
  d.sequence = random.chance(500) ? exact + distance : exact - distance;
  d.acknowledgment = talk->client->next_sequence() - (random.chance(500) ? 0 : random.below(1000));
  send_inert(encode(d), *talk, "a forged segment");
}

void Attack::forge_error() {
  Talk* talk = nullptr;
  Endpoint external;
  if (!target(talk, external)) return;
  Random& random = w_.random_;
  static const std::vector<u8> kTypes = {3, 3, 3, 11, 12, 4, 5};
  Datagram quoted;
  quoted.protocol = kTcp;
  quoted.source = external.address;
  quoted.source_port = external.port;
  quoted.destination = talk->connection.server.address;
  quoted.destination_port = talk->connection.server.port;
  quoted.sequence = static_cast<u32>(random.next());
  quoted.flags = kAck;
  quoted.payload = Data(random.below(40), 9);
  Datagram d;
  d.protocol = kIcmp;
  d.type = random.one_of(kTypes);
  d.code = static_cast<u8>(random.below(16));
  d.tail = static_cast<u16>(d.type == 3 && d.code == 4 ? random.between(1300, 1500) : 0);
  d.source = random.chance(500) ? talk->connection.server.address : static_cast<u32>(random.next());
  d.destination = random.chance(900) ? external.address : address(203, 0, 113, 77);
  d.payload = encode(quoted);
  if (random.chance(500)) d.payload.resize(random.between(20, 40));
  if (random.chance(100)) d.payload[random.below(20)] ^= 1;
  send_inert(encode(d), *talk, "a forged ICMP error");
}

void Attack::scan_from_outside() {
  Random& random = w_.random_;
  const u32 external = w_.some_external(random.chance(800) ? kWan : kWan2);
  static const std::vector<u8> kProtocols = {kTcp, kTcp, kUdp, kUdp, kIcmp, 47};
  const u32 n = random.between(1, 20);
  for (u32 i = 0; i < n; ++i) {
    Datagram d;
    d.protocol = random.one_of(kProtocols);
    d.source = random.chance(500) ? random.one_of(w_.servers_) : static_cast<u32>(random.next());
    d.source_port = random.chance(500) ? u16{80} : static_cast<u16>(random.next());
    d.destination = external;
    d.destination_port = static_cast<u16>(random.next());
    d.flags = random.chance(700) ? kSyn : static_cast<u8>(random.next());
    d.type = random.chance(500) ? u8{0} : static_cast<u8>(random.below(20));
    d.query = static_cast<u16>(random.next());
    d.ttl = random.chance(900) ? u8{64} : static_cast<u8>(random.between(1, 2));
    d.payload = Data(random.below(40), 0xaa);
    w_.from_outer(encode(d), Note{});
  }
}

void Attack::straight_to_inner() {
  Random& random = w_.random_;
  const Host& host = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Datagram d;
  d.protocol = random.chance(500) ? kTcp : kUdp;
  d.source = random.chance(500) ? random.one_of(w_.servers_) : host.address ^ 0x101;
  d.source_port = 80;
  d.destination = host.address;
  d.destination_port = static_cast<u16>(random.between(5000, 5007));
  d.flags = kSyn;
  if (!w_.talks_.empty() && random.chance(500)) {
    const Connection& c = w_.talks_.back().connection;
    d.protocol = kTcp;
    d.source = c.server.address;
    d.source_port = c.server.port;
    d.destination = c.client.address;
    d.destination_port = c.client.port;
  }
  w_.from_outer(encode(d), Note{});
}

// First ones too short, later ones without a first, and into the middle of an open exchange.
void Attack::fragments() {
  Random& random = w_.random_;
  if (w_.exchanges_.empty()) return;
  const Exchange& x = w_.exchanges_.back();
  const Endpoint external =
      w_.gateway_.ledger().external_of(w_.events_.now(), x.protocol, x.client, x.server);
  Datagram d;
  d.protocol = random.chance(800) ? x.protocol : kTcp;
  d.source = x.server.address;
  d.source_port = x.server.port;
  d.destination = external.port != 0 ? external.address : w_.some_external(kWan);
  d.destination_port = external.port;
  d.query = external.port;
  d.id = static_cast<u16>(0x8000 | random.below(64));
  d.payload = Data(random.between(8, 64) / 8 * 8, 0xbb);
  const u32 dice = random.below(4);
  d.more = dice != 3;
  if (dice != 0) d.offset = random.chance(500) ? 8 : random.between(1, 500) * 8;
  Data packet = encode(d);
  if (dice == 0 && random.chance(300) && packet.size() > 24) {
    d.payload.clear();
    packet = cut(encode(d), 28)[0];
  }
  w_.from_outer(packet, Note{});
}

void Attack::forge_source() {
  Random& random = w_.random_;
  const Host& victim = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Datagram d;
  d.protocol = random.chance(500) ? kTcp : kUdp;
  d.flags = kSyn;
  const std::vector<u32> sources = {
      victim.address,       address(198, 51, 100, 1), 0x7f000001, address(203, 0, 113, 2),
      address(10, 9, 0, 5), address(224, 0, 0, 5),    0};
  d.source = random.one_of(sources);
  d.source_port = static_cast<u16>(random.between(20000, 20010));
  d.destination = random.one_of(w_.servers_);
  d.destination_port = 7777;
  d.payload = Data(8, 0xcc);
  w_.from_inner(victim.link == kLan ? kLan2 : kLan, encode(d), Note{});
}

void Attack::scan_from_inside() {
  Random& random = w_.random_;
  const Host& host = w_.hosts_[0];
  const u32 n = random.between(10, 200);
  for (u32 i = 0; i < n; ++i) {
    Datagram d;
    d.protocol = random.chance(500) ? kTcp : kUdp;
    d.flags = kSyn;
    d.source = host.address;
    d.source_port = static_cast<u16>(random.between(10000, 10003));
    d.destination = address(198, 18, 0, 0) | random.below(65536);
    d.destination_port = static_cast<u16>(random.between(1, 1024));
    w_.from_inner(host.link, encode(d), Note{});
  }
}

void Attack::flood_ports() {
  Random& random = w_.random_;
  const Host& host = w_.hosts_[0];
  const u32 n = random.between(10, 200);
  for (u32 i = 0; i < n; ++i) {
    Datagram d;
    d.protocol = random.chance(800) ? kUdp : kIcmp;
    d.type = 8;
    d.source = host.address;
    d.query = d.source_port = static_cast<u16>(random.between(6000, 39000));
    d.destination = address(198, 51, 100, 9);
    d.destination_port = 123;
    w_.from_inner(host.link, encode(d), Note{});
  }
}

// A sound packet with some bytes changed, from either side.
void Attack::damage() {
  Random& random = w_.random_;
  const bool outward = random.chance(500);
  Datagram d;
  const std::vector<u8> protocols = {kTcp, kUdp, kIcmp};
  d.protocol = random.one_of(protocols);
  d.source = outward ? w_.hosts_[0].address : random.one_of(w_.servers_);
  d.destination = outward ? random.one_of(w_.servers_) : w_.some_external(kWan);
  d.source_port = static_cast<u16>(random.between(20000, 20003));
  d.destination_port = 80;
  d.flags = static_cast<u8>(random.next());
  d.type = static_cast<u8>(random.below(20));
  d.payload = Data(random.below(60), 0xdd);
  Data packet = encode(d);
  const u32 changes = random.between(1, 3);
  for (u32 i = 0; i < changes; ++i) {
    const u32 at = random.below(static_cast<u32>(packet.size()));
    packet[at] = static_cast<u8>(random.next());
  }
  if (random.chance(700)) {  // with a header checksum that is right all the same
    packet[10] = packet[11] = 0;
    u32 sum = 0;
    for (std::size_t i = 0; i + 1 < (packet[0] & 15) * 4u && i + 1 < packet.size(); i += 2)
      sum += packet[i] * 256u + packet[i + 1];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    packet[10] = static_cast<u8>(~sum >> 8);
    packet[11] = static_cast<u8>(~sum);
  }
  if (random.chance(200)) packet.resize(random.below(static_cast<u32>(packet.size())) + 1);
  if (outward)
    w_.from_inner(w_.hosts_[0].link, packet, Note{});
  else
    w_.from_outer(packet, Note{});
}

// An inner source on the kernel's own way to the external link.
void Attack::leak_by_stack() {
  Random& random = w_.random_;
  const Host& host = w_.hosts_[random.below(static_cast<u32>(w_.hosts_.size()))];
  Datagram d;
  d.source = host.address;
  d.source_port = static_cast<u16>(random.next());
  d.destination = random.one_of(w_.servers_);
  d.destination_port = 9;
  const Data packet = encode(d);
  w_.coming("leaving", packet);
  w_.gone(w_.gateway_.leaving(random.chance(500) ? kWan : kWan2, packet));
}

}  // namespace masq::sim
