// The table that is enumerated: two slots a bucket, so four for a key. Stands in for
// src/core/bucket.h by the order of include paths.
#pragma once

#include "wire/types.h"

namespace masq {

inline constexpr u32 kBucketSlots = 2;

}  // namespace masq
