// `ipmasqadm portfw` and its elder `ipportfw`: one port of one address leads to inner hosts, which
// take turns by preference. See ipmasqadm.h.
#include <fmt/format.h>

#include <algorithm>

#include "compat/ipmasqadm.h"
#include "compat/naming.h"
#include "compat/option_reader.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr const char* kHelp =
    "usage: portfw -a -P tcp|udp -L ADDRESS PORT -R ADDRESS PORT [-p PREFERENCE]\n"
    "       portfw -d -P tcp|udp -L ADDRESS PORT [-R ADDRESS PORT]\n"
    "       portfw -f\n"
    "       portfw -l [-n]\n";
constexpr const char* kIpportfwHelp =
    "usage: ipportfw -A -t|-u ADDRESS/PORT -R ADDRESS/PORT\n"
    "       ipportfw -D -t|-u ADDRESS/PORT\n"
    "       ipportfw -C\n"
    "       ipportfw -L\n";

constexpr std::size_t kProcLine = 64;

// One line of what the command has made.
struct Line {
  u8 protocol = 0;
  Ipv4 local{};
  u16 local_port = 0;
  ForwardTo to;
  u16 left = 0;
};

// As they stand on the command line, before the protocol is known.
struct Endpoint {
  std::string address, port;
  bool given = false;
};

bool is_ours(const Forward& f) {
  return f.maker == ForwardMaker::portfw;
}

u8 protocol_of(const Forward& f) {
  return f.protocol == ForwardProtocol::udp ? kProtocolUdp : kProtocolTcp;
}

std::vector<Line> lines_of(const Forwards& forwards) {
  std::vector<Line> lines;
  for (const Forward& f : forwards.list)
    for (std::size_t i = 0; is_ours(f) && i < f.targets.size(); ++i) {
      const u16 left = i == 0 && f.left != 0 ? f.left : f.targets[i].preference;
      lines.push_back({protocol_of(f), f.external, f.first, f.targets[i], left});
    }
  return lines;
}

bool same_target(const ForwardTo& a, const ForwardTo& b) {
  return same(a.address, b.address) && a.port == b.port;
}

// A new target goes before all others; one that is there gets the preference.
void put_target(Forward& f, const ForwardTo& to) {
  const auto known = std::find_if(f.targets.begin(), f.targets.end(),
                                  [&](const ForwardTo& at) { return same_target(at, to); });
  if (known == f.targets.end()) {
    f.targets.insert(f.targets.begin(), to);
    f.left = 0;
    return;
  }
  known->preference = to.preference;
  if (known == f.targets.begin()) f.left = 0;
}

Status add_line(Forwards& forwards, const Line& line) {
  for (Forward& f : forwards.list) {
    if (!is_ours(f) || protocol_of(f) != line.protocol || !same(f.external, line.local) ||
        f.first != line.local_port)
      continue;
    put_target(f, line.to);
    return Done{};
  }
  Forward f;
  f.maker = ForwardMaker::portfw;
  f.protocol = line.protocol == kProtocolUdp ? ForwardProtocol::udp : ForwardProtocol::tcp;
  f.external = line.local;
  f.first = f.last = line.local_port;
  f.targets = {line.to};
  Result<u16> place = add_forward(forwards, f, true);
  if (!place) return place.error();
  return Done{};
}

// `any_target`: whoever it leads to.
Status delete_lines(Forwards& forwards, const Line& line, bool any_target) {
  std::size_t deleted = 0;
  for (Forward& f : forwards.list) {
    if (!is_ours(f) || protocol_of(f) != line.protocol || f.first != line.local_port ||
        !(same(line.local, kAnyExternal) || same(f.external, line.local)))
      continue;
    const bool serves = !f.targets.empty() && same_target(f.targets[0], line.to);
    const auto gone = std::erase_if(
        f.targets, [&](const ForwardTo& to) { return any_target || same_target(to, line.to); });
    if (gone != 0 && serves) f.left = 0;
    deleted += gone;
  }
  if (deleted == 0)
    return error("There is no such forward of {} {}:{}.",
                 line.protocol == kProtocolUdp ? "udp" : "tcp", address_text(line.local),
                 line.local_port);
  std::erase_if(forwards.list, [](const Forward& f) { return is_ours(f) && f.targets.empty(); });
  return Done{};
}

CommandResult listing(ForwardWorld& world, const std::string& command, bool with_names) {
  Result<Forwards> forwards = world.load_forwards();
  if (!forwards) return not_done(command, forwards.error().sentence);
  std::string text = fmt::format("{:<4} {:<20} {:<20} {:>8} {:>8} {:>5} {:>5}\n", "prot",
                                 "localaddr", "rediraddr", "lport", "rport", "pcnt", "pref");
  const Names* names = with_names ? &world.names() : nullptr;
  for (const Line& line : lines_of(*forwards))
    text += fmt::format(
        "{:<4} {:<20} {:<20} {:>8} {:>8} {:>5} {:>5}\n",
        line.protocol == kProtocolUdp ? "UDP" : "TCP", host_text(line.local, names),
        host_text(line.to.address, names), service_text(line.local_port, line.protocol, names),
        service_text(line.to.port, line.protocol, names), line.left, line.to.preference);
  return {0, text, ""};
}

CommandResult flush(ForwardWorld& world, const std::string& command) {
  return change_forwards(command, world, [](Forwards& forwards) -> Status {
    std::erase_if(forwards.list, is_ours);
    return Done{};
  });
}

// What a command line has said.
struct Asked {
  std::string command;  // its name, for messages
  char action = 0;      // a, d, f, l or h
  std::string protocol;
  Endpoint local, to;
  std::string preference;
  bool numeric = false;
};

// What is wrong with the options of an action that names forwards; empty: nothing.
std::string read_line(const Asked& asked, const Names& names, Line& line) {
  const std::optional<u8> protocol = tcp_or_udp(asked.protocol);
  if (!protocol) return "the protocol (-P) must be tcp or udp";
  line.protocol = *protocol;
  if (!asked.local.given) return "the address and port here (-L) are missing";
  const std::optional<Ipv4> local = one_address(asked.local.address, names);
  if (!local) return fmt::format("there is no address `{}'", asked.local.address);
  line.local = *local;
  const std::optional<u16> port = one_port(asked.local.port, line.protocol, names);
  if (!port || *port > kPortfwLast)
    return fmt::format("`{}' is no port from 1 to {}", asked.local.port, kPortfwLast);
  line.local_port = *port;
  if (!asked.to.given)
    return asked.action == 'a' ? "the address and port there (-R) are missing" : "";
  const std::optional<Ipv4> to = one_address(asked.to.address, names);
  if (!to) return fmt::format("there is no address `{}'", asked.to.address);
  const std::optional<u16> to_port = one_port(asked.to.port, line.protocol, names);
  if (!to_port) return fmt::format("`{}' is no port from 1 to 65535", asked.to.port);
  line.to = {*to, *to_port, kPreferenceUsual};
  if (asked.preference.empty()) return "";
  const std::optional<u32> preference = number_from(asked.preference, kPreferenceMax);
  if (!preference || *preference == 0)
    return fmt::format("`{}' is no preference from 1 to {}", asked.preference, kPreferenceMax);
  line.to.preference = static_cast<u16>(*preference);
  return "";
}

CommandResult carry_out(const Asked& asked, ForwardWorld& world) {
  const std::string& command = asked.command;
  const bool names_some = asked.action == 'a' || asked.action == 'd';
  const bool says_more = !asked.protocol.empty() || asked.local.given || asked.to.given ||
                         !asked.preference.empty() || (asked.numeric && asked.action == 'f');
  if (asked.action == 0) return wrong_usage(command, "say what to do: add, delete, flush or list");
  if (!names_some && says_more)
    return wrong_usage(command, "flushing and listing take no other options");
  if (asked.action == 'f') return flush(world, command);
  if (asked.action == 'l') return listing(world, command, !asked.numeric);
  if (asked.action == 'd' && !asked.preference.empty())
    return wrong_usage(command, "a preference (-p) is only for adding");
  Line line;
  const std::string problem = read_line(asked, world.names(), line);
  if (!problem.empty()) return wrong_usage(command, problem);
  return change_forwards(command, world, [&](Forwards& forwards) -> Status {
    if (asked.action == 'a') return add_line(forwards, line);
    return delete_lines(forwards, line, !asked.to.given);
  });
}

// One action only; a second one is refused.
void take_action(OptionReader& options, Asked& asked, char action) {
  if (asked.action != 0 && asked.action != action)
    options.refuse("only one of adding, deleting, flushing and listing can be done at once");
  asked.action = action;
}

void take_endpoint(OptionReader& options, Endpoint& endpoint, char letter) {
  const std::optional<std::string> port = options.another(true);
  if (endpoint.given) options.refuse(fmt::format("`-{}' is there twice", letter));
  if (!port) options.refuse(fmt::format("`-{}' needs an address and a port", letter));
  endpoint = {options.value(), port.value_or(""), true};
}

void take_once(OptionReader& options, std::string& value, char letter) {
  if (!value.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
  if (options.value().empty()) options.refuse(fmt::format("`-{}' has an empty value", letter));
  value = options.value();
}

// "ADDRESS/PORT" of ipportfw.
void take_joined(OptionReader& options, Endpoint& endpoint, char letter) {
  const std::size_t slash = options.value().find('/');
  if (endpoint.given) options.refuse("an endpoint is there twice");
  if (slash == std::string::npos)
    options.refuse(fmt::format("`-{}' needs ADDRESS/PORT", letter));
  else
    endpoint = {options.value().substr(0, slash), options.value().substr(slash + 1), true};
}

}  // namespace

CommandResult run_portfw(const std::vector<std::string>& words, ForwardWorld& world) {
  OptionReader options(words, "adflnhP:L:R:p:");
  Asked asked;
  asked.command = "portfw";
  while (const char letter = options.next()) {
    switch (letter) {
      case 'h':
        return help(kHelp);
      case 'n':
        asked.numeric = true;
        break;
      case 'P':
        take_once(options, asked.protocol, letter);
        break;
      case 'L':
        take_endpoint(options, asked.local, letter);
        break;
      case 'R':
        take_endpoint(options, asked.to, letter);
        break;
      case 'p':
        take_once(options, asked.preference, letter);
        break;
      default:
        take_action(options, asked, letter);
    }
  }
  if (!options.problem().empty()) return wrong_usage(asked.command, options.problem());
  return carry_out(asked, world);
}

CommandResult run_ipportfw(const std::vector<std::string>& words, ForwardWorld& world) {
  OptionReader options(words, "ADCLht:u:R:");
  Asked asked;
  asked.command = "ipportfw";
  while (const char letter = options.next()) {
    switch (letter) {
      case 'h':
        return help(kIpportfwHelp);
      case 't':
      case 'u':
        take_joined(options, asked.local, letter);
        asked.protocol = letter == 't' ? "tcp" : "udp";
        break;
      case 'R':
        take_joined(options, asked.to, letter);
        break;
      default:
        take_action(options, asked,
                    letter == 'A'   ? 'a'
                    : letter == 'D' ? 'd'
                    : letter == 'C' ? 'f'
                                    : 'l');
    }
  }
  if (!options.problem().empty()) return wrong_usage(asked.command, options.problem());
  return carry_out(asked, world);
}

std::string proc_portfw(const Forwards& forwards) {
  std::string text = proc_line("Prot LAddr    LPort > RAddr    RPort PrCnt  Pref", kProcLine);
  for (const Line& line : lines_of(forwards))
    text += proc_line(fmt::format("{:<4} {:08X} {:5} > {:08X} {:5} {:5} {:5}",
                                  line.protocol == kProtocolUdp ? "UDP" : "TCP",
                                  to_host(line.local), line.local_port, to_host(line.to.address),
                                  line.to.port, line.left, line.to.preference),
                      kProcLine);
  return text;
}

}  // namespace masq
