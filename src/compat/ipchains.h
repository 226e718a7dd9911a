// The commands ipchains, ipchains-save and ipchains-restore. All of it is a function of the words
// and of a ChainsWorld, which stands for the machine; nothing here opens a file or asks the system.
//
// Exit codes as those commands had them: 0 done, 1 the change was refused, 2 wrong usage (3,
// another version of the kernel's interface, cannot happen here). With another code than 0 nothing
// has been stored, and standard error says why in a sentence.
#pragma once

#include "compat/masquerade_text.h"
#include "compat/names.h"
#include "policy/result.h"
#include "policy/rules.h"

namespace masq {

// The machine that the commands work on. Whoever makes one keeps others from changing the rules
// between load() and store(), so that two commands at once do not lose each other's changes.
class ChainsWorld {
 public:
  virtual ~ChainsWorld() = default;
  virtual const Names& names() const = 0;

  // With counters. What is stored has the counters of what was loaded, or zeros where a command has
  // cleared them.
  virtual Result<RuleSet> load() = 0;
  virtual Status store(const RuleSet& rules) = 0;

  virtual Result<std::vector<MasqueradeEntry>> entries() = 0;  // what is masqueraded
  // In seconds; 0 leaves one as it is.
  virtual Status set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) = 0;

  virtual bool forwards() const = 0;     // /proc/sys/net/ipv4/ip_forward
  virtual bool is_terminal() const = 0;  // standard input
  virtual std::string input() = 0;       // standard input, whole
  // Asks whoever sits at the terminal; false where nobody does, or for all but "f".
  virtual bool asks_to_flush(const std::string& question) = 0;
};

CommandResult run_ipchains(const std::vector<std::string>& words, ChainsWorld& world);
CommandResult run_ipchains_save(const std::vector<std::string>& words, ChainsWorld& world);
CommandResult run_ipchains_restore(const std::vector<std::string>& words, ChainsWorld& world);

}  // namespace masq
