// One table, and what follows from it.
#include "compat/old_switches.h"

#include <algorithm>
#include <charconv>

namespace masq {
namespace {

constexpr u32 kAny = 0x7fffffff;
constexpr auto kGateway = SwitchUse::gateway;
constexpr auto kMachine = SwitchUse::machine;
constexpr auto kSettled = SwitchUse::settled;

constexpr KnownSwitch kSwitches[] = {
    {"net/ipv4/ip_forward", kGateway, 1, 0, 1, "0", "nothing passes the gateway until it is 1"},
    {"net/ipv4/ip_dynaddr", kGateway, 1, 0, 7, "0",
     "flows that nobody has answered follow the external address when it changes"},
    {"net/ipv4/ip_masq_udp_dloose", kGateway, 1, 0, 2, "0",
     "who outside may answer to a UDP mapping: 0 who was asked, 1 everybody if the inner port is "
     "1024 or above, 2 everybody"},
    {"net/ipv4/ip_masq_debug", kGateway, 1, 0, 9, "0", "how much is said about translation"},
    {"net/ipv4/ip_always_defrag", kSettled, 1, 0, kAny, "0",
     "masq always treats the fragments of a datagram together"},
    {"net/ipv4/icmp_destunreach_rate", kSettled, 1, 0, kAny, "100",
     "masq limits its ICMP errors by itself"},
    {"net/ipv4/icmp_timeexceed_rate", kSettled, 1, 0, kAny, "100",
     "masq limits its ICMP errors by itself"},
    {"net/ipv4/icmp_paramprob_rate", kSettled, 1, 0, kAny, "100",
     "masq limits its ICMP errors by itself"},
    {"net/ipv4/icmp_echoreply_rate", kSettled, 1, 0, kAny, "0",
     "the kernel of today limits its answers by icmp_ratelimit"},
    {"net/ipv4/tcp_syncookies", kMachine, 1, 0, 2, nullptr,
     "the gateway's own ports survive a flood of SYN segments"},
    {"net/ipv4/icmp_echo_ignore_all", kMachine, 1, 0, 1, nullptr,
     "the gateway itself answers no ping"},
    {"net/ipv4/icmp_echo_ignore_broadcasts", kMachine, 1, 0, 1, nullptr,
     "the gateway itself answers no ping to a broadcast address"},
    {"net/ipv4/icmp_ignore_bogus_error_responses", kMachine, 1, 0, 1, nullptr,
     "the kernel does not log ICMP errors that cannot be"},
    {"net/ipv4/ip_default_ttl", kMachine, 1, 1, 255, nullptr,
     "the time to live of what the gateway itself sends"},
    {"net/ipv4/ip_no_pmtu_disc", kMachine, 1, 0, 3, nullptr,
     "the gateway's own connections do not discover the path MTU"},
    {"net/ipv4/ip_local_port_range", kMachine, 2, 1, 65535, nullptr,
     "the ports of the gateway's own connections"},
    {"net/ipv4/ipfrag_high_thresh", kMachine, 1, 0, kAny, nullptr,
     "the kernel's memory for fragments"},
    {"net/ipv4/ipfrag_low_thresh", kMachine, 1, 0, kAny, nullptr,
     "the kernel's memory for fragments"},
    {"net/ipv4/ipfrag_time", kMachine, 1, 0, kAny, nullptr, "how long the kernel keeps fragments"},
    {"net/ipv4/tcp_fin_timeout", kMachine, 1, 0, kAny, nullptr,
     "how long the gateway's own connections wait for their end"},
    {"net/ipv4/tcp_keepalive_time", kMachine, 1, 1, kAny, nullptr,
     "when the gateway's own idle connections are tried"},
    {"net/ipv4/tcp_window_scaling", kMachine, 1, 0, 1, nullptr,
     "large windows of the gateway's own connections"},
    {"net/ipv4/tcp_sack", kMachine, 1, 0, 1, nullptr,
     "selective acknowledgements of the gateway's own connections"},
    {"net/ipv4/tcp_timestamps", kMachine, 1, 0, 2, nullptr,
     "timestamps of the gateway's own connections"},
    {"net/ipv4/tcp_max_syn_backlog", kMachine, 1, 0, kAny, nullptr,
     "how many of the gateway's own connections may be opening"},
    {"net/ipv4/conf/*/forwarding", kSettled, 1, 0, 1, nullptr,
     "masq forwards by itself, between its own interfaces only"},
    {"net/ipv4/conf/*/rp_filter", kMachine, 1, 0, 2, nullptr,
     "the kernel's check that a source is reached where it came from; masq has its own"},
    {"net/ipv4/conf/*/accept_source_route", kMachine, 1, 0, 1, nullptr,
     "packets that name their own way; masq refuses them"},
    {"net/ipv4/conf/*/accept_redirects", kMachine, 1, 0, 1, nullptr,
     "whether the gateway itself follows redirects"},
    {"net/ipv4/conf/*/secure_redirects", kMachine, 1, 0, 1, nullptr,
     "whether the gateway itself follows redirects of its routers only"},
    {"net/ipv4/conf/*/send_redirects", kMachine, 1, 0, 1, nullptr,
     "whether the kernel sends redirects; masq sends none"},
    {"net/ipv4/conf/*/log_martians", kMachine, 1, 0, 1, nullptr,
     "whether the kernel logs packets with impossible addresses"},
    {"net/ipv4/conf/*/proxy_arp", kMachine, 1, 0, 1, nullptr,
     "whether the kernel answers ARP for others"},
    {"net/ipv4/conf/*/bootp_relay", kMachine, 1, 0, 1, nullptr,
     "packets from addresses that begin with 0"},
    {"net/ipv4/conf/*/shared_media", kMachine, 1, 0, 1, nullptr,
     "whether redirects between networks on one medium are sent and taken"},
};

bool fits(const std::string& pattern, const std::string& name) {
  std::size_t star = pattern.find('*');
  if (star == std::string::npos) return pattern == name;
  std::string before = pattern.substr(0, star), after = pattern.substr(star + 1);
  return name.size() > before.size() + after.size() && name.starts_with(before) &&
         name.ends_with(after) && name.find('/', before.size()) == name.size() - after.size();
}

}  // namespace

const KnownSwitch* find_switch(const std::string& name) {
  for (const KnownSwitch& known : kSwitches)
    if (fits(known.name, name)) return &known;
  return nullptr;
}

std::vector<const KnownSwitch*> switches_with_own_value() {
  std::vector<const KnownSwitch*> own;
  for (const KnownSwitch& known : kSwitches)
    if (known.at_first != nullptr) own.push_back(&known);
  return own;
}

std::string plain_value(const std::string& text) {
  std::string last;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line;
    bool gap = false;
    for (char each : text.substr(at, end - at)) {
      bool blank = each == ' ' || each == '\t' || each == '\r' || each == '\0';
      if (!blank && gap && !line.empty()) line += ' ';
      if (!blank) line += each;
      gap = blank;
    }
    if (!line.empty()) last = line;
    at = end + 1;
  }
  return last;
}

Result<std::string> accepted_value(const KnownSwitch& known, const std::string& written) {
  std::string value = plain_value(written);
  u32 numbers = 0;
  bool good = true;
  for (std::size_t at = 0; at < value.size(); ++numbers) {
    std::size_t end = std::min(value.find(' ', at), value.size());
    u32 number = 0;
    auto [stop, fault] = std::from_chars(value.data() + at, value.data() + end, number);
    good = good && fault == std::errc() && stop == value.data() + end && number >= known.least &&
           number <= known.most;
    at = end + 1;
  }
  if (good && numbers == known.numbers) return value;
  const char* name = known.name;
  if (known.numbers > 1)
    return error("{} takes {} numbers from {} to {}, and not `{}`.", name, known.numbers,
                 known.least, known.most, value);
  return error("{} takes a number from {} to {}, and not `{}`.", name, known.least, known.most,
               value);
}

}  // namespace masq
