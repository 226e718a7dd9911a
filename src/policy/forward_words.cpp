// Word by word, each with its sentence.
#include "policy/forward_words.h"

#include <charconv>
#include <sstream>

namespace masq {
namespace {

// Digits alone, as many as needed: no sign, no space.
std::optional<u32> number_from(const std::string& text, u32 least, u32 most) {
  u32 number = 0;
  const char* end = text.data() + text.size();
  const auto [behind, wrong] = std::from_chars(text.data(), end, number);
  if (text.empty() || wrong != std::errc() || behind != end || number < least || number > most)
    return std::nullopt;
  return number;
}

// What is behind the mark goes into `rest`, which stays empty where there is none.
std::string split(const std::string& text, char mark, std::string& rest, bool& found) {
  const std::size_t at = text.find(mark);
  found = at != std::string::npos;
  rest = found ? text.substr(at + 1) : "";
  return text.substr(0, at);
}

Status read_ports(const std::string& text, Forward& forward) {
  std::string last;
  bool is_range = false;
  const std::string first = split(text, '-', last, is_range);
  const std::optional<u32> from = number_from(first, 1, 65535);
  const std::optional<u32> to = is_range ? number_from(last, 1, 65535) : from;
  if (!from || !to || *to < *from)
    return error("\"{}\" is no port and no range of ports, such as 80 or 5000-5100.", text);
  forward.first = static_cast<u16>(*from);
  forward.last = static_cast<u16>(*to);
  return Done{};
}

Status read_target(const std::string& text, Forward& forward) {
  std::string preference, port;
  bool has_preference = false, has_port = false;
  const std::string endpoint = split(text, '@', preference, has_preference);
  const std::string host = split(endpoint, ':', port, has_port);
  ForwardTo to;
  const std::optional<Ipv4> address = address_from(host);
  const std::optional<u32> number = number_from(port, 1, 65535);
  const std::optional<u32> flows = number_from(preference, 1, kPreferenceMax);
  if (!address || (has_port && !number) || (has_preference && !flows))
    return error(
        "\"{}\" is no inner host, such as 192.168.2.5, 192.168.2.5:8080 or 192.168.2.5:8080@3.",
        text);
  to.address = *address;
  if (has_port) to.port = static_cast<u16>(*number);
  if (has_preference) to.preference = static_cast<u16>(*flows);
  forward.targets.push_back(to);
  return Done{};
}

Status read_source(const std::string& text, Forward& forward) {
  std::string length;
  bool has_length = false;
  const std::string network = split(text, '/', length, has_length);
  const std::optional<Ipv4> address = address_from(network);
  const std::optional<u32> bits = has_length ? number_from(length, 0, 32) : 32;
  if (!address || !bits)
    return error("\"{}\" is no network, such as 203.0.113.0/24 or 203.0.113.9.", text);
  const u32 mask = *bits == 0 ? 0 : ~0u << (32 - *bits);
  if ((to_host(*address) & ~mask) != 0)
    return error("{} has address bits behind its prefix; is {}/{} meant?", text,
                 address_text(ipv4_from_host(to_host(*address) & mask)), *bits);
  forward.from.push_back({*address, *bits});
  return Done{};
}

Status read_option(const std::string& name, const std::string& value, Forward& forward) {
  if (name == "--from") return read_source(value, forward);
  const std::optional<Ipv4> address = address_from(value);
  if (!address) return error("\"{}\" is no external address, such as 198.51.100.7.", value);
  if (!same(forward.external, kAnyExternal)) return error("--at can be said once.");
  forward.external = *address;
  return Done{};
}

Status read_protocol(const std::string& word, Forward& forward) {
  if (word == "tcp")
    forward.protocol = ForwardProtocol::tcp;
  else if (word == "udp")
    forward.protocol = ForwardProtocol::udp;
  else if (word == "both")
    forward.protocol = ForwardProtocol::both;
  else if (word == "all")
    forward.kind = ForwardKind::one_to_one;
  else
    return error("\"{}\" is not tcp, udp, both or all.", word);
  return Done{};
}

std::string text_of(const ForwardTo& to, bool with_preference) {
  std::string text = address_text(to.address);
  if (to.port != 0) text += fmt::format(":{}", to.port);
  if (with_preference) text += fmt::format("@{}", to.preference);
  return text;
}

}  // namespace

Result<Forward> forward_from_words(const std::vector<std::string>& words) {
  Forward forward;
  forward.kind = ForwardKind::plain;
  std::vector<std::string> plain;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] != "--at" && words[i] != "--from") {
      if (words[i].starts_with("-")) return error("There is no option {} of a forward.", words[i]);
      plain.push_back(words[i]);
      continue;
    }
    if (i + 1 == words.size()) return error("{} needs a value.", words[i]);
    if (Status status = read_option(words[i], words[i + 1], forward); !status)
      return status.error();
    i += 1;
  }
  if (plain.empty())
    return error("What is to be forwarded is not said, such as tcp 80 192.168.2.5.");
  if (Status status = read_protocol(plain[0], forward); !status) return status.error();
  std::size_t next = 1;
  if (forward.kind == ForwardKind::plain) {
    if (plain.size() < 2) return error("The external port is missing, such as tcp 80 192.168.2.5.");
    if (Status status = read_ports(plain[1], forward); !status) return status.error();
    next = 2;
  }
  for (; next < plain.size(); ++next)
    if (Status status = read_target(plain[next], forward); !status) return status.error();
  if (forward.targets.empty()) return error("To which inner host it leads is not said.");
  if (forward.kind == ForwardKind::one_to_one && same(forward.external, kAnyExternal))
    return error("A forward of all ports needs the external address that it is for, by --at.");
  return forward;
}

Result<Forward> forward_from_text(const std::string& words) {
  std::istringstream stream(words);
  std::vector<std::string> split;
  for (std::string word; stream >> word;) split.push_back(word);
  return forward_from_words(split);
}

std::string words_of(const Forward& forward) {
  if (forward.kind != ForwardKind::plain && forward.kind != ForwardKind::one_to_one)
    return to_text(forward);
  static constexpr const char* kProtocols[] = {"tcp", "udp", "both"};
  std::string text = "all";
  if (forward.kind == ForwardKind::plain) {
    text = fmt::format("{} {}", kProtocols[static_cast<u8>(forward.protocol)], forward.first);
    if (forward.last != forward.first) text += fmt::format("-{}", forward.last);
  }
  const bool several = forward.targets.size() > 1;
  for (const ForwardTo& to : forward.targets) text += " " + text_of(to, several);
  if (!same(forward.external, kAnyExternal)) text += " --at " + address_text(forward.external);
  for (const ForwardFrom& from : forward.from)
    text += fmt::format(" --from {}/{}", address_text(from.network), from.length);
  return text;
}

}  // namespace masq
