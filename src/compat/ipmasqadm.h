// The commands `ipmasqadm` (portfw, autofw, mfw, user) and `ipportfw` of Linux 2.2, on the forwards
// of masq: arguments go in, and a changed set of forwards or a listing comes out. Nothing here
// opens a file or speaks to the kernel.
//
// Each command lists, changes and removes only what it has made itself (Forward::maker). What
// others have made stands in its way all the same: two forwards of one endpoint are refused, in a
// sentence that names both.
//
// Where masq does otherwise than Linux 2.2 did, on purpose:
//   portfw -L 0.0.0.0   whatever address the external interface has; there it fitted nothing. With
//                       -d it fits every address, as it did there.
//   -p (preference)     at most 65535
//   autofw -r           needs -h or -c: without them it led nowhere; one of them, not both
//   autofw -p           works
// A preference that is used up in part begins anew when another target comes before it.
//
// Exit codes: 0, also for help; 1 where it could not be done ("portfw: setsockopt failed: ..."); 2
// where the command line is wrong. Then standard error has one line, and nothing has changed.
//
// What the gateway wires up: ForwardWorld. Texts of /proc/net/ip_masq/{portfw,autofw,mfw} are here,
// the others are in masquerade_text.h.
#pragma once

#include <string>
#include <vector>

#include "compat/masquerade_text.h"
#include "compat/names.h"
#include "policy/forwards.h"

namespace masq {

// Whoever makes one keeps others from changing the forwards between load and store.
class ForwardWorld {
 public:
  virtual ~ForwardWorld() = default;
  virtual const Names& names() const = 0;
  // All forwards, with the state of the packet path folded in.
  virtual Result<Forwards> load_forwards() = 0;
  // Puts these in force, whole or not at all; called with what check_forwards has passed.
  virtual Status store_forwards(const Forwards& forwards) = 0;
  // For `user`: one entry of the table, named by what is not zero in `key`. To make one, an
  // external address or port of zero is to be chosen, and a remote endpoint of zero is whoever
  // comes first.
  virtual Result<MasqueradeEntry> find_entry(const MasqueradeEntry& key) = 0;
  virtual Status make_entry(const MasqueradeEntry& entry) = 0;  // expires_hundredths 0: as usual
  virtual Status remove_entry(const MasqueradeEntry& key) = 0;
  virtual Status set_entry_timeout(const MasqueradeEntry& key, u32 timeout_s) = 0;
};

// Without the name of the command.
CommandResult run_ipmasqadm(const std::vector<std::string>& words, ForwardWorld& world);
CommandResult run_ipportfw(const std::vector<std::string>& words, ForwardWorld& world);

CommandResult run_portfw(const std::vector<std::string>& words, ForwardWorld& world);
CommandResult run_autofw(const std::vector<std::string>& words, ForwardWorld& world);
CommandResult run_mfw(const std::vector<std::string>& words, ForwardWorld& world);
CommandResult run_user(const std::vector<std::string>& words, ForwardWorld& world);

std::string proc_portfw(const Forwards& forwards);
std::string proc_autofw(const Forwards& forwards);
std::string proc_mfw(const Forwards& forwards);

inline constexpr u16 kPortfwLast = 60999;  // behind it lay the ports of masqueraded connections

// --- what the modules share ----------------------------------------------------------------------

// `problem` is a sentence without its capital and its full stop.
CommandResult wrong_usage(const std::string& command, const std::string& problem);
// The kernel's part has failed: a whole sentence.
CommandResult not_done(const std::string& command, const std::string& sentence);
CommandResult help(const std::string& text);

std::optional<u8> tcp_or_udp(const std::string& word);  // by its first letter

// Applies a change to a copy, and puts that in force if it is right.
template <class Change>
CommandResult change_forwards(const std::string& command, ForwardWorld& world, Change change) {
  Result<Forwards> forwards = world.load_forwards();
  if (!forwards) return not_done(command, forwards.error().sentence);
  if (Status status = change(*forwards); !status) return not_done(command, status.error().sentence);
  if (Status status = check_forwards(*forwards); !status)
    return not_done(command, status.error().sentence);
  if (Status status = world.store_forwards(*forwards); !status)
    return not_done(command, status.error().sentence);
  return {};
}

}  // namespace masq
