// The machine as the old commands find it in a script: the files of its stage (compat/stage.h).
// Whatever they change there moves nothing; `masq run-script` applies it when the script has ended.
//
// What they only look at is real: names, interfaces, and the table of masqueraded connections.
// Whether packets are forwarded is what the script has written to its copy of /proc/sys.
//
// A command holds the stage's lock from its first look to its end, so that two at once do not lose
// each other's changes.
#pragma once

#include <optional>

#include "compat/ipmasqadm.h"
#include "compat/main/machine.h"
#include "compat/stage.h"

namespace masq {

class StageMachine final : public FirewallWorld, public ForwardWorld {
 public:
  explicit StageMachine(Stage stage) : stage_(std::move(stage)) {}

  const Names& names() const override { return real_.names(); }

  Result<RuleSet> load() override;
  Status store(const RuleSet& rules) override;
  Result<std::vector<MasqueradeEntry>> entries() override { return real_.entries(); }
  Status set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) override;

  bool forwards() const override;
  bool is_terminal() const override { return real_.is_terminal(); }
  std::string input() override { return real_.input(); }
  bool asks_to_flush(const std::string& question) override { return real_.asks_to_flush(question); }
  std::string interface_of(Ipv4 address) override { return real_.interface_of(address); }

  Result<Forwards> load_forwards() override;
  Status store_forwards(const Forwards& forwards) override;
  // Single connections are of the moment; a script of rules says nothing about them.
  Result<MasqueradeEntry> find_entry(const MasqueradeEntry& key) override;
  Status make_entry(const MasqueradeEntry& entry) override;
  Status remove_entry(const MasqueradeEntry& key) override;
  Status set_entry_timeout(const MasqueradeEntry& key, u32 timeout_s) override;

 private:
  // What is in the file, under the lock.
  Result<std::string> read(const char* name);

  Machine real_;
  Stage stage_;
  std::optional<Fd> lock_;
};

}  // namespace masq
