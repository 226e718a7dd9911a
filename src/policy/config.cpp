// masq.toml: reading with the line of every mistake, writing, and the settings that follow from it.
#include "policy/config.h"

#include <arpa/inet.h>
#include <sys/random.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <tuple>

#include "core/blocks.h"
#include "policy/config_rules.h"
#include "policy/forward_words.h"
#include "policy/rule_words.h"

namespace masq {
namespace {

using Report = std::function<void(const toml::node&, std::string)>;

// The last line of each interface's name, and those of the blocks' table and of the forwards, which
// are no such names.
using NameLines = std::map<std::string, u32>;
constexpr const char* kPortBlocksLine = "/port_blocks";
constexpr const char* kForwardsLine = "/forwards";

// The words of dead_address.
constexpr const char* kDeadReset = "reset";
constexpr const char* kDeadSilent = "silent";

// As the kernel has it (dev_valid_name).
bool may_be_a_name(const std::string& name) {
  return !name.empty() && name.size() <= 15 && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](unsigned char c) {
           return c == '/' || c == ':' || c <= ' ' || c == 0x7f;
         });
}

std::string not_a_name(const std::string& key) {
  return fmt::format("`{}` must name interfaces: 1 to 15 characters, without blanks, / and :.",
                     key);
}

std::vector<std::string> read_names(const toml::node& node, const std::string& key,
                                    NameLines& lines, const Report& wrong) {
  std::vector<std::string> names;
  auto take = [&](const toml::node& each) {
    const auto* name = each.as_string();
    if (name == nullptr || !may_be_a_name(name->get())) return wrong(each, not_a_name(key));
    names.push_back(name->get());
    u32& line = lines[name->get()];
    line = std::max(line, static_cast<u32>(each.source().begin.line));
  };
  const auto* many = node.as_array();
  if (many == nullptr)
    take(node);
  else if (many->empty())
    wrong(node, not_a_name(key));
  else
    for (const toml::node& each : *many) take(each);
  return names;
}

void read_number(const toml::node& node, const std::string& key, u32 least, u32 most, u32& out,
                 const Report& wrong) {
  const auto* number = node.as_integer();
  if (number == nullptr || number->get() < least || number->get() > most)
    return wrong(node, fmt::format("`{}` must be a whole number from {} to {}.", key, least, most));
  out = static_cast<u32>(number->get());
}

struct NumberKey {
  const char* key;
  u32 Config::*field;
  u32 least;
};

bool read_host_limit(const std::string& key, const toml::node& node, Config& config,
                     const Report& wrong) {
  for (const HostLimit& limit : kHostLimits) {
    if (key != limit.key) continue;
    u32 value = 0;
    read_number(node, key, limit.least, limit.most, value, wrong);
    config.*limit.asked = value;
    return true;
  }
  return false;
}

// Timeouts below the RFC's minimum are accepted down to one second: old scripts ask for them.
constexpr NumberKey kTimeouts[] = {{"tcp_established_s", &Config::tcp_established_s, 1},
                                   {"tcp_opening_s", &Config::tcp_opening_s, 1},
                                   {"tcp_closing_s", &Config::tcp_closing_s, 1},
                                   {"udp_s", &Config::udp_s, 1},
                                   {"dns_s", &Config::dns_s, 1},
                                   {"icmp_s", &Config::icmp_s, 1}};

void read_timeouts(const toml::node& node, Config& config, const Report& wrong) {
  const auto* table = node.as_table();
  if (table == nullptr) return wrong(node, "`timeouts` must be a table, [timeouts].");
  for (const auto& [key, value] : *table) {
    bool known = false;
    for (const NumberKey& timeout : kTimeouts) {
      if (key.str() != timeout.key) continue;
      known = true;
      read_number(value, timeout.key, timeout.least, kTimeoutMax_s, config.*timeout.field, wrong);
    }
    if (!known) wrong(value, fmt::format("`{}` is not a timeout that masq knows.", key.str()));
  }
}

void read_filtering_for(const toml::node& node, Config& config, const Report& wrong) {
  const auto* table = node.as_table();
  if (table == nullptr) return wrong(node, "`filtering_for` must be a table, [filtering_for].");
  for (const auto& [network, value] : *table) {
    const auto* name = value.as_string();
    Status status =
        add_filtering_for(config, std::string(network.str()), name != nullptr ? name->get() : "");
    if (!status) wrong(value, status.error().sentence);
  }
}

void read_port_blocks(const toml::node& node, Config& config, const Report& wrong) {
  const auto* table = node.as_table();
  if (table == nullptr) return wrong(node, "`port_blocks` must be a table, [port_blocks].");
  for (const auto& [network, value] : *table) {
    const auto* ports = value.as_integer();
    Status status = add_port_blocks(config, std::string(network.str()),
                                    ports != nullptr ? std::to_string(ports->get()) : "");
    if (!status) wrong(value, status.error().sentence);
  }
}

void read_external_addresses(const toml::node& node, Config& config, const Report& wrong) {
  const auto* many = node.as_array();
  if (many == nullptr) return wrong(node, "`external_addresses` must be a list of addresses.");
  for (const toml::node& each : *many) {
    const auto* text = each.as_string();
    Status status = add_external_address(config, text != nullptr ? text->get() : "");
    if (!status) wrong(each, status.error().sentence);
  }
}

void read_forwards(const toml::node& node, Config& config, const Report& wrong) {
  const auto* many = node.as_array();
  if (many == nullptr) return wrong(node, "`forwards` must be a list of forwards.");
  for (const toml::node& each : *many) {
    const auto* text = each.as_string();
    Status status = add_forward(config, text != nullptr ? text->get() : "");
    if (!status) wrong(each, status.error().sentence);
  }
}

void read_switch(const toml::node& node, const std::string& key, bool& out, const Report& wrong) {
  if (const auto* flag = node.as_boolean())
    out = flag->get();
  else
    wrong(node, fmt::format("`{}` must be true or false.", key));
}

void read_key(const std::string& key, const toml::node& node, Config& config, NameLines& lines,
              const Report& wrong) {
  const auto* text = node.as_string();
  std::string word = text != nullptr ? text->get() : "";
  if (key == "external") {
    config.external = read_names(node, key, lines, wrong);
  } else if (key == "internal") {
    config.internal = read_names(node, key, lines, wrong);
  } else if (key == "external_addresses") {
    read_external_addresses(node, config, wrong);
  } else if (key == "datapath") {
    if (word != "auto" && word != "tc" && word != "user")
      wrong(node, "`datapath` must be \"auto\", \"tc\" or \"user\".");
    config.datapath = word;
  } else if (key == "filtering") {
    if (auto filtering = filtering_named(word))
      config.filtering = *filtering;
    else
      wrong(node, "`filtering` must be \"apdf\", \"adf\" or \"eif\".");
  } else if (key == "filtering_for") {
    read_filtering_for(node, config, wrong);
  } else if (key == "port_blocks") {
    lines[kPortBlocksLine] = static_cast<u32>(node.source().begin.line);
    read_port_blocks(node, config, wrong);
  } else if (key == "forwards") {
    lines[kForwardsLine] = static_cast<u32>(node.source().begin.line);
    read_forwards(node, config, wrong);
  } else if (key == "ipv6") {
    if (auto mode = ipv6_named(word))
      config.ipv6 = *mode;
    else
      wrong(node, "`ipv6` must be \"auto\", \"block\" or \"leave\".");
  } else if (key == "external_ports") {
    if (Status status = set_external_ports(config, word); !status)
      wrong(node, status.error().sentence);
  } else if (key == "flows_max") {
    read_number(node, key, kFlowsMin, kFlowsMax, config.flows_max, wrong);
  } else if (key == "udp_refresh_inbound") {
    read_switch(node, key, config.udp_refresh_inbound, wrong);
  } else if (key == "take_over_streams") {
    read_switch(node, key, config.take_over_streams, wrong);
  } else if (key == "dead_address") {
    if (word == kDeadReset || word == kDeadSilent)
      config.reset_replaced = word == kDeadReset;
    else
      wrong(node, "`dead_address` must be \"reset\" or \"silent\".");
  } else if (key == "udp_loose") {
    u32 loose = config.udp_loose;
    read_number(node, key, kUdpStrict, kUdpLoose, loose, wrong);
    config.udp_loose = static_cast<UdpLoose>(loose);
  } else if (key == "mss_clamp") {
    const auto* number = node.as_integer();
    auto clamp = mss_clamp_named(number != nullptr ? std::to_string(number->get()) : word);
    if (clamp)
      config.mss_clamp = *clamp;
    else
      wrong(node, fmt::format("`mss_clamp` must be \"auto\", \"off\" or a number from {} to {}.",
                              kMssMin, kMssMax));
  } else if (key == "timeouts") {
    read_timeouts(node, config, wrong);
  } else if (!read_host_limit(key, node, config, wrong)) {
    wrong(node, fmt::format("`{}` is not a key that masq knows.", key));
  }
}

Status check_port_blocks(const Config& config);

std::vector<ConfigMistake> check_whole(const Config& config, const NameLines& lines) {
  std::vector<ConfigMistake> mistakes;
  auto wrong = [&](const std::string& name, std::string sentence) {
    auto line = lines.find(name);
    mistakes.push_back({line == lines.end() ? 0 : line->second, std::move(sentence)});
  };
  auto check = [&](const char* key, const std::vector<std::string>& names) {
    for (auto name = names.begin(); name != names.end(); ++name)
      if (!may_be_a_name(*name))
        wrong(*name, not_a_name(key));
      else if (std::find(names.begin(), name, *name) != name)
        wrong(*name, fmt::format("`{}` names {} twice.", key, *name));
  };
  check("external", config.external);
  check("internal", config.internal);
  for (const std::string& name : config.external)
    if (std::find(config.internal.begin(), config.internal.end(), name) != config.internal.end())
      wrong(name, fmt::format("{} cannot be external and internal at once.", name));
  if (Status status = check_port_blocks(config); !status)
    wrong(kPortBlocksLine, status.error().sentence);
  if (Result<Forwards> forwards = configured_forwards(config); !forwards)
    wrong(kForwardsLine, forwards.error().sentence);
  return mistakes;
}

}  // namespace

void set_timeouts_in(Config& config, u32 tcp_s, u32 tcp_closing_s, u32 udp_s) {
  if (tcp_s != 0) config.tcp_established_s = tcp_s;
  if (tcp_closing_s != 0) config.tcp_closing_s = tcp_closing_s;
  if (udp_s != 0) config.udp_s = udp_s;
}

std::vector<ConfigMistake> check_config(const Config& config) {
  return check_whole(config, {});
}

namespace {

Ticks ticks_of(u32 seconds) {
  return ticks_from_s(seconds);
}

Ipv4 mask_of(u32 length) {
  return Ipv4{length == 0 ? 0 : htonl(~0u << (32 - length))};
}

// The rules for the programs: the longest prefix first.
void set_filtering(Settings& s, const Config& config) {
  std::vector<FilteringFor> rules = config.filtering_for;
  std::sort(rules.begin(), rules.end(), [](const FilteringFor& a, const FilteringFor& b) {
    return a.length > b.length;  // two of one length have no host in common
  });
  s.filtering = config.filtering;
  s.udp_loose = config.udp_loose;
  bool open = config.filtering != kFilterAddressAndPort || config.udp_loose != kUdpStrict;
  for (std::size_t i = 0; i < rules.size() && i < kFilterRulesMax; ++i) {
    s.filters[i] = {rules[i].network, mask_of(rules[i].length), 1, rules[i].filtering, {}};
    open |= rules[i].filtering != kFilterAddressAndPort;
  }
  s.filters_open = open ? kOpenAsConfigured : 0;
}

// As connection tracking in the kernel does: by memory, in steps. So many that they, the gateway's
// own, as many mappings and the unused record 0 fit a power of two.
u32 flows_for_memory() {
  struct sysinfo info {};
  u64 bytes = sysinfo(&info) == 0 ? static_cast<u64>(info.totalram) * info.mem_unit : 0;
  u32 half = bytes >= 3ull << 30     ? 256 * 1024
             : bytes >= 1ull << 30   ? 64 * 1024
             : bytes >= 256ull << 20 ? 16 * 1024
                                     : 8 * 1024;
  return half - 1 - kFlowsOwn;
}

// Those of the pool from 1024 up.
u32 high_ports(const Settings& s) {
  u32 ports = 0;
  for (const PortRange& range : s.pool) {
    u32 first = std::max<u32>(range.first, 1024);
    if (first <= range.last) ports += range.last - first + 1u;
  }
  return ports;
}

PortRange local_port_range() {
  std::ifstream file("/proc/sys/net/ipv4/ip_local_port_range");
  u32 first = 32768, last = 60999;
  if (!(file >> first >> last) || first < 1 || last > 65535 || first > last) return {32768, 60999};
  return {static_cast<u16>(first), static_cast<u16>(last)};
}

// The external ports: everything but those that the gateway's own sockets are given by the kernel.
Status set_pool(Settings& s, const Config& config) {
  PortRange local = local_port_range();
  if (config.external_ports) {
    PortRange asked = *config.external_ports;
    if (asked.first <= local.last && local.first <= asked.last)
      return error(
          "The external ports {}-{} and net.ipv4.ip_local_port_range ({}-{}) have ports in common; "
          "the gateway's own sockets get those.",
          asked.first, asked.last, local.first, local.last);
    for (PortRange& range : s.pool) range = {1, 0};
    s.pool[0] = asked;
    return Done{};
  }
  s.pool[0] = {1, 1023};
  s.pool[1] = {1024, static_cast<u16>(local.first - 1)};
  s.pool[2] = {static_cast<u16>(local.last + 1), 65535};
  s.pool[3] = {1, 0};
  if (local.first <= 1024) s.pool[1] = {1, 0};
  if (local.last == 65535) s.pool[2] = {1, 0};
  u32 ports = high_ports(s);
  if (ports < 30000)
    return error(
        "net.ipv4.ip_local_port_range ({}-{}) leaves only {} ports for inner hosts and 30000 are "
        "needed; narrow it, for example to 32768-60999.",
        local.first, local.last, ports);
  return Done{};
}

std::string network_text(Ipv4 network, u32 length) {
  char text[INET_ADDRSTRLEN];
  return fmt::format("{}/{}", inet_ntop(AF_INET, &network.be, text, sizeof text), length);
}

// Lays the blocks into the pool, the large ones first, which fit least easily, so that it does not
// matter in which order they were named. The network without room is the answer, null if all fit.
const PortBlocksFor* lay_networks(Settings& s, std::vector<PortBlocksFor>& networks) {
  std::sort(networks.begin(), networks.end(), [](const PortBlocksFor& a, const PortBlocksFor& b) {
    return a.ports != b.ports ? a.ports > b.ports : to_host(a.network) < to_host(b.network);
  });
  for (std::size_t i = 0; i < networks.size() && i < kPortBlocksMax; ++i)
    s.port_blocks[i] = {networks[i].network,
                        mask_of(networks[i].length),
                        static_cast<u16>(networks[i].ports / kWordPorts),
                        0,
                        {}};
  const u32 no_room = lay_blocks(s);
  return no_room == kPortBlocksMax ? nullptr : &networks[no_room];
}

Status set_port_blocks(Settings& s, const Config& config) {
  std::vector<PortBlocksFor> networks = config.port_blocks;
  const PortBlocksFor* no_room = lay_networks(s, networks);
  if (no_room == nullptr) return Done{};
  const PortBlocksFor asked = *no_room;
  for (u32 ports = asked.ports - kWordPorts; ports != 0; ports -= kWordPorts) {
    std::vector<PortBlocksFor> smaller = config.port_blocks;
    for (PortBlocksFor& each : smaller)
      if (same(each.network, asked.network)) each.ports = ports;
    if (Settings tried = s; lay_networks(tried, smaller) == nullptr)
      return error("There is no room for {} external ports for each host of {}; {} would fit.",
                   asked.ports, network_text(asked.network, asked.length), ports);
  }
  return error("There is no room for {} external ports for each host of {}; name a smaller one.",
               asked.ports, network_text(asked.network, asked.length));
}

// Do the blocks fit? What else is wrong with the external ports says who starts the gateway.
Status check_port_blocks(const Config& config) {
  Settings s{};
  if (config.port_blocks.empty() || !set_pool(s, config)) return Done{};
  return set_port_blocks(s, config);
}

}  // namespace

std::string filtering_name(Filtering filtering) {
  switch (filtering) {
    case kFilterAddress:
      return "address-dependent";
    case kFilterNone:
      return "endpoint-independent";
    default:
      return "address- and port-dependent";
  }
}

std::optional<Filtering> filtering_named(const std::string& name) {
  if (name == "apdf") return kFilterAddressAndPort;
  if (name == "adf") return kFilterAddress;
  if (name == "eif") return kFilterNone;
  return std::nullopt;
}

namespace {

// "192.168.2.0/24", or one address.
Status read_network(const std::string& network, Ipv4& address, u32& length) {
  std::size_t slash = network.find('/');
  std::string digits = slash == std::string::npos ? "32" : network.substr(slash + 1);
  bool number = digits.size() >= 1 && digits.size() <= 2 &&
                digits.find_first_not_of("0123456789") == std::string::npos;
  length = number ? static_cast<u32>(std::stoul(digits)) : 33;
  if (length > 32 || inet_pton(AF_INET, network.substr(0, slash).c_str(), &address.be) != 1)
    return error("`{}` is not an IPv4 address or network like 192.168.2.0/24.", network);
  if ((address.be & ~mask_of(length).be) != 0)
    return error("`{}` has bits behind its prefix; write the network's first address.", network);
  return Done{};
}

}  // namespace

Status add_filtering_for(Config& config, const std::string& network, const std::string& filtering) {
  Ipv4 address{};
  u32 length = 0;
  if (Status status = read_network(network, address, length); !status) return status;
  std::optional<Filtering> named = filtering_named(filtering);
  if (!named) return error("The filtering for `{}` must be \"apdf\", \"adf\" or \"eif\".", network);
  for (const FilteringFor& other : config.filtering_for)
    if (same(other.network, address) && other.length == length)
      return error("The filtering for `{}` is given twice.", network);
  if (config.filtering_for.size() >= kFilterRulesMax)
    return error("There are more than {} networks with a filtering of their own.", kFilterRulesMax);
  config.filtering_for.push_back({address, length, *named});
  return Done{};
}

Status add_port_blocks(Config& config, const std::string& network, const std::string& ports) {
  PortBlocksFor added{};
  if (Status status = read_network(network, added.network, added.length); !status) return status;
  const char* const end = ports.data() + ports.size();
  auto [rest, no_number] = std::from_chars(ports.data(), end, added.ports);
  if (no_number != std::errc{} || rest != end || added.ports == 0 ||
      added.ports % kWordPorts != 0 || added.ports > kBlockPortsMax)
    return error("The ports for each host of `{}` must be a multiple of {} up to {}.", network,
                 kWordPorts, kBlockPortsMax);
  for (const PortBlocksFor& other : config.port_blocks) {
    const u32 mask = mask_of(std::min(added.length, other.length)).be;
    if (((added.network.be ^ other.network.be) & mask) == 0)
      return error("The port blocks for `{}` and {} have hosts in common.", network,
                   network_text(other.network, other.length));
  }
  if (config.port_blocks.size() >= kPortBlocksMax)
    return error("There are more than {} networks with port blocks.", kPortBlocksMax);
  config.port_blocks.push_back(added);
  return Done{};
}

std::optional<u16> mss_clamp_named(const std::string& name) {
  if (name == "auto") return kMssByMtu;
  if (name == "off") return kMssLeft;
  if (name.empty() || name.size() > 5 || name.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  unsigned long bytes = std::stoul(name);
  if (bytes < kMssMin || bytes > kMssMax) return std::nullopt;
  return static_cast<u16>(bytes);
}

bool differ_in_addresses(const Config& a, const Config& b) {
  return !std::is_permutation(a.external_addresses.begin(), a.external_addresses.end(),
                              b.external_addresses.begin(), b.external_addresses.end(),
                              [](Ipv4 one, Ipv4 other) { return same(one, other); });
}

bool differ_in_filtering_for(const Config& a, const Config& b) {
  return !std::is_permutation(
      a.filtering_for.begin(), a.filtering_for.end(), b.filtering_for.begin(),
      b.filtering_for.end(), [](const FilteringFor& one, const FilteringFor& other) {
        return same(one.network, other.network) && one.length == other.length &&
               one.filtering == other.filtering;
      });
}

bool asks_for_other_ports(const Config& config, const Settings& s) {
  return config.external_ports && (config.external_ports->first != s.pool[0].first ||
                                   config.external_ports->last != s.pool[0].last);
}

bool asks_for_other_blocks(const Config& config, const Settings& s) {
  Settings asked{};
  std::vector<PortBlocksFor> networks = config.port_blocks;
  lay_networks(asked, networks);
  return !std::equal(std::begin(asked.port_blocks), std::end(asked.port_blocks),
                     std::begin(s.port_blocks), [](const PortBlocks& one, const PortBlocks& other) {
                       return same(one.network, other.network) && same(one.mask, other.mask) &&
                              one.words == other.words;
                     });
}

Status add_external_address(Config& config, const std::string& text) {
  Ipv4 address{0};
  if (inet_pton(AF_INET, text.c_str(), &address.be) != 1 || !is_plain_unicast(address))
    return error("`{}` is not an address that an external interface could have.", text);
  for (Ipv4 known : config.external_addresses)
    if (same(known, address)) return error("The external address {} is named twice.", text);
  if (config.external_addresses.size() == kExternalsMax)
    return error("{} is one external address too many; {} can be in use at once.", text,
                 kExternalsMax);
  config.external_addresses.push_back(address);
  return Done{};
}

Status set_external_ports(Config& config, const std::string& range) {
  u32 first = 0, last = 0;
  const char* const end = range.data() + range.size();
  auto [dash, no_first] = std::from_chars(range.data(), end, first);
  bool good = no_first == std::errc{} && dash != end && *dash == '-';
  if (good) {
    auto [rest, no_last] = std::from_chars(dash + 1, end, last);
    good = no_last == std::errc{} && rest == end && first >= 1 && first <= last && last <= 65535;
  }
  if (!good) return error("`{}` is not a range of ports like 20000-29999, from 1 to 65535.", range);
  config.external_ports = PortRange{static_cast<u16>(first), static_cast<u16>(last)};
  return Done{};
}

std::optional<Ipv6Mode> ipv6_named(const std::string& name) {
  if (name == "auto") return Ipv6Mode::automatic;
  if (name == "block") return Ipv6Mode::block;
  if (name == "leave") return Ipv6Mode::leave;
  return std::nullopt;
}

std::string to_text(const std::string& path, const ConfigMistake& mistake) {
  return mistake.line != 0 ? fmt::format("{}:{}: {}", path, mistake.line, mistake.sentence)
                           : fmt::format("{}: {}", path, mistake.sentence);
}

ParsedConfig parse_config(const std::string& text) {
  ParsedConfig parsed;
  NameLines lines;
  Report wrong = [&](const toml::node& node, std::string sentence) {
    parsed.mistakes.push_back({static_cast<u32>(node.source().begin.line), std::move(sentence)});
  };
  try {
    toml::table table = toml::parse(text);
    for (const auto& [name, value] : table) {
      const std::string key(name.str());
      const bool has_rules = key == "rules";
      if (!has_rules) read_key(key, value, parsed.config, lines, wrong);
      if (!has_rules) continue;
      ReadRules read = read_rules(value, [&](u32 line, std::string sentence) {
        parsed.mistakes.push_back({line, std::move(sentence)});
      });
      parsed.config.rules = std::move(read.rules);
      parsed.rule_lines = std::move(read.lines);
    }
  } catch (const toml::parse_error& mistake) {
    parsed.mistakes.push_back({static_cast<u32>(mistake.source().begin.line),
                               fmt::format("This is not TOML: {}.", mistake.description())});
    return parsed;
  }
  for (ConfigMistake& mistake : check_whole(parsed.config, lines))
    parsed.mistakes.push_back(mistake);
  std::sort(parsed.mistakes.begin(), parsed.mistakes.end(), [](const auto& a, const auto& b) {
    return std::tie(a.line, a.sentence) < std::tie(b.line, b.sentence);
  });
  return parsed;
}

ParsedConfig load_config(const std::string& path) {
  constexpr std::uintmax_t kBytesMax = 1 << 20;
  auto unreadable = [&](const std::string& why) {
    return ParsedConfig{
        Config{}, {{0, fmt::format("This cannot be read as a configuration: {}.", why)}}, {}};
  };
  std::error_code failure;
  if (!std::filesystem::exists(path, failure)) return unreadable("there is no such file");
  if (!std::filesystem::is_regular_file(path, failure)) return unreadable("it is not a plain file");
  if (std::filesystem::file_size(path, failure) > kBytesMax || failure)
    return unreadable("it is larger than a megabyte");
  std::ifstream file(path);
  if (!file) return unreadable(strerror(errno));
  return parse_config(std::string(std::istreambuf_iterator<char>(file), {}));
}

namespace {

std::string dotted(Ipv4 address) {
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, &address.be, text, sizeof text);
}

}  // namespace

Status add_forward(Config& config, const std::string& words) {
  Result<Forward> forward = forward_from_text(words);
  if (!forward) return forward.error();
  config.forwards.push_back(words_of(*forward));
  return Done{};
}

Result<Forwards> configured_forwards(const Config& config) {
  Forwards forwards;
  for (const std::string& words : config.forwards) {
    Result<Forward> forward = forward_from_text(words);
    if (!forward) return forward.error();
    forward->maker = ForwardMaker::config;
    if (Result<u16> place = add_forward(forwards, *forward); !place) return place.error();
  }
  return forwards;
}

std::string to_toml(const Config& config) {
  toml::table table;
  auto names = [](const std::vector<std::string>& from) {
    toml::array array;
    for (const std::string& name : from) array.push_back(name);
    return array;
  };
  if (!config.external.empty()) table.insert("external", names(config.external));
  if (!config.internal.empty()) table.insert("internal", names(config.internal));
  std::vector<std::string> addresses;
  for (Ipv4 address : config.external_addresses) addresses.push_back(dotted(address));
  if (!addresses.empty()) table.insert("external_addresses", names(addresses));
  if (!config.forwards.empty()) table.insert("forwards", names(config.forwards));
  table.insert("datapath", config.datapath);
  table.insert("ipv6", config.ipv6 == Ipv6Mode::block   ? "block"
                       : config.ipv6 == Ipv6Mode::leave ? "leave"
                                                        : "auto");
  const char* const modes[] = {"apdf", "adf", "eif"};
  table.insert("filtering", modes[config.filtering]);
  toml::table filtering_for;
  for (const FilteringFor& rule : config.filtering_for) {
    filtering_for.insert(network_text(rule.network, rule.length), modes[rule.filtering]);
  }
  if (!filtering_for.empty()) table.insert("filtering_for", filtering_for);
  toml::table port_blocks;
  for (const PortBlocksFor& each : config.port_blocks)
    port_blocks.insert(network_text(each.network, each.length), each.ports);
  if (!port_blocks.empty()) table.insert("port_blocks", port_blocks);
  if (config.flows_max != 0) table.insert("flows_max", config.flows_max);
  for (const HostLimit& limit : kHostLimits)
    if (config.*limit.asked) table.insert(limit.key, *(config.*limit.asked));
  if (config.external_ports)
    table.insert("external_ports",
                 fmt::format("{}-{}", config.external_ports->first, config.external_ports->last));
  table.insert("udp_refresh_inbound", config.udp_refresh_inbound);
  table.insert("take_over_streams", config.take_over_streams);
  table.insert("dead_address", config.reset_replaced ? kDeadReset : kDeadSilent);
  table.insert("udp_loose", static_cast<i32>(config.udp_loose));
  if (config.mss_clamp == kMssByMtu || config.mss_clamp == kMssLeft)
    table.insert("mss_clamp", config.mss_clamp == kMssLeft ? "off" : "auto");
  else
    table.insert("mss_clamp", config.mss_clamp);
  toml::table timeouts;
  for (const NumberKey& timeout : kTimeouts) timeouts.insert(timeout.key, config.*timeout.field);
  table.insert("timeouts", timeouts);
  std::ostringstream text;
  text << table << "\n";
  return text.str() + (config.rules ? "\n" + rules_to_toml(*config.rules) : "");
}

std::string rules_text(const Config& config) {
  return config.rules ? rules_to_toml(*config.rules) : "";
}

void set_host_limits(Settings& s, const Config& config) {
  u32 least = std::min(s.flows_max, kHostFlowsLeast);
  auto share = [&](u32 part) { return std::max(s.flows_max / part, least); };
  s.host_flows = config.host_flows.value_or(share(kHostFlowsPart));
  s.host_opening = config.host_opening.value_or(share(kHostOpeningPart));
  s.host_ports =
      config.host_ports.value_or(std::max(high_ports(s) / kHostPortsPart, kHostPortsLeast));
  s.host_new_per_s = config.host_new_per_s.value_or(kHostNewPerS);
  s.host_new_burst = config.host_new_burst.value_or(kHostNewBurst);
}

Result<Settings> settings_for(const Config& config) {
  Settings s{};
  if (getrandom(s.secret, sizeof s.secret, 0) != sizeof s.secret ||
      getrandom(&s.passed, sizeof s.passed, 0) != sizeof s.passed)
    return error("The kernel gives no random numbers ({}).", strerror(errno));
  s.tcp_established = ticks_of(config.tcp_established_s);
  s.tcp_opening = ticks_of(config.tcp_opening_s);
  s.tcp_closing = ticks_of(config.tcp_closing_s);
  s.udp = ticks_of(config.udp_s);
  s.dns = ticks_of(config.dns_s);
  s.icmp = ticks_of(config.icmp_s);
  // A record's line is written at most this often; a quarter of a second is exact enough for timers
  // that are given in seconds.
  s.refresh = ticks_from_ns(250000000);
  s.flows_max = config.flows_max != 0 ? config.flows_max : flows_for_memory();
  s.udp_refresh_inbound = config.udp_refresh_inbound;
  s.mss_clamp = config.mss_clamp;
  s.takes_streams = config.take_over_streams;
  s.resets_replaced = config.reset_replaced;
  s.block_ipv6 = config.ipv6 != Ipv6Mode::leave;
  set_filtering(s, config);
  if (Status status = set_pool(s, config); !status) return status.error();
  if (Status status = set_port_blocks(s, config); !status) return status.error();
  set_host_limits(s, config);
  return s;
}

}  // namespace masq
