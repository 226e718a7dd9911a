// What masq needs of the kernel, asked of the kernel itself: features, and not its version, because
// distributions carry features back and leave some out.
#pragma once

#include <functional>
#include <string>

#include "policy/result.h"

namespace masq {

// The kernel as far as it is asked; tests put one together that never was.
struct KernelFeatures {
  std::string release;                    // as `uname -r` says
  bool has_types = false;                 // tells its types (BTF)
  std::function<bool(int)> has_function;  // programs on tc hooks may call this BPF_FUNC_*
};

// This machine's.
KernelFeatures this_kernel();

// A sentence for the first feature that is missing.
Status check_kernel(const KernelFeatures& kernel);

}  // namespace masq
