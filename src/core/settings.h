// What the daemon tells the core: timeouts, the external addresses, the port pool, the secret.
//
// One value of a memory-mapped map; the daemon is its only writer. Fields are read one by one, so
// each is meaningful by itself, and an external address is written before its state says "live".
#pragma once

#include "core/clock.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kExternalsMax = 16;  // external addresses that can have live mappings at once

enum ExternalState : u32 {
  kExternalFree = 0,  // may be given to a new address
  kExternalLive,      // its mappings are in force
  kExternalGone,      // the address has left the interface and may come back: its mappings are not
                      // in force, and wait for it
  kExternalReplaced,  // likewise, but others serve in its place: its connections are ended
};

// How long flows wait for an external address that has gone, before they are taken off. TCP itself
// does not give up a connection sooner than after 100 s (RFC 1122 section 4.2.3.5).
inline constexpr Ticks kAbsence = ticks_from_s(120);
// And where another has taken its place: long enough that inner hosts ask again who have missed
// that their connections were ended, and short since what waits counts for the limits of its host.
inline constexpr Ticks kReplacedStay = ticks_from_s(10);
// An address that has gone for less than this may be under renewal (DHCP). Nobody is told yet that
// there is no way out: a connection that is opening would give up, where its next SYN gets through.
inline constexpr Ticks kAwaited = ticks_from_s(10);

struct External {
  Ipv4 address;
  u32 ifindex;
  u32 state;   // ExternalState
  u32 serves;  // whether inner hosts may get it
};

enum class Zone : u8 { other = 0, inside, outside };

inline constexpr u32 kInterfacesMax = 32;  // inner and external ones together
inline constexpr u32 kInterfacePlaces = 64;
// Places where an interface may lie, from its index on: enough for as many as there may be.
inline constexpr u32 kInterfaceProbes = kInterfacesMax;

// What the kernel does by itself with packets that come in on an interface.
struct KernelPath {
  u8 forwards;  // it forwards them, as it did before masq
};

// What the programs know of an interface of ours.
struct Interface {
  u32 ifindex;  // 0: this place is free
  Zone zone;
  u8 link_header_length;  // 14 for Ethernet, 0 for devices without a link layer
  KernelPath kernel;
  u8 rule_bit;   // which bit stands for it in RuleSlot::interfaces, plus one; 0: none
  u32 external;  // outside: one of the external addresses that serve; kExternalsMax: none yet
  Ipv4 address;  // source of the ICMP errors that the gateway sends from this interface
  u32 mtu;
};

static_assert(sizeof(Interface) == 20);

// Who may send to a mapping from outside (RFC 4787 section 5).
enum Filtering : u8 {
  kFilterAddressAndPort = 0,
  kFilterAddress,
  kFilterNone,  // endpoint-independent
};

// Which UDP mappings everybody may send to, whatever the filtering says: what the switch
// ip_masq_udp_dloose of Linux 2.2 chose.
enum UdpLoose : u32 {
  kUdpStrict = 0,
  kUdpLooseHighPorts,  // those of internal ports from 1024 on
  kUdpLoose,
};

// Who says that some mappings are open to others than those that were asked.
enum FiltersOpen : u8 { kOpenAsConfigured = 1, kOpenAsAsked = 2 };

// What the MSS option of a SYN may say at most: by the MTUs of the interfaces on its way, whatever
// it likes, or a fixed number.
inline constexpr u16 kMssByMtu = 0;
inline constexpr u16 kMssLeft = 0xffff;

// A range of ports, ends included, host order. Empty when first > last.
struct PortRange {
  u16 first;
  u16 last;
};

inline constexpr u32 kPoolRangesMax = 4;

// The inner hosts of a network have blocks of external ports, each one of its own (blocks.h).
inline constexpr u32 kPortBlocksMax = 8;
// Blocks of a network that lie one after another, in one range of the pool.
struct BlockRun {
  u16 first;   // word of the pool where the first one begins (port_pool.h)
  u16 blocks;  // how many; their words lie without gaps
};
struct PortBlocks {
  Ipv4 network;
  Ipv4 mask;
  u16 words;  // of one block; 0: nothing is said here
  u16 reserved;
  BlockRun runs[kPoolRangesMax];
};
static_assert(sizeof(PortBlocks) == 28);

// Another filtering for the inner hosts of a network; the first rule that fits counts.
inline constexpr u32 kFilterRulesMax = 16;
struct FilterRule {
  Ipv4 network;
  Ipv4 mask;
  u8 used;
  u8 filtering;  // Filtering
  u8 reserved[2];
};
static_assert(sizeof(FilterRule) == 12);

// The gateway itself may have some flows beyond flows_max, so that a table full of inner hosts'
// does not keep it from asking a name server. The table has room for them, each with a mapping.
inline constexpr u32 kFlowsOwn = 64;

struct Settings {
  u64 secret[2];          // keys every hash that strangers can reach
  u64 passed;             // what the kernel programs write on packets that were checked
  u64 clock_base_ns;      // makes the count of jiffies CLOCK_MONOTONIC
  u64 time_offset_ns;     // added to the clock; zero but in tests
  Ticks tcp_established;  // RFC 5382 REQ-5: at least 2 h 4 min
  Ticks tcp_opening;      // RFC 5382 REQ-5, RFC 7857 section 2.1: at least 4 min
  Ticks tcp_closing;      // likewise
  Ticks udp;              // RFC 4787 REQ-5: at least 2 min, 5 recommended
  Ticks dns;              // UDP to port 53: RFC 4787 REQ-5a allows it to be shorter
  Ticks icmp;             // RFC 5508 REQ-2: at least 60 s
  Ticks refresh;          // last_seen is written at most this often
  u32 flows_max;          // flows that there may be, and kFlowsOwn more of the gateway's own
  u32 jiffy_ns;           // length of a jiffy
  u32 route_generation;   // changes when routes may have changed
  PortRange pool[kPoolRangesMax];  // external ports that may be given to mappings
  u8 udp_refresh_inbound;          // RFC 4787 REQ-6: inbound packets keep a UDP mapping alive
  u8 block_ipv6;                   // refuse IPv6 between inside and outside
  u8 filtering;                    // Filtering where no rule says otherwise
  u8 filters_open;                 // is there a filtering that lets in who was not asked? Bits of
                                   // FiltersOpen
  u8 takes_streams;                // make flows for open TCP connections of inner hosts
  u8 resets_replaced;              // end connections of an address that others have replaced
  u16 mss_clamp;                   // kMssByMtu, kMssLeft, or bytes
  // Per inner host (hosts.h); 0: no limit.
  u32 host_flows;           // flows
  u32 host_ports;           // mappings, and so external ports (RFC 6888 REQ-4)
  u32 host_opening;         // TCP flows that are opening
  u32 host_new_per_s;       // new flows a second (RFC 6888 REQ-4C)
  u32 host_new_burst;       // and at once
  u32 slow_ifindex;         // the device that leads to the slow path; 0: there is none
  u32 blocks_end;           // the word of the pool behind the last block; 0: there are no blocks
  u32 rules_generation;     // of the rule set in force, 1..65535 (judge.h); 0: there are no rules
  u32 forwards_generation;  // of the forwards in force (forwarded.h); 0: there never were any
  u32 forwards_control;     // do inner hosts open forwards by what they send?
  u32 udp_loose;            // UdpLoose, as configured
  u32 udp_loose_asked;      // and as a script has asked for; the larger one counts
  PortBlocks port_blocks[kPortBlocksMax];
  FilterRule filters[kFilterRulesMax];
  External externals[kExternalsMax];
  Ticks gone_at[kExternalsMax];  // since when each is gone, or replaced
  Interface interfaces[kInterfacePlaces];
};

static_assert(sizeof(Settings) == 152 + sizeof(PortBlocks) * kPortBlocksMax +
                                      sizeof(FilterRule) * kFilterRulesMax +
                                      (sizeof(External) + sizeof(Ticks)) * kExternalsMax +
                                      sizeof(Interface) * kInterfacePlaces);

// Who may send to the mappings of this inner host?
MASQ_INLINE u8 filtering_of(const Settings& s, Ipv4 internal) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kFilterRulesMax; ++i) {
    const FilterRule& rule = s.filters[i];
    if (rule.used && (internal.be & rule.mask.be) == rule.network.be) return rule.filtering;
  }
  return s.filtering;
}

// Has an external address gone a moment ago, so that it may be back at once?
MASQ_INLINE bool awaits_address(const Settings& s, Ticks now) {
  bool awaits = false;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kExternalsMax; ++i)
    awaits |= s.externals[i].state == kExternalGone && !elapsed(now, s.gone_at[i], kAwaited);
  return awaits;
}

// May mappings have this port (host order)? Without branches, of which the verifier would walk
// every combination.
MASQ_INLINE bool in_pool(const Settings& s, u32 port) {
  u32 inside = 0;
#pragma clang loop unroll(full)
  for (u32 i = 0; i < kPoolRangesMax; ++i) {
    u32 below = (port - s.pool[i].first) >> 31;
    u32 above = (s.pool[i].last - port) >> 31;
    inside |= ~(below | above) & 1;
  }
  return inside != 0;
}

// Which live external address this is, or kExternalsMax if it is none. `ifindex` 0: of any
// interface.
MASQ_INLINE u32 external_of(const Settings& s, Ipv4 address, u32 ifindex) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kExternalsMax; ++i) {
    const External& e = s.externals[i];
    if (same(e.address, address) && (ifindex == 0 || e.ifindex == ifindex) &&
        e.state == kExternalLive)
      return i;
  }
  return kExternalsMax;
}

// What is known of the interface with this index, or null if it is none of ours.
MASQ_INLINE const Interface* find_interface(const Settings& s, u32 ifindex) {
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kInterfaceProbes; ++i) {
    const Interface& at = s.interfaces[(ifindex + i) & (kInterfacePlaces - 1)];
    if (at.ifindex == ifindex && ifindex != 0) return &at;
  }
  return nullptr;
}

}  // namespace masq
