// Judging one passage after another.
#include "sim/ledger.h"

namespace masq::sim {

namespace {

constexpr Nanos kSlack = 10 * kMillisecond;  // the core's clock has steps of a millisecond
constexpr Nanos kSlackTcp = 5 * kSecond;     // segments overtake each other on the links
constexpr Nanos kFragmentFloor = 28 * kSecond;
constexpr Nanos kFragmentCeiling = 31 * kSecond;

Nanos nanos_of(Ticks ticks) {
  return static_cast<Nanos>(ticks) << kTickShift;
}

bool is_group(u32 address) {
  return address >> 28 == 14 || address == 0xffffffff;
}

std::string story(const Data& in, const Passage& p) {
  return "\n    in:  " + text_of(in) +
         "\n    out: " + (p.action == Action::drop ? std::string("refused") : text_of(p.packet));
}

// Is this what one says of a packet that is wrong in itself?
bool is_bad(Reason reason) {
  return reason == Reason::malformed || reason == Reason::spoofed_source ||
         reason == Reason::internal_error || reason == Reason::unsupported_protocol ||
         reason == Reason::icmp_type || reason == Reason::ip_options ||
         reason == Reason::egress_guard || reason == Reason::ttl_exceeded ||
         reason == Reason::no_route || reason == Reason::wrong_zone;
}

}  // namespace

// --- what is known of the world ------------------------------------------------------------------

const Place* Ledger::place_of(u32 address) const {
  for (const auto& [ifindex, place] : places)
    if (place.zone != Zone::outside && (address & 0xffffff00) == place.network) return &place;
  return nullptr;
}

bool Ledger::is_inner(u32 address) const {
  const Place* place = place_of(address);
  return place != nullptr && place->zone == Zone::inside;
}

const Ledger::Session* Ledger::allowed_in(Nanos now, const Key& key, Endpoint external) const {
  const auto live = outer.find(external.address);
  if (live == outer.end() || !live->second) return nullptr;
  const auto exact = sessions_.find(key);
  if (exact != sessions_.end() && exact->second.ceiling > now && exact->second.external == external)
    return &exact->second;
  if (modes_.filtering == kFilterAddressAndPort) return nullptr;
  for (auto it = sessions_.lower_bound(Key{key.protocol, key.near, {}});
       it != sessions_.end() && it->first.protocol == key.protocol && it->first.near == key.near;
       ++it)
    if (it->second.external == external &&  // a mapping lasts until the sweep
        (modes_.filtering == kFilterNone || it->first.remote.address == key.remote.address))
      return &it->second;
  return nullptr;
}

// Must this datagram, which belongs to no session, be let in to the host whose endpoint it names?
bool Ledger::is_expected(Nanos now, const Key& outside) const {
  if (modes_.filtering == kFilterAddressAndPort || outside.protocol != kUdp) return false;
  if (outside.remote.port == 0) return false;  // nobody's (RFC 6335 section 6)
  const bool all = modes_.filtering == kFilterNone;
  const Endpoint from = all ? Endpoint{} : Endpoint{outside.remote.address, 0};
  for (auto it = by_external_.lower_bound(Key{kUdp, outside.near, from});
       it != by_external_.end() && it->first.protocol == kUdp && it->first.near == outside.near &&
       (all || it->first.remote.address == outside.remote.address);
       ++it) {
    const auto at = sessions_.find(Key{kUdp, it->second, it->first.remote});
    if (at != sessions_.end() && at->second.external == outside.near && at->second.floor > now)
      return true;
  }
  return false;
}

// Until when this internal endpoint must keep this external one.
Nanos Ledger::floor_of(u8 protocol, Endpoint internal, Endpoint external) const {
  Nanos floor = 0;
  for (auto it = sessions_.lower_bound(Key{protocol, internal, {}});
       it != sessions_.end() && it->first.protocol == protocol && it->first.near == internal; ++it)
    if (it->second.external == external) floor = std::max(floor, it->second.floor);
  return floor;
}

Endpoint Ledger::external_of(Nanos now, u8 protocol, Endpoint internal, Endpoint remote) const {
  const auto at = sessions_.find(Key{protocol, internal, remote});
  return at == sessions_.end() || at->second.floor <= now ? Endpoint{} : at->second.external;
}

void Ledger::external_gone(u32 address) {
  for (auto& [key, session] : sessions_)
    if (session.external.address == address) {
      session.floor = 0;
      session.revived = true;
    }
}

void Ledger::forget(Nanos now) {
  std::erase_if(sessions_, [&](const auto& s) { return s.second.ceiling <= now; });
  std::erase_if(firsts_, [&](const auto& f) { return f.second.seen + kFragmentCeiling <= now; });
  std::erase_if(by_external_, [&](const auto& b) {
    return sessions_.count(Key{b.first.protocol, b.second, b.first.remote}) == 0;
  });
}

// --- single checks -------------------------------------------------------------------------------

void Ledger::check_no_inner(const Datagram& out, const Data& packet) const {
  const bool header = is_inner(out.source) || is_inner(out.destination);
  require(!header, Invariant::no_inner_address_outside,
          [&] { return std::string("leaves: " + text_of(packet)); });
  Datagram quoted;
  if (!is_icmp_error(out) || !decode_quoted(out.payload, quoted)) return;
  require(!is_inner(quoted.source) && !is_inner(quoted.destination),
          Invariant::no_inner_address_outside,
          [&] { return std::string("an error quotes one: " + text_of(packet)); });
}

// Against the twin: everything as it came, but for what translation must change.
void Ledger::check_change(u32 from, const Data& in, bool outward, Endpoint near,
                          const Passage& p) const {
  std::vector<u32> unsure;
  Data wanted = translated(in, outward, near, unsure);
  Datagram d, out;
  bool ignored = false;
  if (decode(in, d, ignored) && decode(p.packet, out, ignored) && (d.flags & kSyn) && d.mss >= 0) {
    require(out.mss == mss_within(from, p.ifindex, d.mss), Invariant::mss_fits,
            [&] { return std::string(story(in, p)); });
    set_mss(wanted, out.mss);
  }
  check_change(in, std::move(wanted), std::move(unsure), outward, p);
}

// RFC 9293 section 3.7.1: what the smaller of the two links carries, unless it is set otherwise.
int Ledger::mss_within(u32 from, u32 to, int mss) const {
  if (settings_.mss_clamp == kMssLeft) return mss;
  const u32 mtu = std::min(places.at(from).mtu, places.at(to).mtu);
  const u32 most = settings_.mss_clamp == kMssByMtu ? mtu - 40 : settings_.mss_clamp;
  return std::min(mss, static_cast<int>(most));
}

void Ledger::check_change(const Data& in, Data wanted, std::vector<u32> unsure, bool outward,
                          const Passage& p) const {
  require(p.packet.size() == in.size(), Invariant::only_endpoints_change,
          [&] { return std::string("the length has changed" + story(in, p)); });
  require(p.packet[8] + 1 == in[8], Invariant::ttl_decremented_once,
          [&] { return std::string(story(in, p)); });
  const bool atomic = (in[6] & 0x60) == 0x40 && (in[6] & 0x1f) == 0 && in[7] == 0;
  if (modes_.ids_rewritten && outward && !atomic)
    for (u32 at : {4u, 5u, 10u, 11u}) wanted[at] = p.packet[at];
  for (u32 at : unsure)
    for (u32 byte : {at, at + 1})
      if (byte < wanted.size()) wanted[byte] = p.packet[byte];
  Datagram before, after;
  bool right_before = false, right_after = false;
  decode(in, before, right_before);
  require(decode(p.packet, after, right_after), Invariant::checksums_right,
          [&] { return std::string("the header is broken" + story(in, p)); });
  require(right_before == right_after, Invariant::checksums_right,
          [&] { return std::string(story(in, p)); });
  require(wanted == p.packet, Invariant::only_endpoints_change,
          [&] { return std::string("expected " + text_of(wanted) + story(in, p)); });
}

void Ledger::check_routed(const Data& in, const Passage& p) const {
  Data back = p.packet;
  require(back.size() == in.size() && back[8] + 1 == in[8], Invariant::ttl_decremented_once,
          [&] { return std::string("routed" + story(in, p)); });
  for (u32 at : {8u, 10u, 11u}) back[at] = in[at];
  require(back == in, Invariant::only_endpoints_change,
          [&] { return std::string("routed" + story(in, p)); });
}

void Ledger::check_error(u32 from, const Data& in, const Passage& p) const {
  Datagram cause, error;
  bool right = false, ignored = false;
  decode(in, cause, ignored);
  const bool sound = decode(p.packet, error, right) && right && is_icmp_error(error);
  require(sound && error.destination == cause.source && p.ifindex == from &&
              error.source == places.at(from).own,
          Invariant::error_is_sound, [&] { return std::string("is badly made" + story(in, p)); });
  require(!is_icmp_error(cause) && cause.offset == 0, Invariant::error_is_sound,
          [&] { return std::string("answers what must not be answered" + story(in, p)); });
  const std::size_t n = error.payload.size();
  require(n >= 28 && n <= in.size() &&
              std::equal(error.payload.begin(), error.payload.end(), in.begin()),
          Invariant::error_is_sound,
          [&] { return std::string("does not quote its packet" + story(in, p)); });
}

void Ledger::check_stack(const Datagram& d, bool inward) const {
  bool own = is_group(d.destination) || outer.count(d.destination) != 0;
  for (const auto& [ifindex, place] : places) {
    const bool its = d.destination == place.own || d.destination == (place.network | 255);
    if (inward ? place.zone == Zone::outside && its : its || place.zone == Zone::other) own = true;
  }
  const bool dhcp = d.protocol == kUdp && d.source_port == 67 && d.destination_port == 68;
  require(own || (inward && dhcp && !is_inner(d.destination)), Invariant::stack_gets_its_own,
          [&] { return std::string("got a packet for " + text_of(d.destination)); });
}

const Ledger::First* Ledger::first_of(Nanos now, const Datagram& d, bool outward) const {
  const auto at = firsts_.find(FragmentKey{d.source, d.destination, d.id, d.protocol, outward});
  if (at == firsts_.end() || at->second.seen + kFragmentCeiling <= now) return nullptr;
  return &at->second;
}

// `inner`: the session as the inner side names it.
void Ledger::check_refused(Nanos now, const Key& inner, const Datagram& d, const Note& note,
                           const Passage& p, bool outward) const {
  require(p.reason != Reason::none, Invariant::refused_has_reason,
          [&] { return std::string("a packet vanished"); });
  if (!note.honest) return;
  require(!is_bad(p.reason), Invariant::honest_is_not_called_bad, [&] {
    return std::string("refused for reason " + std::to_string(static_cast<u32>(p.reason)));
  });
  require(p.reason != Reason::too_big || !note.fits || settings_.mss_clamp != kMssByMtu,
          Invariant::mss_fits, [&] { return std::string("a segment was too large"); });
  require(p.reason != Reason::too_big || d.dont_fragment || p.turned || !cuts,
          Invariant::cut_if_it_may_be, [&] { return std::string("a datagram was too large"); });
  if ((p.reason >= Reason::slow_path_down && p.reason <= Reason::slow_path_full) ||
      p.reason == Reason::too_big || p.reason == Reason::fragment_table_full)
    return;
  Key key = inner;
  if (d.offset != 0) {
    const First* first = first_of(now, d, outward);
    if (first == nullptr || first->seen + kFragmentFloor <= now) return;
    key = first->session;
  }
  const auto at = sessions_.find(key);
  if (d.protocol == kTcp && !is_of(note, key.near)) return;
  const auto to = outer.find(d.destination);
  if (outward && to != outer.end() && !to->second) return;  // an address that has gone
  if (at == sessions_.end() || p.turned) return;  // the other half has refused it: check_meeting
  require(at->second.floor <= now, Invariant::established_survives, [&] {
    return std::string("refused for reason " + std::to_string(static_cast<u32>(p.reason)) +
                       " within its timer: " + text_of(key.near) + " <-> " + text_of(key.remote));
  });
}

// --- sessions ------------------------------------------------------------------------------------

void Ledger::extend(Nanos now, Session& s, const Key& key, const Note& note, bool outward) {
  if (key.protocol == kTcp) {
    const Nanos closing = nanos_of(std::min(settings_.tcp_closing, settings_.tcp_opening));
    // A late segment of an older connection may come to a session that has its port now.
    const bool honest = note.honest && is_of(note, key.near);
    const bool open = honest && note.established && !*note.ended;
    const Nanos timer = open ? nanos_of(settings_.tcp_established) : closing;
    const Nanos floor = now + timer - kSlackTcp;
    // What comes after the end may prolong nothing: a RST is no part of the stream.
    if (honest && *note.ended)
      s.floor = std::min(s.floor, floor);
    else if (honest || (outward && s.ceiling == 0))
      s.floor = floor;
    s.ceiling = now + nanos_of(settings_.tcp_established) + kSlackTcp;
    return;
  }
  if (!outward && (key.protocol != kUdp || settings_.udp_refresh_inbound == 0)) return;
  const Nanos timer = nanos_of(key.protocol == kIcmp   ? settings_.icmp
                               : key.remote.port == 53 ? settings_.dns
                                                       : settings_.udp);
  s.floor = std::max(s.floor, now + timer - nanos_of(settings_.refresh) - kSlack);
  s.ceiling = now + timer + kSlack;
}

void Ledger::check_mapping(Nanos now, u8 protocol, Endpoint internal, Endpoint remote,
                           Endpoint external) {
  bool in_pool = protocol == kIcmp;
  for (const PortRange& r : settings_.pool)
    in_pool |= external.port >= r.first && external.port <= r.last;
  for (const auto& [its_protocol, port] : sockets)
    if (its_protocol == protocol && port == external.port) in_pool = false;
  require(in_pool, Invariant::port_may_be_mapped, [&] { return std::string(text_of(external)); });
  require(may_have_port(internal.address, external.port), Invariant::port_says_whose_it_is,
          [&] { return std::string(text_of(internal) + " is " + text_of(external)); });
  const bool shared = protocol == kTcp && modes_.tcp_ports_shared;
  Endpoint& known = mappings_[MappingKey{protocol, internal, external.address}];
  require(shared || known == external || known == Endpoint{} ||
              floor_of(protocol, internal, known) <= now,
          Invariant::mapping_is_endpoint_independent, [&] {
            return std::string(text_of(internal) + " was " + text_of(known) + " and is " +
                               text_of(external));
          });
  known = external;
  Endpoint& holder = holders_[{protocol, external}];
  require(shared || holder == internal || holder == Endpoint{} ||
              floor_of(protocol, holder, external) <= now,
          Invariant::no_port_shared, [&] {
            return std::string(text_of(external) + " is " + text_of(holder) + " and " +
                               text_of(internal));
          });
  holder = internal;
  Endpoint& owner = by_external_[Key{protocol, external, remote}];
  const auto other = sessions_.find(Key{protocol, owner, remote});
  require(owner == internal || other == sessions_.end() || other->second.external != external ||
              other->second.floor <= now,
          Invariant::no_port_shared, [&] {
            return std::string(text_of(external) + " to " + text_of(remote) + " is " +
                               text_of(owner) + " and " + text_of(internal));
          });
  owner = internal;
}

void Ledger::note_first(Nanos now, const Datagram& d, bool outward, Endpoint near,
                        const Key& session, u16 new_id) {
  if (d.more && d.offset == 0)
    firsts_[FragmentKey{d.source, d.destination, d.id, d.protocol, outward}] = {
        now, near, session, new_id, {}};
}

// A packet has come in from the remote end of a session; one that is over it may have passed by the
// mapping alone, which prolongs nothing (RFC 4787 REQ-6).
void Ledger::answered(Nanos now, const Key& key, const Note& note) {
  const auto at = sessions_.find(key);
  if (at == sessions_.end() || at->second.ceiling <= now) return;
  Session& s = at->second;
  const Nanos floor = s.floor;
  s.only_syn = false;
  extend(now, s, key, note, false);
  if (modes_.filtering != kFilterAddressAndPort && floor <= now) s.floor = floor;
}

// --- from inside ---------------------------------------------------------------------------------

namespace {

// The near and the far endpoint of an ICMP error's quoted packet, which went the other way.
bool quoted_ends(const Datagram& d, bool outward, u8& protocol, Endpoint& near, Endpoint& remote) {
  Datagram q;
  if (!decode_quoted(d.payload, q)) return false;
  protocol = q.protocol;
  const Endpoint source{q.source, q.protocol == kIcmp ? q.query : q.source_port};
  const Endpoint destination{q.destination, q.protocol == kIcmp ? q.query : q.destination_port};
  near = outward ? destination : source;
  remote = outward ? source : destination;
  if (q.protocol == kIcmp) remote.port = 0;
  return true;
}

}  // namespace

// What belongs to a session, or begins one.
void Ledger::passed_out(Nanos now, const Datagram& d, const Datagram& out, const Note& note) {
  const Key key{d.protocol, source_of(d), destination_of(d)};
  check_mapping(now, d.protocol, key.near, key.remote, source_of(out));
  Session& s = sessions_[key];
  const bool is_new = s.ceiling <= now || s.external != source_of(out);
  if (is_new) s = Session{source_of(out)};
  s.only_syn &= d.flags == kSyn;
  s.was_open |= note.honest && note.established;
  extend(now, s, key, note, true);
  if (!is_new) return;
  check_paired(now, key.near.address, s.external.address);
  check_share(now, key, d, s);
}

void Ledger::sent_out(Nanos now, u32 from, const Datagram& d, const Datagram& out,
                      const Note& note) {
  const Place& link = places.at(from);
  Key key{d.protocol, source_of(d), destination_of(d)};
  if (d.offset != 0) {
    const First* first = first_of(now, d, true);
    require(first != nullptr && first->near.address == out.source, Invariant::only_endpoints_change,
            [&] { return std::string("a fragment left and its first one did not"); });
    require(first->new_id == out.id, Invariant::fragments_are_ordered,
            [&] { return std::string("a fragment has another identification"); });
    return;
  }
  if (is_icmp_error(d)) {
    const bool readable = quoted_ends(d, true, key.protocol, key.near, key.remote);
    const auto at = sessions_.find(key);
    bool open = at != sessions_.end() && at->second.ceiling > now;
    if (modes_.filtering != kFilterAddressAndPort) {  // or about what was let in without one
      const auto any = sessions_.lower_bound(Key{key.protocol, key.near, {}});
      open |= any != sessions_.end() && any->first.protocol == key.protocol &&
              any->first.near == key.near;
    }
    require(readable && open, Invariant::source_is_external,
            [&] { return std::string("an ICMP error about no session left"); });
    return;
  }
  auto at = sessions_.find(key);
  const bool open = at != sessions_.end() && at->second.ceiling > now;
  const bool belongs = (d.source & 0xffffff00) == link.network;
  require(belongs || (open && !modes_.inner_link_is_checked_always),
          Invariant::source_belongs_to_its_link, [&] { return std::string(text_of(d.source)); });
  passed_out(now, d, out, note);
  note_first(now, d, true, source_of(out), key, out.id);
}

// From inside to inside by the external address (RFC 4787 REQ-9): two translations in one. The
// first makes a session, whatever the second says.
void Ledger::turned(Nanos now, const Datagram& d, const Datagram& out, const Note& note) {
  if (d.offset != 0 || is_icmp_error(d)) return;
  passed_out(now, d, out, note);
}

void Ledger::hairpinned(Nanos now, u32 from, const Data& in, const Datagram& d, const Datagram& out,
                        const Note& note, const Passage& p) {
  const auto live = outer.find(out.source);
  require(live != outer.end() && live->second && is_inner(out.destination),
          Invariant::source_is_external,
          [&] { return std::string("hairpin from " + text_of(out.source)); });
  require(out.ttl + 1 == d.ttl, Invariant::ttl_decremented_once,
          [&] { return std::string("hairpin"); });
  if (is_icmp_error(d)) return;
  std::vector<u32> unsure;
  Data wanted = translated(in, true, source_of(out), unsure);
  wanted = translated(wanted, false, destination_of(out), unsure);
  if ((d.flags & kSyn) && d.mss >= 0) {  // by three links
    int mss = d.mss;
    for (const auto& [ifindex, place] : places)
      if (place.has_external(d.destination))
        mss = mss_within(ifindex, p.ifindex, mss_within(from, ifindex, mss));
    require(out.mss == mss, Invariant::mss_fits, [&] { return std::string(story(in, p)); });
    set_mss(wanted, mss);
  }
  wanted[8] = p.packet[8];  // one hop, of which the twin takes two
  for (u32 at : {10u, 11u}) wanted[at] = p.packet[at];
  check_change(in, std::move(wanted), std::move(unsure), true, p);
  if (d.offset != 0) {
    const First* first = first_of(now, d, true);
    require(first != nullptr && first->near.address == out.source &&
                first->to.address == out.destination && first->new_id == out.id,
            Invariant::reply_reaches_its_host, [&] { return std::string(story(in, p)); });
    return;
  }
  turned(now, d, out, note);
  const Key other{d.protocol, destination_of(out), source_of(out)};
  require(!modes_.hairpin_is_filtered || allowed_in(now, other, destination_of(d)) != nullptr,
          Invariant::nothing_inward_without_flow,
          [&] { return std::string("hairpin to " + text_of(other.near)); });
  answered(now, other, note);
  note_first(now, d, true, source_of(out), Key{d.protocol, source_of(d), destination_of(d)},
             out.id);
  const auto first = firsts_.find(FragmentKey{d.source, d.destination, d.id, d.protocol, true});
  if (first != firsts_.end()) first->second.to = other.near;
}

// A packet that was turned and then refused: did the other one expect it?
void Ledger::check_meeting(Nanos now, const Data& in, const Datagram& d, const Datagram& out,
                           const Note& note, const Passage& p) const {
  if (!note.honest || d.offset != 0) return;
  const auto owner = by_external_.find(Key{d.protocol, destination_of(d), source_of(out)});
  if (owner == by_external_.end()) return;
  const auto other = sessions_.find(Key{d.protocol, owner->second, source_of(out)});
  require(p.reason == Reason::fragment_table_full || other == sessions_.end() ||
              other->second.external != destination_of(d) || other->second.floor <= now,
          Invariant::inner_hosts_meet, [&] {
            return std::string(text_of(owner->second) + " was not reached, reason " +
                               std::to_string(static_cast<u32>(p.reason)) + story(in, p));
          });
}

void Ledger::judge_outward(Nanos now, u32 from, const Data& in, const Note& note,
                           const Passage& p) {
  Datagram d, out;
  bool right = false, ignored = false;
  const bool sound = decode(in, d, right);
  if (p.action == Action::slow) return;
  if (p.action == Action::icmp_error) check_error(from, in, p);
  if (sound && is_inner(d.source)) check_limits(now, d, p);
  if (p.action == Action::drop || is_answer(p.action)) {
    Key key{d.protocol, source_of(d), destination_of(d)};
    if (is_icmp_error(d)) quoted_ends(d, true, key.protocol, key.near, key.remote);
    const bool turned_back = p.turned && p.action == Action::drop && decode(p.packet, out, ignored);
    if (turned_back) check_meeting(now, in, d, out, note, p);
    check_refused(now, key, d, note, p, true);
    if (turned_back) turned(now, d, out, note);
  } else if (p.action == Action::to_stack || p.action == Action::stack_and_slow) {
    if (sound) check_stack(d, false);
  } else {
    require(sound && decode(p.packet, out, ignored), Invariant::only_endpoints_change,
            [&] { return std::string("a broken packet was passed on" + story(in, p)); });
    const Place& to = places.at(p.ifindex);
    require(p.packet.size() <= to.mtu, Invariant::fits_its_link,
            [&] { return std::string(story(in, p)); });
    if (to.zone == Zone::inside)
      return outer.count(d.destination) != 0 ? hairpinned(now, from, in, d, out, note, p)
                                             : check_routed(in, p);
    check_no_inner(out, p.packet);
    require(to.has_external(out.source), Invariant::source_is_external,
            [&] { return std::string(story(in, p)); });
    Endpoint near = source_of(out);
    u8 protocol = 0;
    Endpoint remote;
    if (is_icmp_error(out)) quoted_ends(out, true, protocol, near, remote);
    check_change(from, in, true, {out.source, near.port}, p);
    sent_out(now, from, d, out, note);
  }
}

// --- from outside --------------------------------------------------------------------------------

void Ledger::passed_in(Nanos now, const Datagram& d, const Datagram& out, const Note& note) {
  if (d.offset != 0) {
    const First* first = first_of(now, d, false);
    require(first != nullptr, Invariant::nothing_inward_without_flow,
            [&] { return std::string("a fragment came in and its first one did not"); });
    require(first->near.address == out.destination, Invariant::reply_reaches_its_host,
            [&] { return std::string("fragment"); });
    return;
  }
  Key outside{d.protocol, destination_of(d), source_of(d)};
  Key inside{out.protocol, destination_of(out), source_of(out)};
  if (is_icmp_error(d)) {
    const bool readable = quoted_ends(d, false, outside.protocol, outside.near, outside.remote) &&
                          quoted_ends(out, false, inside.protocol, inside.near, inside.remote);
    require(readable && inside.near.address == out.destination, Invariant::reply_reaches_its_host,
            [&] { return std::string("an error for another"); });
  }
  const bool allowed = allowed_in(now, inside, outside.near) != nullptr;
  const auto owner = by_external_.find(outside);
  if (!allowed && owner != by_external_.end() && owner->second != inside.near)
    require(allowed_in(now, Key{inside.protocol, owner->second, inside.remote}, outside.near) ==
                nullptr,
            Invariant::reply_reaches_its_host, [&] {
              return std::string(text_of(outside.near) + " belongs to " + text_of(owner->second) +
                                 ", went to " + text_of(inside.near));
            });
  require(allowed, Invariant::nothing_inward_without_flow,
          [&] { return std::string(text_of(outside.remote) + " > " + text_of(inside.near)); });
  if (is_icmp_error(d)) return;
  answered(now, inside, note);
  note_first(now, d, false, destination_of(out), inside, out.id);
}

void Ledger::judge_inward(Nanos now, u32 from, const Data& in, const Note& note, const Passage& p) {
  Datagram d, out;
  bool right = false, ignored = false;
  const bool sound = decode(in, d, right);
  Key outside{d.protocol, destination_of(d), source_of(d)};
  if (is_icmp_error(d)) quoted_ends(d, false, outside.protocol, outside.near, outside.remote);
  if (p.action == Action::slow) return;
  if (p.action == Action::to_stack || p.action == Action::stack_and_slow) {
    if (!sound) return;
    check_stack(d, true);
    if (is_slow(p)) return;
    if (!note.honest) return;
  } else if (p.action == Action::forward) {
    require(sound && decode(p.packet, out, ignored), Invariant::only_endpoints_change,
            [&] { return std::string("a broken packet was passed on" + story(in, p)); });
    const Place* to = place_of(out.destination);
    require(to != nullptr && to->zone == Zone::inside && to->ifindex == p.ifindex,
            Invariant::reply_reaches_its_host,
            [&] { return std::string("it left by a wrong link" + story(in, p)); });
    require(p.packet.size() <= to->mtu, Invariant::fits_its_link,
            [&] { return std::string(story(in, p)); });
    Endpoint near = destination_of(out), remote;
    u8 protocol = 0;
    if (is_icmp_error(out)) quoted_ends(out, false, protocol, near, remote);
    passed_in(now, d, out, note);
    return check_change(from, in, false, {out.destination, near.port}, p);
  } else if (p.action == Action::icmp_error) {
    check_error(from, in, p);
  }
  const auto owner = by_external_.find(outside);
  Key inner{outside.protocol, {}, outside.remote};
  if (owner != by_external_.end()) inner.near = owner->second;
  const auto live = outer.find(outside.near.address);
  if (live == outer.end() || !live->second) return;
  require(
      p.reason != Reason::no_mapping || !note.honest || d.offset != 0 || !is_expected(now, outside),
      Invariant::filtering_lets_in, [&] { return std::string(text_of(in)); });
  const auto at = sessions_.find(inner);
  if (at != sessions_.end() && at->second.external != outside.near) return;
  check_refused(now, inner, d, note,
                p.action == Action::to_stack ? Passage{Action::drop, Reason::no_mapping, 0, {}} : p,
                false);
}

// --- by the gateway itself -----------------------------------------------------------------------

void Ledger::judge_leaving(u32 to, const Data& in, const Passage& p) {
  if (p.action == Action::drop) return;
  Datagram out;
  bool right = false;
  if (!decode(p.packet, out, right)) return;
  check_no_inner(out, p.packet);
  require(places.at(to).has_external(out.source), Invariant::source_is_external,
          [&] { return std::string(story(in, p)); });
  for (const auto& [protocol, port] : sockets)
    if (protocol == out.protocol && port == out.source_port) return;
  require(out.offset != 0 || may_have_port(out.source, source_of(out).port),
          Invariant::port_says_whose_it_is, [&] { return std::string(story(in, p)); });
}

}  // namespace masq::sim
