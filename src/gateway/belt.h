// The belt: the nftables table "inet masq_belt", against the kernel's own forwarding.
//
// Nothing passes between the inner interfaces and any that is not named here as one of the others,
// and nothing by those that are closed. It goes by names, so it holds also for an interface that
// has been made anew and has no program yet, and by indexes, for one that has just been renamed.
#pragma once

#include <string>
#include <vector>

#include "gateway/nftables.h"

namespace masq {

struct Belt {
  LinkNames inside, closed;
  std::vector<std::string> others;  // interfaces that may talk to the inside
  bool block_ipv6 = true;           // IPv4 is always

  bool operator==(const Belt&) const = default;
};

// Replaces what was there.
Status put_on_belt(const Belt& belt);
// How it is shown at this moment; nothing if it is not there.
std::string shown_belt();
void take_off_belt();

}  // namespace masq
