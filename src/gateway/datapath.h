// The kernel's half as the daemon and the commands see it: the loaded programs and their maps.
//
// Loading makes new ones; adopting finds those that are attached to the interfaces of this network
// namespace already, whoever attached them. Tables are seen through memory mappings, read-only; the
// only things written from here are the settings, the interfaces and the external addresses, and at
// the very start the pools, before the first packet.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gateway/any_datapath.h"
#include "gateway/fd.h"
#include "policy/result.h"

namespace masq {

enum class Program : u32 {
  inside,
  outside,
  leaving,
  entering,
  sweep_start,
  sweep_all,
  clock,
  from_slow,
  count
};

class Datapath final : public AnyDatapath {
 public:
  // Why the kernel lets this process load no BPF program at all, in the kernel's words; empty if it
  // does.
  static std::string why_no_programs();

  // Loads the programs with a table for `settings.flows_max` flows. Nothing is attached yet.
  static Result<Datapath> load(const Settings& settings);

  // The running programs, by the identifiers of the attached ones. Checks that they are of this
  // version of masq, and loads anew what has gone of them.
  static Result<Datapath> adopt(std::span<const u32> program_ids);

  // The same, only to read.
  static Result<Datapath> look(std::span<const u32> program_ids);

  // Programs without constants, or of this version but without a table: nothing goes on with them.
  static bool is_remnant(std::span<const u32> program_ids);

  int program_fd(Program program) const { return programs_[static_cast<u32>(program)].get(); }
  // Not so after an older masqd's: then there is a new map of those that its programs do not show,
  // such as the sweeper's, and whoever holds the old one must let it go.
  bool found_all_maps() const { return found_all_maps_; }
  // Map descriptors, for the process that keeps them open while the daemon is away.
  std::vector<int> map_fds() const;

  const char* name() const override { return "tc"; }
  bool outlives_daemon() const override { return true; }
  bool sees_own_packets() const override { return true; }
  CounterTotals counters() const override;
  Ticks now() const override;
  Status set_own_addresses(const OwnAddresses& by_importance) override;
  // What this address is for the gateway, as the programs are told.
  std::optional<bpf::OwnAddress> own_address(Ipv4 address) const;
  // Jiffies drift from CLOCK_MONOTONIC.
  Status set_clock() override;
  Status start_sweeper() override;
  RuleTotals rule_totals(u32 half) const override;
  void clear_rule_totals(u32 half) override;
  void wait_for_readers() override;
  void forget_judgements() override;

 private:
  Status map_tables();
  Status open_programs(std::span<const u32> program_ids);
  Status open_running(std::span<const u32> program_ids);
  Status open_maps_of(int program_fd);
  Status load_missing();
  Status link_programs();
  Status bind_maps();
  Status prepare_pools();

  std::array<Fd, static_cast<u32>(Program::count)> programs_;
  std::array<Fd, static_cast<u32>(MapName::count)> maps_;
  Fd constants_;
  bool found_all_maps_ = true;
  std::vector<Mapping> mappings_;
};

// The place of the tables' size in a map's value, and the size itself, for `records_max` records.
struct TableSizes {
  u32 records, slots, used, full, hosts;
};
TableSizes table_sizes(u32 records_max);

// Records for this many flows and as many mappings; a power of two.
u32 records_for(u32 flows_max);

}  // namespace masq
