// `ipmasqadm`: which module, and what the modules share.
#include "compat/ipmasqadm.h"

#include <fmt/format.h>

#include "wire/headers.h"

namespace masq {
namespace {

struct Module {
  const char* name;
  CommandResult (*run)(const std::vector<std::string>&, ForwardWorld&);
};
constexpr Module kModules[] = {
    {"portfw", run_portfw}, {"autofw", run_autofw}, {"mfw", run_mfw}, {"user", run_user}};

constexpr const char* kHelp =
    "usage: ipmasqadm portfw|autofw|mfw|user OPTIONS\n"
    "  portfw  ports of the gateway that lead to inner hosts\n"
    "  autofw  ranges of ports that lead to a host, or to whoever uses a control port\n"
    "  mfw     what the rules have marked leads to inner hosts\n"
    "  user    single entries of the table\n"
    "`ipmasqadm MODULE -h' says more (autofw: `ipmasqadm autofw').\n";

}  // namespace

CommandResult wrong_usage(const std::string& command, const std::string& problem) {
  return {2, "", fmt::format("{}: {}; nothing was changed.\n", command, as_one_line(problem))};
}

CommandResult not_done(const std::string& command, const std::string& sentence) {
  return {1, "", fmt::format("{}: setsockopt failed: {}\n", command, as_one_line(sentence))};
}

CommandResult help(const std::string& text) {
  return {0, text, ""};
}

std::optional<u8> tcp_or_udp(const std::string& word) {
  if (word.starts_with('t') || word.starts_with('T')) return kProtocolTcp;
  if (word.starts_with('u') || word.starts_with('U')) return kProtocolUdp;
  return std::nullopt;
}

CommandResult run_ipmasqadm(const std::vector<std::string>& words, ForwardWorld& world) {
  if (words.empty()) return wrong_usage("ipmasqadm", "name a module: portfw, autofw, mfw or user");
  if (words[0] == "-h" || words[0] == "--help") return help(kHelp);
  for (const Module& module : kModules)
    if (words[0] == module.name) return module.run({words.begin() + 1, words.end()}, world);
  return {
      1, "",
      fmt::format("ipmasqadm: There is no module `{}'; there are portfw, autofw, mfw and user.\n",
                  words[0])};
}

}  // namespace masq
