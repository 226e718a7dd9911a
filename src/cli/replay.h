// `masq replay`: the packets of a capture through the engine, as if they came in at a gateway now,
// by the clock of the capture. What would have gone out is written to another capture.
//
// A packet whose source lies in a network that is inside comes in there; every other one comes from
// outside. Packets between hosts of the same inner network do not pass a gateway and are left out.
// What is captured in part is translated in part; its checksums are kept as right or as wrong as
// they were. The same capture, options and seed give the same result.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "policy/config.h"
#include "policy/result.h"

namespace masq {

struct ReplayOptions {
  std::string in, out;
  std::string address;        // external
  std::string inner_address;  // the gateway's own inside; empty: the first of the first network
  std::vector<std::string> inside;  // networks; empty: the private ones
  u32 mtu = 65535;                  // of both sides; captures hold segments that are cut later
  u64 seed = 1;                     // of the choice of ports
};

// Checked options; an error is wrong usage.
struct Replay {
  struct Network {
    Ipv4 prefix;
    u32 length;  // bits
  };
  std::string in, out;
  Ipv4 address, inner_address;
  std::vector<Network> inside;
  u32 mtu;
  u64 seed;
};
Result<Replay> check_replay(const ReplayOptions& options);

// What was read, written and refused. An error where a file cannot be read or written to its end.
Result<nlohmann::json> run_replay(const Replay& replay, const Config& config);

std::string replay_text(const nlohmann::json& replayed);

}  // namespace masq
