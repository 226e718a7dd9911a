// The gateway that runs in this network namespace, as commands find it.
#pragma once

#include <memory>

#include "gateway/any_datapath.h"

namespace masq {

// To read; `to_write`: also to change settings and rules. An error if there is none.
Result<std::unique_ptr<AnyDatapath>> running_gateway(bool to_write = false);

// Seconds until a record expires if no packet refreshes it.
u32 expires_s(const Settings& settings, const Record& r, Ticks now);

}  // namespace masq
