// The language of ipchains: what it takes, what it refuses and how it says so, and what it prints,
// letter by letter. Random words go through it in tests/unit/ipchains_random_test.cpp.
#include <gtest/gtest.h>

#include "compat/icmp_names.h"
#include "compat/ipchains_apply.h"
#include "compat/ipchains_list.h"
#include "compat/ipchains_save.h"
#include "policy/forwards.h"
#include "unit/ipchains_world.h"

namespace masq {
namespace {

using test::FakeWorld;
using test::ip;
using test::words_of;

struct Ipchains : testing::Test {
  FakeWorld world;

  CommandResult run(const std::string& line) { return run_ipchains(words_of(line), world); }

  void does(const std::string& line) {
    const CommandResult result = run(line);
    EXPECT_EQ(result.exit_code, 0) << line << "\n" << result.err;
    EXPECT_EQ(result.err, "") << line;
  }

  // Nothing has changed, and the sentence is in there.
  void refuses(const std::string& line, int code, const std::string& sentence) {
    const std::string before = rules_to_json(world.rules);
    const CommandResult result = run(line);
    EXPECT_EQ(result.exit_code, code) << line;
    EXPECT_NE(result.err.find(sentence), std::string::npos) << line << "\n" << result.err;
    EXPECT_EQ(rules_to_json(world.rules), before) << line;
    EXPECT_EQ(result.out, "") << line;
  }

  std::string out(const std::string& line) {
    const CommandResult result = run(line);
    EXPECT_EQ(result.exit_code, 0) << line << "\n" << result.err;
    return result.out;
  }

  // The rule that a specification means.
  Rule rule(const std::string& specification) {
    does("-F input");
    does("-A input " + specification);
    const auto& rules = world.rules.find("input")->rules;
    return rules.empty() ? Rule{} : rules[0];
  }

  // The rules of a chain as ipchains-save writes them.
  std::string saved(const std::string& chain) {
    std::string out;
    for (const Rule& each : world.rules.find(chain)->rules)
      out += rule_as_command(chain, each) + "\n";
    return out;
  }
};

TEST_F(Ipchains, TheScriptOfTheDescription) {
  does("-M -S 7200 10 160");
  EXPECT_EQ(world.timeouts, (std::vector<u32>{7200, 10, 160}));
  does("-A input -j ACCEPT -i eth1 -s 0/0 67 -d 0/0 68 -p udp");
  does("-P forward DENY");
  refuses("-A forward -s -j MASQ", 2,
          "host/network `-j' not found; has the address after -s been lost?");
  EXPECT_TRUE(world.rules.find("forward")->rules.empty());
  does("-A forward -s 192.168.2.0/24 -j MASQ");
  EXPECT_EQ(out("-L -n"),
            "Chain input (policy ACCEPT):\n"
            "target     prot opt     source                destination           ports\n"
            "ACCEPT     udp  ------  0.0.0.0/0            0.0.0.0/0             67 ->   68\n"
            "Chain forward (policy DENY):\n"
            "target     prot opt     source                destination           ports\n"
            "MASQ       all  ------  192.168.2.0/24       0.0.0.0/0             n/a\n"
            "Chain output (policy ACCEPT):\n");
}

TEST_F(Ipchains, AddressesAndMasks) {
  auto source = [&](const std::string& words) {
    const AddressMatch match = rule("-s " + words).source;
    return fmt::format("{}{}/{}", match.inverted ? "! " : "", address_text(match.address),
                       address_text(match.mask));
  };
  EXPECT_EQ(source("10.1.2.3"), "10.1.2.3/255.255.255.255");
  EXPECT_EQ(source("10.1.2.3/8"), "10.0.0.0/255.0.0.0");
  EXPECT_EQ(source("! 10.1.2.3/255.255.0.255"), "! 10.1.0.3/255.255.0.255");
  EXPECT_EQ(source("10.1.2.3/32"), "10.1.2.3/255.255.255.255");
  EXPECT_EQ(source("10.1.2.3/0"), "0.0.0.0/0.0.0.0");
  EXPECT_EQ(source("0/0"), "0.0.0.0/0.0.0.0");
  EXPECT_EQ(source("any/0"), "0.0.0.0/0.0.0.0");
  EXPECT_EQ(source("s2"), "192.168.1.12/255.255.255.255");
  EXPECT_EQ(source("localnet/24"), "192.168.2.0/255.255.255.0");
  EXPECT_EQ(rule("! -d 10.0.0.1").destination.inverted, true);
  EXPECT_EQ(rule("--src 10.0.0.1 --dst 10.0.0.2").destination.address.be, ip(10, 0, 0, 2).be);
  EXPECT_EQ(rule("--source=10.0.0.1").source.address.be, ip(10, 0, 0, 1).be);
  EXPECT_EQ(rule("-s10.0.0.1").source.address.be, ip(10, 0, 0, 1).be);
  for (const char* bad :
       {"10.1.2", "10.1.2.3.4", "10.1.2.256", "10..2.3", "nobody", "", "1e1.0.0.1"})
    refuses(fmt::format("-A input -s {}/32", bad), 2, "not found");
  for (const char* bad : {"33", "-1", "255.0.0", "x", ""})
    refuses(fmt::format("-A input -s 10.0.0.0/{}", bad), 2, "invalid mask");
}

TEST_F(Ipchains, PortsAfterAddressesOrAlone) {
  auto ports = [&](const std::string& words) {
    const Rule r = rule(words);
    auto text = [](const PortMatch& m) {
      return fmt::format("{}{}:{}", m.inverted ? "!" : "", m.first, m.last);
    };
    return text(r.source_ports) + " " + text(r.destination_ports);
  };
  EXPECT_EQ(ports("-p tcp -d 0/0 www"), "0:65535 80:80");
  EXPECT_EQ(ports("-d 0/0 ! www -p tcp"), "0:65535 !80:80");
  EXPECT_EQ(ports("-s 0/0 :1023 -d 0/0 1024: -p udp"), "0:1023 1024:65535");
  EXPECT_EQ(ports("-p tcp -s 0/0 ftp-data:www"), "20:80 0:65535");
  EXPECT_EQ(ports("-p tcp --sport 5 --dport ! 6:7"), "5:5 !6:7");
  EXPECT_EQ(ports("-p tcp ! --sport 5 --destination-port 0"), "!5:5 0:0");
  EXPECT_EQ(ports("-p tcp -s 0/0 0:65535"), "0:65535 0:65535");
  EXPECT_EQ(ports("-p 17 --dport domain"), "0:65535 53:53");
  for (const char* bad : {"", "-p all", "-p 47", "-p ! tcp"})
    refuses(fmt::format("-A input -s 0/0 80 {}", bad), 2, "ports need -p tcp, -p udp or -p icmp");
  for (const char* bad : {"65536", "nothing", ":", "80:79", "1:2:3", "+1", "0x50"})
    refuses(fmt::format("-A input -p tcp -s 0/0 {}", bad), 2, "port");
  refuses("-A input -p udp -d 0/0 ftp-data", 2, "port `ftp-data' is neither");
  refuses("-A input -p tcp -s 0/0 80 --sport 81", 2, "--sport says what is given already");
  refuses("-A input -p tcp -s 0/0 80 81", 2, "unexpected word `81' after -s");
}

TEST_F(Ipchains, IcmpByNumberAndByName) {
  auto icmp = [&](const std::string& words) {
    const Rule r = rule(words);
    return fmt::format("{}:{} {}:{}", r.source_ports.first, r.source_ports.last,
                       r.destination_ports.first, r.destination_ports.last);
  };
  EXPECT_EQ(icmp("-p icmp -s 0/0 8"), "8:8 0:65535");
  EXPECT_EQ(icmp("-p icmp -s 0/0 3 -d 0/0 4"), "3:3 4:4");
  EXPECT_EQ(icmp("-s 0/0 echo-request -p icmp"), "8:8 0:65535");
  EXPECT_EQ(icmp("-p icmp --icmp-type PONG"), "0:0 0:65535");
  EXPECT_EQ(icmp("-p icmp --icmp-type fragm"), "3:3 4:4");
  EXPECT_EQ(icmp("-p icmp --sport 3"), "3:3 0:65535");
  EXPECT_EQ(icmp("-p icmp --icmp-type redirect"), "5:5 0:65535");
  EXPECT_EQ(icmp("-p icmp --icmp-type tos-host-red"), "5:5 3:3");
  EXPECT_TRUE(rule("-p icmp --icmp-type ! 5").source_ports.inverted);
  refuses("-A input -p icmp --icmp-type ! ping", 2, "cannot be inverted by name");
  refuses("-A input -p icmp --icmp-type echo-re", 2, "can be echo-reply or echo-request");
  refuses("-A input -p icmp --icmp-type pinge", 2, "no ICMP type `pinge'");
  refuses("-A input -p icmp -s 0/0 ping -d 0/0 0", 2, "code cannot stand beside");
  refuses("-A input -p icmp -d 0/0 ping", 2, "must be given as the source's port");
  refuses("-A input -p icmp --sport 256", 2, "go from 0 to 255");
  refuses("-A input -p tcp --icmp-type 8", 2, "--icmp-type needs -p icmp");
  EXPECT_EQ(rule("-p icmp --sport 255").source_ports.first, 255);
}

TEST_F(Ipchains, FlagsAndInversion) {
  EXPECT_EQ(rule("-p tcp -y").syn, Asked::yes);
  EXPECT_EQ(rule("-p tcp ! -y").syn, Asked::no);
  EXPECT_EQ(rule("-p TCP --syn -l").log, true);
  EXPECT_EQ(rule("-f").later_fragment, Asked::yes);
  EXPECT_EQ(rule("! -f").later_fragment, Asked::no);
  EXPECT_EQ(rule("-s 0/0 ! -f").later_fragment, Asked::no);
  EXPECT_EQ(rule("-p tcp -yl -j DENY").target, RuleTarget::deny);
  EXPECT_EQ(rule("-p ! gre").protocol, 47);
  EXPECT_TRUE(rule("-p ! 47").protocol_inverted);
  EXPECT_EQ(rule("-p all").protocol, 0);
  EXPECT_EQ(rule("-p 0").protocol, 0);
  EXPECT_EQ(rule("-i ! ppp+").interface, "ppp");
  EXPECT_TRUE(rule("-i ! ppp+").interface_inverted);
  EXPECT_TRUE(rule("-i ppp+").any_suffix);
  EXPECT_EQ(rule("-i !eth0").interface, "!eth0");
  EXPECT_FALSE(rule("-i !eth0").interface_inverted);
  EXPECT_EQ(rule("-i +").interface, "");
  EXPECT_EQ(rule("-i eth0:1").interface, "eth0:1");
  refuses("-A input -i ! +", 2, "no interface");
  refuses("-A input -i a234567890123456", 2, "too long");
  refuses("-A input -i 10.0.0.1", 2, "is an address");
  does("-A input -i a23456789012345");
  refuses("-A input -p udp -y", 2, "-y needs -p tcp");
  refuses("-A input -y", 2, "-y needs -p tcp");
  refuses("-A input -p ! tcp -y", 2, "-y needs -p tcp");
  refuses("-A input -p tcp -y -f", 2, "-y cannot be given with -f");
  refuses("-A input -p tcp -f -s 0/0 80", 2, "-f cannot be given with ports");
  refuses("-A input -p ! all", 2, "no packet");
  refuses("-A input -p tpc", 2, "unknown protocol `tpc'");
  refuses("-A input -p 256", 2, "too large");
  refuses("-A input ! -l", 2, "`!' cannot stand before -l");
  refuses("-A input ! ! -f", 2, "`!' must not stand twice");
  refuses("-A input !", 2, "`!' must stand before something");
  refuses("! -A input", 2, "`!' cannot stand before -A");
}

TEST_F(Ipchains, MarksTosAndCopies) {
  Rule r = rule("-m 0x10 -t 0x01 0x10 -o 256");
  EXPECT_EQ(r.mark_change, MarkChange::set);
  EXPECT_EQ(r.mark, 16u);
  EXPECT_EQ(r.tos_and, 0x01);
  EXPECT_EQ(r.tos_xor, 0x10);
  EXPECT_TRUE(r.copies);
  EXPECT_EQ(r.copy_most, 256);
  EXPECT_EQ(rule("-o").copy_most, 0xffff);
  EXPECT_EQ(rule("-o -l").log, true);
  EXPECT_EQ(rule("-m +1").mark_change, MarkChange::add);
  EXPECT_EQ(rule("-m -1").mark, ~0u);
  EXPECT_EQ(rule("-m 010").mark, 8u);
  EXPECT_EQ(rule("-m 4294967295").mark, ~0u);
  EXPECT_EQ(rule("-t 01 02").tos_xor, 2);
  for (const char* bad : {"4294967296", "x", "0x", "08", "--1", "+", "1-"})
    refuses(fmt::format("-A input -m {}", bad), 2, "mark");
  for (const char* bad : {"0x00 0x10", "0x01 0x11", "0x01 0x18", "0x100 0x10", "0x01 g"})
    refuses(fmt::format("-A input -t {}", bad), 2, "type of service");
  refuses("-A input -t 0x01", 2, "-t needs two bytes");
  refuses("-A input -o 65536", 2, "from 0 to 65535");
}

TEST_F(Ipchains, Targets) {
  does("-N mine");
  EXPECT_EQ(rule("-j mine").chain, "mine");
  EXPECT_EQ(rule("-j RETURN").target, RuleTarget::go_back);
  EXPECT_EQ(rule("-p tcp -j REDIRECT 8080").redirect_port, 8080);
  EXPECT_EQ(rule("-p tcp -j REDIRECT www").redirect_port, 80);
  EXPECT_EQ(rule("-p udp -j REDIRECT").redirect_port, 0);
  EXPECT_EQ(rule("-p tcp --jump REDIRECT 0 -l").redirect_port, 0);
  does("-A mine -j MASQ");
  refuses("-A input -j MASQ", 1, "cannot stand in that chain");
  refuses("-A forward -p tcp -j REDIRECT", 1, "cannot stand in that chain");
  refuses("-A input -j REDIRECT 80", 2, "REDIRECT needs -p tcp or -p udp");
  refuses("-A input -p tcp -j REDIRECT 80:81", 2, "one port only");
  refuses("-A input -p tcp -j REDIRECT 80 81", 2, "unexpected word `81'");
  refuses("-A input -j ACCEPT 80", 2, "unexpected word `80'");
  refuses("-A input -j accept", 1, "ipchains: No target by that name\n");
  refuses("-A input -j other", 1, "No target by that name");
  refuses("-A input -j output", 1, "No target by that name");
  refuses("-A input -j 123456789", 2, "too long");
  refuses("-A input -j -l", 2, "no target");
}

TEST_F(Ipchains, RulesByPlaceAndByWhatTheySay) {
  for (const char* port : {"1", "2", "3"}) does(fmt::format("-A input -p tcp --dport {}", port));
  does("-I input -p tcp --dport 10");
  does("-I input 3 -p tcp --dport 11 -m 7");
  does("-R input 2 -p tcp --dport 12");
  does("-D input 4");
  does("-D input -p tcp --dport 11");
  const std::string both = " -s 0.0.0.0/0.0.0.0 -d 0.0.0.0/0.0.0.0 ";
  EXPECT_EQ(saved("input"), "-A input" + both + "10:10 -p 6\n-A input" + both +
                                "12:12 -p 6\n-A input" + both + "3:3 -p 6\n");
  const char* no_rule = "ipchains: bad rule (does a matching rule exist in that chain?)\n";
  refuses("-D input 4", 1, no_rule);
  refuses("-D input -p tcp --dport 13", 1, no_rule);
  refuses("-D input -p tcp --dport 12 -l", 1, no_rule);
  refuses("-R input 4 -l", 1, no_rule);
  refuses("-I input 5 -l", 1, no_rule);
  refuses("-D input 0", 2, "the number of a rule");
  refuses("-D input 1 -p tcp", 2, "-p cannot be given when a rule is deleted by its number");
  refuses("-D input 1 -b", 2, "-b cannot be given");
  refuses("-R input -l", 2, "-R needs the number");
  refuses("-A", 2, "option `-A' needs a value");
  refuses("-A other", 1, "No chain by that name");
  refuses("-A 123456789", 2, "too long");
  refuses("-A input 1", 2, "unexpected word `1'");
}

// As if the command had been typed once for each pair of addresses, and with -b once more.
TEST_F(Ipchains, SeveralRulesAtOnce) {
  does("-A input -s many -d 1.2.3.4");
  EXPECT_EQ(world.rules.find("input")->rules.size(), 2u);
  does("-I input 2 -s many");
  EXPECT_EQ(saved("input"),
            "-A input -s 10.0.0.1/255.255.255.255 -d 1.2.3.4/255.255.255.255\n"
            "-A input -s 10.0.0.2/255.255.255.255 -d 0.0.0.0/0.0.0.0\n"
            "-A input -s 10.0.0.1/255.255.255.255 -d 0.0.0.0/0.0.0.0\n"
            "-A input -s 10.0.0.2/255.255.255.255 -d 1.2.3.4/255.255.255.255\n");
  refuses("-D input -s many -d 1.2.3.5", 1, "bad rule");
  does("-D input -s many");
  EXPECT_EQ(world.rules.find("input")->rules.size(), 2u);
  refuses("-A input -s ! many", 2, "several addresses");
  refuses("-R input 1 -s many", 2, "several addresses");
  refuses("-A input -b -s many", 2, "several addresses");
  does("-F");
  does("-b -A input -p tcp -s 1.1.1.1 ! 80 -d 2.2.2.2/24");
  does("-A input -b -p icmp -s 1.1.1.1 3 -d 2.2.2.2 1");
  EXPECT_EQ(saved("input"),
            "-A input -s 1.1.1.1/255.255.255.255 ! 80:80 -d 2.2.2.0/255.255.255.0 -p 6\n"
            "-A input -s 2.2.2.0/255.255.255.0 -d 1.1.1.1/255.255.255.255 ! 80:80 -p 6\n"
            "-A input -s 1.1.1.1/255.255.255.255 3:3 -d 2.2.2.2/255.255.255.255 1:1 -p 1\n"
            "-A input -s 2.2.2.2/255.255.255.255 3:3 -d 1.1.1.1/255.255.255.255 1:1 -p 1\n");
  does("-D input -b -p tcp -s 1.1.1.1 ! 80 -d 2.2.2.2/24");
  EXPECT_EQ(world.rules.find("input")->rules.size(), 2u);
  refuses("-R input 1 -b", 2, "-b cannot be given with -R");
}

// The first of two is there, the second is not.
TEST_F(Ipchains, ChangesOfSeveralRulesAreWhole) {
  does("-A input -s 10.0.0.1");
  refuses("-D input -s many", 1, "bad rule");
  const Result<ChainsRequest> request =
      read_chains_request(words_of("-D input -s many"), world.names());
  ASSERT_TRUE(request);
  RuleSet rules = world.rules;
  EXPECT_FALSE(apply_chains_request(*request, rules));
  EXPECT_EQ(rules.find("input")->rules.size(), 1u);
}

TEST_F(Ipchains, Chains) {
  does("-N mine");
  does("--new-chain other");
  refuses("-N mine", 1, "ipchains: Chain already exists\n");
  refuses("-N input", 1, "Chain already exists");
  refuses("-N MASQ", 1, "No chain can have that name");
  refuses("-N 123456789", 2, "too long");
  does("-A mine -j other");
  refuses("-X mine", 1, "ipchains: Chain is not empty\n");
  refuses("-X other", 1, "Chain is in use");
  refuses("-X", 1, "Chain is in use");
  does("-F mine");
  does("-A input -j mine");
  refuses("-X", 1, "Chain is in use");
  does("-F");
  does("-X");
  EXPECT_EQ(world.rules.chains().size(), kBuiltInChains);
  does("-X");
  refuses("-X input", 1, "Only chains of your own");
  refuses("-X mine", 1, "No chain by that name");
  refuses("-F mine", 1, "No chain by that name");
  refuses("-L mine", 1, "No chain by that name");
  refuses("-Z mine", 1, "No chain by that name");
  does("-P input REJECT");
  does("-P forward MASQ");
  refuses("-P input MASQ", 1, "No such policy");
  refuses("-P input RETURN", 2, "is no policy");
  refuses("-P input deny", 2, "is no policy");
  refuses("-P input", 2, "-P needs a chain and its policy");
  refuses("-P input DENY DENY", 2, "unexpected word");
}

TEST_F(Ipchains, OneCommandAndWhatGoesWithIt) {
  refuses("", 2, "ipchains: no command given");
  refuses("-p tcp", 2, "no command given");
  refuses("-A input -D output", 2, "one command at a time");
  refuses("-A input -A output", 2, "multiple -A flags not allowed");
  refuses("-A input -l -l", 2, "multiple -l flags not allowed");
  refuses("-A input -s 1.1.1.1 --source 1.1.1.2", 2, "multiple --source flags not allowed");
  refuses("-A input -n", 2, "-n cannot be given with -A");
  refuses("-L -p tcp", 2, "-p cannot be given with -L");
  refuses("-F -n", 2, "-n cannot be given with -F");
  refuses("-C input -j DENY", 2, "-j cannot be given with -C");
  refuses("-L -Z input", 2, "unexpected word `input'");
  refuses("-L input -Z", 2, "unexpected word `input'");
  refuses("-M", 2, "-M needs -L");
  refuses("-M -L -Z", 2, "-Z cannot be given with -M");
  refuses("-M -L -x", 2, "-x cannot be given with -M");
  refuses("-M -F", 2, "cannot be given together");
  refuses("-M -S 1 2", 2, "-S needs three timeouts");
  refuses("-M -S 1 2 3 4", 2, "unexpected word `4'");
  refuses("-M -S 1 2 -3", 2, "unknown option `-3'");
  refuses("-M -S 1 2 x", 2, "a timeout must be a whole number from 0 to 2147483647");
  refuses("-M -S 1 2 2147483648", 2, "2147483647");
  refuses("-A input stray", 2, "unexpected word `stray'");
  refuses("stray", 2, "unexpected word `stray'");
  refuses("-q", 2, "unknown option `-q'");
  refuses("--nonsense", 2, "unknown option `--nonsense'");
  refuses("--de input", 2, "ambiguous");
  refuses("--flush=input --log=3", 2, "option `--log' takes no value");
  does("--flus");
  does("--flush=input");
  does("--no-w -A input -j ACCEPT");
  does("-S 1 2 2147483647");
  EXPECT_EQ(world.timeouts, (std::vector<u32>{1, 2, 2147483647}));
  refuses("-Lnv", 1, "No chain by that name");  // as getopt has it: the rest is the chain
  EXPECT_EQ(out("-nvL"), out("-L -v -n"));
  const CommandResult usage = run("-q");
  EXPECT_EQ(usage.err, "ipchains: unknown option `-q'\nTry `ipchains -h' for more information.\n");
}

TEST_F(Ipchains, SaysWhatItIsAndHelps) {
  EXPECT_EQ(out("-V").substr(0, 14), "ipchains 1.3.9");
  EXPECT_EQ(out("--version"), out("-V"));
  EXPECT_NE(out("-h").find("Usage: ipchains"), std::string::npos);
  EXPECT_NE(out("--help").find("-M, --masquerading"), std::string::npos);
  EXPECT_NE(out("-h icmp").find("   3/4  fragmentation-needed\n"), std::string::npos);
  EXPECT_NE(out("-h icmp").find(" 8 echo-request (ping)\n"), std::string::npos);
  refuses("-h tcp", 2, "about `icmp' only");
}

TEST_F(Ipchains, NoRights) {
  world.writable = false;
  refuses("-A input -j DENY", 1, "ipchains: Permission denied (you must be root)\n");
  refuses("-M -S 1 2 3", 1, "Permission denied");
  does("-L");
  world.readable = false;
  refuses("-L", 1, "Permission denied");
  refuses("-M -L", 1, "masq is not running");
}

TEST_F(Ipchains, ListsWhatIsMasqueraded) {
  EXPECT_EQ(out("-M -L"), "IP masquerading entries\n");
  MasqueradeEntry entry;
  entry.protocol = kProtocolTcp;
  entry.inner = ip(192, 168, 2, 6);
  entry.inner_port = 1034;
  entry.remote = ip(192, 168, 1, 12);
  entry.remote_port = 80;
  entry.external_port = 61003;
  entry.expires_hundredths = 719261;
  entry.initial_sequence = 12;
  entry.delta = -3;
  world.masqueraded.push_back(entry);
  EXPECT_EQ(out("-L -M -n"),
            "IP masquerading entries\n"
            "prot expire   source               destination          ports\n"
            "TCP  119:52.61 192.168.2.6          192.168.1.12         1034 (61003) -> 80\n");
  EXPECT_NE(out("-ML").find(" s2                   1034 (61003) -> www\n"), std::string::npos);
  EXPECT_NE(out("-nvML").find("initseq    delta prevd source"), std::string::npos);
  EXPECT_NE(out("-nvML").find(" 12            -3     0 192.168.2.6 "), std::string::npos);
}

TEST_F(Ipchains, WarnsWhereForwardingIsOff) {
  world.forwarding = false;
  EXPECT_EQ(out("-A forward -j DENY"), "");
  world.terminal = true;
  EXPECT_NE(out("-A forward -j DENY").find("Warning: IP forwarding is off"), std::string::npos);
  EXPECT_EQ(out("-A forward -j DENY --no-warnings"), "");
  EXPECT_EQ(out("-A input -j DENY"), "");
  EXPECT_EQ(out("-D forward 1"), "");
  world.forwarding = true;
  EXPECT_EQ(out("-A forward -j DENY"), "");
  const CommandResult quick = run("-v -M -S 7200 10 160");
  EXPECT_EQ(quick.exit_code, 0);
  EXPECT_NE(quick.err.find("7200 s is less than the 7440 s"), std::string::npos) << quick.err;
  EXPECT_NE(quick.err.find("10 s is less than the 240 s"), std::string::npos);
  EXPECT_EQ(quick.err.find("160"), std::string::npos);
}

// A rule set with something in every column.
struct Listing : Ipchains {
  Listing() {
    does("-N good-dmz");
    does("-P input DENY");
    does("-A input -i lo -j ACCEPT");
    does("-A input -i ! ppp+ -s ! 192.168.2.0/24 -p ! gre -l -j REJECT");
    does("-A input -p tcp ! -y -s s2 ! ftp-data:www -d 10.0.5.0/255.0.255.0 ! domain -j good-dmz");
    does("-A input -p icmp --icmp-type host-unreachable");
    does("-A input -p icmp -s 0/0 8 -d 0/0 7 -m -5 -o 128");
    does("-A input -p udp -d 0/0 domain -t 0x01 0x10 -m 0xabcdef -j REDIRECT 53");
    does("-A input -f -j RETURN");
    world.rules.count(kChainInput, 0, 99999, 100000);
    world.rules.count(kChainInput, 1, 12345678, 123456789012);
    world.rules.count(kChainInput, 7, 5, 300);
  }
};

TEST_F(Listing, WithNames) {
  EXPECT_EQ(out("-L input"),
            "Chain input (policy DENY):\n"
            "target     prot opt     source                destination           ports\n"
            "ACCEPT     all  ------  anywhere             anywhere              n/a\n"
            "REJECT    !47   ----l- !localnet/24          anywhere              n/a\n"
            "good-dmz   tcp  !y----  s2                   10.0.5.0/255.0.255.0 !ftp-data:www ->  "
            "!domain\n"
            "-          icmp ------  anywhere             anywhere              host-unreachable\n"
            "-          icmp -----o  anywhere             anywhere              8 ->   7\n"
            "REDIRECT   udp  ------  anywhere             anywhere              any ->   domain => "
            "domain\n"
            "RETURN     all  ---f--  anywhere             anywhere              n/a\n");
  EXPECT_EQ(out("-L good-dmz"), "Chain good-dmz (1 references):\n");
  EXPECT_EQ(out("-L forward -v"), "Chain forward (policy ACCEPT: 0 packets, 0 bytes):\n");
}

TEST_F(Listing, WithNumbersAndEverything) {
  EXPECT_EQ(out("-L input -n -v"),
            "Chain input (policy DENY: 5 packets, 300 bytes):\n"
            " pkts bytes target     prot opt    tosa tosx  ifname     mark       outsize  source   "
            "        "
            "     destination           ports\n"
            "99999  100K ACCEPT     all  ------ 0xFF 0x00  lo                             "
            "0.0.0.0/0        "
            "    0.0.0.0/0             n/a\n"
            "  12M  123G REJECT    !47   ----l- 0xFF 0x00 !ppp+                          "
            "!192.168.2.0/24   "
            "    0.0.0.0/0             n/a\n"
            "    0     0 good-dmz   tcp  !y---- 0xFF 0x00  *                              "
            "192.168.1.12     "
            "    10.0.5.0/255.0.255.0 !20:80 ->  !53\n"
            "    0     0 -          icmp ------ 0xFF 0x00  *                              "
            "0.0.0.0/0        "
            "    0.0.0.0/0             3 ->   1\n"
            "    0     0 -          icmp -----o 0xFF 0x00  *          -0x5       128      "
            "0.0.0.0/0        "
            "    0.0.0.0/0             8 ->   7\n"
            "    0     0 REDIRECT   udp  ------ 0x01 0x10  *          0xabcdef            "
            "0.0.0.0/0        "
            "    0.0.0.0/0             * ->   53 => 53\n"
            "    0     0 RETURN     all  ---f-- 0xFF 0x00  *                              "
            "0.0.0.0/0        "
            "    0.0.0.0/0             n/a\n");
}

TEST_F(Listing, WithNumbersOfRulesAndExactCounters) {
  const std::string listing = out("-L input -x -v --line-numbers -n");
  EXPECT_NE(listing.find("\nnum      pkts      bytes target     prot"), std::string::npos);
  EXPECT_NE(listing.find("\n1       99999     100000 ACCEPT "), std::string::npos) << listing;
  EXPECT_NE(listing.find("\n2    12345678 123456789012 REJECT "), std::string::npos) << listing;
  const std::string short_one = out("-L input --line-numbers");
  EXPECT_NE(short_one.find("\nnum  target     prot"), std::string::npos);
  EXPECT_NE(short_one.find("\n7    RETURN     all  ---f-- "), std::string::npos) << short_one;
}

TEST_F(Listing, AndZeroAtOnce) {
  const std::string listing = out("-L -v -n");
  EXPECT_EQ(out("-L -v -n -Z"), listing);
  EXPECT_EQ(world.rules.find("input")->rules[1].packets, 0u);
  EXPECT_EQ(world.rules.find("input")->bytes, 0u);
  const u32 stores = world.stores;
  out("-L");
  EXPECT_EQ(world.stores, stores);
  world.rules.count(kChainInput, 0, 1, 1);
  world.rules.count(kChainOutput, 0, 1, 1);
  does("-Z input");
  EXPECT_EQ(world.rules.find("input")->rules[0].packets, 0u);
  EXPECT_EQ(world.rules.find("output")->packets, 1u);
}

TEST(IpchainsCounters, HaveSuffixesFromAHundredThousand) {
  EXPECT_EQ(counter_text(99'999, false), "99999");
  EXPECT_EQ(counter_text(100'000, false), "100K");
  EXPECT_EQ(counter_text(100'499, false), "100K");
  EXPECT_EQ(counter_text(100'500, false), "101K");
  EXPECT_EQ(counter_text(9'999'499, false), "9999K");
  EXPECT_EQ(counter_text(9'999'500, false), "10M");
  EXPECT_EQ(counter_text(9'999'499'999, false), "9999M");
  EXPECT_EQ(counter_text(10'000'000'000, false), "10G");
  EXPECT_EQ(counter_text(~0ull, false), "18446744074G");
  EXPECT_EQ(counter_text(~0ull, true), "18446744073709551615");
}

TEST_F(Ipchains, SaysWhatItDoes) {
  EXPECT_EQ(out("-v -A input -p tcp -y -i lo -s 192.168.1.1 -d ! 10.0.0.0/8 80 -j DENY"),
            "DENY  tcp opt   -y---- tos 0xFF 0x00  via lo    192.168.1.1  -> !10.0.0.0/8    * ->   "
            "80\n");
  EXPECT_EQ(out("-v -D input 1"), "");
}

TEST_F(Ipchains, ChecksPackets) {
  does("-N mine");
  does("-A mine -p udp -j RETURN");
  does("-A mine -p icmp -s 0/0 ping -j REJECT");
  does("-A mine -p tcp -y -j mine");
  does("-A mine -i ppp+ -j DENY");
  does("-A forward -j mine");
  does("-A forward -s 192.168.2.0/24 -j MASQ");
  does("-A input -p tcp -d 0/0 www -j REDIRECT 8080");
  does("-A input -f -j DENY");
  auto check = [&](const std::string& words) { return out("-C " + words); };
  const std::string inner = " -s 192.168.2.6 5000 -d 10.0.0.1 80 -i eth0";
  const u32 stores = world.stores;
  EXPECT_EQ(check("input -p tcp -y" + inner), "packet redirected\n");
  EXPECT_EQ(check("input -p udp" + inner), "packet accepted\n");
  EXPECT_EQ(check("forward -p udp" + inner), "packet masqueraded\n");
  EXPECT_EQ(check("forward -p tcp" + inner), "packet masqueraded\n");
  EXPECT_EQ(check("forward -p tcp -y" + inner), "packet caught in loop\n");
  EXPECT_EQ(check("forward -p udp -s 192.168.3.6 5 -d 1.1.1.1 5 -i eth0"), "packet accepted\n");
  EXPECT_EQ(check("forward -p icmp -s 192.168.2.6 8 -d 1.1.1.1 0 -i eth0"), "packet rejected\n");
  EXPECT_EQ(check("forward -p icmp -s 192.168.2.6 ping -d 1.1.1.1 -i x"), "packet rejected\n");
  EXPECT_EQ(check("forward -p 47 -s 192.168.2.6 -d 1.1.1.1 -i ppp7"), "packet denied\n");
  EXPECT_EQ(check("mine -p udp" + inner), "packet passed through chain\n");
  EXPECT_EQ(check("mine -p 47 -s 1.1.1.1 -d 1.1.1.1 -i x"), "packet passed through chain\n");
  EXPECT_EQ(check("mine -p tcp -y" + inner), "packet caught in loop\n");
  EXPECT_EQ(check("input -b -p tcp -f -s 192.168.1.1 -d 192.168.1.2 -i lo"),
            "packet denied\npacket denied\n");
  EXPECT_EQ(out("-v -b -C input -p tcp -f -s 192.168.1.1 -d 192.168.1.2 -i lo"),
            "  tcp opt   ---f-- tos 0xFF 0x00  via lo    192.168.1.1  -> 192.168.1.2    * ->   *\n"
            "packet denied\n"
            "  tcp opt   ---f-- tos 0xFF 0x00  via lo    192.168.1.2  -> 192.168.1.1    * ->   *\n"
            "packet denied\n");
  EXPECT_EQ(check("input -p tcp -s many 5 -d 1.1.1.1 6 -i x"),
            "packet accepted\npacket accepted\n");
  EXPECT_EQ(world.stores, stores);
  refuses("-C none -p udp" + inner, 1, "No chain by that name");
  refuses("-C input -p udp -s 1.1.1.1 5 -d 1.1.1.1 6", 2, "there is no -i");
  refuses("-C input -p udp -s 1.1.1.1 5 -i x", 2, "there is no -d");
  refuses("-C input -p udp -s 1.1.1.1 5 -d 1.1.1.1 6 -i x+", 2, "one packet");
  refuses("-C input -p udp -s 1.1.1.1 5 -d 1.1.1.1 6 -i ! x", 2, "one packet");
  refuses("-C input -p all -s 1.1.1.1 -d 1.1.1.1 -i x", 2, "one packet");
  refuses("-C input -p udp -s 1.1.1.0/24 5 -d 1.1.1.1 6 -i x", 2, "single addresses");
  refuses("-C input -p udp -s 1.1.1.1 5 -d 1.1.1.1 6:7 -i x", 2, "one port of each side");
  refuses("-C input -p udp -s 1.1.1.1 5 -d 1.1.1.1 -i x", 2, "one port of each side");
}

}  // namespace
}  // namespace masq
