// Capabilities by the system call: of the library for them only this would be used.
#include "gateway/rights.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/holder.h"
#include "wire/types.h"

namespace masq {
namespace {

bool may(u32 capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return true;  // then the kernel decides
  return (data[capability / 32].effective >> (capability % 32) & 1) != 0;
}

}  // namespace

Status check_rights(const std::string& what) {
  if (geteuid() != 0) return error("Only root can {}; run masq as root.", what);
  if (!may(CAP_NET_ADMIN))
    return error("To {} takes the right CAP_NET_ADMIN, which this root does not have.", what);
  // Only a gateway in the kernel has a holder.
  if (!may(CAP_BPF) && !may(CAP_SYS_ADMIN) && find_holder() != 0)
    return error(
        "The gateway here runs in the kernel, and to {} takes the right CAP_BPF or CAP_SYS_ADMIN, "
        "which this root does not have.",
        what);
  return Done{};
}

}  // namespace masq
