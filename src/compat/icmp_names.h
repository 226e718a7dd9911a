// The names that ipchains(8) has for types and codes of ICMP (RFC 792, RFC 1256, RFC 1812). Upper
// and lower case are the same, and as much of a name as fits no other is enough.
#pragma once

#include <string>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

struct IcmpName {
  const char* name;
  const char* also;  // a second name, or nullptr
  u8 type;
  bool has_code;
  u8 code;
};

// By a name or its beginning.
Result<IcmpName> find_icmp_name(const std::string& word);

// The name of a type, with a code or with any; nullptr if there is none.
const char* name_of_icmp(u16 type, bool any_code, u16 code);

// All of them, for people: a line each, the names of codes indented below their type.
std::string list_of_icmp_names();

}  // namespace masq
