// The rules, each with its source.
#include "sim/rfc_model.h"

#include <algorithm>

namespace masq::test {

using namespace masq::sim;

namespace {

using i64 = long long;

Answer refuse(const char* why) {
  Answer a;
  a.why = why;
  return a;
}

Answer to_stack(const char* why) {
  Answer a;
  a.must = Must::stack;
  a.why = why;
  return a;
}

bool is_group(u32 a) {
  return a >> 28 == 14 || a == 0xffffffff;
}
bool is_plain(u32 a) {  // can be the source of a host's packet
  return !is_group(a) && a >> 28 != 15 && a >> 24 != 127 && a >> 24 != 0;
}

// RFC 1812 5.2.2 for the IPv4 header, and a transport header that lies in the packet whole.
bool is_sound(const Data& packet, Datagram& d) {
  bool sums = false;
  if (!decode(packet, d, sums)) return false;
  const u32 header = (packet[0] & 15) * 4u;
  const u32 body = packet[2] * 256u + packet[3] - header;
  if (d.offset != 0) return d.protocol != kTcp || d.offset != 8;  // RFC 3128
  if (d.protocol == kUdp) return body >= 8;
  if (d.protocol == kIcmp) return body >= 8;
  if (d.protocol != kTcp) return true;
  return body >= 20 && packet[header + 12] >> 4 >= 5 && (packet[header + 12] >> 4) * 4u <= body;
}

enum class Quote { readable, broken, foreign };

// RFC 5508 REQ-3: the quoted header must be right; its own transport checksum is not asked.
Quote quoted_ends(const Datagram& d, u8& protocol, Endpoint& source, Endpoint& destination) {
  const Data& q = d.payload;
  if (d.more || q.size() < 20) return Quote::broken;
  const u32 header = (q[0] & 15) * 4u;
  if (q[0] >> 4 != 4 || header < 20 || q.size() < header) return Quote::broken;
  u32 sum = 0;
  for (u32 i = 0; i < header; i += 2) sum += q[i] * 256u + q[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  if (sum != 0xffff) return Quote::broken;
  source = {};
  if (((q[6] & 31) | q[7]) != 0) return Quote::foreign;  // no ports in a later fragment
  if (q.size() < header + 8) return Quote::broken;
  Datagram inner;
  decode_quoted(q, inner);
  protocol = inner.protocol;
  source.address = inner.source;
  if (protocol != kTcp && protocol != kUdp && protocol != kIcmp) return Quote::foreign;
  const bool icmp = protocol == kIcmp;
  source = {inner.source, icmp ? inner.query : inner.source_port};
  destination = {inner.destination, icmp ? inner.query : inner.destination_port};
  return Quote::readable;
}

i64 ahead(u32 a, u32 b) {
  return static_cast<i32>(a - b);
}

// In units of the scale that the direction offers; in a SYN itself it is not scaled (RFC 7323 2.2).
u32 window_of(const Datagram& d) {
  if (!(d.flags & kSyn) || d.scale <= 0) return d.window;
  const u32 unit = 1u << std::min(d.scale, 14);
  return (d.window + unit - 1) / unit;
}

}  // namespace

// --- sessions and their timers -------------------------------------------------------------------

u64 RfcModel::timer_of(const Key& key, const Session& s) const {
  if (key.protocol == kUdp) return key.remote.port == 53 ? timers.dns : timers.udp;
  if (key.protocol == kIcmp) return timers.icmp;
  if (s.state == State::tcp_opening) return timers.opening;
  const bool over = s.state == State::tcp_closing || s.state == State::tcp_transitory;
  return over ? timers.closing : timers.established;
}

bool RfcModel::is_live(u32 external) const {
  return std::any_of(links.begin(), links.end(),
                     [&](const RfcLink& l) { return l.external == external && !l.inside; });
}

bool RfcModel::in_force(u64 now, const Key& key, const Session& s) const {
  return is_live(s.external.address) && now - s.last_seen < timer_of(key, s);
}

RfcModel::Session* RfcModel::find(u64 now, const Key& key) {
  const auto at = sessions_.find(key);
  return at != sessions_.end() && in_force(now, key, at->second) ? &at->second : nullptr;
}

void RfcModel::sweep(u64 now) {
  std::erase_if(sessions_, [&](const auto& s) { return !in_force(now, s.first, s.second); });
}

const RfcLink* RfcModel::link_to(u32 address) const {
  for (const RfcLink& l : links)
    if ((address & 0xffffff00) == l.network) return &l;
  if ((address & 0xffff0000) == second_network) return &links.back();
  for (const RfcLink& l : links)
    if (!l.inside) return &l;
  return nullptr;
}

// RFC 1812 5.3.1: one hop less; RFC 4787 REQ-13: what does not fit is refused here.
Answer RfcModel::going(const RfcLink& to, const Datagram& d, std::size_t size, bool outward,
                       Endpoint near) const {
  if (d.ttl <= 1) return refuse("its time to live is over");
  if (size > to.mtu) return refuse("it is larger than the link carries");
  Answer a;
  a.must = Must::pass;
  a.link = to.index;
  a.outward = outward;
  a.near = near;
  return a;
}

// --- from inside ---------------------------------------------------------------------------------

Answer RfcModel::outward(u64 now, u32 link, const Data& packet) {
  Datagram d;
  if (!is_sound(packet, d)) return refuse("it is not a sound packet");
  if (is_group(d.destination)) return to_stack("it is for a group");
  const std::size_t size = packet[2] * 256u + packet[3];
  const RfcLink& to = *link_to(d.destination);
  if (d.destination == to.own || d.destination == (to.network | 255)) return to_stack("local");
  if (to.inside) {
    Answer a = going(to, d, size, true, {});
    a.translate = false;
    return a;
  }
  Key key{d.protocol, source_of(d), destination_of(d)};
  const bool error = is_icmp_error(d);
  if (error) {
    Endpoint source, destination;
    if (quoted_ends(d, key.protocol, source, destination) != Quote::readable)
      return refuse("its quote names no session");
    key.internal = destination;
    key.remote = source;
    if (key.protocol == kIcmp) key.remote.port = 0;
  }
  if (to.external == 0) return refuse("there is no external address");
  Answer a = going(to, d, size, true, {});
  if (a.must != Must::pass) return a;
  if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
  if (d.offset != 0) {
    const auto at = fragments_.find({1, d.source, d.destination, d.id, d.protocol});
    if (at == fragments_.end() || now - at->second.seen >= timers.fragment)
      return refuse("its first fragment has not been seen");
    key = at->second.key;
    const Session* s = find(now, key);
    if (s == nullptr || s->number != at->second.session) return refuse("its session is over");
    a.near = {s->external.address, 0};
    return a;
  }
  Session* s = find(now, key);
  if (s != nullptr && s->external.address != to.external) s = nullptr;
  if (error) {  // RFC 5508 REQ-5, 6: only about a session, to its other end, and changing nothing
    if (s == nullptr || d.destination != key.remote.address) return refuse("an orphan");
    a.near = s->external;
    return a;
  }
  if (d.protocol != kTcp && d.protocol != kUdp && !is_icmp_query(d))
    return refuse("it is not translated");
  if (s == nullptr) return make(now, link, to, d, key);
  touch(now, key, *s, d, kOut);
  if (d.more) fragments_[{1, d.source, d.destination, d.id, d.protocol}] = {now, s->number, key};
  a.near = s->external;
  return a;
}

// A new session (RFC 4787 REQ-1: with the external endpoint that the internal one has already).
Answer RfcModel::make(u64 now, u32 link, const RfcLink& to, const Datagram& d, const Key& key) {
  if (key.protocol == kTcp && (d.flags & (kSyn | kAck | kRst | kFin)) != kSyn)
    return refuse("it opens nothing");
  if (d.destination == 0) return refuse("it goes nowhere");
  // RFC 3704 2.2: a source that belongs to another link is forged.
  const bool belongs = std::any_of(links.begin(), links.end(), [&](const RfcLink& l) {
    return l.index == link && l.network == (d.source & 0xffffff00) && d.source != l.own &&
           d.source != (l.network | 255);
  });
  if (!belongs || !is_plain(d.source)) return refuse("its source is forged");
  if (sessions_.size() >= sessions_max) return refuse("there are too many sessions");
  Session s;
  s.number = ++lives_;
  s.last_seen = now;
  s.state = key.protocol == kTcp   ? State::tcp_opening
            : key.protocol == kUdp ? State::udp
                                   : State::icmp;
  s.external = {to.external, 0};
  bool known = false;
  for (const auto& [other, its] : sessions_)
    if (other.protocol == key.protocol && other.internal == key.internal &&
        its.external.address == to.external && in_force(now, other, its)) {
      s.external = its.external;
      known = true;
    }
  if (key.protocol == kTcp)
    s.half[kOut] = {true, d.sequence + static_cast<u32>(d.payload.size()) + 1, d.sequence,
                    window_of(d), std::min(d.scale, 14)};
  sessions_[key] = s;
  if (d.more) fragments_[{1, d.source, d.destination, d.id, d.protocol}] = {now, s.number, key};
  Answer a = going(to, d, 0, true, s.external);
  a.chooses = !known;
  choosing_ = key;
  return a;
}

// RFC 4787 REQ-3, 3a; S-14: not what a socket has.
std::string RfcModel::chosen(u64 now, Endpoint external) {
  Session& s = sessions_.at(choosing_);
  if (s.external.address != external.address) return "not the external address of that link";
  s.external = external;
  const u8 protocol = choosing_.protocol;
  const bool in_pool = std::any_of(std::begin(pool), std::end(pool), [&](const PortRange& r) {
    return external.port >= r.first && external.port <= r.last;
  });
  if (protocol != kIcmp && !in_pool) return "not a port of the pool";
  const bool socket = std::find(sockets.begin(), sockets.end(), external.port) != sockets.end();
  if (protocol == kUdp && socket) return "a port that a socket has";
  const bool low = choosing_.internal.port < 1024;
  if (protocol != kIcmp && low != (external.port < 1024)) return "a port of the other half";
  if (((external.port ^ choosing_.internal.port) & 1) != 0) return "a port of the other parity";
  for (const auto& [other, its] : sessions_)
    if (other.protocol == protocol && its.external == external &&
        other.internal != choosing_.internal && in_force(now, other, its))
      return "a port that another endpoint has";
  return "";
}

// --- from outside --------------------------------------------------------------------------------

Answer RfcModel::inward(u64 now, u32 link, const Data& packet) {
  Datagram d;
  if (!is_sound(packet, d)) return refuse("it is not a sound packet");
  const bool error = is_icmp_error(d);
  Key outside{d.protocol, destination_of(d), source_of(d)};
  Quote quote = Quote::readable;
  if (error) {
    quote = quoted_ends(d, outside.protocol, outside.internal, outside.remote);
    if (quote == Quote::broken) return refuse("its quote is broken");
    if (outside.protocol == kIcmp) outside.remote.port = 0;
  }
  if (is_group(d.destination)) return to_stack("it is for a group");
  const Key* found = nullptr;
  Session* s = nullptr;
  if (d.offset != 0) {
    const auto at = fragments_.find({0, d.source, d.destination, d.id, d.protocol});
    if (at != fragments_.end() && now - at->second.seen < timers.fragment) {
      s = find(now, at->second.key);
      if (s != nullptr && s->number != at->second.session) s = nullptr;
      found = &at->second.key;
    }
  } else if (quote == Quote::readable && (d.protocol != kIcmp || error || is_icmp_reply(d))) {
    for (auto& [key, its] : sessions_)  // REQ-8: only who was sent to may answer
      if (key.protocol == outside.protocol && its.external == outside.internal &&
          key.remote == outside.remote && in_force(now, key, its)) {
        s = &its;
        found = &key;
      }
  }
  if (s != nullptr)
    for (const RfcLink& l : links)
      if (l.index == link && l.external != s->external.address) s = nullptr;
  if (s == nullptr) return unclaimed(d, outside);
  const RfcLink& to = *link_to(found->internal.address);
  Answer a = going(to, d, packet[2] * 256u + packet[3], false, found->internal);
  if (a.must != Must::pass) return a;
  if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
  if (error) return d.destination == s->external.address ? a : refuse("an orphan");
  if (d.offset != 0) return a;
  touch(now, *found, *s, d, kIn);
  if (d.more) fragments_[{0, d.source, d.destination, d.id, d.protocol}] = {now, s->number, *found};
  return a;
}

// For the gateway itself, or for nobody: then without an answer (RFC 5382 REQ-4a).
Answer RfcModel::unclaimed(const Datagram& d, const Key& outside) const {
  if (std::find(outer.begin(), outer.end(), d.destination) == outer.end())
    return refuse("it is for another address");
  if (is_icmp_reply(d)) return refuse("nobody asked");
  if (is_icmp_error(d) && outside.internal.address != d.destination) return refuse("an orphan");
  const bool ports = d.offset == 0 && (d.protocol == kTcp || d.protocol == kUdp);
  const bool in_pool = std::any_of(std::begin(pool), std::end(pool), [&](const PortRange& r) {
    return d.destination_port >= r.first && d.destination_port <= r.last;
  });
  const bool socket = d.protocol == kUdp && std::find(sockets.begin(), sockets.end(),
                                                      d.destination_port) != sockets.end();
  if (ports && in_pool && !socket) return refuse("no session has this port");
  return to_stack("it is for the gateway");
}

// --- what a packet does to its session -----------------------------------------------------------

void RfcModel::touch(u64 now, const Key& key, Session& s, const Datagram& d, u32 direction) {
  bool refresh = direction == kOut;  // RFC 4787 REQ-6
  if (key.protocol == kUdp && direction == kIn) refresh = udp_refresh_inbound;
  if (key.protocol == kTcp) refresh = tcp(s, d, direction);
  if (refresh) s.last_seen = now;
}

namespace {

// The most that this direction has announced, in bytes.
u32 announced(const RfcModel::Half& by, const RfcModel::Half& to) {
  const bool scaled = by.scale >= 0 && to.scale >= 0;  // RFC 7323 1.3
  return std::max(by.window << (scaled ? by.scale : 0), 1u);
}

}  // namespace

// Between the least that the receiver may still acknowledge and the most that it lets in.
bool RfcModel::in_sequence(const Session& s, const Datagram& d, u32 direction) const {
  const Half& mine = s.half[direction];
  const Half& other = s.half[direction ^ 1];
  const u32 length =
      static_cast<u32>(d.payload.size()) + (d.flags & kSyn ? 1 : 0) + (d.flags & kFin ? 1 : 0);
  if (d.flags & kAck) {
    if (!other.seen || ahead(d.acknowledgment, other.end) > 0) return false;
    const i64 behind = ahead(other.acknowledged, d.acknowledgment);  // RFC 5961 5.2
    if (behind > (mine.seen ? i64{announced(mine, other)} : -1)) return false;
  } else if (mine.seen && other.seen) {
    return false;  // RFC 9293 3.10.7.4
  }
  if (!mine.seen) return (d.flags & (kSyn | kAck)) == (kSyn | kAck);  // it knows our SYN
  if (!other.seen) return d.sequence + length == mine.end;
  const u32 window = announced(other, mine);
  return ahead(d.sequence, mine.acknowledged + window) <= 0 &&
         ahead(mine.acknowledged - window - 1, d.sequence + length) <= 0;
}

// RFC 7857 figure 1. True if the timer starts again.
bool RfcModel::tcp(Session& s, const Datagram& d, u32 direction) {
  Half& mine = s.half[direction];
  Half& other = s.half[direction ^ 1];
  const u32 length =
      static_cast<u32>(d.payload.size()) + (d.flags & kSyn ? 1 : 0) + (d.flags & kFin ? 1 : 0);
  if (d.flags & kRst) {  // RFC 5961 3: exactly at the edge
    bool exact = d.sequence == mine.end || d.sequence == mine.acknowledged;
    if (s.state == State::tcp_opening && direction == kIn && !mine.seen)
      exact = (d.flags & kAck) && d.acknowledgment == other.end;
    const bool refused = direction == kIn && (d.flags & kAck) && s.syn_again == d.acknowledgment;
    if (exact || refused) s.state = State::tcp_transitory;
    return exact || refused;
  }
  const bool bare_syn = (d.flags & (kSyn | kAck)) == kSyn;
  const bool over = s.state == State::tcp_closing || s.state == State::tcp_transitory;
  const bool repeated = direction == kOut && bare_syn && s.state == State::tcp_opening &&
                        !other.seen && d.sequence == mine.acknowledged;
  if (direction == kOut && bare_syn && !repeated && (over || s.state == State::tcp_opening)) {
    s.half[kOut] = {true, d.sequence + length, d.sequence, window_of(d), std::min(d.scale, 14)};
    s.half[kIn] = {};
    s.syn_again.reset();
    s.state = State::tcp_opening;
    return true;
  }
  if ((d.flags & kSyn) && s.state != State::tcp_opening) {  // RFC 5961 4: the ends judge it
    const bool answer = direction == kIn && !bare_syn && s.syn_again == d.acknowledgment;
    if (direction == kOut && bare_syn) s.syn_again = d.sequence + 1;
    if (!answer) return false;
    const bool scales = d.scale >= 0;  // then both do, and of ours the shift is not known
    s.half[kOut] = {true, d.acknowledgment, d.acknowledgment, 65535, scales ? 14 : -1};
    s.half[kIn] = {true, d.sequence + length, d.sequence, window_of(d), std::min(d.scale, 14)};
    s.syn_again.reset();
    s.state = State::tcp_established;
    return true;
  }
  if (!repeated && !in_sequence(s, d, direction)) return false;
  const u32 end = d.sequence + length;
  if ((d.flags & kFin) && mine.seen &&
      (ahead(d.sequence, mine.end) > 0 || ahead(end, mine.end) < 0))
    return false;
  const bool more = length != 0 && ahead(end, mine.end) > 0;
  if (!mine.seen) mine = {true, end, d.sequence, 0, mine.scale};
  if (ahead(end, mine.end) > 0) mine.end = end;
  if ((d.flags & kSyn) && d.scale >= 0) mine.scale = std::min(d.scale, 14);
  mine.window = std::max(mine.window, window_of(d));
  if ((d.flags & kAck) && ahead(d.acknowledgment, other.acknowledged) > 0)
    other.acknowledged = d.acknowledgment;
  const State closed = direction == kOut ? State::tcp_fin_out : State::tcp_fin_in;
  if (d.flags & kFin) {
    if (s.state == State::tcp_established)
      s.state = closed;
    else if (s.state > State::tcp_established && s.state != closed && !over)
      s.state = State::tcp_closing;
  } else if (s.state == State::tcp_opening && mine.seen && other.seen) {
    if (direction == kIn && (d.flags & kAck)) s.state = State::tcp_established;
  } else if (s.state == State::tcp_transitory && length != 0) {
    s.state = State::tcp_established;
  } else if (more) {  // past a FIN there is no data: the FIN was a forgery
    if (s.state == closed) s.state = State::tcp_established;
    if (s.state == State::tcp_closing)
      s.state = direction == kOut ? State::tcp_fin_in : State::tcp_fin_out;
  }
  return true;
}

}  // namespace masq::test
