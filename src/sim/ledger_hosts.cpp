// What each inner host has and may have (RFC 6888 REQ-4): its share, and nobody else's; and that it
// shows one external address (RFC 4787 REQ-2).
//
// What a host has is known between two numbers. Sessions within their floor the gateway has for
// certain; all that the ledger has not forgotten it may have. So a host has too much if what is
// certain is more than its limit, and is refused without cause if what is possible is less.
#include <set>

#include "sim/ledger.h"

namespace masq::sim {

namespace {

// The core's clock has steps of a millisecond, and its second is a little short (core/hosts.h).
constexpr Nanos kRateSlack = 5 * kMillisecond;

u64 shrunk(u64 owed, u64 by) {
  return owed > by ? owed - by : 0;
}

bool opens(const Datagram& d) {
  return d.protocol == kTcp && (d.flags & (kSyn | kAck | kRst | kFin)) == kSyn;
}

}  // namespace

Ledger::Share Ledger::share_of(Nanos now, u32 host) const {
  Share share;
  const bool large = settings_.pool[1].last - settings_.pool[1].first > 5000;
  const bool may_share = modes_.tcp_ports_shared && (!large || settings_.blocks_end != 0);
  for (const u8 protocol : {kIcmp, kTcp, kUdp}) {
    std::set<std::pair<Endpoint, u32>> mappings[2];
    for (auto it = sessions_.lower_bound(Key{protocol, {host, 0}, {}});
         it != sessions_.end() && it->first.protocol == protocol && it->first.near.address == host;
         ++it) {
      const Session& s = it->second;
      const bool certain = s.floor > now;
      share.flows[0] += certain;
      share.flows[1] += 1;
      share.opening[0] += certain && s.only_syn;
      share.opening[1] += protocol == kTcp && !s.was_open;
      // A connection that shares its external port has no mapping; in a large pool none does.
      if (certain && (protocol != kTcp || !may_share))
        mappings[0].insert({it->first.near, s.external.address});
      mappings[1].insert({it->first.near, s.external.address});
    }
    for (u32 i : {0u, 1u}) share.ports[i] += static_cast<u32>(mappings[i].size());
  }
  return share;
}

bool Ledger::may_have_port(u32 host, u16 port) const {
  for (const Blocks& b : blocks) {
    const u32 its = b.first + (host - b.network) * b.ports;
    if (host - b.network < b.hosts) return port >= its && port < its + b.ports;
  }
  return std::none_of(blocks.begin(), blocks.end(),
                      [&](const Blocks& b) { return port >= b.first && port < b.end(); });
}

u32 Ledger::block_of(u32 host) const {
  for (const Blocks& b : blocks)
    if (host - b.network < b.hosts) return b.ports;
  return 0;
}

// A host has begun a session at this external address. None that it has already may be at another
// of the same link; but for those that were left when an address went, and came back with it.
void Ledger::check_paired(Nanos now, u32 host, u32 external) const {
  for (const auto& [ifindex, place] : places) {
    if (place.more.empty() || !place.has_external(external)) continue;
    for (const u8 protocol : {kIcmp, kTcp, kUdp})
      for (auto it = sessions_.lower_bound(Key{protocol, {host, 0}, {}});
           it != sessions_.end() && it->first.protocol == protocol &&
           it->first.near.address == host;
           ++it) {
        const Session& s = it->second;
        require(s.floor <= now || s.revived || s.external.address == external ||
                    !place.has_external(s.external.address),
                Invariant::mappings_are_paired, [&] {
                  return std::string(text_of(host) + " is " + text_of(s.external) + " and " +
                                     text_of(external));
                });
      }
  }
}

// A session that the gateway did not have a moment ago.
void Ledger::check_share(Nanos now, const Key& key, const Datagram& d, Session& s) {
  s.only_syn = opens(d);
  const u32 host = key.near.address;
  Begun& begun = begun_[host];
  const u64 each = kSecond, rate = settings_.host_new_per_s;
  begun.owed = shrunk(begun.owed, (now - begun.at + kMillisecond) * rate * 1001 / 1000) + each;
  begun.at = now;
  require(rate == 0 || begun.owed <= each * (settings_.host_new_burst + 1) + rate * kRateSlack,
          Invariant::host_has_its_share,
          [&] { return std::string(text_of(host) + " begins flows too fast"); });
  if (settings_.host_flows + settings_.host_ports + settings_.host_opening == 0) return;
  const Share share = share_of(now, host);
  const auto within = [&](u32 has, u32 limit, const char* what) {
    require(limit == 0 || has <= limit, Invariant::host_has_its_share, [&] {
      return std::string(text_of(host) + " has " + std::to_string(has) + what + ", limit " +
                         std::to_string(limit));
    });
  };
  within(share.flows[0], settings_.host_flows, " flows");
  within(share.ports[0], settings_.host_ports, " ports");
  within(share.opening[0], settings_.host_opening, " opening connections");
}

// `d` came from an inner host: was it refused for what that host itself has?
void Ledger::check_limits(Nanos now, const Datagram& d, const Passage& p) {
  const u32 host = d.source;
  const u64 each = kSecond, rate = settings_.host_new_per_s;
  Begun& begun = begun_[host];
  begun.may_owe = shrunk(begun.may_owe, (now - begun.looked) * rate * 999 / 1000);
  begun.looked = now;
  const auto reaches = [&](u64 has, u64 limit, const char* what) {
    require(has >= limit, Invariant::host_is_refused_for_itself, [&] {
      return std::string(text_of(host) + " has only " + std::to_string(has) + what + " of " +
                         std::to_string(limit));
    });
  };
  if (p.reason == Reason::host_flows)
    reaches(share_of(now, host).flows[1], settings_.host_flows, " flows");
  if (p.reason == Reason::host_ports)
    reaches(share_of(now, host).ports[1], settings_.host_ports, " ports");
  if (p.reason == Reason::host_opening)
    reaches(share_of(now, host).opening[1], settings_.host_opening, " opening connections");
  if (p.reason == Reason::host_rate)
    reaches(begun.may_owe + rate * kRateSlack + each, each * settings_.host_new_burst, " ns owed");
  else if (p.reason != Reason::host_flows && p.reason != Reason::host_opening)
    begun.may_owe += each;
  if (p.reason == Reason::ports_exhausted && block_of(host) != 0)  // half are of each parity
    reaches(share_of(now, host).ports[1], block_of(host) / 2 - blocks.size(), " ports");
  const bool full = p.reason == Reason::flow_table_full || p.reason == Reason::hosts_full;
  require(!full || settings_.host_flows == 0 ||
              (hosts + 1) * settings_.host_flows > settings_.flows_max,
          Invariant::host_is_refused_for_itself,
          [&] { return std::string("all shares together fit, and the table is full"); });
}

}  // namespace masq::sim
