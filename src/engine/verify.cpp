// The audit, one function an invariant; verify.h says what each of them holds.
#include "engine/verify.h"

#include <cstdarg>
#include <cstdio>
#include <unordered_map>

#include "core/flows.h"
#include "engine/table_memory.h"

namespace masq {

namespace {

struct PairOfWords {
  u64 a, b;
  bool operator==(const PairOfWords&) const = default;
};
struct PairHash {
  std::size_t operator()(const PairOfWords& k) const {
    return (k.a * 0x9e3779b97f4a7c15ull) ^ (k.b * 0xc2b2ae3d27d4eb4full);
  }
};

PairOfWords words_of(const Key& k, u32 external) {
  return {k.near_address.be | static_cast<u64>(k.remote_address.be) << 32,
          k.near_port.be | static_cast<u64>(k.remote_port.be) << 16 |
              static_cast<u64>(k.protocol) << 32 | static_cast<u64>(external) << 40};
}

class Audit {
 public:
  Audit(const Tables& tables, const Settings& settings, Ticks now, Ticks overdue_max)
      : t_(tables), s_(settings), now_(now), overdue_max_(overdue_max) {}

  std::vector<Violation> run() {
    for (u32 i = 0; i < t_.records_max; ++i)
      if (is_live_kind(t_.records[i].state)) check_live(i, t_.records[i]);
    check_slots(t_.inner_slots, true);
    check_slots(t_.outer_slots, false);
    check_reachable();
    check_places();
    check_counts();
    check_hosts();
    check_ports();
    return std::move(found_);
  }

 private:
  struct Reach {
    u32 inner = 0, outer = 0;
  };
  struct Counted {
    u32 flows = 0, mappings = 0, opening = 0;
  };

  __attribute__((format(printf, 3, 4))) void report(const char* invariant, const char* format,
                                                    ...) {
    if (found_.size() >= kViolationsMax) return;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    found_.push_back({invariant, text});
  }

  void check_live(u32 i, const Record& r) {
    if (i == kNoRecord) report("place", "record 0 is in use");
    if (r.state >= State::count) report("place", "record %u has a state that does not exist", i);
    if (r.external >= kExternalsMax) report("pair", "record %u has no external address", i);
    reach_[i] = {};
    if (!inner_keys_.emplace(words_of(inner_key(r), r.external), i).second)
      report("pair", "record %u has the inner key of another", i);
    if (!outer_keys_.emplace(words_of(outer_key(s_, r), r.external), i).second)
      report("pair", "record %u has the outer key of another", i);
    if (r.state == State::mapping) {
      ++mappings_;
      if (!(r.flags & kFlagLocal)) hosts_[r.internal_address.be].mappings += 1;
      if (r.remote_address.be != 0 || r.remote_port.be != 0)
        report("pair", "mapping %u has a remote endpoint", i);
      check_port_of(i, r);
    } else if (r.state == State::permission) {
      if (r.remote_address.be == 0 || r.remote_port.be != 0)
        report("pair", "permission %u is not one of a remote address", i);
      check_held(i, r, r.sequence_end[0], false);
    } else {
      ++flows_;
      check_flow(i, r);
    }
  }

  void check_flow(u32 i, const Record& r) {
    if (static_cast<i32>(now_ - r.last_seen) < 0)
      report("time", "flow %u was last seen in the future", i);
    else if (now_ - r.last_seen > timeout_of(s_, r) + overdue_max_)
      report("time", "flow %u stands %u ticks past its timer", i,
             now_ - r.last_seen - timeout_of(s_, r));
    check_host_of(i, r);
    if (r.forward != 0) {
      if (r.mapping != kNoRecord || r.forward > kForwardsMax)
        report("pair", "flow %u of forward %u holds record %u", i, r.forward, r.mapping);
      return;
    }
    if (r.mapping != kNoRecord) return check_held(i, r, r.mapping, true);
    const u32 port = to_host(r.external_port);
    check_block_of(i, r);
    if (r.protocol != kProtocolTcp || port < kShareFirst || !in_pool(s_, port))
      report("port", "flow %u of protocol %u has port %u without a mapping", i, r.protocol, port);
  }

  void check_host_of(u32 i, const Record& r) {
    const Host* host = host_at(t_, r.host);
    if ((host != nullptr) != !(r.flags & kFlagLocal))
      return report("host", "flow %u is %s", i,
                    host ? "the gateway's and has a host" : "no host's");
    if (host == nullptr) return;
    const bool opening = r.host & kHostOpening;
    if (opening != (r.state == State::tcp_opening))
      report("host", "flow %u %s counted as opening", i, opening ? "is wrongly" : "should be");
    const u32 counted_at = r.forward != 0 ? host_of_forward(r.forward).be : r.internal_address.be;
    if (static_cast<u32>(host->flows) != counted_at)
      report("host", "flow %u is counted at another host", i);
    Counted& counted = hosts_[counted_at];
    counted.flows += 1;
    counted.opening += opening;
  }

  // What flow or permission `i` holds must be the mapping, or else a permission, of its endpoint.
  void check_held(u32 i, const Record& r, u32 held, bool permission_allowed) {
    if (held >= t_.records_max) return report("pair", "record %u points outside the table", i);
    const Record& m = t_.records[held];
    const bool permission = m.state == State::permission && permission_allowed;
    if (m.state != State::mapping && !permission)
      return report("pair", "record %u points to record %u, which is no mapping", i, held);
    held_[held] += 1;
    if (!same(m.internal_address, r.internal_address) || !same(m.internal_port, r.internal_port) ||
        m.protocol != r.protocol || m.external != r.external ||
        !same(m.external_port, r.external_port) ||
        (permission && !same(m.remote_address, r.remote_address)))
      report("pair", "record %u and record %u, which it holds, disagree", i, held);
  }

  void check_port_of(u32 i, const Record& m) {
    const u32 pool =
        (m.external & (kExternalsMax - 1)) * kPoolProtocols + pool_protocol(m.protocol);
    if (!holders_.emplace(pool << 16 | to_host(m.external_port), i).second)
      report("port", "port %u of pool %u has two mappings", to_host(m.external_port), pool);
    check_block_of(i, m);
  }

  // A port says whose it is: it lies in its host's block, or of the others in none.
  void check_block_of(u32 i, const Record& r) {
    const u32 port = to_host(r.external_port);
    PortWords block{};
    const bool own = !(r.flags & kFlagLocal) && find_block(s_, r.internal_address, block);
    const bool inside =
        port / kWordPorts >= block.first && port / kWordPorts < block.first + block.count;
    if (own ? !inside : is_for_blocks(s_, static_cast<u16>(port)))
      report("block", "record %u has port %u, which is %s block", i, port,
             own ? "not in its host's" : "in another's");
  }

  void check_slots(const u32* slots, bool inner) {
    const char* name = inner ? "inner" : "outer";
    const u32 count = (bucket_mask(t_.records_max) + 1) * kBucketSlots;
    for (u32 at = 0; at < count; ++at) {
      const u32 slot = slots[at];
      if (slot == 0) continue;
      const u32 index = slot & kSlotRecordMask;
      auto reach = reach_.find(index);
      if (reach == reach_.end()) {
        report("pair", "%s slot %u leads to record %u, which is not live", name, at, index);
        continue;
      }
      (inner ? reach->second.inner : reach->second.outer) += 1;
      const Record& r = t_.records[index];
      const u64 hash =
          inner ? key_hash(s_, inner_key(r), kOut) : key_hash(s_, outer_key(s_, r), kIn);
      bool in_place = slot == slot_make(hash, index);
      bool found = false;
      for (u32 i = 0; i < 2 * kBucketSlots; ++i) found |= slot_at(hash, i, t_.records_max) == at;
      if (!in_place || !found)
        report("pair", "%s slot %u of record %u is not where its key is looked for", name, at,
               index);
    }
  }

  void check_reachable() {
    for (const auto& [index, reach] : reach_)
      if (reach.inner != 1 || reach.outer != 1)
        report("pair", "record %u is led to by %u inner and %u outer slots", index, reach.inner,
               reach.outer);
  }

  void check_places() {
    for (u32 i = 1; i < t_.records_max; ++i) {
      const bool used = t_.record_used[i >> 6] >> (i & 63) & 1;
      if (t_.records[i].state == State::claiming) report("place", "record %u is half linked", i);
      if (used != (t_.records[i].state != State::free))
        report("place", "place %u is %s, its record is %s", i, used ? "taken" : "not taken",
               used ? "free" : "in use");
    }
    for (u32 word = 0; word < t_.records_max / 64; ++word)
      if ((t_.record_full[word >> 6] >> (word & 63) & 1) && t_.record_used[word] != ~0ull)
        report("hint", "word %u of the places has room but is said to be full", word);
  }

  void check_counts() {
    for (const auto& [index, reach] : reach_) {
      const Record& r = t_.records[index];
      if (r.state != State::mapping && r.state != State::permission) continue;
      auto held = held_.find(index);
      const u32 flows = held == held_.end() ? 0 : held->second;
      if (r.mapping != flows)
        report("count", "record %u counts %u holders and has %u", index, r.mapping, flows);
      if (flows == 0) report("count", "record %u exists and nobody holds it", index);
    }
    if (t_.shared->flows != flows_)
      report("count", "%u flows are counted and %u exist", t_.shared->flows, flows_);
    if (t_.shared->mappings != mappings_)
      report("count", "%u mappings are counted and %u exist", t_.shared->mappings, mappings_);
  }

  void check_hosts() {
    u32 found = 0;
    for (u32 place = 0; place < hosts_max(t_.records_max); ++place) {
      const Host& host = t_.hosts[place];
      const u32 address = static_cast<u32>(host.flows);
      const Counted counted =
          address == 0 || !hosts_.contains(address) ? Counted{} : hosts_[address];
      found += address != 0;
      if (host_count(host.flows) != counted.flows || host.mappings != counted.mappings ||
          host.opening != counted.opening)
        report("host", "place %u counts %u flows, %u mappings, %u opening and there are %u, %u, %u",
               place, host_count(host.flows), host.mappings, host.opening, counted.flows,
               counted.mappings, counted.opening);
      if (address == 0) continue;
      if (counted.flows == 0) report("host", "place %u has a host without flows", place);
      bool in_place = false;
      const u64 hash = host_hash(s_, Ipv4{address});
      for (u32 i = 0; i < kHostProbes; ++i)
        in_place |= host_place(hash, i, t_.records_max) == place;
      if (!in_place) report("host", "place %u is not where its host is looked for", place);
    }
    if (found != hosts_.size())
      report("host", "%u hosts are entered and %zu have flows", found, hosts_.size());
  }

  void check_ports() {
    for (u32 index = 0; index < kExternalsMax * kPoolProtocols; ++index) {
      const PortPool& pool = t_.ports[index];
      for (u32 port = 0; port < 65536; ++port) {
        const bool used = port_is_used(pool, static_cast<u16>(port));
        const bool held = holders_.count(index << 16 | port) != 0;
        const bool excluded = !is_mappable(s_, index % kPoolProtocols, port);
        if (used != (held || excluded))
          report("port", "port %u of pool %u is %s, but %s", port, index, used ? "taken" : "free",
                 used ? "nobody holds it" : "a mapping holds it or it is excluded");
      }
      for (u32 parity = 0; parity < 2; ++parity)
        for (u32 word = 0; word < kPortWords; ++word)
          if ((pool.full[parity][word >> 6] >> (word & 63) & 1) && pool.used[parity][word] != ~0ull)
            report("hint", "word %u of pool %u has room but is said to be full", word, index);
    }
  }

  const Tables& t_;
  const Settings& s_;
  const Ticks now_;
  const Ticks overdue_max_;
  std::unordered_map<u32, Reach> reach_;
  std::unordered_map<u32, u32> held_;       // mapping or permission -> what points to it
  std::unordered_map<u32, u32> holders_;    // pool and port -> mapping
  std::unordered_map<u32, Counted> hosts_;  // by address
  std::unordered_map<PairOfWords, u32, PairHash> inner_keys_, outer_keys_;
  u32 flows_ = 0, mappings_ = 0;
  std::vector<Violation> found_;
};

}  // namespace

std::vector<Violation> verify(const Tables& tables, const Settings& settings, Ticks now,
                              Ticks overdue_max) {
  return Audit(tables, settings, now, overdue_max).run();
}

std::string describe(const std::vector<Violation>& violations) {
  std::string text;
  for (const Violation& v : violations) text += std::string(v.invariant) + ": " + v.what + "\n";
  return text;
}

}  // namespace masq
