// What attackers do, outside and inside. Those outside can write any source address; they do not
// see the traffic, but here they are told which connections there are and which ports they have
// outside, and of the sequence numbers all but the exact ones: far more than they could guess.
//
// Outside: forged RST, SYN and FIN, ICMP errors, scans, packets straight to inner addresses,
// fragments. Inside: forged sources, scans, floods of ports, damaged packets.
#pragma once

#include "sim/world.h"

namespace masq::sim {

class Attack {
 public:
  explicit Attack(World& world) : w_(world) {}
  void act();

 private:
  bool target(Talk*& talk, Endpoint& external);
  void forge_segment();
  void forge_error();
  void scan_from_outside();
  void straight_to_inner();
  void fragments();
  void forge_source();
  void scan_from_inside();
  void flood_ports();
  void damage();
  void leak_by_stack();
  void send_inert(const Data& packet, const Talk& talk, const char* what);

  World& w_;
};

}  // namespace masq::sim
