// Forwards in the words of `masq forward add`, which are those of masq.toml too:
//
//   tcp|udp|both PORT[-PORT] TARGET... [--at ADDRESS] [--from NETWORK]...
//   all TARGET --at ADDRESS [--from NETWORK]...      every port of an external address, both ways
//
// TARGET is ADDRESS, ADDRESS:PORT, and with several of them each may have @N behind it: so many new
// flows it serves before the next one does.
#pragma once

#include <string>
#include <vector>

#include "policy/forwards.h"

namespace masq {

// Says in one sentence what it does not understand. What is wrong between several forwards,
// add_forward says.
Result<Forward> forward_from_words(const std::vector<std::string>& words);
Result<Forward> forward_from_text(const std::string& words);  // with blanks between them

// Back again, so that the words make the same forward. Of kinds that only the old commands make,
// their to_text.
std::string words_of(const Forward& forward);

}  // namespace masq
