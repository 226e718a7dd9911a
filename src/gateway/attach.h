// Putting the programs on the interfaces' tc hooks, and finding them there. What is
// attached outlives the process that did it, which keeps masq forwarding while its daemon is away.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

enum class TcHook { ingress, egress };

// Attaches, or replaces what masq has attached there. `made_qdisc` is set if the interface had no
// clsact qdisc before.
Status attach_program(u32 ifindex, TcHook hook, int program_fd, bool& made_qdisc);
void detach_program(u32 ifindex, TcHook hook);
void remove_qdisc(u32 ifindex);

// Takes off what came along with the interface from another network namespace, where it is a
// gateway's; true if there was any.
bool detach_strangers(u32 ifindex, TcHook hook);

// The program that masq has attached there in this network namespace.
std::optional<u32> attached_program(u32 ifindex, TcHook hook);
u32 program_id(int program_fd);

// A map that a program uses, and its name in the kernel.
struct NamedMap {
  Fd fd;
  std::string name;
};
Result<std::vector<NamedMap>> maps_of(int program_fd);

}  // namespace masq
