// Files of the run folder that several programs change: one at a time, and each file whole or not
// at all.
#pragma once

#include <optional>
#include <string>

#include "gateway/fd.h"
#include "policy/result.h"

namespace masq {

// Waits for whoever has it; held until the descriptor is closed. Makes the run folder if need be.
Result<Fd> lock_kept_file(const std::string& name);
// Nothing if there is none.
Result<std::optional<std::string>> read_kept_file(const std::string& name);
Status replace_kept_file(const std::string& name, const std::string& text);

}  // namespace masq
