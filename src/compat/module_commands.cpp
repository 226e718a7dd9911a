// modprobe, insmod, rmmod, lsmod and depmod, as scripts of the 2.2 time call them.
//
// What they say follows the programs of that time where scripts or their authors look at it: the
// columns of lsmod, "Can't locate module". Sizes are 0, because nothing lies in the kernel.
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>

#include "compat/old_modules.h"

namespace masq {
namespace {

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
}

// ip_masq_ftp of /lib/modules/2.2.26/ipv4/ip_masq_ftp.o
std::string module_name(const std::string& word) {
  std::string name = last_part(word);
  for (const char* ending : {".gz", ".xz", ".zst", ".ko", ".o"})
    if (name.size() > std::string(ending).size() && name.ends_with(ending))
      name.resize(name.size() - std::string(ending).size());
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

LoadedModule* find_loaded(std::vector<LoadedModule>& modules, const std::string& name) {
  auto found = std::find_if(modules.begin(), modules.end(),
                            [&](const LoadedModule& each) { return each.name == name; });
  return found == modules.end() ? nullptr : &*found;
}

CommandResult failed(const std::string& command, const std::string& sentence, int exit_code = 1) {
  return {exit_code, "", command + ": " + sentence + "\n"};
}

struct Call {
  std::string command;
  std::vector<std::string> options;  // single letters and long names, without their dashes
  std::vector<std::string> words;
  bool asks(const char* letter, const char* name) const {
    return has(options, letter) || has(options, name);
  }
};

// Options that take a word of their own: -C FILE, -t TYPE, -o NAME, -P PREFIX and others.
Call read_call(const std::vector<std::string>& argv, const std::string& with_value) {
  Call call{last_part(argv[0]), {}, {}};
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const std::string& word = argv[i];
    if (word.starts_with("--")) {
      if (word.size() > 2) call.options.push_back(word.substr(2));
    } else if (word.size() > 1 && word[0] == '-') {
      for (std::size_t at = 1; at < word.size(); ++at) {
        call.options.push_back(std::string(1, word[at]));
        if (with_value.find(word[at]) == std::string::npos) continue;
        if (at + 1 == word.size()) ++i;
        break;
      }
    } else {
      call.words.push_back(word);
    }
  }
  return call;
}

// Nothing if all options are known.
std::string unknown_option(const Call& call, const std::string& letters,
                           const std::vector<std::string>& names) {
  for (const std::string& option : call.options)
    if (!(option.size() == 1 ? letters.find(option) != std::string::npos : has(names, option)))
      return option;
  return "";
}

CommandResult describe_other(const Call& call, const std::string& name,
                             const MachineModules& machine) {
  if (has(machine.present, name)) return {};  // it is there, which is all that was asked for
  if (has(machine.available, name))
    return failed(
        call.command,
        fmt::format("{} is a module of this machine's kernel, and a script that masq runs "
                    "loads none; load it before the script.",
                    name));
  return failed(call.command, call.command == "insmod" ? name + ": no module by that name found"
                                                       : "Can't locate module " + name);
}

CommandResult load(const Call& call, const std::string& word,
                   const std::vector<std::string>& parameters, const MachineModules& machine,
                   std::vector<LoadedModule>& modules) {
  std::string name = module_name(word);
  if (!is_masq_module(name)) return describe_other(call, name, machine);
  Result<LoadedModule> module = module_with(name, parameters);
  if (!module) return failed(call.command, module.error().sentence);
  if (call.asks("n", "show")) return {};
  if (const LoadedModule* there = find_loaded(modules, name)) {
    if (call.command == "insmod")
      return failed(call.command, "a module named " + name + " already exists");
    if (parameters.empty() || there->parameters == module->parameters) return {};
    CommandResult said =
        failed(call.command, name +
                                 " is loaded already, so these parameters are not taken; "
                                 "`rmmod " +
                                 name + "` first.");
    said.exit_code = 0;  // as modprobe has it
    return said;
  }
  modules.push_back(*module);
  return {};
}

CommandResult unload(const Call& call, const std::string& word, const MachineModules& machine,
                     std::vector<LoadedModule>& modules) {
  std::string name = module_name(word);
  if (LoadedModule* loaded = find_loaded(modules, name)) {
    modules.erase(modules.begin() + (loaded - modules.data()));
    return {};
  }
  if (has(machine.present, name))
    return failed(call.command, fmt::format("{} is a module of this machine's kernel, and a script "
                                            "that masq runs unloads none.",
                                            name));
  return failed(call.command, "module " + name + " is not loaded");
}

CommandResult unload_all(const Call& call, const MachineModules& machine,
                         std::vector<LoadedModule>& modules) {
  CommandResult all;
  for (const std::string& word : call.words) {
    CommandResult said = unload(call, word, machine, modules);
    all.err += said.err;
    all.exit_code = std::max(all.exit_code, said.exit_code);
  }
  return all;
}

CommandResult modprobe(const std::vector<std::string>& argv, const MachineModules& machine,
                       std::vector<LoadedModule>& modules) {
  Call call = read_call(argv, "Ct");
  std::string unknown = unknown_option(call, "abkqsvnrVC",
                                       {"all", "autoclean", "quiet", "syslog", "verbose", "show",
                                        "remove", "version", "use-blacklist"});
  if (!unknown.empty())
    return failed(call.command, "masq's stand-in has no option " + unknown + ".", 2);
  if (call.asks("V", "version")) return {0, "modprobe of masq " MASQ_VERSION "\n", ""};
  if (call.asks("r", "remove")) return unload_all(call, machine, modules);
  if (call.words.empty()) return failed(call.command, "no module is named.", 2);
  CommandResult all;
  if (!call.asks("a", "all"))
    all = load(call, call.words[0], {call.words.begin() + 1, call.words.end()}, machine, modules);
  else
    for (const std::string& word : call.words) {
      CommandResult said = load(call, word, {}, machine, modules);
      all.err += said.err;
      all.exit_code = std::max(all.exit_code, said.exit_code);
    }
  if (call.asks("q", "quiet")) all.err.clear();
  return all;
}

CommandResult insmod(const std::vector<std::string>& argv, const MachineModules& machine,
                     std::vector<LoadedModule>& modules) {
  Call call = read_call(argv, "oOPe");
  std::string unknown =
      unknown_option(call, "fkLmnNpqrsSvxXyYoOPV",
                     {"force", "autoclean", "quiet", "verbose", "noload", "poll", "probe", "root",
                      "syslog", "version", "map", "export", "noexport", "ksymoops", "noksymoops"});
  if (!unknown.empty())
    return failed(call.command, "masq's stand-in has no option " + unknown + ".", 2);
  if (call.asks("V", "version")) return {0, "insmod of masq " MASQ_VERSION "\n", ""};
  if (call.words.empty()) return failed(call.command, "no module is named.", 2);
  if (call.asks("n", "noload")) call.options.push_back("show");
  return load(call, call.words[0], {call.words.begin() + 1, call.words.end()}, machine, modules);
}

CommandResult rmmod(const std::vector<std::string>& argv, const MachineModules& machine,
                    std::vector<LoadedModule>& modules) {
  Call call = read_call(argv, "");
  std::string unknown =
      unknown_option(call, "aerfsvVw", {"all", "stacks", "syslog", "verbose", "version", "force"});
  if (!unknown.empty())
    return failed(call.command, "masq's stand-in has no option " + unknown + ".", 2);
  if (call.words.empty() && call.asks("a", "all")) return {};  // unused ones; masq keeps no such
  if (call.words.empty()) return failed(call.command, "no module is named.", 2);
  return unload_all(call, machine, modules);
}

CommandResult lsmod(const std::vector<LoadedModule>& modules) {
  CommandResult said{0, "Module                  Size  Used by\n", ""};
  for (auto module = modules.rbegin(); module != modules.rend(); ++module)  // the newest first
    said.out += fmt::format("{:<20}{:>8}{:>4} (unused)\n", module->name, 0, 0);
  return said;
}

void add_names(const std::string& path, std::vector<std::string>& names) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    names.push_back(module_name(line.substr(0, line.find_first_of(" :"))));
}

}  // namespace

MachineModules modules_of_this_machine() {
  MachineModules machine;
  utsname kernel{};
  uname(&kernel);
  std::string folder = std::string("/lib/modules/") + kernel.release + "/";
  add_names("/proc/modules", machine.present);
  add_names(folder + "modules.builtin", machine.present);
  add_names(folder + "modules.dep", machine.available);
  return machine;
}

bool is_module_command(const std::string& name) {
  return has({"modprobe", "insmod", "rmmod", "lsmod", "depmod"}, name);
}

CommandResult run_module_command(const std::vector<std::string>& argv,
                                 const MachineModules& machine,
                                 std::vector<LoadedModule>& modules) {
  std::string name = last_part(argv[0]);
  if (name == "modprobe") return modprobe(argv, machine, modules);
  if (name == "insmod") return insmod(argv, machine, modules);
  if (name == "rmmod") return rmmod(argv, machine, modules);
  if (name == "lsmod") return lsmod(modules);
  return {};  // depmod: what depends on what has been settled here for long
}

}  // namespace masq
