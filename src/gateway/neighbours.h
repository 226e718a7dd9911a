// The hardware addresses of next hops, as the kernel knows them: read once, then followed. Where
// one is missing the kernel is asked to find it, by ARP from the address that it chooses itself,
// and frames for it wait.
//
// Limits, all counted: frames wait for one second at most, kWaitingForOne for one next hop and
// kWaitingInAll together, so that a host which scans for addresses that nobody has takes up little
// room and leaves some to the others. Not for several threads.
#pragma once

#include <deque>
#include <map>
#include <vector>

#include "gateway/fd.h"
#include "gateway/packet_port.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

// A SYN and its like, or the first burst of a datagram in fragments; the kernel's own queue for one
// neighbour holds about as many full packets.
inline constexpr u32 kWaitingForOne = 64;
inline constexpr u32 kWaitingInAll = 1024;
// Next hops remembered beside those in the kernel's table, which has a limit of its own
// (gc_thresh3): a flood of unknown ones makes us forget them all and read the kernel's table anew.
inline constexpr u32 kNextHopsMax = 65536;

struct WaitingFrame {
  std::vector<u8> bytes;
  Offload offload;
  u64 since_ns;
};

class Neighbours {
 public:
  static Result<Neighbours> open();

  // Readable when the kernel's table has changed.
  int fd() const { return monitor_.get(); }
  // Reads the changes. `ready` gets the next hops that frames waited for and that are known now, as
  // (interface, address).
  using NextHop = std::pair<u32, u32>;
  void read_changes(std::vector<NextHop>& ready);

  // The hardware address, six bytes, or null if it is not known; then it is being asked for.
  const u8* find(u32 ifindex, Ipv4 next_hop, u64 now_ns);

  // Keeps a frame for a next hop that is not known; false if too many wait.
  bool keep(u32 ifindex, Ipv4 next_hop, const PortFrame& frame, u64 now_ns);
  std::deque<WaitingFrame> take_waiting(const NextHop& next_hop);
  // How many frames were given up because they have waited too long.
  u64 give_up(u64 now_ns);

 private:
  struct Known {
    u8 address[6] = {};
    bool usable = false;
    bool fresh = false;  // the kernel needs not be reminded that it is in use
    u64 asked_ns = 0;
  };

  void read_all();
  void ask(const NextHop& next_hop);
  void take_message(const char* buffer, std::size_t length, std::vector<NextHop>& ready);
  void take_one(const void* message, std::vector<NextHop>& ready);

  Fd monitor_, questions_;
  std::map<NextHop, Known> known_;
  std::map<NextHop, std::deque<WaitingFrame>> waiting_;
  u32 waiting_count_ = 0;
};

}  // namespace masq
