// The newest thing that the programs need is bpf_loop (Linux 5.17); whatever has it has the rest of
// what they need too, unless somebody left it out when the kernel was built. What can do without is
// not here: hooks of their own for programs (tcx, Linux 6.6) and a look at the kernel's view of a
// packet by its type (Linux 6.2) are used where they are.
//
// A kernel that has all of it may still refuse the programs, because its verifier is less clever:
// that is said by whoever loads them. None before Linux 6.1 has been tried.
#include "gateway/requirements.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/utsname.h>

namespace masq {
namespace {

constexpr const char* kMinimum = "its programs need Linux 6.1 or newer, as Debian 12 has it";

struct Needed {
  int function;
  const char* name;
  const char* what_for;
};

constexpr Needed kNeeded[] = {
    {BPF_FUNC_loop, "bpf_loop", "to walk its table"},
    {BPF_FUNC_timer_init, "bpf_timer", "to end flows while no process runs"},
    {BPF_FUNC_redirect_neigh, "bpf_redirect_neigh", "to send packets on"},
    {BPF_FUNC_skc_lookup_tcp, "bpf_skc_lookup_tcp", "to leave the gateway's own ports alone"},
};

}  // namespace

KernelFeatures this_kernel() {
  KernelFeatures kernel;
  utsname name{};
  if (uname(&name) == 0) kernel.release = name.release;
  if (btf* types = btf__load_vmlinux_btf(); libbpf_get_error(types) == 0) {
    kernel.has_types = true;
    btf__free(types);
  }
  // Below 0 the question could not be put, for want of rights: then loading says what is wrong.
  kernel.has_function = [](int function) {
    return libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, static_cast<bpf_func_id>(function),
                                   nullptr) != 0;
  };
  return kernel;
}

Status check_kernel(const KernelFeatures& kernel) {
  for (const Needed& each : kNeeded)
    if (!kernel.has_function(each.function))
      return error("This kernel (Linux {}) lacks {}, which masq needs {}; {}.", kernel.release,
                   each.name, each.what_for, kMinimum);
  if (!kernel.has_types)
    return error(
        "This kernel (Linux {}) does not tell its types (CONFIG_DEBUG_INFO_BTF), which masq's "
        "programs are fitted to; {}.",
        kernel.release, kMinimum);
  return Done{};
}

}  // namespace masq
