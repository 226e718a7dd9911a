// What `masq explain` says of one packet, and of those that were refused last: first as JSON, and
// the text from that, so that people and programs are told the same. docs/json.md lists the fields.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "engine/predict.h"
#include "gateway/any_datapath.h"
#include "gateway/netlink.h"

namespace masq {

// How it was decided where the packet comes in.
struct Place {
  DropSide side = DropSide::inside;
  u32 ifindex = 0;
  u32 from = 0;     // of a packet on the kernel's own path: where it came in
  std::string why;  // "by which 192.168.2.4 is reached"
};

nlohmann::json explanation_json(const Prediction& it, const Place& place, const Engine& engine,
                                const NetworkState& network);
std::string explanation_text(const nlohmann::json& explanation, bool with_advice);

// The advice about these reasons, each once.
std::string advice_text(const std::vector<std::string>& reasons);

// The refused packets that are remembered, oldest first; of one host, if `host` is not empty.
nlohmann::json last_json(const AnyDatapath& datapath, const NetworkState& network, Ipv4 host);
std::string last_text(const nlohmann::json& last);

}  // namespace masq
