// Reading the command line of ipchains: first the words as options, then which command they are and
// what may stand beside it, then each option, and the ports last, since they may stand before -p.
#include "compat/ipchains_options.h"

#include <algorithm>
#include <map>

#include "compat/icmp_names.h"
#include "compat/option_words.h"

namespace masq {
namespace {

// Numbers of options that have no letter.
enum : int { kSourcePort = 1000, kDestinationPort, kIcmpType, kLineNumbers, kNoWarnings };

const OptionGrammar& grammar() {
  static const OptionGrammar known{
      {{'A', OptionTakes::value},          {'I', OptionTakes::value_and_more},
       {'D', OptionTakes::value_and_more}, {'R', OptionTakes::value_and_more},
       {'C', OptionTakes::value},          {'L', OptionTakes::more},
       {'F', OptionTakes::more},           {'Z', OptionTakes::more},
       {'N', OptionTakes::value},          {'X', OptionTakes::more},
       {'P', OptionTakes::value_and_more}, {'M', OptionTakes::nothing},
       {'S', OptionTakes::value_and_more}, {'h', OptionTakes::more},
       {'V', OptionTakes::nothing},        {'p', OptionTakes::value},
       {'s', OptionTakes::value_and_more}, {'d', OptionTakes::value_and_more},
       {'j', OptionTakes::value_and_more}, {'i', OptionTakes::value},
       {'y', OptionTakes::nothing},        {'f', OptionTakes::nothing},
       {'b', OptionTakes::nothing},        {'l', OptionTakes::nothing},
       {'o', OptionTakes::more},           {'m', OptionTakes::value},
       {'t', OptionTakes::value_and_more}, {'v', OptionTakes::nothing},
       {'n', OptionTakes::nothing},        {'x', OptionTakes::nothing},
       {kSourcePort, OptionTakes::value},  {kDestinationPort, OptionTakes::value},
       {kIcmpType, OptionTakes::value},    {kLineNumbers, OptionTakes::nothing},
       {kNoWarnings, OptionTakes::nothing}},
      {{"append", 'A'},
       {"insert", 'I'},
       {"delete", 'D'},
       {"replace", 'R'},
       {"check", 'C'},
       {"list", 'L'},
       {"flush", 'F'},
       {"zero", 'Z'},
       {"new-chain", 'N'},
       {"delete-chain", 'X'},
       {"policy", 'P'},
       {"masquerading", 'M'},
       {"set", 'S'},
       {"help", 'h'},
       {"version", 'V'},
       {"protocol", 'p'},
       {"source", 's'},
       {"src", 's'},
       {"destination", 'd'},
       {"dst", 'd'},
       {"jump", 'j'},
       {"interface", 'i'},
       {"syn", 'y'},
       {"fragments", 'f'},
       {"bidirectional", 'b'},
       {"log", 'l'},
       {"output", 'o'},
       {"mark", 'm'},
       {"TOS", 't'},
       {"verbose", 'v'},
       {"numeric", 'n'},
       {"exact", 'x'},
       {"sport", kSourcePort},
       {"source-port", kSourcePort},
       {"dport", kDestinationPort},
       {"destination-port", kDestinationPort},
       {"icmp-type", kIcmpType},
       {"line-numbers", kLineNumbers},
       {"no-warnings", kNoWarnings}}};
  return known;
}

struct CommandRules {
  int letter;
  ChainsCommand command;
  std::vector<int> options;  // that may stand beside it
};

const std::vector<int> kSpecification{'p',      's', 'd', 'j',         'i',
                                      'y',      'f', 'b', 'l',         'o',
                                      'm',      't', 'v', kSourcePort, kDestinationPort,
                                      kIcmpType};

std::vector<int> without(std::vector<int> from, const std::vector<int>& these) {
  from.erase(
      std::remove_if(from.begin(), from.end(),
                     [&](int each) { return std::count(these.begin(), these.end(), each) != 0; }),
      from.end());
  return from;
}

const std::vector<CommandRules>& commands() {
  static const std::vector<CommandRules> known{
      {'A', ChainsCommand::append, kSpecification},
      {'I', ChainsCommand::insert, kSpecification},
      {'D', ChainsCommand::remove, kSpecification},
      {'R', ChainsCommand::replace, without(kSpecification, {'b'})},
      {'C', ChainsCommand::check, without(kSpecification, {'j', 'l', 'o', 'm', 't'})},
      {'L', ChainsCommand::list, {'n', 'v', 'x', kLineNumbers}},
      {'F', ChainsCommand::flush, {'v'}},
      {'Z', ChainsCommand::zero, {'v'}},
      {'N', ChainsCommand::create, {'v'}},
      {'X', ChainsCommand::destroy, {'v'}},
      {'P', ChainsCommand::policy, {'v'}},
      {'M', ChainsCommand::masquerade_list, {'n', 'v'}},
      {'S', ChainsCommand::masquerade_set, {'v'}},
      {'h', ChainsCommand::help, {'v'}},
      {'V', ChainsCommand::version, {'v'}}};
  return known;
}

const CommandRules* command_of(int letter) {
  for (const CommandRules& each : commands())
    if (each.letter == letter) return &each;
  return nullptr;
}

struct TargetWord {
  const char* word;
  RuleTarget target;
};
constexpr TargetWord kTargets[] = {
    {"ACCEPT", RuleTarget::accept},     {"DENY", RuleTarget::deny},
    {"REJECT", RuleTarget::reject},     {"MASQ", RuleTarget::masquerade},
    {"REDIRECT", RuleTarget::redirect}, {"RETURN", RuleTarget::go_back}};

class Reading {
 public:
  Reading(std::vector<GivenOption> given, const Names& names)
      : given_(std::move(given)), names_(names) {}

  Result<ChainsRequest> read() {
    for (Status (Reading::*part)() :
         {&Reading::sort, &Reading::find_command, &Reading::read_command, &Reading::read_flags,
          &Reading::read_protocol, &Reading::read_addresses, &Reading::read_what_it_does,
          &Reading::read_target, &Reading::read_interface, &Reading::read_ports,
          &Reading::check_together, &Reading::check_checked}) {
      const Status status = (this->*part)();
      if (!status) return status.error();
    }
    return request_;
  }

 private:
  const GivenOption* given(int code) const {
    const auto found = by_code_.find(code);
    return found == by_code_.end() ? nullptr : found->second;
  }
  bool has(int code) const { return given(code) != nullptr; }

  // Each option once, and `!' only where it means something.
  Status sort() {
    static const std::vector<int> invertible{
        'p', 's', 'd', 'i', 'y', 'f', kSourcePort, kDestinationPort, kIcmpType};
    for (const GivenOption& each : given_) {
      if (!by_code_.emplace(each.code, &each).second)
        return error("multiple {} flags not allowed", each.spelt);
      const bool may = std::count(invertible.begin(), invertible.end(), each.code) != 0;
      if (each.inverted && !may) return error("`!' cannot stand before {}", each.spelt);
    }
    return Done{};
  }

  Status find_command() {
    const GivenOption* first = nullptr;
    if (has('M') && has('L') && has('Z')) return error("-Z cannot be given with -M");
    for (const GivenOption& each : given_) {
      if (command_of(each.code) == nullptr) continue;
      if (first == nullptr)
        first = &each;
      else if (!go_together(first->code, each.code))
        return error("{} and {} cannot be given together; one command at a time", first->spelt,
                     each.spelt);
      else if (is_less(first->code, each.code))
        first = &each;
    }
    if (first == nullptr) return error("no command given: what is to be done?");
    command_ = first;
    rules_ = command_of(first->code);
    request_.command = rules_->command;
    request_.zeroes = has('L') && has('Z');
    if (first->code == 'M' && !has('L'))
      return error("-M needs -L, to list what is masqueraded, or -S, to set timeouts");
    return check_options();
  }

  static bool go_together(int a, int b) {
    auto are = [&](int c, int d) { return (a == c && b == d) || (a == d && b == c); };
    return are('L', 'Z') || are('M', 'L') || are('M', 'S');
  }

  // Which of two commands that go together says what is done: L of L and Z, M of M and L, S of M,
  // S.
  static bool is_less(int a, int b) {
    return (a == 'Z' && b == 'L') || (a == 'L' && b == 'M') || (a == 'M' && b == 'S');
  }

  Status check_options() {
    for (const GivenOption& each : given_) {
      if (command_of(each.code) != nullptr || each.code == kNoWarnings) continue;
      const auto& may = rules_->options;
      if (std::count(may.begin(), may.end(), each.code) == 0)
        return error("{} cannot be given with {}", each.spelt, command_->spelt);
    }
    return Done{};
  }

  Status no_more(const GivenOption& option, std::size_t most) const {
    for (std::size_t i = 0; i < option.words.size(); ++i)
      if (i >= most || (option.inverted_words[i] && option.code != 's' && option.code != 'd'))
        return error("unexpected word `{}' after {}", i >= most ? option.words[i] : "!",
                     option.spelt);
    return Done{};
  }

  Status take_chain(const std::string& name) {
    if (name.size() > kChainNameMost)
      return error("chain name `{}' is too long; names have at most {} characters", name,
                   kChainNameMost);
    if (name.empty() || name[0] == '-' || name[0] == '!')
      return error("`{}' is no name of a chain, which must follow {}", name, command_->spelt);
    request_.chain = name;
    return Done{};
  }

  Status take_number(const std::string& word) {
    const Result<u32> number = number_word(word, "the number of a rule", 1, 0x7fffffff);
    if (!number) return number.error();
    request_.number = *number;
    return Done{};
  }

  // What the command itself takes.
  Status read_command() {
    static const std::map<int, std::size_t> most{{'I', 2}, {'D', 2}, {'R', 2}, {'P', 2}, {'S', 3},
                                                 {'A', 1}, {'C', 1}, {'L', 1}, {'F', 1}, {'Z', 1},
                                                 {'N', 1}, {'X', 1}, {'h', 1}, {'M', 0}, {'V', 0}};
    for (const GivenOption& each : given_) {
      if (command_of(each.code) == nullptr) continue;
      const bool alone = has('M') && each.code == 'L';
      const bool all = has('L') && has('Z');
      const Status status = no_more(each, alone || all ? 0 : most.at(each.code));
      if (!status) return status;
    }
    const auto& words = command_->words;
    switch (command_->code) {
      case 'M':
      case 'V':
        return Done{};
      case 'h':
        if (!words.empty()) request_.help_topic = words[0];
        if (!words.empty() && words[0] != "icmp")
          return error("there is help about `icmp' only, not about `{}'", words[0]);
        return Done{};
      case 'S':
        return read_timeouts(words);
      default:
        if (words.empty()) return Done{};
    }
    const Status status = take_chain(words[0]);
    if (!status) return status;
    if (command_->code == 'P') return read_policy(words);
    if (words.size() > 1) return take_number(words[1]);
    if (command_->code == 'R') return error("-R needs the number of the rule behind the chain");
    return Done{};
  }

  Status read_timeouts(const std::vector<std::string>& words) {
    if (words.size() != 3)
      return error("-S needs three timeouts in seconds: of TCP, of TCP after a FIN, and of UDP");
    for (std::size_t i = 0; i < 3; ++i) {
      const Result<u32> timeout = number_word(words[i], "a timeout", 0, 0x7fffffff);
      if (!timeout) return timeout.error();
      request_.timeouts_s[i] = *timeout;
    }
    return Done{};
  }

  Status read_policy(const std::vector<std::string>& words) {
    if (words.size() != 2) return error("-P needs a chain and its policy");
    for (const TargetWord& each : kTargets)
      if (words[1] == each.word && each.target != RuleTarget::redirect &&
          each.target != RuleTarget::go_back) {
        request_.policy = each.target;
        return Done{};
      }
    return error("`{}' is no policy; it must be ACCEPT, DENY, REJECT, or MASQ", words[1]);
  }

  Status read_flags() {
    request_.verbose = has('v');
    request_.numeric = has('n');
    request_.exact = has('x');
    request_.line_numbers = has(kLineNumbers);
    request_.warns = !has(kNoWarnings);
    request_.both_ways = has('b');
    Rule& rule = request_.rule;
    rule.log = has('l');
    if (const GivenOption* syn = given('y')) rule.syn = syn->inverted ? Asked::no : Asked::yes;
    if (const GivenOption* later = given('f'))
      rule.later_fragment = later->inverted ? Asked::no : Asked::yes;
    return Done{};
  }

  Status read_protocol() {
    const GivenOption* option = given('p');
    if (option == nullptr) return Done{};
    const Result<u8> protocol = protocol_word(option->words[0], names_);
    if (!protocol) return protocol.error();
    request_.rule.protocol = *protocol;
    request_.rule.protocol_inverted = option->inverted;
    if (*protocol == 0 && option->inverted) return error("no packet has the protocol `! all'");
    return Done{};
  }

  Status read_addresses() {
    for (const int code : {'s', 'd'}) {
      const GivenOption* option = given(code);
      AddressWord& addresses = code == 's' ? request_.sources : request_.destinations;
      AddressMatch& match = code == 's' ? request_.rule.source : request_.rule.destination;
      addresses = AddressWord{{Ipv4{}}, Ipv4{}};
      if (option == nullptr) continue;
      const Result<AddressWord> read = address_word(option->words[0], names_);
      if (!read) return in_place_of_address(*option, read.error());
      const Status status = no_more(*option, 2);
      if (!status) return status;
      addresses = *read;
      match.inverted = option->inverted;
      if (addresses.addresses.size() > 1 && option->inverted)
        return error("`{}' has several addresses, and so cannot be inverted", option->words[0]);
    }
    const bool several =
        request_.sources.addresses.size() > 1 || request_.destinations.addresses.size() > 1;
    if (several && request_.command == ChainsCommand::replace)
      return error("-R replaces one rule, but a name has several addresses");
    if (several && request_.both_ways)
      return error("-b cannot be given where a name has several addresses");
    return Done{};
  }

  // `-s -j MASQ': the value has been lost, as in copies of scripts that went through a web page.
  static Error in_place_of_address(const GivenOption& option, const Error& why) {
    const std::string& word = option.words[0];
    if (word.empty() || word[0] != '-') return why;
    return error("{}; has the address after {} been lost?", why.sentence, option.spelt);
  }

  Status read_what_it_does() {
    Rule& rule = request_.rule;
    if (const GivenOption* mark = given('m')) {
      const Status status = mark_word(mark->words[0], rule);
      if (!status) return status;
    }
    if (const GivenOption* tos = given('t')) {
      if (tos->words.size() != 2) return error("-t needs two bytes in hexadecimal");
      const Status status = tos_words(tos->words[0], tos->words[1], rule);
      if (!status) return status;
      if (tos->inverted_words[1]) return error("`!' cannot stand before a value of -t");
    }
    if (const GivenOption* copies = given('o')) {
      const Status status = no_more(*copies, 1);
      if (!status) return status;
      rule.copies = true;
      if (copies->words.empty()) return Done{};
      const Result<u32> most = number_word(copies->words[0], "the size of copies", 0, 0xffff);
      if (!most) return most.error();
      rule.copy_most = static_cast<u16>(*most);
    }
    return Done{};
  }

  Status read_target() {
    const GivenOption* option = given('j');
    if (option == nullptr) return Done{};
    Rule& rule = request_.rule;
    const std::string& word = option->words[0];
    rule.target = RuleTarget::chain;
    for (const TargetWord& each : kTargets)
      if (word == each.word) rule.target = each.target;
    if (rule.target == RuleTarget::chain) {
      if (word.size() > kChainNameMost)
        return error("target `{}' is too long; chains have at most {} characters", word,
                     kChainNameMost);
      if (word.empty() || word[0] == '-' || word[0] == '!')
        return error("`{}' is no target, which must follow {}", word, option->spelt);
      rule.chain = word;
    }
    const Status status = no_more(*option, rule.target == RuleTarget::redirect ? 2 : 1);
    if (!status || rule.target != RuleTarget::redirect) return status;
    const bool fits = rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp;
    if (!fits || rule.protocol_inverted) return error("REDIRECT needs -p tcp or -p udp");
    if (option->words.size() < 2) return Done{};
    const Result<PortMatch> port = ports_word(option->words[1], rule.protocol, names_);
    if (!port) return port.error();
    if (port->first != port->last) return error("REDIRECT leads to one port only");
    rule.redirect_port = port->first;
    return Done{};
  }

  Status read_interface() {
    const GivenOption* option = given('i');
    if (option == nullptr) return Done{};
    const Status status = interface_word(option->words[0], request_.rule);
    if (!status) return status;
    request_.rule.interface_inverted = option->inverted;
    if (request_.rule.interface.empty() && option->inverted)
      return error("no interface is `! {}'", option->words[0]);
    return Done{};
  }

  struct PortWord {
    std::string word;
    bool inverted = false, given = false;
  };

  // The ports of one side: behind the address, or with an option of their own.
  Status find_ports(int code, int port_code, PortWord& out) const {
    const GivenOption* address = given(code);
    if (address != nullptr && address->words.size() > 1)
      out = {address->words[1], address->inverted_words[1], true};
    for (const int other : {port_code, int{kIcmpType}}) {
      const GivenOption* option = given(other);
      if (option == nullptr || (other == kIcmpType && port_code != kSourcePort)) continue;
      if (out.given) return error("{} says what is given already (`{}')", option->spelt, out.word);
      out = {option->words[0], option->inverted, true};
    }
    return Done{};
  }

  Status read_ports() {
    PortWord source, destination;
    Status status = find_ports('s', kSourcePort, source);
    if (status) status = find_ports('d', kDestinationPort, destination);
    if (!status || (!source.given && !destination.given)) return status;
    Rule& rule = request_.rule;
    const bool has_ports = rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp ||
                           rule.protocol == kProtocolIcmp;
    if (!has_ports || rule.protocol_inverted)
      return error("ports need -p tcp, -p udp or -p icmp, not inverted (`{}')",
                   source.given ? source.word : destination.word);
    if (has(kIcmpType) && rule.protocol != kProtocolIcmp) return error("--icmp-type needs -p icmp");
    if (rule.later_fragment == Asked::yes)
      return error("-f cannot be given with ports or ICMP types, which later fragments lack");
    if (rule.protocol == kProtocolIcmp) return read_icmp(source, destination);
    for (const bool of_source : {true, false}) {
      const PortWord& word = of_source ? source : destination;
      if (!word.given) continue;
      const Result<PortMatch> ports = ports_word(word.word, rule.protocol, names_);
      if (!ports) return ports.error();
      PortMatch& match = of_source ? rule.source_ports : rule.destination_ports;
      match = *ports;
      match.inverted = word.inverted;
    }
    return Done{};
  }

  static bool is_name(const std::string& word) {
    return !word.empty() && word[0] != ':' && (word[0] < '0' || word[0] > '9');
  }

  Status read_icmp_number(const PortWord& word, PortMatch& match) {
    if (!word.given) return Done{};
    const Result<PortMatch> numbers = ports_word(word.word, kProtocolIcmp, names_);
    if (!numbers) return numbers.error();
    if (numbers->first > 255 || (numbers->last > 255 && numbers->last != 0xffff))
      return error("types and codes of ICMP go from 0 to 255, not to `{}'", word.word);
    match = *numbers;
    match.inverted = word.inverted;
    return Done{};
  }

  Status read_icmp(const PortWord& type, const PortWord& code) {
    Rule& rule = request_.rule;
    if (!type.given || !is_name(type.word)) {
      const Status status = read_icmp_number(type, rule.source_ports);
      if (!status) return status;
      if (code.given && is_name(code.word))
        return error("the ICMP type `{}' must be given as the source's port", code.word);
      return read_icmp_number(code, rule.destination_ports);
    }
    const Result<IcmpName> name = find_icmp_name(type.word);
    if (!name) return name.error();
    if (type.inverted) return error("ICMP types cannot be inverted by name (`! {}')", type.word);
    if (code.given) return error("an ICMP code cannot stand beside a type's name");
    rule.source_ports = {name->type, name->type, false};
    if (name->has_code) rule.destination_ports = {name->code, name->code, false};
    return Done{};
  }

  Status check_together() {
    const Rule& rule = request_.rule;
    if (rule.syn != Asked::either && (rule.protocol != kProtocolTcp || rule.protocol_inverted))
      return error("-y needs -p tcp");
    if (rule.syn != Asked::either && rule.later_fragment == Asked::yes)
      return error("-y cannot be given with -f: later fragments have no such flag");
    const bool by_number = request_.command == ChainsCommand::remove && request_.number;
    for (const GivenOption& each : given_)
      if (by_number && each.code != 'D' && each.code != 'v' && each.code != kNoWarnings)
        return error("{} cannot be given when a rule is deleted by its number", each.spelt);
    return Done{};
  }

  static bool is_one(const PortMatch& match) {
    return match.first == match.last && !match.inverted;
  }

  // A packet to be checked must be described whole.
  Status check_checked() {
    if (request_.command != ChainsCommand::check) return Done{};
    const Rule& rule = request_.rule;
    for (const char code : {'p', 's', 'd', 'i'})
      if (!has(code)) return error("-C needs -p, -s, -d and -i; there is no -{}", code);
    if (rule.protocol == 0 || rule.protocol_inverted || rule.source.inverted ||
        rule.destination.inverted || rule.interface_inverted || rule.any_suffix ||
        rule.interface.empty() || rule.syn == Asked::no || rule.later_fragment == Asked::no)
      return error("-C needs one packet: one protocol and interface, and nothing inverted");
    if (request_.sources.mask.be != ~0u || request_.destinations.mask.be != ~0u)
      return error("-C needs single addresses, without a mask");
    const bool has_ports = rule.protocol == kProtocolTcp || rule.protocol == kProtocolUdp ||
                           rule.protocol == kProtocolIcmp;
    const bool named_type = rule.protocol == kProtocolIcmp && is_one(rule.source_ports) &&
                            rule.destination_ports.is_any();
    if (has_ports && rule.later_fragment == Asked::either && !named_type &&
        (!is_one(rule.source_ports) || !is_one(rule.destination_ports)))
      return error("-C needs one port of each side (for ICMP: type and code), or -f");
    return Done{};
  }

  std::vector<GivenOption> given_;
  const Names& names_;
  std::map<int, const GivenOption*> by_code_;
  const GivenOption* command_ = nullptr;
  const CommandRules* rules_ = nullptr;
  ChainsRequest request_;
};

}  // namespace

Result<ChainsRequest> read_chains_request(const std::vector<std::string>& words,
                                          const Names& names) {
  Result<std::vector<GivenOption>> given = read_options(words, grammar());
  if (!given) return given.error();
  return Reading(std::move(*given), names).read();
}

std::string chains_help() {
  return "Usage: ipchains COMMAND [OPTIONS]\n"
         "\n"
         "Commands, one at a time:\n"
         "  -A, --append CHAIN              put a rule behind the others\n"
         "  -I, --insert CHAIN [NUMBER]     put a rule before others (number 1: the first)\n"
         "  -R, --replace CHAIN NUMBER      put a rule in the place of another\n"
         "  -D, --delete CHAIN [NUMBER]     delete a rule, by number or by what it says\n"
         "  -C, --check CHAIN               say what the chain does with a packet\n"
         "  -L, --list [CHAIN]              list rules; with -Z also zero all counters\n"
         "  -F, --flush [CHAIN]             delete all rules\n"
         "  -Z, --zero [CHAIN]              zero counters\n"
         "  -N, --new-chain CHAIN           make a chain\n"
         "  -X, --delete-chain [CHAIN]      delete a chain, or all that you have made\n"
         "  -P, --policy CHAIN TARGET       set the policy of input, forward or output\n"
         "  -M, --masquerading -L           list what is masqueraded\n"
         "  -M, --masquerading -S TCP FIN UDP   set timeouts in seconds (0: as it is)\n"
         "  -h, --help [icmp]               this text, or the names of ICMP types\n"
         "  -V, --version                   which ipchains this is\n"
         "\n"
         "What a rule fits:\n"
         "  -p, --protocol [!] PROTOCOL     tcp, udp, icmp, all, a number\n"
         "  -s, --source [!] ADDRESS[/MASK] [[!] PORT[:PORT]]\n"
         "  -d, --destination [!] ADDRESS[/MASK] [[!] PORT[:PORT]]\n"
         "  --sport, --dport [!] PORT[:PORT]    ports alone; --icmp-type TYPE\n"
         "  -i, --interface [!] NAME[+]     +: every interface whose name begins so\n"
         "  [!] -y, --syn                   TCP segments that open a connection\n"
         "  [!] -f, --fragments             second and later fragments\n"
         "  -b, --bidirectional             also a rule for the other direction\n"
         "\n"
         "What it does:\n"
         "  -j, --jump TARGET [PORT]        ACCEPT, DENY, REJECT, MASQ, REDIRECT, RETURN, a chain\n"
         "  -l, --log                       write a line to the log\n"
         "  -m, --mark [+|-]NUMBER          mark the packet\n"
         "  -o, --output [SIZE]             give a copy to a program\n"
         "  -t, --TOS AND XOR               change the type of service\n"
         "\n"
         "How things are shown:\n"
         "  -n, --numeric   -v, --verbose   -x, --exact   --line-numbers   --no-warnings\n";
}

}  // namespace masq
