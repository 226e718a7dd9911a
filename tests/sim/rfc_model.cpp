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
  a.translate = false;
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

constexpr int kNoRank = 3;

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
                     [&](const RfcLink& l) { return !l.inside && l.has(external); });
}

// RFC 4787 REQ-2: the address that a host's sessions have on this link. 0: it may be any of them.
u32 RfcModel::paired(u32 host, const RfcLink& to) const {
  for (const auto& [key, s] : sessions_)
    if (key.internal.address == host && !s.local && to.has(s.external.address))
      return s.external.address;
  return to.more.empty() ? to.external : 0;
}

bool RfcModel::in_force(u64 now, const Key& key, const Session& s) const {
  return is_live(s.external.address) && now - s.last_seen < timer_of(key, s);
}

bool RfcModel::waits(u64 now, const Key& key, const Session& s) const {
  const auto gone = gone_since.find(s.external.address);
  return gone != gone_since.end() && !is_live(s.external.address) && now - gone->second < absence &&
         now - s.last_seen < timer_of(key, s);
}

RfcModel::Session* RfcModel::find(u64 now, const Key& key) {
  const auto at = sessions_.find(key);
  return at != sessions_.end() && in_force(now, key, at->second) ? &at->second : nullptr;
}

// RFC 4787 REQ-1: what any session of the endpoint says of its mapping; null if it has none.
const RfcModel::Session* RfcModel::mapping_of(u8 protocol, Endpoint internal, u32 external) const {
  for (const auto& [key, s] : sessions_)
    if (key.protocol == protocol && key.internal == internal && s.external.address == external &&
        !s.shares)
      return &s;
  return nullptr;
}

// RFC 4787 section 5. A query of ICMP is answered by who was asked, and so is the gateway itself.
Filtering RfcModel::filtering_of(const Key& key, const Session& s) const {
  const auto at = filtering.find(key.internal.address);
  if (s.local || key.protocol == kIcmp || at == filtering.end()) return kFilterAddressAndPort;
  return at->second;
}

bool RfcModel::has_socket(u8 protocol, u16 port) const {
  return protocol == kUdp && std::find(sockets.begin(), sockets.end(), port) != sockets.end();
}

bool RfcModel::in_pool(u16 port) const {
  return std::any_of(std::begin(pool), std::end(pool),
                     [&](const PortRange& r) { return port >= r.first && port <= r.last; });
}

// Where the first fragment of this datagram went, if that way is still open; null if not.
const RfcModel::Fragment* RfcModel::fragment(u64 now, u32 outward, const Datagram& d) {
  const auto at = fragments_.find({outward, d.source, d.destination, d.id, d.protocol});
  if (at == fragments_.end() || now - at->second.seen >= timers.fragment) return nullptr;
  const Fragment& f = at->second;
  if (f.session != 0) {
    const Session* s = find(now, f.key);
    return s != nullptr && s->number == f.session ? &f : nullptr;
  }
  for (const auto& [key, s] : sessions_)
    if (s.mapping == f.mapping) return is_live(s.external.address) ? &f : nullptr;
  return nullptr;
}

void RfcModel::sweep(u64 now) {
  std::erase_if(sessions_, [&](const auto& s) {
    return !in_force(now, s.first, s.second) && !waits(now, s.first, s.second);
  });
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

// RFC 4787 REQ-9: an inner host may write to another's external endpoint. What no mapping could
// have, such as a ping, is for the gateway itself.
const RfcLink* RfcModel::hairpin_link(u64 now, const Datagram& d, bool& is_hairpin) {
  is_hairpin = false;
  if (std::find(outer.begin(), outer.end(), d.destination) == outer.end()) return nullptr;
  if (d.offset != 0) {
    is_hairpin = fragment(now, 1, d) != nullptr;
  } else if (is_icmp_error(d)) {
    Key key;
    is_hairpin = quoted_ends(d, key.protocol, key.remote, key.internal) == Quote::readable &&
                 (key.protocol != kIcmp || (key.remote.port = 0, true)) &&
                 sessions_.count(key) != 0;
  } else {
    is_hairpin = (d.protocol == kTcp || d.protocol == kUdp) && in_pool(d.destination_port) &&
                 !has_socket(d.protocol, d.destination_port);
  }
  for (const RfcLink& l : links)
    if (is_hairpin && !l.inside && l.has(d.destination)) return &l;
  return nullptr;
}

Answer RfcModel::outward(u64 now, u32 link, const Data& packet) {
  Datagram d;
  if (!is_sound(packet, d)) return refuse("it is not a sound packet");
  const bool error = is_icmp_error(d);
  Key key{d.protocol, source_of(d), destination_of(d)};
  Quote quote = Quote::readable;
  if (error) {
    quote = quoted_ends(d, key.protocol, key.remote, key.internal);
    if (quote == Quote::broken) return refuse("its quote is broken");
    if (key.protocol == kIcmp) key.remote.port = 0;
  }
  if (is_group(d.destination)) return to_stack("it is for a group");
  bool is_hairpin = false;
  const RfcLink* turn = hairpin_link(now, d, is_hairpin);
  if (is_hairpin && turn == nullptr) return refuse("that external address has gone");
  const std::size_t size = is_hairpin ? 0 : packet[2] * 256u + packet[3];
  const RfcLink& to = is_hairpin ? *turn : *link_to(d.destination);
  const bool own = d.destination == to.own || d.destination == (to.network | 255) ||
                   std::find(outer.begin(), outer.end(), d.destination) != outer.end();
  if (own && !is_hairpin)
    return is_forged(d.source, true) ? refuse("its source cannot be inside") : to_stack("local");
  if (to.inside) {
    Answer a = going(to, d, size, true, {});
    a.translate = false;
    return a;
  }
  if (quote != Quote::readable) return refuse("its quote names no session");
  if (to.external == 0) return refuse("there is no external address");
  Answer a = going(to, d, size, true, {});
  if (a.must != Must::pass) return a;
  if (is_hairpin) a.must = Must::again;
  if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
  if (d.offset != 0) {
    const Fragment* f = fragment(now, 1, d);
    if (f == nullptr) return refuse("its first fragment has not been seen");
    const Session& s = sessions_.at(f->key);
    if (s.local) return refuse("it is not the host's");
    a.near = {s.external.address, 0};
    return a;
  }
  Session* s = find(now, key);
  if (s != nullptr && !to.has(s->external.address)) s = nullptr;
  if (s != nullptr && s->local) return refuse("it is not the host's");
  if (error) {  // RFC 5508 REQ-5, 6: only about a session, to its other end, and changing nothing
    const Session* of = s;
    if (of == nullptr) {  // or about what the filtering let in without one
      of = mapping_of(key.protocol, key.internal, paired(key.internal.address, to));
      if (of != nullptr && (filtering_of(key, *of) == kFilterAddressAndPort || !belongs(link, d)))
        of = nullptr;
    }
    if (of == nullptr || d.destination != key.remote.address) return refuse("an orphan");
    a.near = of->external;
    return a;
  }
  if (d.protocol != kTcp && d.protocol != kUdp && !is_icmp_query(d))
    return refuse("it is not translated");
  if (s == nullptr) {
    const Must must = a.must;
    a = make(now, link, to, d, key, false);
    if (a.must == Must::pass) a.must = must;
    return a;
  }
  touch(now, key, *s, d, kOut);
  if (d.more)
    fragments_[{1, d.source, d.destination, d.id, d.protocol}] = {now, s->number, s->mapping, key};
  a.near = s->external;
  return a;
}

// RFC 3704 2.2: a source that belongs to another link is forged.
bool RfcModel::belongs(u32 link, const Datagram& d) const {
  return is_plain(d.source) && std::any_of(links.begin(), links.end(), [&](const RfcLink& l) {
           return l.index == link && l.network == (d.source & 0xffffff00) && d.source != l.own &&
                  d.source != (l.network | 255);
         });
}

// RFC 1812 section 5.3.8: no host's address or one of the gateway's own.
bool RfcModel::is_nobodys(u32 source) const {
  return !is_plain(source) || std::find(outer.begin(), outer.end(), source) != outer.end() ||
         std::any_of(links.begin(), links.end(), [&](const RfcLink& l) {
           return source == l.own || source == (l.network | 255);
         });
}

// Nor of a host on the other side.
bool RfcModel::is_forged(u32 source, bool inside) const {
  const RfcLink* back = link_to(source);
  return is_nobodys(source) || (back != nullptr && back->inside != inside);
}

// RFC 6888 REQ-4: each host has its share. Every new session costs a second, of which as many pass
// in one as may begin in it; a host without sessions owes nothing.
bool RfcModel::may_begin(u64 now, const Key& key) {
  u32 its = 0, opening = 0;
  for (const auto& [other, s] : sessions_)
    if (other.internal.address == key.internal.address && !s.local) {
      its += 1;
      opening += s.state == State::tcp_opening;
    }
  if (limits.sessions != 0 && its >= limits.sessions) return false;
  if (limits.opening != 0 && key.protocol == kTcp && opening >= limits.opening) return false;
  if (limits.new_per_s == 0) return true;
  const u64 second = ticks_from_s(1);
  auto& [owed, since] = owed_[key.internal.address];
  const u64 paid = (now - since) * limits.new_per_s;
  const u64 left = its == 0 || paid >= owed ? 0 : owed - paid;
  if (left + second > second * limits.at_once) return false;
  owed = left + second;
  since = now;
  return true;
}

bool RfcModel::may_map(const Key& key) const {
  std::vector<u64> mappings;
  for (const auto& [other, s] : sessions_)
    if (other.internal.address == key.internal.address && !s.local && !s.shares &&
        std::find(mappings.begin(), mappings.end(), s.mapping) == mappings.end())
      mappings.push_back(s.mapping);
  return limits.mappings == 0 || mappings.size() < limits.mappings;
}

// A new session (RFC 4787 REQ-1: with the external endpoint that the internal one has already).
Answer RfcModel::make(u64 now, u32 link, const RfcLink& to, const Datagram& d, const Key& key,
                      bool local) {
  u32 external = local ? d.source : paired(d.source, to);
  if (external == 0) external = prefers(d.source, to.index);
  const Session* known = mapping_of(key.protocol, key.internal, external);
  if (key.protocol == kTcp) {
    const u8 flags = d.flags & (kSyn | kAck | kRst | kFin);
    // An answer to who was let in without a session makes one too.
    const bool answers = flags == (kSyn | kAck) && known != nullptr &&
                         filtering_of(key, *known) != kFilterAddressAndPort;
    if (flags != kSyn && !answers) return refuse("it opens nothing");
  }
  // RFC 6335 section 6: port 0 is nobody's.
  if (d.destination == 0 || (key.protocol != kIcmp && key.remote.port == 0))
    return refuse("it goes nowhere");
  if (!local && !belongs(link, d)) return refuse("its source is forged");
  // What waits for another address gives way.
  if (const auto at = sessions_.find(key);
      at != sessions_.end() && !is_live(at->second.external.address))
    sessions_.erase(at);
  if (!local && !may_begin(now, key)) return refuse("its host has its share");
  if (sessions_.size() >= sessions_max + (local ? own_sessions : 0))
    return refuse("there are too many sessions");
  if (!local && known == nullptr && !may_map(key)) return refuse("its host has its ports");
  // RFC 5508 REQ-8 has the host told. RFC 6888 REQ-11d: nobody's port is taken away for it.
  const auto old = sessions_.find(key);
  before_ = old != sessions_.end() && old->second.shares ? old->second.external : Endpoint{};
  const bool full = known == nullptr && best_rank(key, external) == kNoRank;
  if (full && key.protocol != kTcp) return refuse("all ports are given away");
  Session s;
  s.shares = full || (known != nullptr && is_taken(key, known->external));
  if (s.shares && !can_share(key, external)) return refuse("all ports lead there already");
  if (s.shares) known = nullptr;
  s.number = ++lives_;
  s.last_seen = now;
  s.local = local;
  s.state = key.protocol == kTcp   ? State::tcp_opening
            : key.protocol == kUdp ? State::udp
                                   : State::icmp;
  s.external = known != nullptr ? known->external : Endpoint{external, 0};
  s.mapping = known != nullptr ? known->mapping : ++lives_;
  if (key.protocol == kTcp) begin(s, d);
  Answer a;
  a.must = Must::pass;
  a.link = to.index;
  a.outward = true;
  a.near = s.external;
  a.chooses = known == nullptr;
  sessions_[key] = s;
  if (d.more)
    fragments_[{1, d.source, d.destination, d.id, d.protocol}] = {now, s.number, s.mapping, key};
  choosing_ = key;
  choosing_at_ = &to;
  return a;
}

// Has another endpoint's mapping this port?
bool RfcModel::is_held(u8 protocol, Endpoint external, Endpoint internal) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& each) {
    return each.first.protocol == protocol && each.second.external == external &&
           each.first.internal != internal && !each.second.shares;
  });
}

// RFC 7857 section 3: TCP connections to different remote endpoints may share a port. Does this one
// lead to that remote endpoint already, for somebody else?
bool RfcModel::is_taken(const Key& key, Endpoint external) const {
  if (key.protocol != kTcp) return false;
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& each) {
    return each.first.protocol == kTcp && each.second.external == external &&
           each.first.remote == key.remote && each.first.internal != key.internal;
  });
}

bool RfcModel::may_share(const Key& key, Endpoint external) const {
  return external.port >= 1024 && in_pool(external.port) && external != key.remote &&
         external != before_ && !is_taken(key, external);
}
bool RfcModel::can_share(const Key& key, u32 external) const {
  for (const PortRange& r : pool)
    for (u32 port = r.first; port <= r.last; ++port)
      if (may_share(key, {external, static_cast<u16>(port)})) return true;
  return false;
}

// How good a free port is for an endpoint, 0 the best: RFC 4787 REQ-3a, REQ-4 ask for the same half
// and the same parity, and a port of the high half serves where the low one has none.
int RfcModel::rank(const Key& key, u32 external, u16 port) const {
  if (key.protocol == kIcmp) return ((port ^ key.internal.port) & 1) == 0 ? 0 : 1;
  if (!in_pool(port) || has_socket(key.protocol, port)) return kNoRank;
  const Endpoint at{external, port};
  if (is_held(key.protocol, at, key.internal) || is_taken(key, at)) return kNoRank;
  if (key.protocol == kTcp && (at == key.remote || at == before_)) return kNoRank;
  const int parity = ((port ^ key.internal.port) & 1) == 0 ? 0 : 1;
  if (key.internal.port >= 1024) return port < 1024 ? kNoRank : parity;
  return port < 1024 ? parity : 2;
}

int RfcModel::best_rank(const Key& key, u32 external) const {
  if (key.protocol == kIcmp) return 0;
  int best = kNoRank;
  for (const PortRange& r : pool)
    for (u32 port = r.first; port <= r.last && best != 0; ++port)
      best = std::min(best, rank(key, external, static_cast<u16>(port)));
  return best;
}

// RFC 4787 REQ-3, 3a; S-14: not what a socket has.
std::string RfcModel::chosen(u64 now, Endpoint external) {
  Session& s = sessions_.at(choosing_);
  if (!choosing_at_->has(external.address)) return "not an external address of that link";
  if (s.external.address != external.address) return "not the address that the host has";
  const Key& key = choosing_;
  for (const auto& [other, its] : sessions_)
    if (other.protocol == key.protocol && its.external == external &&
        other.internal != key.internal && !its.shares && !s.shares && in_force(now, other, its))
      return "a port that another endpoint has";
  if (s.shares) {
    s.external.port = 0;
    if (!may_share(key, external)) return "a port that it may not share";
    s.external = external;
    return "";
  }
  const u16 own = key.internal.port;
  const Endpoint as_own{external.address, own};
  const bool own_is_free = !is_held(key.protocol, as_own, key.internal) && !is_taken(key, as_own);
  const bool keeps = s.local && own_is_free;  // what the gateway itself sends stays as it is
  if (keeps && external.port != own) return "not the port that the gateway's own program has";
  s.external.port = 0;
  const int got = rank(key, external.address, external.port);
  if (!keeps && got != best_rank(key, external.address))
    return "not one of the best that are free (" + std::to_string(got) + ")";
  s.external = external;
  return "";
}

// --- from the gateway itself ---------------------------------------------------------------------

// What its stack sends from an external address. A port that mappings could have needs one, unless
// a socket keeps it from being given away; other ports are the gateway's own.
Answer RfcModel::leaving(u64 now, u32 link, const Data& packet) {
  Datagram d;
  const bool sound = is_sound(packet, d);
  const u32 source = sim::address(packet[12], packet[13], packet[14], packet[15]);
  const RfcLink* to = nullptr;
  for (const RfcLink& l : links)
    if (l.index == link && !l.inside && l.external != 0 && l.has(source)) to = &l;
  if (to == nullptr) return refuse("its source is no external address of that link");
  if (!sound) return to_stack("it is not looked into");
  Answer a = to_stack("");
  a.translate = true;
  a.outward = true;
  Key key{d.protocol, source_of(d), destination_of(d)};
  if (d.offset != 0) {
    const Fragment* f = fragment(now, 1, d);
    if (f == nullptr) return to_stack("its first fragment had no mapping");
    if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
    a.near = {sessions_.at(f->key).external.address, 0};
    return a;
  }
  const bool ports = d.protocol == kTcp || d.protocol == kUdp;
  if (!ports && !is_icmp_query(d)) return to_stack("it needs no mapping");
  if (ports && !in_pool(d.source_port)) return to_stack("no mapping can have its port");
  if (ports && has_socket(d.protocol, d.source_port) &&
      !is_held(d.protocol, {d.source, d.source_port}, {}))
    return to_stack("a socket has its port");
  Session* s = find(now, key);
  if (s != nullptr && s->external.address != source) s = nullptr;
  const bool opens = (d.flags & (kSyn | kAck | kRst | kFin)) == kSyn;
  if (s == nullptr && d.protocol == kTcp && !opens) return to_stack("it opens nothing");
  if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
  if (s == nullptr) {
    const Answer made = make(now, link, *to, d, key, true);
    if (made.must != Must::pass) return made;
    a.near = made.near;
    a.chooses = made.chooses;
    return a;
  }
  touch(now, key, *s, d, kOut);
  if (d.more)
    fragments_[{1, d.source, d.destination, d.id, d.protocol}] = {now, s->number, s->mapping, key};
  a.near = s->external;
  return a;
}

// --- from outside --------------------------------------------------------------------------------

// RFC 4787 REQ-8: a mapping may let in who was not asked, by the choice of its host: everybody, or
// every port of an address that was. No session is made for it. Null, or a session of the mapping.
const RfcModel::Session* RfcModel::let_in(const Key& outside, Key& inside) const {
  if (outside.protocol == kIcmp || outside.remote.port == 0) return nullptr;
  for (const auto& [key, s] : sessions_) {
    if (key.protocol != outside.protocol || s.external != outside.internal || s.shares) continue;
    const Filtering f = filtering_of(key, s);
    if (f == kFilterNone || (f == kFilterAddress && key.remote.address == outside.remote.address)) {
      inside = key;
      return is_live(s.external.address) ? &s : nullptr;
    }
  }
  return nullptr;
}

// `again`: what an inner host has sent to an external endpoint, its source translated already. That
// goes inside or nowhere.
Answer RfcModel::inward(u64 now, u32 link, const Data& packet, bool again) {
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
  // Whatever address a DHCP server has, its client does not answer there.
  const bool dhcp = d.protocol == kUdp && d.offset == 0 && d.source_port == 67 &&
                    d.destination_port == 68 && is_plain(d.source);
  const bool forged = !again && !dhcp && is_forged(d.source, false);
  if (is_group(d.destination) && (!forged || d.source == 0)) return to_stack("it is for a group");
  if (is_group(d.destination)) return refuse("its source cannot be outside");
  Key inside;
  Session* s = nullptr;
  const Session* stranger = nullptr;  // lets in by its mapping alone
  if (d.offset != 0) {
    const Fragment* f = fragment(now, 0, d);
    if (f != nullptr && f->session != 0) s = &sessions_.at(f->key);
    if (f != nullptr && f->session == 0)
      for (const auto& [key, its] : sessions_)
        if (its.mapping == f->mapping) stranger = &its;
    if (f != nullptr) inside = f->key;
  } else if (quote == Quote::readable && (d.protocol != kIcmp || error || is_icmp_reply(d))) {
    for (auto& [key, its] : sessions_)  // REQ-8: only who was sent to may answer
      if (key.protocol == outside.protocol && its.external == outside.internal &&
          key.remote == outside.remote && in_force(now, key, its)) {
        s = &its;
        inside = key;
      }
    if (s == nullptr && !error) stranger = let_in(outside, inside);
  }
  const Session* of = s != nullptr ? s : stranger;
  if (of != nullptr)
    for (const RfcLink& l : links)
      if (l.index == link && !l.has(of->external.address)) of = nullptr;
  if (of == nullptr) {
    const Answer a = unclaimed(d, outside);
    if (a.must == Must::stack && forged) return refuse("its source cannot be outside");
    return again && a.must == Must::stack ? refuse("it is not the gateway's") : a;
  }
  // RFC 5508 REQ-4: an error comes from anybody on the way. The other end of a session may have an
  // address that was the gateway's until it went, by which two inner hosts met.
  const bool wrong = error          ? is_nobodys(d.source)
                     : s != nullptr ? is_live(d.source)
                                    : is_forged(d.source, false);
  if (!again && wrong) return refuse("its source cannot be outside");
  Answer a = to_stack("it is for the gateway itself");
  if (!of->local)
    a = going(*link_to(inside.internal.address), d, packet[2] * 256u + packet[3], false, {});
  if (a.must == Must::refuse) return a;
  a.translate = true;
  a.near = inside.internal;
  if ((packet[0] & 15) > 5) return refuse("IP options are not translated");
  const bool orphan = error && d.destination != of->external.address;
  if (orphan) return refuse("an orphan");
  if (!error && d.offset == 0) {
    if (s != nullptr) touch(now, inside, *s, d, kIn);
    if (d.more)
      fragments_[{0, d.source, d.destination, d.id, d.protocol}] = {
          now, s != nullptr ? s->number : 0, of->mapping, inside};
  }
  return again && of->local ? refuse("it is not the gateway's") : a;
}

// For the gateway itself, or for nobody: then without an answer (RFC 5382 REQ-4a).
Answer RfcModel::unclaimed(const Datagram& d, const Key& outside) const {
  if (std::find(outer.begin(), outer.end(), d.destination) == outer.end())
    return refuse("it is for another address");
  if (is_icmp_reply(d)) return refuse("nobody asked");
  if (is_icmp_error(d) && outside.internal.address != d.destination) return refuse("an orphan");
  const bool ports = d.offset == 0 && (d.protocol == kTcp || d.protocol == kUdp);
  if (ports && in_pool(d.destination_port) && !has_socket(d.protocol, d.destination_port))
    return refuse("no session has this port");
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
    const i64 past = ahead(d.acknowledgment, other.acknowledged);  // RFC 5961 5.2
    if (past < (mine.seen ? -i64{announced(mine, other)} : 1)) return false;
  } else if (mine.seen && other.seen) {
    return false;  // RFC 9293 3.10.7.4
  }
  if (!mine.seen) return (d.flags & kAck) != 0;  // it knows our SYN
  if (!other.seen) return d.sequence + length == mine.end;
  const u32 window = announced(other, mine);
  return ahead(d.sequence, mine.acknowledged + window) <= 0 &&
         ahead(mine.acknowledged - window - 1, d.sequence + length) <= 0;
}

// The numbers of a new connection, from its SYN; or from the SYN, ACK that answers a SYN which was
// let in without a session. That one acknowledges the other end's number, and offers scaling only
// if the other end did (RFC 7323 2.2).
void RfcModel::begin(Session& s, const Datagram& d) const {
  const u32 length = static_cast<u32>(d.payload.size()) + 1 + (d.flags & kFin ? 1 : 0);
  s.state = State::tcp_opening;
  s.half[kOut] = {true, d.sequence + length, d.sequence, window_of(d), std::min(d.scale, 14)};
  s.half[kIn] = {};
  s.syn_again.reset();
  if (d.flags & kAck)
    s.half[kIn] = {true, d.acknowledgment, d.acknowledgment, 65535, d.scale >= 0 ? 14 : -1};
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
  const bool answers = !filtering.empty() && over && (d.flags & kSyn);
  if (direction == kOut && (bare_syn || answers) && !repeated &&
      (over || s.state == State::tcp_opening)) {
    begin(s, d);
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
  if (!mine.seen) {
    mine = {true, end, d.sequence, 0, mine.scale};
    if (!(d.flags & kSyn)) mine.scale = other.scale = 14;  // its SYN has proved nothing
  }
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
