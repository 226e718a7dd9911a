// Words of a command line that stand for an address or a port, and texts of listings: by name where
// there is one and names are wanted, else by number.
#pragma once

#include <optional>
#include <string>

#include "compat/names.h"

namespace masq {

// The four numbers, or the first address of a host or network of that name.
std::optional<Ipv4> one_address(const std::string& word, const Names& names);
// A number or a service; never 0.
std::optional<u16> one_port(const std::string& word, u8 protocol, const Names& names);

// `names` null: by number.
std::string host_text(Ipv4 address, const Names* names);
std::string service_text(u16 port, u8 protocol, const Names* names);

}  // namespace masq
