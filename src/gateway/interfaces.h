// Which interfaces are external and which are internal: what the administrator has named, else what
// is unambiguous.
#pragma once

#include <string>
#include <vector>

#include "gateway/netlink.h"
#include "policy/config.h"

namespace masq {

struct ChosenInterfaces {
  std::vector<std::string> external;
  std::vector<std::string> internal;
  std::vector<std::string> remarks;  // how they were found, one sentence each
};

Result<ChosenInterfaces> choose_interfaces(const Config& config, const NetworkState& network);

// Bytes before the IPv4 header on this link, or -1 if masq does not know such links.
int link_header_length(const Link& link);

}  // namespace masq
