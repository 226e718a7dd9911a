// The modules of the 2.2 kernel that masq stands in for: the helpers of protocols that carry
// addresses in their data, and the frame of port forwarding. `modprobe ip_masq_ftp ports=21,2021`
// in a script puts a module into this table; what it means is up to the gateway, which gets the
// table when the script has ended.
//
// The commands modprobe, insmod, rmmod, lsmod and depmod are functions here, so that tests need no
// script. They load and unload nothing of the real kernel: a module that this kernel has already is
// there, and one that it has not is refused.
//
// Limits: a module is in the table once, and takes kModulePortsMost ports, as the original's array.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compat/names.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr std::size_t kModulePortsMost = 12;

struct LoadedModule {
  std::string name;
  std::map<std::string, std::vector<u32>> parameters;  // those that were given
  bool operator==(const LoadedModule&) const = default;
};

// The helper module of this name with these words ("ports=21,2021"), or what is wrong with them.
Result<LoadedModule> module_with(const std::string& name, const std::vector<std::string>& words);
bool is_masq_module(const std::string& name);

std::string modules_to_json(const std::vector<LoadedModule>& modules);
Result<std::vector<LoadedModule>> modules_from_json(const std::string& text);

// The modules of the real kernel, with `_` for `-`.
struct MachineModules {
  std::vector<std::string> present;    // loaded, or part of the kernel
  std::vector<std::string> available;  // could be loaded, by somebody else
};
MachineModules modules_of_this_machine();

// argv as the command was called; its name decides which of the five it is.
bool is_module_command(const std::string& name);
CommandResult run_module_command(const std::vector<std::string>& argv,
                                 const MachineModules& machine, std::vector<LoadedModule>& modules);

}  // namespace masq
