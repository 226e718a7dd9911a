// Which interfaces are external and which are internal: what the administrator has named, else what
// is unambiguous. An interface that any default route leads through is never found to be internal.
#pragma once

#include <string>
#include <vector>

#include "gateway/netlink.h"
#include "gateway/state.h"
#include "policy/config.h"

namespace masq {

struct ChosenInterfaces : OurInterfaces {
  std::vector<std::string> remarks;  // how they were found, one sentence each
};

// `kept` are those of the running gateway: they stay, except where others are named.
Result<ChosenInterfaces> choose_interfaces(const Config& config, const NetworkState& network,
                                           const OurInterfaces& kept);

// Names stand in rules, files and reports; what could mean something there is not taken.
bool is_plain_name(const std::string& name);

// Bytes before the IPv4 header on this link, or -1 if masq does not know such links.
int link_header_length(const Link& link);

}  // namespace masq
