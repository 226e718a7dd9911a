// The packets that fitted rules with -l, for masqd to write down: what the line about each says
// (policy/packet_log.h makes it).
//
// A ring, as that of refused packets (core/drops.h), which lies beside the rules, so that it is the
// same in the kernel and in user space, needs nobody who listens, and outlives masqd. Writing costs
// one atomic addition and a copy; masqd comes by several times a second and takes what is new. What
// was written over by then is lost; the numbers say how many.
//
// A line shows the packet as the chain saw it. A flow that meets a rule with -l is not remembered
// (core/judge.h): each of its packets is looked at and logged. So rules without -l pay nothing. Of
// a datagram of a flow that came in fragments the first one is logged, as the kernels did that put
// them together first.
//
// Limits: kLoggedMax packets between two looks; kRuleTraceMost rules of a packet; what the masqd of
// the datapath in user space does not see (what the gateway itself sends) is not logged.
#pragma once

#include "wire/types.h"

namespace masq {

// 5000 in a second where masqd looks every 200 ms, which is more than it writes
// (gateway/daemon.cpp).
inline constexpr u32 kLoggedMax = 1024;
inline constexpr u16 kNoPort = 0xffff;  // of what has none, as the old kernels wrote it

struct LoggedPacket {
  u32 number;     // from 1; 0: being written, or never
  u32 interface;  // its bit in RuleSlot::interfaces; 0: none that rules could name
  Ipv4 source, destination;
  u16 source_port, destination_port;  // host order; ICMP: type and code
  u16 length;                         // of the datagram
  u16 id;
  u16 fragment;  // flags and offset
  u16 generation;
  u16 slot;
  u8 protocol, tos, ttl;
  u8 is_syn;
  u8 reserved[2];
};

static_assert(sizeof(LoggedPacket) == 36);

struct PacketLog {
  u32 written;   // the number of the last one
  u32 taken;     // by masqd, which alone writes this and the next two
  u32 lost;      // written over, or of rules that have gone, before masqd took them
  u32 left_out;  // taken, and not written down, to keep within the rate
  LoggedPacket packets[kLoggedMax];
};

}  // namespace masq
