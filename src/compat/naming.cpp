// Words and texts that stand for addresses and ports.
#include "compat/naming.h"

#include "compat/option_reader.h"
#include "policy/forwards.h"
#include "wire/headers.h"

namespace masq {
namespace {

// Whoever gives a longer word knows how it began and how it ended.
constexpr std::size_t kLineMost = 200, kLineEnd = 80;

}  // namespace

std::optional<Ipv4> one_address(const std::string& word, const Names& names) {
  if (std::optional<Ipv4> address = address_from(word)) return address;
  const std::vector<Ipv4> addresses = names.addresses_of(word);
  if (addresses.empty()) return std::nullopt;
  return addresses.front();
}

std::optional<u16> one_port(const std::string& word, u8 protocol, const Names& names) {
  std::optional<u16> port;
  if (std::optional<u32> number = number_from(word, 0xffff))
    port = static_cast<u16>(*number);
  else
    port = names.port_of(word, protocol);
  if (port == u16{0}) port.reset();
  return port;
}

std::string host_text(Ipv4 address, const Names* names) {
  const std::string name = names == nullptr ? "" : names->host_of(address);
  return name.empty() ? address_text(address) : name;
}

std::string service_text(u16 port, u8 protocol, const Names* names) {
  std::string name;
  if (names != nullptr && (protocol == kProtocolTcp || protocol == kProtocolUdp))
    name = names->service_of(port, protocol);
  return name.empty() ? std::to_string(port) : name;
}

std::string as_one_line(const std::string& sentence) {
  std::string line = sentence;
  for (char& each : line)
    if (each < ' ' || each > '~') each = '?';
  if (line.size() <= kLineMost) return line;
  return line.substr(0, kLineMost - kLineEnd) + " ... " + line.substr(line.size() - kLineEnd);
}

}  // namespace masq
