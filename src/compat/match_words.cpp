// Reading the words of match_words.h. Every number is read whole: what does not end where the word
// ends is no number.
#include "compat/match_words.h"

#include <algorithm>
#include <charconv>

namespace masq {
namespace {

// All of the text, or nothing.
template <class Number>
bool read_number(const std::string& text, Number& out, int base) {
  const char* end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, out, base);
  return problem == std::errc() && stop == end && !text.empty();
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool read_mask(const std::string& word, Ipv4& out) {
  u32 bits = 0;
  if (read_dotted(word, out)) return true;
  if (!read_number(word, bits, 10) || bits > 32) return false;
  out = ipv4_from_host(bits == 0 ? 0 : ~0u << (32 - bits));
  return true;
}

bool is_option(const std::string& word) {
  return word.size() > 1 && word[0] == '-';
}

Result<u16> port_of(const std::string& word, u8 protocol, const Names& names) {
  u32 number = 0;
  if (read_number(word, number, 10)) {
    if (number > 0xffff) return error("port `{}' is too large; ports go from 0 to 65535", word);
    return static_cast<u16>(number);
  }
  if (protocol == kProtocolTcp || protocol == kProtocolUdp) {
    const std::optional<u16> port = names.port_of(word, protocol);
    if (port) return *port;
  }
  return error("port `{}' is neither a number from 0 to 65535 nor a service", word);
}

// In C's notation: 10, 0x10, 010.
bool read_c_number(const std::string& word, u32& out) {
  if (word.size() > 2 && word[0] == '0' && (word[1] == 'x' || word[1] == 'X'))
    return read_number(word.substr(2), out, 16);
  if (word.size() > 1 && word[0] == '0') return read_number(word.substr(1), out, 8);
  return read_number(word, out, 10);
}

bool read_hex_byte(const std::string& word, u8& out) {
  const bool prefixed = word.size() > 2 && word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
  return read_number(prefixed ? word.substr(2) : word, out, 16);
}

constexpr u8 kTosReserved = 0x01, kTosBits = 0x1e;  // RFC 1349

}  // namespace

Result<u32> number_word(const std::string& word, const std::string& what, u32 least, u32 most) {
  u32 number = 0;
  if (!read_number(word, number, 10) || number < least || number > most)
    return error("{} must be a whole number from {} to {}, not `{}'", what, least, most, word);
  return number;
}

bool read_dotted(const std::string& word, Ipv4& out) {
  u32 address = 0;
  std::size_t from = 0;
  for (int part = 0; part < 4; ++part) {
    const std::size_t dot = part == 3 ? word.size() : word.find('.', from);
    u32 value = 0;
    if (dot == std::string::npos || dot < from) return false;
    if (!read_number(word.substr(from, dot - from), value, 10) || value > 255) return false;
    address = address << 8 | value;
    from = dot + 1;
  }
  out = ipv4_from_host(address);
  return true;
}

Result<AddressWord> address_word(const std::string& word, const Names& names) {
  AddressWord out;
  out.mask = Ipv4{~0u};
  const std::size_t slash = word.find('/');
  const std::string name = word.substr(0, slash);
  if (slash != std::string::npos && !read_mask(word.substr(slash + 1), out.mask))
    return error("invalid mask `{}': it must be 0 to 32 bits, or written as an address",
                 word.substr(slash + 1));
  Ipv4 address{};
  if (out.mask.be == 0)
    out.addresses.push_back(Ipv4{});
  else if (read_dotted(name, address))
    out.addresses.push_back(Ipv4{address.be & out.mask.be});
  else if (!name.empty() && !is_option(name) && name != "!")
    for (Ipv4 each : names.addresses_of(name)) {
      const Ipv4 masked{each.be & out.mask.be};
      if (std::none_of(out.addresses.begin(), out.addresses.end(),
                       [&](Ipv4 other) { return same(other, masked); }))
        out.addresses.push_back(masked);
    }
  if (out.addresses.empty()) return error("host/network `{}' not found", name);
  if (out.addresses.size() > kAddressesMost)
    return error("host `{}' has more than {} addresses", name, kAddressesMost);
  return out;
}

Result<u8> protocol_word(const std::string& word, const Names& names) {
  u32 number = 0;
  if (read_number(word, number, 10)) {
    if (number > 255) return error("protocol `{}' is too large; numbers go from 0 to 255", word);
    return static_cast<u8>(number);
  }
  const std::string name = lower(word);
  if (name == "all") return u8{0};
  if (name == "tcp") return kProtocolTcp;
  if (name == "udp") return kProtocolUdp;
  if (name == "icmp") return kProtocolIcmp;
  const std::optional<u8> known = names.protocol_of(name);
  if (known) return *known;
  return error("unknown protocol `{}': it must be tcp, udp, icmp, all, or a number", word);
}

Result<PortMatch> ports_word(const std::string& word, u8 protocol, const Names& names) {
  PortMatch out;
  const std::size_t colon = word.find(':');
  const std::string first = word.substr(0, colon);
  const std::string last = colon == std::string::npos ? first : word.substr(colon + 1);
  if (first.empty() && last.empty()) return error("a port is missing in `{}'", word);
  if (!first.empty()) {
    const Result<u16> port = port_of(first, protocol, names);
    if (!port) return port.error();
    out.first = *port;
  }
  if (!last.empty()) {
    const Result<u16> port = port_of(last, protocol, names);
    if (!port) return port.error();
    out.last = *port;
  }
  if (out.first > out.last)
    return error("invalid port range `{}': the first port is greater than the last", word);
  return out;
}

Status interface_word(const std::string& word, Rule& rule) {
  const bool any_suffix = !word.empty() && word.back() == '+';
  const std::string name = any_suffix ? word.substr(0, word.size() - 1) : word;
  if (word.empty()) return error("the name of an interface must not be empty");
  if (name.size() > kInterfaceNameMost)
    return error("interface name `{}' is too long; names have at most {} characters", word,
                 kInterfaceNameMost);
  if (std::any_of(name.begin(), name.end(), [](char c) { return c <= ' ' || c >= 0x7f; }))
    return error("interface name `{}' has characters that no name has", word);
  Ipv4 address{};
  if (read_dotted(word, address))
    return error("`{}' is an address, where the name of an interface must stand", word);
  rule.interface = name;
  rule.any_suffix = any_suffix && !name.empty();
  return Done{};
}

Status mark_word(const std::string& word, Rule& rule) {
  const bool is_signed = !word.empty() && (word[0] == '+' || word[0] == '-');
  u32 value = 0;
  if (!read_c_number(is_signed ? word.substr(1) : word, value))
    return error("mark `{}' must be a number from 0 to 0xffffffff, with + or - before it to add it",
                 word);
  rule.mark_change = is_signed ? MarkChange::add : MarkChange::set;
  rule.mark = is_signed && word[0] == '-' ? 0u - value : value;
  return Done{};
}

Status tos_words(const std::string& with, const std::string& other, Rule& rule) {
  u8 tos_and = 0, tos_xor = 0;
  if (!read_hex_byte(with, tos_and) || !read_hex_byte(other, tos_xor))
    return error("type of service `{} {}' must be two bytes in hexadecimal, such as 0x01 0x10",
                 with, other);
  if (!(tos_and & kTosReserved) || (tos_xor & kTosReserved))
    return error("type of service `{} {}' would change bit 0, which must stay as it is", with,
                 other);
  if (__builtin_popcount(tos_xor & kTosBits) > 1)
    return error("type of service `{} {}' sets more than one bit; only one may be set", with,
                 other);
  rule.tos_and = tos_and;
  rule.tos_xor = tos_xor;
  return Done{};
}

int bits_of_mask(Ipv4 mask) {
  const u32 zeros = ~to_host(mask);
  if ((zeros & (zeros + 1)) != 0) return -1;
  return 32 - __builtin_popcount(zeros);
}

}  // namespace masq
