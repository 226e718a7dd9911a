// What `masq status`, `masq flows`, `masq mappings` and `masq hosts` show, for people and as JSON.
// Read straight from the tables of the datapath, so that it works while the daemon is away.
// docs/json.md lists the fields.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "gateway/any_datapath.h"
#include "gateway/running.h"

namespace masq {

// The words for what the core knows by number.
const char* reason_name(Reason reason);
const char* reason_sentence(Reason reason);
std::string protocol_name(u8 protocol);
std::string state_name(State state);
nlohmann::json status_json(const AnyDatapath& datapath);
nlohmann::json flows_json(const AnyDatapath& datapath);
nlohmann::json mappings_json(const AnyDatapath& datapath);
nlohmann::json hosts_json(const AnyDatapath& datapath);

// The members of the status that have these names.
nlohmann::json traffic_json(const CounterTotals& totals);
nlohmann::json dropped_json(const CounterTotals& totals);
// What was refused and why, from `dropped`; empty if nothing was.
std::string refused_text(const nlohmann::json& dropped);

// The first sentence of `masq status`: does it translate, and if not, why.
std::string headline(const nlohmann::json& status);
std::string status_text(const nlohmann::json& status);
std::string flows_text(const nlohmann::json& flows);
std::string mappings_text(const nlohmann::json& mappings);
std::string hosts_text(const nlohmann::json& hosts);

}  // namespace masq
