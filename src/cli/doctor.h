// `masq doctor`: climbs the rungs of doctor_rungs.h and says what is wrong.
#pragma once

#include "policy/config.h"

namespace masq {

// With a gateway or without one; `config` is what was said beside the command. 0: nothing is wrong.
// 1: something is.
int doctor(const Config& config, bool as_json);

}  // namespace masq
