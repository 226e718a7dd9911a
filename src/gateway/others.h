// Other packet filters on the machine: what masq says about them.
#pragma once

#include <string>
#include <vector>

namespace masq {

// One sentence for each rule set that packets between inside and outside do not go through.
std::vector<std::string> remarks_on_other_filters();

// A chain of another's that stands at a hook by which the gateway itself speaks to its neighbours:
// there it can keep masq from working.
struct FilterInTheWay {
  std::string chain;   // "netdev filter egress"
  std::string device;  // of netdev; else empty
  std::string hook;    // "input", "egress", ...
  bool drops_by_default = false;
  bool of_neighbours = false;  // it sees ARP; else only what is for the gateway's own sockets
};
std::vector<FilterInTheWay> filters_in_the_way();

}  // namespace masq
