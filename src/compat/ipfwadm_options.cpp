// Reading the command line of ipfwadm. First all words are taken as they stand, since ports may
// come before the protocol that gives their names a meaning; then they are read.
#include "compat/ipfwadm_options.h"

#include <algorithm>

#include "compat/option_reader.h"
#include "wire/headers.h"

namespace masq {
namespace {

// As they stand there.
struct Words {
  std::vector<std::string> direction, policy, source, destination, tos, redirect, timeouts;
  std::string protocol, address, interface;
  std::string flags;  // those that were given, of b e k m n o v x y
  std::string commands;
};

constexpr const char* kPolicies[] = {"accept", "deny", "reject", "masquerade"};
constexpr RuleTarget kTargets[] = {RuleTarget::accept, RuleTarget::deny, RuleTarget::reject,
                                   RuleTarget::masquerade};

AdmCategory category_of(char letter) {
  switch (letter) {
    case 'I':
      return AdmCategory::input;
    case 'F':
      return AdmCategory::forward;
    case 'O':
      return AdmCategory::output;
    case 'A':
      return AdmCategory::accounting;
    case 'M':
      return AdmCategory::masquerading;
    default:
      return AdmCategory::none;
  }
}

void take_once(OptionReader& options, std::string& to, char letter) {
  if (!to.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
  if (options.value().empty()) options.refuse(fmt::format("`-{}' has an empty value", letter));
  to = options.value();
}

// The words up to the next option, `first` among them if the option takes one in any case.
void take_more(OptionReader& options, std::vector<std::string>& to, std::size_t most,
               bool has_first, char letter) {
  if (!to.empty()) options.refuse(fmt::format("`-{}' is there twice", letter));
  to.clear();
  if (has_first) to.push_back(options.value());
  while (to.size() < most) {
    std::optional<std::string> more = options.another();
    if (!more) return;
    to.push_back(std::move(*more));
  }
}

void take_command(OptionReader& options, Words& words, char letter) {
  const bool list_and_zero =
      (words.commands == "l" && letter == 'z') || (words.commands == "z" && letter == 'l');
  if (!words.commands.empty() && !list_and_zero)
    options.refuse("only one command can be given, or -l with -z");
  words.commands += letter;
  if (letter == 'a' || letter == 'i' || letter == 'd')
    take_more(options, words.policy, 1, false, letter);
  if (letter == 'p') words.policy = {options.value()};
  if (letter == 's') take_more(options, words.timeouts, 3, true, letter);
}

void take(OptionReader& options, Words& words, AdmRequest& request, char letter) {
  constexpr std::size_t kAddressAndPorts = 1 + kAdmPortsMost;
  if (const AdmCategory category = category_of(letter); category != AdmCategory::none) {
    if (request.category != AdmCategory::none)
      options.refuse("only one of -I, -F, -O, -A and -M can be given");
    request.category = category;
    if (letter == 'A') take_more(options, words.direction, 1, false, letter);
    return;
  }
  switch (letter) {
    case 'P':
      return take_once(options, words.protocol, letter);
    case 'V':
      return take_once(options, words.address, letter);
    case 'W':
      return take_once(options, words.interface, letter);
    case 'S':
      return take_more(options, words.source, kAddressAndPorts, true, letter);
    case 'D':
      return take_more(options, words.destination, kAddressAndPorts, true, letter);
    case 't':
      return take_more(options, words.tos, 2, true, letter);
    case 'r':
      take_more(options, words.redirect, 1, false, letter);
      [[fallthrough]];
    case 'b':
    case 'e':
    case 'k':
    case 'm':
    case 'n':
    case 'o':
    case 'v':
    case 'x':
    case 'y':
      if (words.flags.find(letter) != std::string::npos)
        options.refuse(fmt::format("`-{}' is there twice", letter));
      words.flags += letter;
      return;
    default:
      take_command(options, words, letter);
  }
}

bool has(const Words& words, char flag) {
  return words.flags.find(flag) != std::string::npos;
}

// By its beginning.
Result<RuleTarget> policy_of(const std::string& word) {
  for (std::size_t i = 0; i < std::size(kPolicies) && !word.empty(); ++i)
    if (std::string_view(kPolicies[i]).starts_with(word)) return kTargets[i];
  return error("`{}' is none of accept, deny, reject and masquerade", word);
}

// The policy of a rule, with what -m and -r make of it.
Status read_target(const Words& words, AdmRequest& request) {
  const bool accounts = request.category == AdmCategory::accounting;
  if (words.policy.empty() != accounts)
    return accounts ? error("accounting rules have no policy")
                    : error("a rule needs a policy: accept, deny or reject");
  if (accounts && (has(words, 'm') || has(words, 'r')))
    return error("accounting rules neither masquerade nor redirect");
  if (accounts) return Done{};
  Result<RuleTarget> target = policy_of(words.policy[0]);
  if (!target) return target.error();
  const bool accepts = *target == RuleTarget::accept;
  if (has(words, 'm') && accepts) target = RuleTarget::masquerade;
  if (has(words, 'm') && *target != RuleTarget::masquerade)
    return error("only what is accepted can be masqueraded (-m)");
  if (*target == RuleTarget::masquerade && request.category != AdmCategory::forward)
    return error("only what is forwarded (-F) can be masqueraded");
  request.rule.target = *target;
  if (!has(words, 'r')) return Done{};
  if (!accepts || request.category != AdmCategory::input || has(words, 'm'))
    return error("only what input (-I) accepts can be redirected (-r)");
  request.rule.target = RuleTarget::redirect;
  return Done{};
}

Status read_ports(const std::vector<std::string>& said, const Rule& rule, const Names& names,
                  std::vector<PortMatch>& ports) {
  for (std::size_t i = 1; i < said.size(); ++i) {
    Result<PortMatch> port = ports_word(said[i], rule.protocol, names);
    if (!port) return port.error();
    if (rule.protocol == kProtocolIcmp && port->last > 0xff)
      return error("`{}' is no type of ICMP; they go from 0 to 255", said[i]);
    ports.push_back(*port);
  }
  return Done{};
}

Status read_endpoints(const Words& words, const Names& names, AdmRequest& request) {
  const Rule& rule = request.rule;
  const bool has_ports = words.source.size() > 1 || words.destination.size() > 1;
  const bool is_icmp = rule.protocol == kProtocolIcmp;
  if (has_ports && rule.protocol != kProtocolTcp && rule.protocol != kProtocolUdp && !is_icmp)
    return error("ports need a protocol (-P) that has them: tcp, udp, or icmp for its types");
  if (is_icmp && words.destination.size() > 1)
    return error("types of ICMP stand with the source (-S), not with the destination");
  for (const auto& [said, out] : {std::pair{&words.source, &request.sources},
                                  std::pair{&words.destination, &request.destinations}}) {
    Result<AddressWord> read = address_word(said->empty() ? "0/0" : said->front(), names);
    if (!read) return read.error();
    *out = *read;
  }
  Status status = read_ports(words.source, rule, names, request.source_ports);
  if (status) status = read_ports(words.destination, rule, names, request.destination_ports);
  if (!status) return status;
  u32 count = 0;
  for (const auto* ports : {&request.source_ports, &request.destination_ports})
    for (const PortMatch& port : *ports) count += port.first == port.last ? 1 : 2;
  if (count > kAdmPortsMost)
    return error("there may be {} ports in a rule, and a range is two of them", kAdmPortsMost);
  return Done{};
}

Status read_interface(const Words& words, FirewallWorld& world, Rule& rule) {
  if (!words.interface.empty())
    if (Status status = interface_word(words.interface, rule); !status) return status;
  if (words.address.empty()) return Done{};
  Result<AddressWord> address = address_word(words.address, world.names());
  if (!address) return address.error();
  if (address->mask.be == 0 || address->addresses[0].be == 0) return Done{};
  if (address->addresses.size() != 1 || ~address->mask.be != 0)
    return error("`{}' is not the one address of an interface", words.address);
  const std::string name = world.interface_of(address->addresses[0]);
  if (name.empty()) return error("no interface has the address {}", words.address);
  if (!rule.interface.empty() && (rule.interface != name || rule.any_suffix))
    return error("the address {} is that of {}, not of {}", words.address, name, words.interface);
  return interface_word(name, rule);
}

Status read_flags(const Words& words, AdmRequest& request) {
  Rule& rule = request.rule;
  rule.log = has(words, 'o');
  request.both_ways = has(words, 'b');
  if (has(words, 'k') && has(words, 'y'))
    return error("no packet opens a connection (-y) and acknowledges something (-k)");
  if (has(words, 'k') || has(words, 'y')) {
    if (rule.protocol == kProtocolTcp || rule.protocol == 0)
      rule.syn = has(words, 'y') ? Asked::yes : Asked::no;
    request.splits_tcp = rule.protocol == 0;
  }
  if (words.tos.size() == 1) return error("`-t' needs two bytes");
  if (!words.tos.empty()) return tos_words(words.tos[0], words.tos[1], rule);
  return Done{};
}

Status read_rule(const Words& words, FirewallWorld& world, AdmRequest& request) {
  Rule& rule = request.rule;
  if (!words.protocol.empty()) {
    Result<u8> protocol = protocol_word(words.protocol, world.names());
    if (!protocol) return protocol.error();
    rule.protocol = *protocol;
  }
  Status status = read_endpoints(words, world.names(), request);
  if (status) status = read_interface(words, world, rule);
  if (status) status = read_flags(words, request);
  if (!status || request.command == 'c') return status;
  status = read_target(words, request);
  if (!status || rule.target != RuleTarget::redirect) return status;
  if (rule.protocol != kProtocolTcp && rule.protocol != kProtocolUdp)
    return error("only tcp and udp can be redirected (-r)");
  if (words.redirect.empty()) return Done{};
  Result<PortMatch> port = ports_word(words.redirect[0], rule.protocol, world.names());
  if (!port) return port.error();
  if (port->first != port->last) return error("`{}' is not one port", words.redirect[0]);
  rule.redirect_port = port->first;
  return Done{};
}

// A packet is described whole.
Status check_packet(const AdmRequest& request, const Words& words) {
  if (words.source.empty() || words.destination.empty() || request.rule.protocol == 0 ||
      request.rule.interface.empty())
    return error("checking needs -P, -S, -D and the interface by -V or -W");
  const bool has_ports =
      request.rule.protocol == kProtocolTcp || request.rule.protocol == kProtocolUdp;
  const auto is_one = [](const AddressWord& address, const std::vector<PortMatch>& ports) {
    return address.addresses.size() == 1 && ~address.mask.be == 0 && ports.size() == 1 &&
           ports[0].first == ports[0].last;
  };
  if (has_ports && !(is_one(request.sources, request.source_ports) &&
                     is_one(request.destinations, request.destination_ports)))
    return error("checking needs one address and one port on each side");
  return Done{};
}

Status read_timeouts(const Words& words, AdmRequest& request) {
  if (words.timeouts.size() != 3) return error("`-s' needs three numbers: tcp, tcpfin and udp");
  for (std::size_t i = 0; i < 3; ++i) {
    const std::optional<u32> seconds = number_from(words.timeouts[i], kAdmTimeoutMost_s);
    if (!seconds)
      return error("`{}' is no number of seconds from 0 to {}", words.timeouts[i],
                   kAdmTimeoutMost_s);
    request.timeouts_s[i] = *seconds;
  }
  return Done{};
}

Status read_direction(const Words& words, AdmRequest& request) {
  if (words.direction.empty()) return Done{};
  const std::string& word = words.direction[0];
  if (word != "in" && word != "out" && word != "both")
    return error("`{}' is none of in, out and both", word);
  request.counts_in = word != "out";
  request.counts_out = word != "in";
  return Done{};
}

// Which commands a category has, and which flags a command takes.
Status check_form(const Words& words, const AdmRequest& request) {
  if (request.category == AdmCategory::none) return error("name a category: -I, -F, -O, -A or -M");
  if (request.command == 0) return error("name a command, such as -a, -d, -f, -l or -p");
  const char* commands = request.category == AdmCategory::masquerading ? "ls"
                         : request.category == AdmCategory::accounting ? "aidlzf"
                                                                       : "aidlzfpc";
  if (std::string_view(commands).find(request.command) == std::string_view::npos ||
      (request.category == AdmCategory::masquerading && request.zeroes))
    return error("that category has no command `-{}'", request.zeroes ? 'z' : request.command);
  const bool has_rule = std::string_view("aidc").find(request.command) != std::string_view::npos;
  const bool says_rule = !words.protocol.empty() || !words.address.empty() ||
                         !words.interface.empty() || !words.source.empty() ||
                         !words.destination.empty() || !words.tos.empty();
  if (!has_rule && says_rule)
    return error("`-{}' takes none of -P, -S, -D, -V, -W and -t", request.command);
  const std::string_view allowed = request.command == 'c'   ? "kvyn"
                                   : has_rule               ? "bkmorvyn"
                                   : request.command == 'l' ? "envx"
                                                            : "v";
  for (char flag : words.flags)
    if (allowed.find(flag) == std::string_view::npos)
      return error("`-{}' cannot stand with `-{}'", flag, request.command);
  return Done{};
}

}  // namespace

Result<AdmRequest> read_adm_request(const std::vector<std::string>& words, FirewallWorld& world) {
  OptionReader options(words, "IFOAMaidlzfp:s:chP:S:D:V:W:t:rbekmnovxy");
  AdmRequest request;
  Words said;
  while (const char letter = options.next()) {
    if (letter == 'h') {
      request.command = 'h';
      return request;
    }
    take(options, said, request, letter);
  }
  if (!options.problem().empty()) return Error{options.problem()};
  request.zeroes = said.commands.size() == 2;
  request.command = request.zeroes ? 'l' : said.commands.empty() ? '\0' : said.commands[0];
  request.extended = has(said, 'e');
  request.numeric = has(said, 'n');
  request.verbose = has(said, 'v');
  request.exact = has(said, 'x');
  Status status = check_form(said, request);
  if (status) status = read_direction(said, request);
  if (!status) return status.error();
  if (request.command == 's') status = read_timeouts(said, request);
  if (std::string_view("aidc").find(request.command) != std::string_view::npos)
    status = read_rule(said, world, request);
  if (status && request.command == 'c') status = check_packet(request, said);
  if (request.command == 'p') {
    Result<RuleTarget> policy = policy_of(said.policy[0]);
    if (!policy) return policy.error();
    request.policy = *policy;
  }
  if (!status) return status.error();
  return request;
}

std::string adm_help() {
  return "usage: ipfwadm -I|-F|-O COMMAND [PARAMETERS] [OPTIONS]\n"
         "       ipfwadm -A [in|out|both] COMMAND [PARAMETERS] [OPTIONS]\n"
         "       ipfwadm -M -l [-n] [-e]\n"
         "       ipfwadm -M -s TCP TCPFIN UDP\n"
         "commands\n"
         "  -a [POLICY]  append a rule, which is for accept, deny, reject or masquerade\n"
         "  -i [POLICY]  insert one before all others\n"
         "  -d [POLICY]  delete one\n"
         "  -l           list the rules (with -z: and then forget what they counted)\n"
         "  -z           forget what the rules counted\n"
         "  -f           delete all rules\n"
         "  -p POLICY    what happens to packets that no rule fits\n"
         "  -c           say what happens to a packet\n"
         "parameters\n"
         "  -P PROTOCOL             tcp, udp, icmp, all, or a number\n"
         "  -S ADDRESS[/MASK] [PORT...]   source; ports are numbers, services or FIRST:LAST\n"
         "  -D ADDRESS[/MASK] [PORT...]   destination\n"
         "  -V ADDRESS, -W NAME     the interface, by its address or by its name\n"
         "options\n"
         "  -b  both ways        -e  more columns     -k  TCP with ACK   -m  masquerade\n"
         "  -n  numbers only     -o  log              -r [PORT]  redirect to the gateway\n"
         "  -t AND XOR  change the type of service     -v  say more       -x  counters in full\n"
         "  -y  TCP that opens a connection\n";
}

}  // namespace masq
