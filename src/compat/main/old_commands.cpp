// The program behind ipchains, ipchains-save, ipchains-restore, ipfwadm, ipmasqadm and ipportfw: it
// does what the name says by which it is called. Their languages are in src/compat.
//
// In a script that `masq run-script` runs, the environment names a stage: there they act on that,
// and nowhere else.
#include <cstdio>
#include <cstring>

#include "compat/main/machine.h"
#include "compat/main/stage_machine.h"

namespace masq {
namespace {

using Words = std::vector<std::string>;

struct OldCommand {
  const char* name;
  CommandResult (*run)(const Words& words, FirewallWorld& rules, ForwardWorld& forwards);
};

constexpr OldCommand kCommands[] = {
    {"ipchains", [](const Words& words, FirewallWorld& rules,
                    ForwardWorld&) { return run_ipchains(words, rules); }},
    {"ipchains-save", [](const Words& words, FirewallWorld& rules,
                         ForwardWorld&) { return run_ipchains_save(words, rules); }},
    {"ipchains-restore", [](const Words& words, FirewallWorld& rules,
                            ForwardWorld&) { return run_ipchains_restore(words, rules); }},
    {"ipfwadm", [](const Words& words, FirewallWorld& rules,
                   ForwardWorld&) { return run_ipfwadm(words, rules); }},
    {"ipmasqadm", [](const Words& words, FirewallWorld&,
                     ForwardWorld& forwards) { return run_ipmasqadm(words, forwards); }},
    {"ipportfw", [](const Words& words, FirewallWorld&, ForwardWorld& forwards) {
       return run_ipportfw(words, forwards);
     }}};

CommandResult run_command(const OldCommand& command, const Words& words) {
  const std::string stage_folder = stage_in_environment();
  if (stage_folder.empty()) {
    Machine machine;
    return command.run(words, machine, machine);
  }
  Result<Stage> stage = Stage::open(stage_folder);
  if (!stage) return {1, "", fmt::format("{}: {}\n", command.name, stage.error().sentence)};
  StageMachine machine(std::move(*stage));
  return command.run(words, machine, machine);
}

int run(const std::string& name, const Words& words) {
  for (const OldCommand& command : kCommands) {
    if (name != command.name) continue;
    const CommandResult result = run_command(command, words);
    std::fputs(result.out.c_str(), stdout);
    std::fputs(result.err.c_str(), stderr);
    return result.exit_code;
  }
  std::fprintf(stderr, "%s: no command of masq has this name.\n", name.c_str());
  return 2;
}

}  // namespace
}  // namespace masq

int main(int count, char** arguments) {
  const char* slash = count > 0 ? std::strrchr(arguments[0], '/') : nullptr;
  const std::string name = slash != nullptr ? slash + 1 : count > 0 ? arguments[0] : "";
  return masq::run(name, std::vector<std::string>(arguments + (count > 0), arguments + count));
}
