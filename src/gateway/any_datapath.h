// What carries the packets, as the gateway and the commands see it: settings and tables that they
// can look at, whoever works on them. The kernel programs (datapath.h) and the engine in user space
// (user_datapath.h) stand behind it, and the tables of the latter when only looked at
// (user_tables.h).
//
// Settings are written in place while packets pass: each field means something by itself, and what
// makes it valid is written last.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <vector>

#include "bpf/layout.h"
#include "core/drops.h"
#include "core/judge.h"
#include "core/settings.h"
#include "core/table.h"
#include "policy/result.h"

namespace masq {

// Sums over all processors.
struct CounterTotals {
  std::array<u64, kReasonCount> reasons{};
  std::array<u64, kTrafficCount> traffic{};
};

// What each slot of a rule set has counted, in the paths of flows too.
using RuleTotals = std::vector<RuleCount>;

// Addresses and broadcast addresses of the gateway's own, in network order.
using OwnAddresses = std::vector<std::pair<u32, bpf::OwnAddress>>;

class AnyDatapath {
 public:
  virtual ~AnyDatapath() = default;

  // As in the option --datapath.
  virtual const char* name() const = 0;
  // Goes on without the daemon, with the expiry of flows in the hands of the holder.
  virtual bool outlives_daemon() const = 0;
  // What is for the gateway itself, and what it sends, passes here. If not, the kernel must be told
  // what the rules say of it (own_rules.h).
  virtual bool sees_own_packets() const = 0;
  virtual CounterTotals counters() const = 0;
  virtual Ticks now() const = 0;
  // What was counted for the rules in one half, and counting anew there.
  virtual RuleTotals rule_totals(u32 half) const = 0;
  virtual void clear_rule_totals(u32 half) = 0;
  // Returns when no packet is being judged any more that was at the beginning.
  virtual void wait_for_readers() = 0;
  // Makes every record one that no rule set has judged.
  virtual void forget_judgements() = 0;
  // Figures that only this datapath has, for `status`: name and value.
  virtual std::vector<std::pair<const char*, u64>> own_figures() const { return {}; }

  // Makes these the gateway's own, and no others. Should not all fit, the first ones count.
  virtual Status set_own_addresses(const OwnAddresses& by_importance) = 0;
  // Sets the datapath's clock by CLOCK_MONOTONIC.
  virtual Status set_clock() = 0;
  virtual Status start_sweeper() = 0;

  Settings& settings() const { return *settings_; }
  const Tables& tables() const { return tables_; }
  const Drops& drops() const { return *drops_; }

  // Enters or replaces what is known of interface.ifindex.
  Status set_interface(const Interface& interface) {
    if (interface.ifindex == 0) return error("An interface without an index cannot be entered.");
    Interface* place = nullptr;
    for (u32 i = 0; i < kInterfaceProbes; ++i) {
      Interface& at = settings().interfaces[(interface.ifindex + i) & (kInterfacePlaces - 1)];
      if (at.ifindex == interface.ifindex) place = &at;
      if (at.ifindex == 0 && place == nullptr) place = &at;
    }
    bool is_new = place == nullptr || place->ifindex != interface.ifindex;
    if (place == nullptr || (is_new && interfaces().size() >= kInterfacesMax))
      return error("There is no room for another interface; {} can be in use.", kInterfacesMax);
    if (memcmp(place, &interface, sizeof interface) == 0) return Done{};
    // The index is written last: before it, nobody looks at the rest.
    u32 ifindex = interface.ifindex;
    Interface fresh = interface;
    fresh.ifindex = place->ifindex == ifindex ? ifindex : 0;
    *place = fresh;
    __atomic_store_n(&place->ifindex, ifindex, __ATOMIC_SEQ_CST);
    return Done{};
  }
  void remove_interface(u32 ifindex) {
    for (Interface& at : settings().interfaces)
      if (at.ifindex == ifindex) __atomic_store_n(&at.ifindex, 0u, __ATOMIC_SEQ_CST);
  }
  std::vector<Interface> interfaces() const {
    std::vector<Interface> all;
    for (const Interface& at : settings().interfaces)
      if (at.ifindex != 0) all.push_back(at);
    return all;
  }

  // Makes the datapath forget what it knows of routes.
  void routes_changed() { settings().route_generation += 1; }

 protected:
  AnyDatapath() = default;
  AnyDatapath(AnyDatapath&&) = default;
  AnyDatapath& operator=(AnyDatapath&&) = default;

  // Adds to each slot what the paths have counted that it is on.
  static void add_paths(RuleTotals& totals, const RulePath* paths, const RulePathCount* counts) {
    for (u32 at = 1; at < kRulePathsMax; ++at)
      for (u32 direction = 0; direction < 2 && paths[at].ready; ++direction) {
        const JudgedSide& side = paths[at].sides[direction];
        for (u32 i = 0; i < side.fitted && i < kRuleTraceMost; ++i) {
          RuleCount& total = totals[side.trace[i] % kRuleSlotsMax];
          total.packets += counts[at].sides[direction].packets;
          total.bytes += counts[at].sides[direction].bytes;
        }
      }
  }

  Settings* settings_ = nullptr;
  const Drops* drops_ = nullptr;
  Tables tables_{};
};

}  // namespace masq
