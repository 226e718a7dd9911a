// The command `ipfwadm` of Linux 2.0, on the rule chains of masq: arguments go in, and a changed
// rule set or a listing comes out. Nothing here opens a file or speaks to the kernel.
//
// Its categories become chains: -I input, -F forward, -O output. One command line becomes several
// rules where chains have no single one for it:
//   several ports    a rule for each, of the source for each of the destination
//   several hosts    likewise, where a name has several addresses
//   -b               the mirrored rule as well
//   -P all with -k or -y   one for the TCP packets that fit, one for all that is not TCP: there the
//                          flags say nothing
// -d takes away all that -a would have added, or nothing. -V names an interface by its address,
// which must be there when the command is given; the rule is for the interface from then on.
//
// Accounting (-A) decides nothing, so it is kept apart from what does: its rules, which have no
// target, lie in chains of their own, `acctin` and `acctout`, and the first rule of input and of
// output leads there. `ipfwadm -I` and `-O` neither show that rule nor flush it, and insert behind
// it. The chains and that rule go with the last accounting rule. What is refused later has been
// counted, as it comes in; Linux 2.0 counted it behind its policy. `-A both` makes a rule in each
// chain, and the listing shows both.
//
// Two more things are not as they were: fragments behind the first one are judged with the datagram
// that they belong to, where Linux 2.0 let all of them pass; and the form of `-l` is that of
// ipfwadm 2.3 as its users remember it, one line for each of our rules. -M -l is as `ipchains -M
// -L`.
//
// Exit codes: 0, also for help; 1 where it could not be done; 2 where the command line is wrong.
// Then standard error has one line, and nothing has changed.
//
// What the gateway wires up: FirewallWorld, of which ipchains needs a part.
#pragma once

#include <string>
#include <vector>

#include "compat/ipchains.h"

namespace masq {

class FirewallWorld : public ChainsWorld {
 public:
  // The interface that has the address at this moment; empty: none has.
  virtual std::string interface_of(Ipv4 address) = 0;
};

inline constexpr const char* kAccountIn = "acctin";
inline constexpr const char* kAccountOut = "acctout";
inline constexpr u32 kAdmPortsMost = 10;           // a range is two of them
inline constexpr u32 kAdmTimeoutMost_s = 1209600;  // kTimeoutMax_s of the clock

// Without the name of the command.
CommandResult run_ipfwadm(const std::vector<std::string>& words, FirewallWorld& world);

}  // namespace masq
