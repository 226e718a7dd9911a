// `ipmasqadm user`: single entries of the table by hand. See ipmasqadm.h.
//
//   -a   makes one; it needs the inner endpoint (-S). Without -M the routing gives the external
//        address and the table a port; without -D it waits for whoever comes first (LISTEN).
//   -d, -s and -g   delete, set the time left, and print the one that fits what is given; they need
//        the inner or the external endpoint.
#include <fmt/format.h>

#include "compat/ipmasqadm.h"
#include "compat/naming.h"
#include "compat/option_reader.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr const char* kHelp =
    "usage: user -a -P tcp|udp [-M ADDRESS PORT] [-D ADDRESS PORT] -S ADDRESS PORT [-t SECONDS]\n"
    "       user -d|-g -P tcp|udp [-M ADDRESS PORT] [-D ADDRESS PORT] [-S ADDRESS PORT] [-n]\n"
    "       user -s -P tcp|udp [-M ADDRESS PORT] [-D ADDRESS PORT] [-S ADDRESS PORT] -t SECONDS\n";

constexpr u32 kTimeoutMost_s = 14 * 24 * 3600;  // kTimeoutMax_s of the clock

struct Endpoint {
  std::string address, port;
  bool given = false;
};

struct Asked {
  char action = 0;
  std::string protocol, timeout;
  Endpoint external, remote, inner;
  bool numeric = false;
};

std::string read_endpoint(const Endpoint& said, u8 protocol, const Names& names, Ipv4& address,
                          u16& port) {
  if (!said.given) return "";
  const std::optional<Ipv4> found = one_address(said.address, names);
  if (!found) return fmt::format("there is no address `{}'", said.address);
  address = *found;
  const bool is_zero = number_from(said.port, 0).has_value();
  const std::optional<u16> number = is_zero ? u16{0} : one_port(said.port, protocol, names);
  if (!number) return fmt::format("`{}' is no port from 0 to 65535", said.port);
  port = *number;
  return "";
}

std::string read_entry(const Asked& asked, const Names& names, MasqueradeEntry& entry,
                       u32& time_s) {
  const std::optional<u8> protocol = tcp_or_udp(asked.protocol);
  if (!protocol) return "the protocol (-P) must be tcp or udp";
  entry.protocol = *protocol;
  std::string problem =
      read_endpoint(asked.external, *protocol, names, entry.external, entry.external_port);
  if (problem.empty())
    problem = read_endpoint(asked.remote, *protocol, names, entry.remote, entry.remote_port);
  if (problem.empty())
    problem = read_endpoint(asked.inner, *protocol, names, entry.inner, entry.inner_port);
  if (!problem.empty() || asked.timeout.empty()) return problem;
  const std::optional<u32> time = number_from(asked.timeout, kTimeoutMost_s);
  if (!time || *time == 0)
    return fmt::format("`{}' is no number of seconds from 1 to {}", asked.timeout, kTimeoutMost_s);
  time_s = *time;
  return "";
}

std::string check_options(const Asked& asked) {
  if (asked.action == 0) return "say what to do: -a, -d, -s or -g";
  if (asked.action == 'a' && !asked.inner.given) return "`-a' needs the inner endpoint (-S)";
  if (asked.action != 'a' && !asked.inner.given && !asked.external.given)
    return fmt::format("`-{}' needs the inner endpoint (-S) or the external one (-M)",
                       asked.action);
  const bool may_time = asked.action == 'a' || asked.action == 's';
  if (!may_time && !asked.timeout.empty())
    return fmt::format("`-t' cannot stand with `-{}'", asked.action);
  if (asked.action == 's' && asked.timeout.empty()) return "`-s' needs a time (-t)";
  return "";
}

CommandResult carry_out(const Asked& asked, ForwardWorld& world) {
  MasqueradeEntry entry;
  u32 time_s = 0;
  std::string problem = check_options(asked);
  if (problem.empty()) problem = read_entry(asked, world.names(), entry, time_s);
  if (problem.empty() && asked.action == 'a' && entry.inner_port == 0)
    problem = "the inner endpoint (-S) needs a port";
  if (!problem.empty()) return wrong_usage("user", problem);
  Status status = Done{};
  if (asked.action == 'g') {
    Result<MasqueradeEntry> found = world.find_entry(entry);
    if (!found) return not_done("user", found.error().sentence);
    return {0, masquerade_listing({*found}, asked.numeric ? nullptr : &world.names(), false), ""};
  }
  if (asked.action == 'a') {
    entry.expires_hundredths = time_s * 100;
    entry.state = !asked.remote.given              ? MasqueradeState::LISTEN
                  : entry.protocol == kProtocolUdp ? MasqueradeState::UDP
                                                   : MasqueradeState::NONE;
    status = world.make_entry(entry);
  }
  if (asked.action == 'd') status = world.remove_entry(entry);
  if (asked.action == 's') status = world.set_entry_timeout(entry, time_s);
  if (!status) return not_done("user", status.error().sentence);
  return {};
}

void take_endpoint(OptionReader& options, Endpoint& endpoint, char letter) {
  const std::optional<std::string> port = options.another(true);
  if (endpoint.given) options.refuse(fmt::format("`-{}' is there twice", letter));
  if (!port) options.refuse(fmt::format("`-{}' needs an address and a port", letter));
  endpoint = {options.value(), port.value_or(""), true};
}

void take(OptionReader& options, Asked& asked, char letter) {
  switch (letter) {
    case 'n':
      asked.numeric = true;
      return;
    case 'P':
    case 't': {
      std::string& value = letter == 'P' ? asked.protocol : asked.timeout;
      if (!value.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
      if (options.value().empty()) options.refuse(fmt::format("`-{}' has an empty value", letter));
      value = options.value();
      return;
    }
    case 'M':
      return take_endpoint(options, asked.external, letter);
    case 'D':
      return take_endpoint(options, asked.remote, letter);
    case 'S':
      return take_endpoint(options, asked.inner, letter);
    default:
      if (asked.action != 0 && asked.action != letter)
        options.refuse("only one of -a, -d, -s and -g can be done at once");
      asked.action = letter;
  }
}

}  // namespace

CommandResult run_user(const std::vector<std::string>& words, ForwardWorld& world) {
  OptionReader options(words, "adsgnhP:M:D:S:t:");
  Asked asked;
  while (const char letter = options.next()) {
    if (letter == 'h') return help(kHelp);
    take(options, asked, letter);
  }
  if (!options.problem().empty()) return wrong_usage("user", options.problem());
  return carry_out(asked, world);
}

}  // namespace masq
