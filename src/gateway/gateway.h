// The running gateway: keeps programs, maps, sysctls and belt as they should be for the interfaces
// and addresses that the machine has at this moment.
//
// `reconcile` reads everything anew, compares with what should be, and changes the difference; it
// does not care which event came first or was lost. The order within one pass keeps the promise
// that nothing untranslated crosses: kernel forwarding goes off first, then the tables are told,
// then the external hooks are put on, then the internal ones.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gateway/attach.h"
#include "gateway/belt.h"
#include "gateway/datapath.h"
#include "gateway/guard.h"
#include "gateway/interfaces.h"
#include "gateway/lost_addresses.h"
#include "gateway/netlink.h"
#include "gateway/packet_logger.h"
#include "gateway/slow_process.h"
#include "gateway/state.h"
#include "gateway/user_datapath.h"
#include "policy/config.h"

namespace masq {

class Gateway {
 public:
  // Takes over what runs in this network namespace, or starts anew. `remarks` gets the sentences
  // for the administrator.
  static Result<Gateway> start(const Config& config, std::vector<std::string>& remarks);

  Status reconcile(std::vector<std::string>& remarks);

  // Ends what the datapath remembers of routes; nothing else depends on where one leads that is not
  // a default route.
  void routes_changed() { datapath().routes_changed(); }

  // What packets that fitted rules with -l are to be written down, as lines; and are there such
  // rules? Then to be called several times a second.
  std::vector<std::string> take_packet_log() {
    return packet_logger_.take(datapath(), monotonic_ns() / 1000000);
  }
  bool logs_packets() const { return rules_log(datapath()); }

  // To be called every second: the slow path's process is started anew if it has gone or hangs.
  // Says so.
  void look_after_slow_path(std::vector<std::string>& remarks);

  // Likewise: external addresses that have gone. Should all be looked at anew?
  bool look_after_addresses();
  // Connections of external addresses that were replaced; see lost_addresses.h.
  bool has_connections_to_end() const { return lost_addresses_.has_work(); }
  std::string end_connections() { return lost_addresses_.end_some(datapath()); }

 private:
  Status begin(std::vector<std::string>& remarks);

  // What runs here already.
  struct Running {
    std::vector<u32> programs;
    bool in_user_space = false;
    bool anything() const { return !programs.empty() || in_user_space; }
  };
  Status choose_datapath(const Config& config, const Running& running, const Settings& settings,
                         std::vector<std::string>& remarks);
  Status use_user_space(const Running& running, const Settings& settings,
                        std::vector<std::string>& remarks);

  AnyDatapath& datapath() const;
  Status keep_holder();
  void keep_slow_path(const NetworkState& network, std::vector<std::string>& remarks);
  Status set_up_slow_path(const NetworkState& network);
  Status start_slow_path();
  Status keep_guard(const NetworkState& network);
  const std::vector<std::string>* list_of(const std::string& name) const;
  void find_links(const NetworkState& network, std::vector<std::string>& remarks);
  const Link* our_link(const NetworkState& network, const std::string& name) const;
  Zone zone_of(const NetworkState& network, const Link& link) const;
  void take_out_uplinks(const NetworkState& network, std::vector<std::string>& remarks);
  Status keep_belt(const NetworkState& network, std::vector<std::string>& remarks);
  Status close_kernel_path(const NetworkState& network, std::vector<std::string>& remarks);
  u8 rule_bit_for(u32 ifindex) const;
  Status enter_interface(const NetworkState& network, const Link& link, Zone zone,
                         std::vector<std::string>& remarks);
  Status attach(const Link& link, TcHook hook, Program program);
  void update_addresses(const NetworkState& network, std::vector<std::string>& remarks);
  bool is_to_be_shared(Ipv4 address) const;
  std::vector<Address> by_importance(const NetworkState& network) const;
  const Link* link_with(const NetworkState& network, const std::vector<bool>& wanted,
                        const Address& address) const;
  void choose_serving(const NetworkState& network, std::vector<std::string>& remarks);
  void remove_others(const NetworkState& network, std::vector<std::string>& remarks);

  // One of the two.
  std::optional<Datapath> tc_;
  std::unique_ptr<UserDatapath> user_;
  PacketLogger packet_logger_;
  SlowDevice slow_device_;   // if this daemon has opened it
  int slow_process_ = 0;     //
  u64 slow_started_ms_ = 0;  // when it was last seen to have been started
  OurInterfaces interfaces_;
  std::vector<std::string> contested_;  // links that have the name of one of ours, and were another
  std::vector<Ipv4> external_addresses_;  // as configured
  SavedState state_;
  LostAddresses lost_addresses_;
  bool lacks_place_ = false;  // for an external address
  std::set<u32> looked_at_;   // links that are not ours, and have no programs of ours
  u64 looked_ms_ = 0;
  Belt belt_;                      // as it was put on
  std::string shown_belt_;         // and how nftables showed it then
  Guard guard_;                    // likewise
  std::string shown_guard_;        //
  std::vector<std::string> said_;  // remarks that need not be repeated
};

// Does the kernel forward by itself what it must not between inside and outside?
bool needs_belt(const Settings& settings);

// The programs that masq has attached in this network namespace.
std::vector<u32> attached_programs(const NetworkState& network);

// Is a gateway here, with or without its daemon?
bool gateway_is_there(const NetworkState& network);

// For the daemon that takes over.
Status keep_config(const Config& config);
// The configuration of the gateway that runs here, if it has left one: a file, or nothing.
std::string kept_config();

// Ends everything that masq does here. Returns the sentences to say.
Result<std::vector<std::string>> take_down();

}  // namespace masq
