// The maps. Sizes written as 1 are set by the loader before the programs are loaded, from the size
// of the table (gateway/datapath.cpp); the loader also fills `constants`, which the verifier then
// knows.
//
// The big arrays are one value each and memory-mapped, so that the core can index them while it
// holds a lock (no helper may be called there) and so that the daemon can read them.
#pragma once

#include "bpf/helpers.h"
#include "bpf/layout.h"
#include "core/flows.h"
#include "core/forwarded.h"
#include "core/fragments.h"
#include "core/judge.h"
#include "core/reasons.h"
#include "core/settings.h"
#include "core/table.h"
#include "core/traffic.h"
#include "core/verdict.h"

namespace masq::bpf {

struct Stripe {
  bpf_spin_lock lock;
  u32 reserved;
};

struct Sweeper {
  bpf_timer timer;
};

// Per processor and hook, because a program has only 512 bytes of stack. Programs of one hook do
// not interrupt each other.
struct Scratch {
  Packet packet;
  Verdict verdict;
  NewFlow new_flow;
  Making making;
  bpf_fib_lookup fib;
  bpf_sock_tuple tuple;
  u32 hairpin_ifindex;  // as which external interface's the packet is looked at; 0: its own
  u32 slow_ifindex;     // it comes from the slow path, and first came in there; 0: it does not
  SlowSide slow;
  FragmentFound fragment;
  RuleScratch rules;
  ForwardChoice forward_choice;
};

// How far the neighbour's hardware address is known.
enum Neighbour : u32 {
  kNeighbourUnknown = 0,  // or the interface has no link header
  kNeighbourKnown,        // but it has not been written to since the kernel was asked
  kNeighbourUsed,
};

// What the kernel's routing said of a pair of addresses.
struct CachedRoute {
  Ipv4 destination;
  Ipv4 source;
  Ticks asked;
  u32 generation;
  u32 ifindex;
  Ipv4 next_hop;
  u32 neighbour;  // Neighbour
  u8 destination_link[6];
  u8 source_link[6];
};

inline constexpr u32 kCachedRoutes = 4096;
// So long may a change of routes go unnoticed while no daemon tells of it.
inline constexpr Ticks kRouteLife = ticks_from_ns(250000000);

enum Hook : u32 { kIngress = 0, kEgress, kHooks };

}  // namespace masq::bpf

extern "C" {

using masq::u32;

struct RecordsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[64];
  int (*max_entries)[1];
};
// The names reach the kernel cut to 15 characters; the loader looks them up by these.
RecordsMap mq_records SEC(".maps");
RecordsMap mq_inner SEC(".maps");
RecordsMap mq_outer SEC(".maps");
RecordsMap mq_used SEC(".maps");
RecordsMap mq_full SEC(".maps");
RecordsMap mq_hosts SEC(".maps");

struct PortsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::PortPool) * masq::kExternalsMax * masq::kPoolProtocols];
  int (*max_entries)[1];
};
PortsMap mq_ports SEC(".maps");

struct FragmentsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::Fragment) * masq::kFragmentsMax];
  int (*max_entries)[1];
};
FragmentsMap mq_fragments SEC(".maps");

// The rules and their paths (core/judge.h).
struct RulesMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::RuleTable)];
  int (*max_entries)[1];
};
RulesMap mq_rules SEC(".maps");

struct PathsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::RulePaths)];
  int (*max_entries)[1];
};
PathsMap mq_paths SEC(".maps");

// The forwards and how they stand (core/forwards.h).
struct ForwardsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::ForwardMemory)];
  int (*max_entries)[1];
};
ForwardsMap mq_forwards SEC(".maps");

// What was counted for each, per processor; the second half behind the first.
struct SlotCountsMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::RuleCount)];
  int (*max_entries)[masq::kRuleHalves * masq::kRuleSlotsMax];
};
SlotCountsMap mq_slot_counts SEC(".maps");

struct PathCountsMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::RulePathCount)];
  int (*max_entries)[masq::kRuleHalves * masq::kRulePathsMax];
};
PathCountsMap mq_path_counts SEC(".maps");

struct SharedMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::Shared)];
  int (*max_entries)[1];
};
SharedMap mq_shared SEC(".maps");

struct SettingsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::Settings)];
  int (*max_entries)[1];
};
SettingsMap mq_settings SEC(".maps");

struct StripesMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  u32* key;
  masq::bpf::Stripe* value;
  int (*max_entries)[masq::kStripes];
};
StripesMap mq_stripes SEC(".maps");

struct SweeperMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  u32* key;
  masq::bpf::Sweeper* value;
  int (*max_entries)[1];
};
SweeperMap mq_sweeper SEC(".maps");

// The gateway's addresses and broadcast addresses; the value is an OwnAddress.
struct OwnMap {
  int (*type)[BPF_MAP_TYPE_HASH];
  int (*key_size)[4];
  int (*value_size)[4];
  int (*max_entries)[masq::bpf::kOwnAddressesMax];
};
OwnMap mq_own SEC(".maps");

struct CountersMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::bpf::Counters)];
  int (*max_entries)[1];
};
CountersMap mq_counters SEC(".maps");

// The last refused packets; see core/drops.h.
struct DropsMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*map_flags)[BPF_F_MMAPABLE];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::Drops)];
  int (*max_entries)[1];
};
DropsMap mq_drops SEC(".maps");

// Route look-ups of the last moments, per processor; see KernelWorld::route.
struct RoutesMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::bpf::CachedRoute)];
  int (*max_entries)[masq::bpf::kCachedRoutes];
};
RoutesMap mq_routes SEC(".maps");

struct ScratchMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::bpf::Scratch)];
  int (*max_entries)[masq::bpf::kHooks];
};
ScratchMap mq_scratch SEC(".maps");

// The network namespace of the gateway, by its cookie; 0 if nobody knows. An interface takes its
// programs along into another one, where nobody may take them for a gateway. No program reads it.
struct HomeMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*key_size)[4];
  int (*value_size)[8];
  int (*max_entries)[1];
};
HomeMap mq_home SEC(".maps");

// The programs masq_outside and masq_inside, for packets that go on as if they came from there. The
// daemon puts them in; the kernel empties the map when the last process that holds it has gone.
struct AgainMap {
  int (*type)[BPF_MAP_TYPE_PROG_ARRAY];
  int (*key_size)[4];
  int (*value_size)[4];
  int (*max_entries)[masq::bpf::kAgainPlaces];
};
AgainMap mq_again SEC(".maps");

const volatile masq::bpf::Constants constants SEC(".rodata.masq") = {masq::bpf::kLayoutVersion,
                                                                     masq::kRecordsMin, 1};

char masq_license[] SEC("license") = "GPL";

}  // extern "C"
