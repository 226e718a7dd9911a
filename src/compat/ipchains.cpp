// The commands themselves: reading the words, loading, changing, storing, and what is printed.
#include "compat/ipchains.h"

#include <algorithm>

#include "compat/icmp_names.h"
#include "compat/ipchains_apply.h"
#include "compat/ipchains_check.h"
#include "compat/ipchains_list.h"
#include "compat/ipchains_save.h"

namespace masq {
namespace {

// Below these, RFC 5382 REQ-5 and RFC 4787 REQ-5 say, connections that live are cut.
constexpr u32 kTcpLeast_s = 7440, kTcpFinLeast_s = 240, kUdpLeast_s = 120;

CommandResult wrong_usage(const char* command, const Error& why) {
  return {2, "",
          fmt::format("{}: {}\nTry `{} -h' for more information.\n", command,
                      as_one_line(why.sentence), command)};
}

CommandResult refused(const char* command, const Error& why) {
  return {1, "", fmt::format("{}: {}\n", command, as_one_line(why.sentence))};
}

CommandResult done(std::string out, std::string err = "") {
  return {0, std::move(out), std::move(err)};
}

CommandResult set_timeouts(const ChainsRequest& request, ChainsWorld& world) {
  const u32* s = request.timeouts_s;
  const Status status = world.set_timeouts(s[0], s[1], s[2]);
  if (!status) return refused("ipchains", status.error());
  if (!request.verbose) return done("");
  std::string err;
  const u32 least[] = {kTcpLeast_s, kTcpFinLeast_s, kUdpLeast_s};
  const char* const of[] = {"TCP connections (RFC 5382)", "TCP connections that end (RFC 5382)",
                            "UDP (RFC 4787)"};
  for (int i = 0; i < 3; ++i)
    if (s[i] != 0 && s[i] < least[i])
      err += fmt::format("Note: {} s is less than the {} s that a gateway should have for {}.\n",
                         s[i], least[i], of[i]);
  return done("", err);
}

// What -v prints: the rules that a command is about.
std::string described(const ChainsRequest& request) {
  const bool has_rules = request.command <= ChainsCommand::replace &&
                         !(request.command == ChainsCommand::remove && request.number);
  std::string out;
  if (request.verbose && has_rules)
    for (const Rule& rule : rules_of(request)) out += rule_in_words(rule);
  return out;
}

std::string warning(const ChainsRequest& request, const ChainsWorld& world) {
  const bool adds = request.command == ChainsCommand::append ||
                    request.command == ChainsCommand::insert ||
                    request.command == ChainsCommand::replace;
  if (!adds || !request.warns || request.chain != "forward") return "";
  if (world.forwards() || !world.is_terminal()) return "";
  return "Warning: IP forwarding is off, so nothing passes until it is switched on:\n"
         "  echo 1 > /proc/sys/net/ipv4/ip_forward\n";
}

CommandResult with_rules(const ChainsRequest& request, ChainsWorld& world) {
  Result<RuleSet> rules = world.load();
  if (!rules) return refused("ipchains", rules.error());
  std::string out = described(request);
  if (request.command == ChainsCommand::list) {
    ListStyle style;
    style.names = request.numeric ? nullptr : &world.names();
    style.verbose = request.verbose;
    style.exact = request.exact;
    style.line_numbers = request.line_numbers;
    const Result<std::string> listing = list_chains(*rules, request.chain, style);
    if (!listing) return refused("ipchains", listing.error());
    out += *listing;
  }
  if (request.command == ChainsCommand::check) {
    const Result<std::string> verdicts = check_packets(request, *rules);
    if (!verdicts) return refused("ipchains", verdicts.error());
    out += *verdicts;
  }
  if (request.changes_rules()) {
    Status status = apply_chains_request(request, *rules);
    if (status) status = world.store(*rules);
    if (!status) return refused("ipchains", status.error());
    out += warning(request, world);
  }
  return done(out);
}

}  // namespace

CommandResult run_ipchains(const std::vector<std::string>& words, ChainsWorld& world) {
  const Result<ChainsRequest> request = read_chains_request(words, world.names());
  if (!request) return wrong_usage("ipchains", request.error());
  switch (request->command) {
    case ChainsCommand::help:
      return done(request->help_topic.empty() ? chains_help() : list_of_icmp_names());
    case ChainsCommand::version:
      return done("ipchains 1.3.9, by masq " MASQ_VERSION "\n");
    case ChainsCommand::masquerade_set:
      return set_timeouts(*request, world);
    case ChainsCommand::masquerade_list: {
      const Result<std::vector<MasqueradeEntry>> entries = world.entries();
      if (!entries) return refused("ipchains", entries.error());
      const Names* names = request->numeric ? nullptr : &world.names();
      return done(masquerade_listing(*entries, names, request->verbose));
    }
    default:
      return with_rules(*request, world);
  }
}

CommandResult run_ipchains_save(const std::vector<std::string>& words, ChainsWorld& world) {
  std::string chain;
  bool verbose = false;
  for (const std::string& word : words) {
    if (word == "-v" && !verbose)
      verbose = true;
    else if (!word.empty() && word[0] != '-' && chain.empty())
      chain = word;
    else if (word == "-h" || word == "--help")
      return done("Usage: ipchains-save [CHAIN] [-v]\n");
    else
      return wrong_usage("ipchains-save", error("unexpected word `{}'", word));
  }
  const Result<RuleSet> rules = world.load();
  if (!rules) return refused("ipchains-save", rules.error());
  std::string said;
  const Result<std::string> saved = save_chains(*rules, chain, verbose, said);
  return saved ? done(*saved, said) : refused("ipchains-save", saved.error());
}

CommandResult run_ipchains_restore(const std::vector<std::string>& words, ChainsWorld& world) {
  RestoreStyle style;
  for (const std::string& word : words) {
    if (word == "-h" || word == "--help") return done("Usage: ipchains-restore [-v] [-f] [-p]\n");
    const bool is_option =
        word.size() > 1 && word[0] == '-' && word.find_first_not_of("vfp", 1) == std::string::npos;
    if (!is_option) return wrong_usage("ipchains-restore", error("unexpected word `{}'", word));
    style.verbose |= word.find('v') != std::string::npos;
    style.flush |= word.find('f') != std::string::npos;
    style.makes_chains |= word.find('p') != std::string::npos;
  }
  style.asks_to_flush = [&](const std::string& question) { return world.asks_to_flush(question); };
  Result<RuleSet> rules = world.load();
  if (!rules) return refused("ipchains-restore", rules.error());
  std::string said;
  Status status = restore_chains(world.input(), style, world.names(), *rules, said);
  if (status) status = world.store(*rules);
  CommandResult result = status ? done("") : refused("ipchains-restore", status.error());
  result.out = said;
  return result;
}

}  // namespace masq
