// A packet script: what goes into the gateway, what must come out, and what must have been counted.
//
//   # comment
//   300    in lan   udp 192.168.2.4:5000 > 198.51.100.1:9      a packet comes in, at second 300
//     forward 203.0.113.2:$a > 198.51.100.1:9                  and leaves so; what is not said is
//                                                              as it came, time to live one less
//   +1     out wan  from vpn  udp ...                          a packet leaves on the kernel's path
//     drop egress_guard
//
// Times are seconds from the start, or from the packet before (+). What must happen:
//   forward PACKET | route PACKET   translated, or between inner interfaces untranslated
//   stack [PACKET]                  to the gateway's own stack, as it is or translated so
//   pass                            as stack, but not even counted
//   slow [hold] [mtu N]             to the slow path, as it is
//   drop REASON                     silently
//   error REASON PACKET             this ICMP error goes back instead
//   count NAME N, NAME N | nothing  what is counted, where it is not what follows from the above;
//                                   nothing else may be counted in any case
// `in lan*50` repeats a packet. `in lan back asked|ordered|piece_first|piece|full PACKET`: it comes
// back from the slow path, and first came in there. What leaves outside and is or may be cut has an
// identification of the gateway's: any, or the one that `id` names.
//
// Other lines:
//   pool 40000-40003 50000-50000    flows_max N       before the first packet
//   host_limit flows|ports|opening|new_per_s|new_burst N
//   settings NAME VALUE             timers in seconds, switches 0 or 1
//   clock TICKS                     what the clock shows at second 0
//   external wan gone|live|none|ADDRESS|+ADDRESS|-ADDRESS
//   mtu wan 1400    zone lan other    address lan none
//   kernel_forwards lan 1
//   socket udp 203.0.113.2:5000
//   filter 192.168.2.4/32 eif       or apdf, adf; the first one that fits counts
//   ipchains -A forward -j DENY     changes the rules, in force from the next packet on
//   forward add tcp 80 192.168.2.5:8080    likewise the forwards, as `masq forward`
//   forward remove N
//   ipmasqadm mfw -I -m 1 -r 192.168.2.5 80
//   ip_forward 0                    switches forwarding off, likewise
//   at 300       sweep
//   slow on      slow off           is there a slow path? beat: it has just said so
//   expect flows N mappings N host 192.168.2.4 flows N mappings N opening N refused N|none
//   state tcp 192.168.2.4:5000 > 198.51.100.1:80 tcp_established|none
//   check $a even|odd|low|high      check $a == $b     check $a != $b
//   check $a in 40000-40003         check $a == $b plus 4           modulo 65536
#pragma once

#include <set>
#include <string>
#include <vector>

#include "packets/gateway.h"
#include "packets/packet_text.h"

namespace masq::test {

struct Line {
  u32 number;
  Words words;
  std::vector<Line> below;  // the indented lines that belong to it
};

std::vector<Line> read_script(const std::string& path);

struct Failure {
  std::string what;
};

enum class Worlds { engine, engine_without_link_header, engine_and_kernel, kernel };

// Plays the script; throws Failure, TextError, CannotRun or Slipped. Returns the packets played.
u32 play(const std::string& path, const Plan& plan, Worlds worlds);

// Both worlds have the same secret and the same clock, so they must have made the same choices:
// their memory is equal byte for byte, but for the cursor of the kernel's sweeper. Throws Failure.
void compare_tables(const Tables& engine, const Tables& kernel);

// The reasons that a script's expectations name.
std::set<std::string> reasons_of(const std::string& path);

}  // namespace masq::test
