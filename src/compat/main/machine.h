// The machine that the old commands work on: the gateway that runs in this network namespace, or,
// where none runs, the rules and forwards that `masq up` will find.
#pragma once

#include <memory>
#include <optional>

#include "compat/ipchains.h"
#include "compat/ipfwadm.h"
#include "compat/ipmasqadm.h"
#include "gateway/any_datapath.h"
#include "gateway/forward_keeper.h"
#include "gateway/rule_keeper.h"

namespace masq {

// By getaddrinfo(3) and the databases of services and protocols.
class SystemNames final : public Names {
 public:
  std::vector<Ipv4> addresses_of(const std::string& name) const override;
  std::optional<u16> port_of(const std::string& service, u8 protocol) const override;
  std::optional<u8> protocol_of(const std::string& name) const override;
  std::string host_of(Ipv4 address) const override;
  std::string service_of(u16 port, u8 protocol) const override;
};

class Machine final : public FirewallWorld, public ForwardWorld {
 public:
  const Names& names() const override { return names_; }

  Result<RuleSet> load() override;
  Status store(const RuleSet& rules) override;
  Result<std::vector<MasqueradeEntry>> entries() override;
  Status set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) override;

  bool forwards() const override;
  bool is_terminal() const override;
  std::string input() override;
  bool asks_to_flush(const std::string& question) override;
  std::string interface_of(Ipv4 address) override;

  Result<Forwards> load_forwards() override;
  Status store_forwards(const Forwards& forwards) override;
  Result<MasqueradeEntry> find_entry(const MasqueradeEntry& key) override;
  // Limit: single connections cannot be made or changed by hand.
  Status make_entry(const MasqueradeEntry& entry) override;
  Status remove_entry(const MasqueradeEntry& key) override;
  Status set_entry_timeout(const MasqueradeEntry& key, u32 timeout_s) override;

 private:
  // The gateway that runs here, or null. An error only if there is one that cannot be used.
  Result<AnyDatapath*> gateway();

  SystemNames names_;
  std::unique_ptr<AnyDatapath> gateway_;
  std::optional<RuleChange> change_;
  std::optional<ForwardChange> forward_change_;
};

}  // namespace masq
