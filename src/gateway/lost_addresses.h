// External addresses that have left their interface: which are waited for, which others have
// replaced, and ending the open TCP connections of those towards the inner hosts.
//
// An address that has gone may come back, as when a lease is renewed; its flows wait (core/table.h:
// is_kept). It is replaced once another address serves inner hosts on the same interface; or on
// another one, if the interface has gone too, as with ppp, or the address has been away for
// kAwaited. Then the packet path answers what inner hosts send in its connections with RSTs; and to
// those that only wait for the other end, one is sent from here.
//
// Such a RST bears the number behind the last byte that came from outside. If the host has not got
// that byte, it asks back (RFC 5961 section 3.2), and the packet path answers with the number that
// it wants. The RSTs go by the kernel's own routing, so what the machine's nftables and the chain
// `output` refuse does not arrive; the host is then told at its next segment.
//
// Limits: kResetsPerTurn a turn, and a turn every kTurn_ms, so that a full table takes half a
// minute and no inner network is flooded.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "gateway/any_datapath.h"
#include "gateway/fd.h"

namespace masq {

// Has any record this external address?
bool external_is_in_use(const AnyDatapath& datapath, u32 external);

// The place of an address: its old one if it had one, else one without records; kExternalsMax if
// there is none.
u32 take_external(AnyDatapath& datapath, Ipv4 address, u32 ifindex);

class LostAddresses {
 public:
  static constexpr u32 kResetsPerTurn = 200;
  static constexpr u32 kRecordsPerTurn = 65536;  // looked at; some milliseconds
  static constexpr u64 kTurn_ms = 20;

  // The address of this place has left its interface.
  static void note_gone(AnyDatapath& datapath, u32 place);
  // Which of those that have gone are replaced by now? `has_link`: is the interface still there?
  void note_replaced(AnyDatapath& datapath, const std::function<bool(u32 ifindex)>& has_link);
  // There is no place for a new address: gives up the one that has gone the longest, so that its
  // place is free once its flows are swept. False if none has gone.
  static bool give_up_oldest(AnyDatapath& datapath);

  // Are there connections to be ended? Then `end_some` is to be called every kTurn_ms. It returns
  // what is to be said when an address is done with, else nothing.
  bool has_work() const { return !to_end_.empty(); }
  std::string end_some(AnyDatapath& datapath);

 private:
  struct Work {
    u32 place;
    Ipv4 address;
    u32 next;   // record
    u32 ended;  // connections
  };
  std::deque<Work> to_end_;
  Fd socket_;
};

}  // namespace masq
