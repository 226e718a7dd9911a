// Putting the programs on the interfaces' tc hooks, and finding them there. What is
// attached outlives the process that did it, which keeps masq forwarding while its daemon is away.
#pragma once

#include <optional>

#include "policy/result.h"
#include "wire/types.h"

namespace masq {

enum class TcHook { ingress, egress };

// Attaches, or replaces what masq has attached there. `made_qdisc` is set if the interface had no
// clsact qdisc before.
Status attach_program(u32 ifindex, TcHook hook, int program_fd, bool& made_qdisc);
void detach_program(u32 ifindex, TcHook hook);
void remove_qdisc(u32 ifindex);

// The program that masq has attached there.
std::optional<u32> attached_program(u32 ifindex, TcHook hook);
u32 program_id(int program_fd);

}  // namespace masq
