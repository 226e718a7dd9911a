// What the administrator asks for: the options of `masq up` and the keys of masq.toml, which are
// the same (docs/configuration.md lists them).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/settings.h"
#include "core/table.h"
#include "policy/forwards.h"
#include "policy/result.h"
#include "policy/rules.h"

namespace masq {

enum class Ipv6Mode { automatic, block, leave };

// Another filtering for the inner hosts of a network. The longest prefix that fits counts.
struct FilteringFor {
  Ipv4 network;
  u32 length;
  Filtering filtering;
};

// A block of external ports for each inner host of a network.
struct PortBlocksFor {
  Ipv4 network;
  u32 length;
  u32 ports;  // of each host
};

struct Config {
  std::vector<std::string> external;     // empty: found by the default route
  std::vector<std::string> internal;     // empty: found by private addresses
  std::vector<Ipv4> external_addresses;  // empty: the first of each external interface
  std::string datapath = "auto";
  Filtering filtering = kFilterAddressAndPort;
  std::vector<FilteringFor> filtering_for;  // at most kFilterRulesMax
  std::vector<PortBlocksFor> port_blocks;   // at most kPortBlocksMax, without common hosts
  std::vector<std::string> forwards;        // in the words of forward_words.h
  std::optional<RuleSet> rules;             // none: whatever commands have made, or the plain ones
  Ipv6Mode ipv6 = Ipv6Mode::automatic;
  u32 flows_max = 0;                        // 0: by the machine's memory
  std::optional<PortRange> external_ports;  // none: all that the gateway's sockets are not given
  // Limits per inner host; 0: none. What is not given is what set_host_limits says.
  std::optional<u32> host_flows, host_ports, host_opening, host_new_per_s, host_new_burst;
  u32 tcp_established_s = 7440;
  u32 tcp_opening_s = 240;
  u32 tcp_closing_s = 240;
  u32 udp_s = 300;
  u32 dns_s = 30;
  u32 icmp_s = 60;
  bool udp_refresh_inbound = false;
  bool take_over_streams = false;
  bool reset_replaced = true;  // dead_address: end connections of an address that is replaced
  UdpLoose udp_loose = kUdpStrict;
  u16 mss_clamp = kMssByMtu;  // or kMssLeft, or bytes from kMssMin to kMssMax
};

// Where something is wrong and what.
struct ConfigMistake {
  u32 line;  // 0: the file as a whole
  std::string sentence;
};

// "FILE:LINE: sentence", or without the line.
std::string to_text(const std::string& path, const ConfigMistake& mistake);

struct ParsedConfig {
  Config config;
  std::vector<ConfigMistake> mistakes;
  // Where each rule stands: of each chain of the rules, of each rule in it.
  std::vector<std::vector<u32>> rule_lines;
};

// Reads a configuration; `name` is for messages. Finds every mistake, not only the first.
ParsedConfig parse_config(const std::string& text);
// Likewise from a file; a file that cannot be read is a mistake of line 0.
ParsedConfig load_config(const std::string& path);

std::string to_toml(const Config& config);

// Those that the old commands can set, in seconds; 0 leaves one as it is.
void set_timeouts_in(Config& config, u32 tcp_s, u32 tcp_closing_s, u32 udp_s);

// What is wrong with a configuration as a whole, wherever its parts came from.
std::vector<ConfigMistake> check_config(const Config& config);

// What is in force by the time the table is made: sizes, the pool, a fresh secret.
Result<Settings> settings_for(const Config& config);

// The limits per inner host, for the table and the pool that the settings have.
void set_host_limits(Settings& settings, const Config& config);

// A part of to_text for `status`.
std::string filtering_name(Filtering filtering);
std::optional<Ipv6Mode> ipv6_named(const std::string& name);
std::optional<Filtering> filtering_named(const std::string& name);
// Adds "192.168.2.0/24" (or one address) with "apdf", "adf" or "eif"; else says what is wrong.
Status add_filtering_for(Config& config, const std::string& network, const std::string& filtering);
// Adds "192.168.2.0/24" with "128"; else says what is wrong.
Status add_port_blocks(Config& config, const std::string& network, const std::string& ports);
// Adds an address that inner hosts may get; else says what is wrong.
Status add_external_address(Config& config, const std::string& address);
// Adds a forward in the words of `masq forward add`; else says what is wrong with it.
Status add_forward(Config& config, const std::string& words);
// All of them, as ForwardMaker::config; or what is wrong between them.
Result<Forwards> configured_forwards(const Config& config);
// Its rules as text, which is the same for the same rules; empty without any.
std::string rules_text(const Config& config);
// Do two configurations name other external addresses, or other filterings for some hosts?
bool differ_in_addresses(const Config& a, const Config& b);
bool differ_in_filtering_for(const Config& a, const Config& b);
// Does the configuration name other external ports than these settings have?
bool asks_for_other_ports(const Config& config, const Settings& settings);
// Likewise other blocks of them?
bool asks_for_other_blocks(const Config& config, const Settings& settings);

// Takes "20000-29999" for the external ports; else says what is wrong.
Status set_external_ports(Config& config, const std::string& range);

// "auto", "off" or a number.
std::optional<u16> mss_clamp_named(const std::string& name);

inline constexpr u32 kBlockPortsMax = 8192;  // in steps of kWordPorts
inline constexpr u32 kMssMin = 88;           // below that Linux takes no MSS for meant
inline constexpr u32 kMssMax = 65495;        // of the largest IPv4 datagram
// What a limit per host is where it is not given: a part of the whole, but no less than what an
// ordinary host may need.
inline constexpr u32 kHostFlowsPart = 4, kHostOpeningPart = 8, kHostPortsPart = 4;
inline constexpr u32 kHostFlowsLeast = 1024, kHostPortsLeast = 1024;
inline constexpr u32 kHostNewPerS = 2000, kHostNewBurst = 10000;
inline constexpr u32 kHostNewMax = 1000000;

inline constexpr u32 kFlowsMin = 16;
inline constexpr u32 kFlowsMax = kRecordsMax / 2 - 1 - kFlowsOwn;

// The limits per inner host: their names, where they lie, and their ends.
struct HostLimit {
  const char* key;
  std::optional<u32> Config::*asked;
  u32 Settings::*used;
  u32 least, most;
  const char* option;
  const char* help;
};
inline constexpr HostLimit kHostLimits[] = {
    {"host_flows", &Config::host_flows, &Settings::host_flows, 0, kFlowsMax, "--host-flows",
     "Flows that one inner host may have; 0 for no limit"},
    {"host_ports", &Config::host_ports, &Settings::host_ports, 0, kFlowsMax, "--host-ports",
     "External ports that one may have; 0 for no limit"},
    {"host_opening", &Config::host_opening, &Settings::host_opening, 0, kFlowsMax, "--host-opening",
     "TCP connections that one may be opening at once; 0 for no limit"},
    {"host_new_per_s", &Config::host_new_per_s, &Settings::host_new_per_s, 0, kHostNewMax,
     "--host-new-per-s", "Flows that one may begin in a second, on average; 0 for no limit"},
    {"host_new_burst", &Config::host_new_burst, &Settings::host_new_burst, 1, kHostNewMax,
     "--host-new-burst", "Flows that one may begin at once"}};

}  // namespace masq
