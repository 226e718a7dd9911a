// Stands before libbpf (LD_PRELOAD) and says of a kernel that it is older than it is: there is no
// bpf_loop, as before Linux 5.17. Only what masq asks before it loads anything is answered so.
#include <bpf/libbpf.h>

extern "C" int libbpf_probe_bpf_helper(bpf_prog_type, bpf_func_id function, const void*) {
  return function == BPF_FUNC_loop ? 0 : 1;
}
