// The rungs of `masq doctor`: what is looked at on this machine, one after another, from the ground
// up. Each says what is so and what to do; none changes anything.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/any_datapath.h"
#include "gateway/interfaces.h"
#include "gateway/netlink.h"
#include "gateway/rule_keeper.h"
#include "policy/config.h"
#include "policy/forwards.h"

namespace masq {

enum class Health {
  ok,
  note,    // may be meant so
  wrong,   // this keeps something from working
  unseen,  // could not be looked at
};

struct Finding {
  std::string rung;
  Health health;
  std::string what;
  std::string advice;  // what to do; empty where there is nothing to be done
};
using Findings = std::vector<Finding>;

// What all rungs go by, read once.
struct Seen {
  bool is_root = false;
  NetworkState network;
  ChosenInterfaces ours;
  std::string no_interfaces;  // why they cannot be told, if they cannot
  // What runs here; null if nothing does, or if it may not be looked at: then `may_not_look` says
  // so.
  std::unique_ptr<AnyDatapath> datapath;
  std::string may_not_look;
  int daemon = 0;  // as daemon_process() has it
  Config config;
  KeptRules rules;
  Forwards forwards;
  std::string no_rules, no_forwards;  // why they cannot be read, if they cannot

  // Null if it is not there.
  const Link* link(const std::string& name) const;
  // Those of these names that are there.
  std::vector<const Link*> links(const std::vector<std::string>& names) const;
  std::vector<Address> addresses_of(const Link& link) const;
  bool is_own(Ipv4 address) const;
  // The internal link to whose network an address belongs; null if there is none.
  const Link* inner_link_of(Ipv4 address) const;
};

// In the order in which they are climbed.
void look_at_kernel(const Seen& seen, Findings& findings);
void look_at_gateway(const Seen& seen, Findings& findings);
void look_at_interfaces(const Seen& seen, Findings& findings);
void look_at_addresses(const Seen& seen, Findings& findings);
void look_at_default_route(const Seen& seen, Findings& findings);
void look_at_other_filters(const Seen& seen, Findings& findings);
void look_at_next_hop(const Seen& seen, Findings& findings);
void look_at_inner_hosts(const Seen& seen, Findings& findings);
void look_at_kernel_forwarding(const Seen& seen, Findings& findings);
void look_at_reverse_path(const Seen& seen, Findings& findings);
void look_at_rules(const Seen& seen, Findings& findings);
void look_at_forwards(const Seen& seen, Findings& findings);
void look_at_mtu(const Seen& seen, Findings& findings);
void look_at_names(const Seen& seen, Findings& findings);
void look_at_tables(const Seen& seen, Findings& findings);
void look_at_refusals(const Seen& seen, Findings& findings);

}  // namespace masq
