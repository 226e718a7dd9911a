// The words by which the old commands say what a rule fits: addresses, ports, protocols,
// interfaces, marks, types of service. Shared by ipchains and ipfwadm. Each reads one word and
// gives a value or a sentence without full stop, as those commands print them.
#pragma once

#include <string>
#include <vector>

#include "compat/names.h"
#include "policy/result.h"
#include "policy/rules.h"

namespace masq {

// A host with several addresses stands for several rules.
struct AddressWord {
  std::vector<Ipv4> addresses;  // no bit outside the mask, each once
  Ipv4 mask{};
};

inline constexpr std::size_t kAddressesMost = 64;  // of one name; a rule for each

// Whole numbers in decimal.
Result<u32> number_word(const std::string& word, const std::string& what, u32 least, u32 most);

// a.b.c.d with all four parts.
bool read_dotted(const std::string& word, Ipv4& out);

// "10.0.0.0/8", "10.0.0.1", "host.name", "0/0", "10.0.0.0/255.0.0.0". With a mask of zero what
// stands before it does not matter.
Result<AddressWord> address_word(const std::string& word, const Names& names);

// "tcp", "TCP", "all", "47", a name of /etc/protocols.
Result<u8> protocol_word(const std::string& word, const Names& names);

// "80", "www", "1024:", ":1023", "20:ftp". Names need TCP or UDP.
Result<PortMatch> ports_word(const std::string& word, u8 protocol, const Names& names);

// "eth0" or "ppp+"; sets the rule's interface.
Status interface_word(const std::string& word, Rule& rule);

// "7", "0x10", "+1", "-1", numbers as in C.
Status mark_word(const std::string& word, Rule& rule);

// Two bytes in hexadecimal; bit 0 must stay, and at most one of the four others may be set.
Status tos_words(const std::string& with, const std::string& other, Rule& rule);

// The number of leading ones, or -1 if there are ones behind a zero.
int bits_of_mask(Ipv4 mask);

}  // namespace masq
