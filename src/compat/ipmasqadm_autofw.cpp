// `ipmasqadm autofw`: ranges of ports that lead to a host, or to whoever has used a control port.
// See ipmasqadm.h.
//
//   -r TYPE LOW HIGH with -h HOST    a plain forward of any external address, from everywhere
//   -r TYPE LOW HIGH with -c ...     a triggered one: 15 s, or with -u until another host asks
//   -d TYPE LOW HIGH                 source ports are kept towards these ports
//   -p TYPE VISIBLE HOST:HIDDEN      a plain forward of one port
//
// /proc/net/ip_masq/autofw has numbers for these: type 1 for -r, 2 for -p, 3 for -d; flags 1 while
// it is in force, 2 if the time counts, 4 if only the contacted outside address may use it. Who has
// asked last, and when, is the packet path's and not shown: 0.
#include <fmt/format.h>

#include <algorithm>

#include "compat/ipmasqadm.h"
#include "compat/naming.h"
#include "compat/option_reader.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr const char* kUsage =
    "usage: autofw -A|-D -r tcp|udp LOW HIGH -h HOST | -A|-D -r tcp|udp LOW HIGH -c tcp|udp PORT "
    "[-u] | -A|-D -d tcp|udp LOW HIGH | -A|-D -p tcp|udp VISIBLE HOST:HIDDEN | -F";

constexpr std::size_t kProcLine = 128;
constexpr u32 kTypeRange = 1, kTypePort = 2, kTypeDirect = 3;
constexpr u32 kFlagActive = 1, kFlagTime = 2, kFlagSecure = 4;

struct Asked {
  char action = 0;                // A, D or F
  char form = 0;                  // r, d or p
  std::vector<std::string> what;  // its three words
  std::string host;
  std::vector<std::string> control;
  bool no_limit = false, insecure = false, verbose = false;
};

bool is_ours(const Forward& f) {
  return f.maker == ForwardMaker::autofw;
}

ForwardProtocol forward_protocol(u8 protocol) {
  return protocol == kProtocolUdp ? ForwardProtocol::udp : ForwardProtocol::tcp;
}

// Takes the words of an option that has more than one.
void take_words(OptionReader& options, std::vector<std::string>& words, std::size_t count,
                char letter) {
  if (!words.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
  words = {options.value()};
  while (words.size() < count) {
    const std::optional<std::string> more = options.another();
    if (!more) options.refuse(fmt::format("`-{}' needs {} words", letter, count));
    words.push_back(more.value_or(""));
  }
}

void take(OptionReader& options, Asked& asked, char letter) {
  switch (letter) {
    case 'r':
    case 'd':
    case 'p':
      if (asked.form != 0) options.refuse("only one of -r, -d and -p can be there");
      asked.form = letter;
      asked.what.clear();
      return take_words(options, asked.what, 3, letter);
    case 'h':
      if (!asked.host.empty()) options.refuse("`-h' is there twice");
      if (options.value().empty()) options.refuse("`-h' has an empty value");
      asked.host = options.value();
      return;
    case 'c':
      return take_words(options, asked.control, 2, letter);
    case 'u':
      asked.no_limit = true;
      return;
    case 'i':
      asked.insecure = true;
      return;
    case 'v':
      asked.verbose = true;
      return;
    default:
      if (asked.action != 0 && asked.action != letter)
        options.refuse("only one of -A, -D and -F can be done at once");
      asked.action = letter;
  }
}

std::string no_port(const std::string& word) {
  return fmt::format("`{}' is no port from 1 to 65535", word);
}

std::string read_range(const Asked& asked, const Names& names, Forward& f) {
  const std::optional<u8> protocol = tcp_or_udp(asked.what[0]);
  if (!protocol) return fmt::format("`{}' is neither tcp nor udp", asked.what[0]);
  f.protocol = forward_protocol(*protocol);
  const std::optional<u16> low = one_port(asked.what[1], *protocol, names);
  if (!low) return no_port(asked.what[1]);
  f.first = f.last = *low;
  if (asked.form == 'p') return "";
  const std::optional<u16> high = one_port(asked.what[2], *protocol, names);
  if (!high) return no_port(asked.what[2]);
  if (*high < *low) return fmt::format("the ports {} to {} are no range", *low, *high);
  f.last = *high;
  return "";
}

std::string read_host(const std::string& word, const Names& names, Forward& f) {
  const std::optional<Ipv4> host = one_address(word, names);
  if (!host) return fmt::format("there is no address `{}'", word);
  f.targets = {{*host, 0, kPreferenceUsual}};
  return "";
}

// -p: VISIBLE was read as the range.
std::string read_hidden(const Asked& asked, const Names& names, Forward& f) {
  const std::string& word = asked.what[2];
  const std::size_t colon = word.find(':');
  if (colon == std::string::npos) return fmt::format("`{}' is not HOST:PORT", word);
  if (std::string problem = read_host(word.substr(0, colon), names, f); !problem.empty())
    return problem;
  const u8 protocol = f.protocol == ForwardProtocol::udp ? kProtocolUdp : kProtocolTcp;
  const std::optional<u16> port = one_port(word.substr(colon + 1), protocol, names);
  if (!port) return no_port(word.substr(colon + 1));
  f.targets[0].port = *port;
  return "";
}

std::string read_control(const Asked& asked, const Names& names, Forward& f) {
  const std::optional<u8> protocol = tcp_or_udp(asked.control[0]);
  if (!protocol) return fmt::format("`{}' is neither tcp nor udp", asked.control[0]);
  const std::optional<u16> port = one_port(asked.control[1], *protocol, names);
  if (!port) return no_port(asked.control[1]);
  f.kind = ForwardKind::triggered;
  f.control_protocol = forward_protocol(*protocol);
  f.control_port = *port;
  f.window_s = asked.no_limit ? u16{0} : kWindowUsual_s;
  return "";
}

std::string read_forward(const Asked& asked, const Names& names, Forward& f) {
  f.maker = ForwardMaker::autofw;
  if (std::string problem = read_range(asked, names, f); !problem.empty()) return problem;
  const bool controlled = !asked.control.empty();
  if (asked.form != 'r') {
    if (controlled || !asked.host.empty() || asked.no_limit || asked.insecure)
      return fmt::format("-h, -c, -u and -i belong to -r, not to -{}", asked.form);
    if (asked.form == 'p') return read_hidden(asked, names, f);
    f.kind = ForwardKind::keeps_port;
    return "";
  }
  if (controlled && asked.insecure) return "-i cannot stand with -c";
  if (controlled && !asked.host.empty())
    return "-h names the host that -c is to find; only one of them can be there";
  if (controlled) return read_control(asked, names, f);
  if (asked.host.empty())
    return "-r needs a host (-h) or a control port (-c), else it would lead nowhere";
  return read_host(asked.host, names, f);
}

bool same_but_place(const Forward& a, Forward b) {
  b.place = a.place;
  return a.same_forward(b);
}

CommandResult carry_out(const Asked& asked, ForwardWorld& world) {
  if (asked.action == 0) return wrong_usage("autofw", "say what to do: -A, -D or -F");
  if (asked.action == 'F') {
    if (asked.form != 0 || !asked.host.empty() || !asked.control.empty() || asked.no_limit ||
        asked.insecure)
      return wrong_usage("autofw", "-F takes no other options");
    return change_forwards("autofw", world, [](Forwards& forwards) -> Status {
      std::erase_if(forwards.list, is_ours);
      return Done{};
    });
  }
  if (asked.form == 0) return wrong_usage("autofw", "name the ports by -r, -d or -p");
  Forward f;
  if (std::string problem = read_forward(asked, world.names(), f); !problem.empty())
    return wrong_usage("autofw", problem);
  CommandResult done = change_forwards("autofw", world, [&](Forwards& forwards) -> Status {
    if (asked.action == 'A') {
      Result<u16> place = add_forward(forwards, f);
      if (!place) return place.error();
      return Done{};
    }
    const auto gone = std::erase_if(forwards.list,
                                    [&](const Forward& other) { return same_but_place(other, f); });
    if (gone == 0) return error("There is no such forward: {}.", to_text(f));
    return Done{};
  });
  if (done.exit_code == 0 && asked.verbose)
    done.out = fmt::format("{}: {}\n", asked.action == 'A' ? "added" : "deleted", to_text(f));
  return done;
}

std::string proc_row(const Forward& f) {
  const bool is_triggered = f.kind == ForwardKind::triggered;
  const bool is_direct = f.kind == ForwardKind::keeps_port;
  const u32 hidden = f.targets.empty() ? 0 : f.targets[0].port;
  const u32 type = is_direct ? kTypeDirect : hidden != 0 ? kTypePort : kTypeRange;
  const u32 flags = kFlagActive | (is_triggered && f.window_s != 0 ? kFlagTime : 0) |
                    (is_triggered && !f.any_outside ? kFlagSecure : 0);
  const auto number = [](ForwardProtocol p) { return p == ForwardProtocol::udp ? 17u : 6u; };
  return fmt::format(
      "{:4X} {:4X} {:04X} {:04X} {:04X} {:04X} {:08X} {:08X} {:04X} {:04X} {:5X} {:5X}", type,
      number(f.protocol), f.first, f.last, type == kTypePort ? f.first : u16{0}, hidden,
      f.targets.empty() ? 0u : to_host(f.targets[0].address), 0u,
      is_triggered ? number(f.control_protocol) : 0u, f.control_port, 0u, flags);
}

}  // namespace

CommandResult run_autofw(const std::vector<std::string>& words, ForwardWorld& world) {
  if (words.empty()) return {2, "", fmt::format("autofw: {}\n", kUsage)};
  OptionReader options(words, "ADFuivr:d:p:h:c:");
  Asked asked;
  while (const char letter = options.next()) take(options, asked, letter);
  if (!options.problem().empty()) return wrong_usage("autofw", options.problem());
  return carry_out(asked, world);
}

std::string proc_autofw(const Forwards& forwards) {
  std::string text =
      proc_line("Type Prot Low  High Vis  Hid  Where    Last     CPto CPrt Timer Flags", kProcLine);
  for (const Forward& f : forwards.list)
    if (is_ours(f)) text += proc_line(proc_row(f), kProcLine);
  return text;
}

}  // namespace masq
