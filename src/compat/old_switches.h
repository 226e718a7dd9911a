// The switches in /proc/sys/net/ipv4 that scripts of the 2.2 time write to: what each means to
// masq, and which values it takes. Names are paths below /proc/sys, such as
// net/ipv4/conf/eth0/rp_filter.
//
// In a script's view all of /proc/sys is a copy, and writes to it move nothing. When the script has
// ended, what it wrote is looked up here. The original's kernel refused bad values at once; here
// they are found at the end, and count as a command that failed.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

enum class SwitchUse : u8 {
  gateway,  // masq's own: it says how the gateway behaves
  machine,  // of the machine's own stack, which has it today too
  settled,  // masq does it anyway, or what it was about has gone: it is taken, and changes nothing
};

struct KnownSwitch {
  const char* name;  // a `*` stands for one interface, `all` or `default`
  SwitchUse use;
  u32 numbers;  // how many it takes
  u32 least, most;
  const char* at_first;  // its value where nobody has said anything; nullptr: the machine's
  const char* meaning;
};

// nullptr if masq does not know it.
const KnownSwitch* find_switch(const std::string& name);

// Those that are in the view although this machine may not have them, without a `*`.
std::vector<const KnownSwitch*> switches_with_own_value();

// What was written, as the switch takes it ("1", "32768 61000"), or why it takes it not.
Result<std::string> accepted_value(const KnownSwitch& known, const std::string& written);

// A file as it was read: the last line that holds something, with single blanks.
std::string plain_value(const std::string& text);

}  // namespace masq
