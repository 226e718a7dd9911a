// The program behind ipchains, ipchains-save, ipchains-restore and ipfwadm: it does what the name
// says by which it is called. Their languages are in src/compat.
#include <cstdio>
#include <cstring>

#include "compat/main/machine.h"

namespace masq {
namespace {

struct OldCommand {
  const char* name;
  CommandResult (*run)(const std::vector<std::string>& words, Machine& machine);
};

constexpr OldCommand kCommands[] = {
    {"ipchains", [](const std::vector<std::string>& words,
                    Machine& machine) { return run_ipchains(words, machine); }},
    {"ipchains-save", [](const std::vector<std::string>& words,
                         Machine& machine) { return run_ipchains_save(words, machine); }},
    {"ipchains-restore", [](const std::vector<std::string>& words,
                            Machine& machine) { return run_ipchains_restore(words, machine); }},
    {"ipfwadm", [](const std::vector<std::string>& words, Machine& machine) {
       return run_ipfwadm(words, machine);
     }}};

int run(const std::string& name, const std::vector<std::string>& words) {
  for (const OldCommand& command : kCommands) {
    if (name != command.name) continue;
    Machine machine;
    const CommandResult result = command.run(words, machine);
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
