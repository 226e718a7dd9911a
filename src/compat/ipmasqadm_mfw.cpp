// `ipmasqadm mfw`: new connections that the rules have marked lead to inner hosts, which take turns
// by preference. See ipmasqadm.h. A preference of 0 keeps its host in front until -S.
#include <fmt/format.h>

#include <algorithm>

#include "compat/ipmasqadm.h"
#include "compat/naming.h"
#include "compat/option_reader.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr const char* kHelp =
    "usage: mfw -A|-I -m MARK -r ADDRESS [PORT] [-p PREFERENCE]\n"
    "       mfw -D -m MARK [-r ADDRESS [PORT]]\n"
    "       mfw -E -m MARK [-r ADDRESS [PORT]] -p PREFERENCE\n"
    "       mfw -S -m MARK\n"
    "       mfw -F\n"
    "       mfw -L [-n]\n";

constexpr std::size_t kProcLine = 64;

struct Asked {
  char action = 0;  // A, I, D, E, S, F or L
  std::string mark, address, port, preference;
  bool numeric = false;
};

// The same, read.
struct Change {
  char action = 0;
  u32 mark = 0;
  std::optional<Ipv4> address;
  u16 port = 0;
  u16 preference = kPreferenceUsual;
};

bool is_ours(const Forward& f) {
  return f.maker == ForwardMaker::mfw;
}

bool fits(const Change& change, const ForwardTo& to) {
  return !change.address || (same(to.address, *change.address) && to.port == change.port);
}

Status add_target(Forwards& forwards, const Change& change) {
  const ForwardTo to{*change.address, change.port, change.preference};
  for (Forward& f : forwards.list) {
    if (!is_ours(f) || f.mark != change.mark) continue;
    const bool in_front = change.action == 'I';
    f.targets.insert(in_front ? f.targets.begin() : f.targets.end(), to);
    if (in_front) f.left = 0;
    return Done{};
  }
  Forward f;
  f.maker = ForwardMaker::mfw;
  f.kind = ForwardKind::marked;
  f.mark = change.mark;
  f.targets = {to};
  Result<u16> place = add_forward(forwards, f);
  if (!place) return place.error();
  return Done{};
}

// -D, -E and -S: what is there already.
std::size_t change_targets(Forward& f, const Change& change) {
  if (change.action == 'S') {
    std::rotate(f.targets.begin(), f.targets.begin() + 1, f.targets.end());
    f.left = 0;
    return 1;
  }
  if (fits(change, f.targets[0])) f.left = 0;
  const auto those = [&](const ForwardTo& to) { return fits(change, to); };
  if (change.action == 'D') return std::erase_if(f.targets, those);
  std::size_t changed = 0;
  for (ForwardTo& to : f.targets) {
    if (!those(to)) continue;
    to.preference = change.preference;
    changed += 1;
  }
  return changed;
}

Status change_known(Forwards& forwards, const Change& change) {
  std::size_t changed = 0;
  for (Forward& f : forwards.list)
    if (is_ours(f) && f.mark == change.mark) changed += change_targets(f, change);
  if (changed == 0) return error("There is no such forward of mark {}.", change.mark);
  std::erase_if(forwards.list, [](const Forward& f) { return is_ours(f) && f.targets.empty(); });
  return Done{};
}

CommandResult listing(ForwardWorld& world, bool numeric) {
  Result<Forwards> forwards = world.load_forwards();
  if (!forwards) return not_done("mfw", forwards.error().sentence);
  const Names* names = numeric ? nullptr : &world.names();
  std::string text = fmt::format("{:>8} {:<20} {:>8} {:>5} {:>5}\n", "fwmark", "rediraddr", "rport",
                                 "pcnt", "pref");
  for (const Forward& f : forwards->list)
    for (std::size_t i = 0; is_ours(f) && i < f.targets.size(); ++i) {
      const ForwardTo& to = f.targets[i];
      text += fmt::format("{:>8} {:<20} {:>8} {:>5} {:>5}\n", f.mark, host_text(to.address, names),
                          service_text(to.port, kProtocolTcp, names),
                          i == 0 && f.left != 0 ? f.left : to.preference, to.preference);
    }
  return {0, text, ""};
}

// Which options an action must have, and which it may have, as letters.
struct Needs {
  char action;
  const char *must, *may;
};
constexpr Needs kNeeds[] = {{'A', "mr", "mrp"}, {'I', "mr", "mrp"}, {'D', "m", "mr"},
                            {'E', "mp", "mrp"}, {'S', "m", "m"},    {'F', "", ""},
                            {'L', "", "n"}};

std::string check_options(const Asked& asked) {
  const std::string_view given[] = {asked.mark.empty() ? "" : "m", asked.address.empty() ? "" : "r",
                                    asked.preference.empty() ? "" : "p", asked.numeric ? "n" : ""};
  for (const Needs& needs : kNeeds) {
    if (needs.action != asked.action) continue;
    std::string all;
    for (std::string_view letter : given) all += letter;
    for (const char* at = needs.must; *at != 0; ++at)
      if (all.find(*at) == std::string::npos)
        return fmt::format("`-{}' needs `-{}'", asked.action, *at);
    for (char letter : all)
      if (std::string_view(needs.may).find(letter) == std::string_view::npos)
        return fmt::format("`-{}' cannot stand with `-{}'", letter, asked.action);
    return "";
  }
  return "say what to do: -A, -I, -D, -E, -S, -F or -L";
}

std::string read_change(const Asked& asked, const Names& names, Change& change) {
  change.action = asked.action;
  const std::optional<u32> mark = number_from(asked.mark, ~0u);
  if (!mark || *mark == 0)
    return fmt::format("`{}' is no mark; marks are numbers from 1 to {}", asked.mark, ~0u);
  change.mark = *mark;
  if (!asked.address.empty()) {
    change.address = one_address(asked.address, names);
    if (!change.address) return fmt::format("there is no address `{}'", asked.address);
  }
  if (!asked.port.empty()) {
    const std::optional<u16> port = one_port(asked.port, kProtocolTcp, names);
    if (!port) return fmt::format("`{}' is no port from 1 to 65535", asked.port);
    change.port = *port;
  }
  if (asked.preference.empty()) return "";
  const std::optional<u32> preference = number_from(asked.preference, kPreferenceMax);
  if (!preference)
    return fmt::format("`{}' is no preference from 0 to {}", asked.preference, kPreferenceMax);
  change.preference = static_cast<u16>(*preference);
  return "";
}

void take_once(OptionReader& options, std::string& value, char letter) {
  if (!value.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
  if (options.value().empty()) options.refuse(fmt::format("`-{}' has an empty value", letter));
  value = options.value();
}

void take(OptionReader& options, Asked& asked, char letter) {
  switch (letter) {
    case 'n':
      asked.numeric = true;
      break;
    case 'm':
      take_once(options, asked.mark, letter);
      break;
    case 'r':
      take_once(options, asked.address, letter);
      if (std::optional<std::string> port = options.another()) asked.port = *port;
      break;
    case 'p':
      take_once(options, asked.preference, letter);
      break;
    default:
      if (asked.action != 0 && asked.action != letter)
        options.refuse("only one of -A, -I, -D, -E, -S, -F and -L can be done at once");
      asked.action = letter;
  }
}

}  // namespace

CommandResult run_mfw(const std::vector<std::string>& words, ForwardWorld& world) {
  OptionReader options(words, "AIDESFLnhm:r:p:");
  Asked asked;
  while (const char letter = options.next()) {
    if (letter == 'h') return help(kHelp);
    take(options, asked, letter);
  }
  if (!options.problem().empty()) return wrong_usage("mfw", options.problem());
  if (std::string problem = check_options(asked); !problem.empty())
    return wrong_usage("mfw", problem);
  if (asked.action == 'L') return listing(world, asked.numeric);
  Change change;
  if (asked.action != 'F')
    if (std::string problem = read_change(asked, world.names(), change); !problem.empty())
      return wrong_usage("mfw", problem);
  return change_forwards("mfw", world, [&](Forwards& forwards) -> Status {
    if (asked.action == 'F') std::erase_if(forwards.list, is_ours);
    if (asked.action == 'F') return Done{};
    if (asked.action == 'A' || asked.action == 'I') return add_target(forwards, change);
    return change_known(forwards, change);
  });
}

std::string proc_mfw(const Forwards& forwards) {
  std::string text = proc_line("FwMark     > RAddr    RPort PrCnt  Pref", kProcLine);
  for (const Forward& f : forwards.list)
    for (std::size_t i = 0; is_ours(f) && i < f.targets.size(); ++i) {
      const ForwardTo& to = f.targets[i];
      text += proc_line(
          fmt::format("0x{:<8x} > {:08X} {:5} {:5} {:5}", f.mark, to_host(to.address), to.port,
                      i == 0 && f.left != 0 ? f.left : to.preference, to.preference),
          kProcLine);
    }
  return text;
}

}  // namespace masq
