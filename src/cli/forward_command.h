// `masq forward add|list|remove`: forwards of the gateway that runs here, or, where none runs,
// those that `masq up` will find.
#pragma once

#include <string>
#include <vector>

namespace masq {

// All print what they have to say, and return the exit code: 0, 1 if it did not work, 2 if the
// words are wrong.
int forward_add(const std::vector<std::string>& words);
int forward_remove(const std::vector<std::string>& words);
int forward_list(bool as_json);

}  // namespace masq
