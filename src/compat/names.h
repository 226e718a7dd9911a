// What the old commands ask the system for by name: /etc/hosts, /etc/services, /etc/protocols and
// the name servers. The commands themselves open no file and ask nobody, so tests hand in a few
// names and fuzzers none.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "wire/types.h"

namespace masq {

class Names {
 public:
  virtual ~Names() = default;
  // Of a host or a network; empty: there is none by that name.
  virtual std::vector<Ipv4> addresses_of(const std::string& name) const = 0;
  virtual std::optional<u16> port_of(const std::string& service, u8 protocol) const = 0;
  virtual std::optional<u8> protocol_of(const std::string& name) const = 0;
  // And back; empty: it has no name.
  virtual std::string host_of(Ipv4 address) const = 0;
  virtual std::string service_of(u16 port, u8 protocol) const = 0;
};

// What a command has done: its exit code, and what it says.
struct CommandResult {
  int exit_code = 0;
  std::string out, err;
};

// A sentence that may repeat words of the user's, as one line that any terminal can show: other
// characters become question marks, and of a very long one the middle is left out.
std::string as_one_line(const std::string& sentence);

}  // namespace masq
