// What honest hosts do: connections, datagrams, pings, and the gateway's own traffic.
//
// Pauses are chosen near the timers, where mistakes are: 238 s is within the 240 of a connection
// that opens or closes, 299 s within the 300 of UDP, 7400 s within the 7440 of an open connection.
#pragma once

#include "sim/world.h"

namespace masq::sim {

class Traffic {
 public:
  explicit Traffic(World& world) : w_(world) {}
  void act();

 private:
  void connect();
  void begin(Talk& talk, Host& host);
  void converse(Talk& talk, u32 steps);
  void end(Talk& talk);
  void datagrams();
  void ask(Exchange& exchange, u32 times, u32 sequence);
  void meet();
  void meet_by_tcp();
  Talk* talk_to_server();
  void punch(Talk& talk, Endpoint far, u32 times);
  void converse(Meeting& meeting, u32 times);
  void between_inner_hosts();
  void error_from_inside();
  void by_gateway();
  Endpoint some_server();

  World& w_;
  u32 number_ = 0;
};

}  // namespace masq::sim
