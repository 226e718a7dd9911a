// A gateway that a packet script can be played to: the engine in user space, or the programs in the
// kernel. Both stand in the same network:
//
//   lan   192.168.2.1/24   inside     lan2  192.168.3.1/24  inside
//   wan   203.0.113.2/24   outside    default route by 203.0.113.1
//   wan2  192.0.2.2/24     outside    100.64.0.0/16 by 192.0.2.1
//   vpn   10.9.0.1/24      other      100.65.0.0/16 unreachable
#pragma once

#include <array>
#include <memory>
#include <string>

#include "core/drops.h"
#include "core/reasons.h"
#include "core/settings.h"
#include "core/slow.h"
#include "core/table.h"
#include "core/traffic.h"
#include "packets/packet_text.h"

namespace masq::test {

inline constexpr u32 kPorts = 5;

struct PortPlan {
  const char* name;
  const char* address;
  Zone zone;
  u32 external;
  u32 ifindex;
};

using Plan = std::array<PortPlan, kPorts>;

// With the interface numbers that the engine is given when there is no kernel to ask.
Plan default_plan();

// Is thrown with one sentence when the machine lacks what a test needs.
struct CannotRun {
  std::string why;
};

// Is thrown when the kernel's clock has moved on between two readings; the script is played again.
struct Slipped {};

enum class Hook { in_lan, in_wan, out_wan, out_lan, from_slow };

enum class Fate { forward, stack, drop, slow };

struct Passed {
  Fate fate;
  Data packet;        // without the link header
  SlowHeader slow{};  // what it says when it goes to the slow path
};

struct Totals {
  std::array<u64, kReasonCount> reasons{};
  std::array<u64, kTrafficCount> traffic{};
};

class Gateway {
 public:
  virtual ~Gateway() = default;
  // `back`: how it comes back from the slow path, with Hook::from_slow.
  virtual Passed pass(Hook hook, u32 ifindex, u32 from, u16 ether_type, const Data& packet,
                      u32 segment_size, u32 segments, SlowKind back) = 0;
  virtual void slow_beat() = 0;
  virtual void set_time(u64 ns) = 0;
  virtual void sweep() = 0;
  virtual Settings& settings() = 0;
  virtual void set_interface(const Interface& interface) = 0;
  virtual void add_outer_address(Ipv4 address) = 0;
  virtual void open_socket(u8 protocol, Ipv4 address, u16 port) = 0;
  virtual const Tables& tables() const = 0;
  virtual const Drops& drops() const = 0;
  virtual Totals totals() const = 0;
};

std::unique_ptr<Gateway> make_engine(const Settings& settings, const Plan& plan,
                                     u8 link_header_length);

// The network of the picture in a network namespace of this process's own; fills in the numbers.
void make_namespace(Plan& plan);
std::unique_ptr<Gateway> make_kernel(const Settings& settings, const Plan& plan);

}  // namespace masq::test
