// Forwards: what may be said, what contradicts what else is said, and the array that the core
// searches. A contradiction is two ranges of one key that overlap, which shows once they are
// sorted.
#include "policy/forwards.h"

#include <arpa/inet.h>

#include <algorithm>
#include <set>
#include <utility>

#include "wire/headers.h"

namespace masq {
namespace {

constexpr u16 kLastPort = 0xffff;

// A range before it is packed.
struct Laid {
  u64 key;
  u16 last;
  u16 forward;
  const Forward* by;
};

Ipv4 mask_of(u32 length) {
  return ipv4_from_host(length == 0 ? 0 : ~0u << (32 - length));
}

std::vector<u8> protocols_of(ForwardProtocol protocol) {
  if (protocol == ForwardProtocol::tcp) return {kProtocolTcp};
  if (protocol == ForwardProtocol::udp) return {kProtocolUdp};
  return {kProtocolTcp, kProtocolUdp};
}

const char* name_of(ForwardProtocol protocol) {
  return protocol == ForwardProtocol::tcp   ? "tcp"
         : protocol == ForwardProtocol::udp ? "udp"
                                            : "tcp and udp";
}

std::string ports_text(const Forward& f) {
  if (f.first == f.last) return std::to_string(f.first);
  return fmt::format("{}-{}", f.first, f.last);
}

std::string targets_text(const Forward& f) {
  std::string text;
  for (const ForwardTo& to : f.targets) {
    if (!text.empty()) text += ", ";
    text += address_text(to.address);
    if (to.port != 0) text += fmt::format(":{}", to.port);
  }
  return text;
}

Status check_targets(const Forward& f) {
  if (f.targets.empty()) return error("{} leads to nobody; name an inner host.", to_text(f));
  if (f.targets.size() > kTargetsOfOneMax)
    return error("{} has {} targets; one forward may have {}.", to_text(f), f.targets.size(),
                 kTargetsOfOneMax);
  std::set<std::pair<u32, u16>> seen;
  for (const ForwardTo& to : f.targets) {
    if (!is_plain_unicast(to.address))
      return error("{} is not the address of a host that something can be forwarded to.",
                   address_text(to.address));
    if (!seen.insert({to.address.be, to.port}).second)
      return error("{} names a target twice; give it a higher preference instead.", to_text(f));
    if (f.kind == ForwardKind::plain && to.port != 0 && to.port + (f.last - f.first) > kLastPort)
      return error("The ports {} do not fit behind port {} of {}; the last one would be {}.",
                   ports_text(f), to.port, address_text(to.address), to.port + (f.last - f.first));
  }
  return Done{};
}

Status check_from(const Forward& f) {
  if (f.from.size() > kForwardSourcesMax)
    return error("{} is for {} networks; one forward may name {}.", to_text(f), f.from.size(),
                 kForwardSourcesMax);
  for (const ForwardFrom& from : f.from)
    if (from.length > 32 || (from.network.be & ~mask_of(from.length).be) != 0)
      return error("{}/{} is no network: it has bits behind its prefix.",
                   address_text(from.network), from.length);
  return Done{};
}

Status check_ports(const Forward& f) {
  if (f.first != 0 && f.first <= f.last) return Done{};
  return error("{}-{} is no range of ports; the first one is from 1 to the last one.", f.first,
               f.last);
}

Status check_one_to_one(const Forward& f) {
  if (!is_plain_unicast(f.external))
    return error("A forward of all ports needs an external address of its own.");
  if (f.targets.size() != 1 || f.targets[0].port != 0)
    return error("All ports of {} can only lead to one inner host, and to the same ports there.",
                 address_text(f.external));
  return Done{};
}

Status check_trigger(const Forward& f) {
  if (!f.targets.empty())
    return error("{} leads to whoever uses the control port; it can name no target.", to_text(f));
  if (f.control_protocol == ForwardProtocol::both || f.control_port == 0)
    return error("{} needs a control port of tcp or of udp, from 1 to 65535.", to_text(f));
  if (f.window_s > kWindowMax_s)
    return error("A control port may open others for {} seconds at most.", kWindowMax_s);
  return Done{};
}

Status check_kind(const Forward& f) {
  switch (f.kind) {
    case ForwardKind::plain:
      return check_ports(f);
    case ForwardKind::one_to_one:
      return check_one_to_one(f);
    case ForwardKind::marked:
      if (f.mark == 0) return error("Mark 0 is that of every packet without a mark.");
      return Done{};
    case ForwardKind::triggered: {
      Status ports = check_ports(f);
      return ports ? check_trigger(f) : ports;
    }
    case ForwardKind::keeps_port:
      if (!f.targets.empty() || !f.from.empty())
        return error("{} leads nowhere; it can name no host.", to_text(f));
      return check_ports(f);
    default:
      return error("A forward needs a kind.");
  }
}

Status check_one(const Forward& f) {
  if (f.place >= kForwardsMax)
    return error("A forward's number is from 0 to {}.", kForwardsMax - 1);
  if (!same(f.external, kAnyExternal) && !is_plain_unicast(f.external))
    return error("{} cannot be an external address.", address_text(f.external));
  Status status = check_kind(f);
  if (!status) return status;
  bool has_targets = f.kind != ForwardKind::triggered && f.kind != ForwardKind::keeps_port;
  if (has_targets && !(status = check_targets(f))) return status;
  if (!f.targets.empty() && f.left > f.targets[0].preference)
    return error("{} has more to do for its first target than that one's preference says.",
                 to_text(f));
  return check_from(f);
}

// A forward that leads to an external address would come back to the gateway for ever.
Status check_circles(const Forwards& forwards) {
  std::set<u32> external;
  for (const Forward& f : forwards.list)
    if (!same(f.external, kAnyExternal)) external.insert(f.external.be);
  for (const Forward& f : forwards.list)
    for (const ForwardTo& to : f.targets)
      if (external.contains(to.address.be))
        return error("{} leads to {}, which is itself an external address of a forward.",
                     to_text(f), address_text(to.address));
  return Done{};
}

Status check_numbers(const Forwards& forwards) {
  if (forwards.list.size() > kForwardsMax)
    return error("There may be {} forwards; join ports that follow one another into one range.",
                 kForwardsMax);
  std::set<u16> places;
  std::size_t targets = 0;
  for (const Forward& f : forwards.list) {
    if (Status status = check_one(f); !status) return status;
    if (!places.insert(f.place).second) return error("Two forwards have the number {}.", f.place);
    targets += f.targets.size();
  }
  if (targets > kForwardTargetsMax)
    return error("All forwards together may have {} targets, not {}.", kForwardTargetsMax, targets);
  return check_circles(forwards);
}

void lay_plain(const Forward& f, u32 search, std::vector<Laid>& laid) {
  for (u8 protocol : protocols_of(f.protocol))
    laid.push_back({forward_key(search, protocol, f.external.be, f.first), f.last, f.place, &f});
}

// What no other forward has of the address.
void lay_rest(const Forward& f, u8 protocol, const std::vector<Laid>& others,
              std::vector<Laid>& laid) {
  u32 next = 0;
  for (const Laid& other : others) {  // ascending
    if (other.key >> 16 != forward_key(kForwardEndpoint, protocol, f.external.be, 0) >> 16)
      continue;
    u32 first = other.key & 0xffff;
    if (next < first)
      laid.push_back({forward_key(kForwardEndpoint, protocol, f.external.be, next),
                      static_cast<u16>(first - 1), f.place, &f});
    next = other.last + 1u;
  }
  if (next <= kLastPort)
    laid.push_back(
        {forward_key(kForwardEndpoint, protocol, f.external.be, next), kLastPort, f.place, &f});
}

void sort(std::vector<Laid>& laid) {
  std::sort(laid.begin(), laid.end(), [](const Laid& a, const Laid& b) {
    return std::pair{a.key, a.forward} < std::pair{b.key, b.forward};
  });
}

Status overlap_in(const std::vector<Laid>& laid) {
  for (std::size_t i = 1; i < laid.size(); ++i) {
    const Laid &a = laid[i - 1], &b = laid[i];
    if (a.key >> 16 == b.key >> 16 && (b.key & 0xffff) <= a.last)
      return error("Two forwards contradict each other: {} ({}) and {} ({}); remove one of them.",
                   to_text(*a.by), a.by->place, to_text(*b.by), b.by->place);
  }
  return Done{};
}

// The control port of several triggered forwards has one place for all of them.
std::vector<Laid> lay_controls(const Forwards& forwards) {
  std::vector<Laid> controls;
  for (const Forward& f : forwards.list) {
    if (f.kind != ForwardKind::triggered) continue;
    u64 key = forward_key(kForwardControl, protocols_of(f.control_protocol)[0], 0, f.control_port);
    auto found = std::find_if(controls.begin(), controls.end(),
                              [key](const Laid& at) { return at.key == key; });
    if (found == controls.end())
      controls.push_back({key, f.control_port, f.place, &f});
    else
      found->forward = std::min(found->forward, f.place);
  }
  return controls;
}

Status lay_all(const Forwards& forwards, std::vector<Laid>& laid) {
  for (const Forward& f : forwards.list) {
    if (f.kind == ForwardKind::plain || f.kind == ForwardKind::triggered)
      lay_plain(f, kForwardEndpoint, laid);
    if (f.kind == ForwardKind::keeps_port) lay_plain(f, kForwardKeepsPort, laid);
    if (f.kind == ForwardKind::marked)
      laid.push_back({forward_key(kForwardMark, 0, f.mark, 0), 0, f.place, &f});
  }
  sort(laid);
  Status status = overlap_in(laid);
  if (!status) return status;
  const std::vector<Laid> others = laid;
  for (const Forward& f : forwards.list) {
    if (f.kind != ForwardKind::one_to_one) continue;
    for (u8 protocol : {kProtocolTcp, kProtocolUdp, kProtocolIcmp})
      lay_rest(f, protocol, others, laid);
    laid.push_back({forward_key(kForwardInner, 0, f.targets[0].address.be, 0), 0, f.place, &f});
  }
  for (const Laid& control : lay_controls(forwards)) laid.push_back(control);
  sort(laid);
  status = overlap_in(laid);
  if (!status) return status;
  if (laid.size() > kForwardRangesMax)
    return error("The forwards lie in {} pieces and may lie in {}; join ports into ranges.",
                 laid.size(), kForwardRangesMax);
  return Done{};
}

ForwardEntry entry_of(const Forward& f, u16 first_target, u16 control) {
  ForwardEntry e{};
  e.kind = f.kind;
  e.flags = static_cast<u8>((f.any_outside ? kForwardAnyOutside : 0) |
                            (f.kind == ForwardKind::marked ? kForwardOnePort : 0));
  e.sources = static_cast<u8>(f.from.size());
  e.first_target = first_target;
  e.targets = static_cast<u16>(f.targets.size());
  e.first_port = f.first;
  e.control = control;
  e.window = ticks_from_s(f.window_s);
  e.external = f.external;
  for (std::size_t i = 0; i < f.from.size(); ++i)
    e.source[i] = {f.from[i].network, mask_of(f.from[i].length)};
  return e;
}

}  // namespace

bool Forward::same_forward(const Forward& o) const {
  return place == o.place && maker == o.maker && kind == o.kind && protocol == o.protocol &&
         same(external, o.external) && first == o.first && last == o.last && mark == o.mark &&
         targets == o.targets && from == o.from && control_protocol == o.control_protocol &&
         control_port == o.control_port && window_s == o.window_s && any_outside == o.any_outside;
}

std::string address_text(Ipv4 address) {
  char text[INET_ADDRSTRLEN] = "";
  inet_ntop(AF_INET, &address.be, text, sizeof text);
  return text;
}

std::optional<Ipv4> address_from(const std::string& text) {
  Ipv4 address{};
  if (inet_pton(AF_INET, text.c_str(), &address.be) != 1) return std::nullopt;
  return address;
}

std::string to_text(const Forward& f) {
  std::string external = same(f.external, kAnyExternal) ? "*" : address_text(f.external);
  switch (f.kind) {
    case ForwardKind::one_to_one:
      return fmt::format("{} <-> {}", external, targets_text(f));
    case ForwardKind::marked:
      return fmt::format("mark {} -> {}", f.mark, targets_text(f));
    case ForwardKind::triggered:
      return fmt::format("{} {}:{} -> whoever uses {} port {}", name_of(f.protocol), external,
                         ports_text(f), name_of(f.control_protocol), f.control_port);
    case ForwardKind::keeps_port:
      return fmt::format("source ports kept towards {} {}", name_of(f.protocol), ports_text(f));
    default:
      return fmt::format("{} {}:{} -> {}", name_of(f.protocol), external, ports_text(f),
                         targets_text(f));
  }
}

Status check_forwards(const Forwards& forwards) {
  Status status = check_numbers(forwards);
  if (!status) return status;
  std::vector<Laid> laid;
  return lay_all(forwards, laid);
}

Result<u16> add_forward(Forwards& forwards, Forward forward, bool in_front) {
  std::vector<bool> used(kForwardsMax);
  for (const Forward& f : forwards.list)
    if (f.place < kForwardsMax) used[f.place] = true;
  const auto free = std::find(used.begin(), used.end(), false) - used.begin();
  Forwards changed = forwards;
  forward.place = static_cast<u16>(std::min<std::size_t>(free, kForwardsMax - 1));
  u16 place = forward.place;
  changed.list.insert(in_front ? changed.list.begin() : changed.list.end(), std::move(forward));
  if (Status status = check_forwards(changed); !status) return status.error();
  forwards = std::move(changed);
  return place;
}

Status change_forward(Forwards& forwards, const Forward& forward) {
  Forwards changed = forwards;
  for (Forward& f : changed.list) {
    if (f.place != forward.place) continue;
    f = forward;
    if (Status status = check_forwards(changed); !status) return status;
    forwards = std::move(changed);
    return Done{};
  }
  return error("There is no forward with the number {}.", forward.place);
}

Status remove_forward(Forwards& forwards, u16 place) {
  const auto removed =
      std::erase_if(forwards.list, [place](const Forward& f) { return f.place == place; });
  if (removed == 0) return error("There is no forward with the number {}.", place);
  return Done{};
}

Status compile_forwards(const Forwards& forwards, u32 generation, ForwardTable& table) {
  if (Status status = check_numbers(forwards); !status) return status;
  std::vector<Laid> laid;
  if (Status status = lay_all(forwards, laid); !status) return status;
  table = {};
  table.generation = generation;
  table.ranges_used = static_cast<u32>(laid.size());
  for (const Forward& f : forwards.list) {
    table.marks |= f.kind == ForwardKind::marked;
    table.controls |= f.kind == ForwardKind::triggered;
  }
  for (ForwardRange& range : table.ranges) range.key = kNoForwardKey;
  for (std::size_t i = 0; i < laid.size(); ++i)
    table.ranges[i] = {laid[i].key, laid[i].last, laid[i].forward, 0};
  u16 next_target = 0;
  for (const Forward& f : forwards.list) {
    u32 control = 0;
    if (f.kind == ForwardKind::triggered)
      control = find_control(table, protocols_of(f.control_protocol)[0], f.control_port);
    table.entries[f.place] = entry_of(f, next_target, static_cast<u16>(control));
    for (const ForwardTo& to : f.targets)
      table.targets[next_target++] = {to.address, to.port, to.preference};
  }
  return Done{};
}

ForwardState state_of(const Forward& forward) {
  ForwardState state{};
  state.turn = forward.left;
  state.flows = forward.flows;
  state.refused = forward.refused;
  return state;
}

void fold_state(Forward& forward, const ForwardState& state) {
  forward.flows = state.flows;
  forward.refused = state.refused;
  if (forward.targets.empty()) return;
  const u32 at = state.turn >> 16, left = state.turn & 0xffff;
  const bool is_valid = at < forward.targets.size() && left <= forward.targets[at].preference;
  forward.left = is_valid ? static_cast<u16>(left) : u16{0};
  if (is_valid)
    std::rotate(forward.targets.begin(), forward.targets.begin() + at, forward.targets.end());
}

std::vector<u16> windows_to_close(const ForwardTable& before, const ForwardTable& after) {
  std::vector<u16> places;
  for (u32 i = 0; i < after.ranges_used; ++i) {
    const u64 key = after.ranges[i].key;
    if (key >> 56 != kForwardControl) continue;
    const u16 place = after.ranges[i].forward;
    if (find_range(before, key) != place) places.push_back(place);
  }
  return places;
}

}  // namespace masq
