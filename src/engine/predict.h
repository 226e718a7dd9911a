// What the core does with one frame, and what it knew and made on the way: the facts from which
// `masq explain` makes its sentences. The engine that is given is changed as by any frame, so it
// stands over a copy.
#pragma once

#include <optional>

#include "core/hosts.h"
#include "engine/engine.h"

namespace masq {

// A record at the moment of the question, if there is one.
struct Known {
  u32 index;
  Record record;
  bool in_force;
};

struct Prediction {
  DropSide side;
  u32 ifindex;
  u32 from;        // of a packet on the kernel's own path: where it came in; 0: it is the gateway's
  u16 ether_type;  // network order; 0 if the frame is too short to say
  Packet packet;   // all zero if the frame is no IPv4
  Reason parsed;
  Outcome outcome;
  Packet sent;  // what it has become, where it is passed on

  std::optional<Known> flow_before, flow_after;
  std::optional<Known> mapping_before, mapping_after;
  bool hairpin;              // it went out and in again, to an inner host's external endpoint
  u32 flows;                 // there were before
  std::optional<Host> host;  // what its inner host had before, if it came from inside
  Route route;  // to where it goes or would go; after translation, if it comes in to a flow
  bool socket;  // one of the gateway would take it
};

Prediction predict(Engine& engine, Frame& frame, DropSide side, u32 ifindex, u32 from);

}  // namespace masq
