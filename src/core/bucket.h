// How many slots a bucket of the indexes has: one cache line's. Apart, so that the tests that
// enumerate interleavings can have a key that finds only four places.
#pragma once

#include "wire/types.h"

namespace masq {

inline constexpr u32 kBucketSlots = 16;

}  // namespace masq
