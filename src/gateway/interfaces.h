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

// Has it no characters that mean something in a rule, a file or a report?
bool is_plain_name(const std::string& name);

// The link that was last seen under this name, whatever it is called now; null if it has gone.
// Limit: who changes name and hardware address at once, with nobody looking, is a stranger.
const Link* link_known_as(const NetworkState& network, const OurInterfaces& ours,
                          const std::string& name);

// Bytes before the IPv4 header on this link, or -1 if masq does not know such links.
int link_header_length(const Link& link);

}  // namespace masq
