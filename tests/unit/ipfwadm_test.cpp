// ipfwadm: the rules that its command lines become, as ipchains would write them; its listings
// letter by letter; what it refuses. The two scripts use the forms that scripts of its time used.
#include "compat/ipfwadm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "compat/ipchains_save.h"
#include "few_names.h"
#include "random.h"
#include "wire/headers.h"

namespace masq {
namespace {

using test::Random;

class TestWorld : public FirewallWorld {
 public:
  const Names& names() const override { return names_; }
  Result<RuleSet> load() override { return in_force; }
  Status store(const RuleSet& rules) override {
    if (!refuses.empty()) return Error{refuses};
    in_force = rules;
    return Done{};
  }
  std::string interface_of(Ipv4 address) override {
    const std::string text = address_text(address);
    return text == "192.0.2.1" ? "ppp0" : text == "192.168.2.1" ? "eth0" : "";
  }
  Result<std::vector<MasqueradeEntry>> entries() override { return connections; }
  Status set_timeouts(u32 tcp_s, u32 fin_s, u32 udp_s) override {
    if (!refuses.empty()) return Error{refuses};
    timeouts_s = {tcp_s, fin_s, udp_s};
    return Done{};
  }

  bool forwards() const override { return true; }
  bool is_terminal() const override { return false; }
  std::string input() override { return ""; }
  bool asks_to_flush(const std::string&) override { return false; }

  RuleSet in_force = RuleSet::empty();
  std::vector<MasqueradeEntry> connections;
  std::vector<u32> timeouts_s;
  std::string refuses;

 private:
  test::FewNames names_;
};

std::vector<std::string> split(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

CommandResult ipfwadm(TestWorld& world, const std::string& line) {
  return run_ipfwadm(split(line), world);
}

void done(TestWorld& world, const std::string& line) {
  const CommandResult result = ipfwadm(world, line);
  EXPECT_EQ(result.exit_code, 0) << line << ": " << result.err;
  EXPECT_EQ(result.err, "") << line;
  EXPECT_EQ(result.out, "") << line;
}

void refused(TestWorld& world, const std::string& line, int code, const std::string& sentence) {
  const std::string before = rules_to_json(world.in_force);
  const CommandResult result = ipfwadm(world, line);
  EXPECT_EQ(result.exit_code, code) << line;
  EXPECT_EQ(result.err, "ipfwadm: " + sentence + "\n") << line;
  EXPECT_EQ(result.out, "") << line;
  EXPECT_EQ(rules_to_json(world.in_force), before) << line;
}

void misused(TestWorld& world, const std::string& line, const std::string& problem) {
  refused(world, line, 2, problem + "; nothing was changed.");
}

const char* const kPolicyNames[] = {"none", "ACCEPT", "DENY", "REJECT", "MASQ"};

// Policies, where they are not ACCEPT, and rules, in short words of ipchains.
std::string in_words(const TestWorld& world) {
  std::string text;
  for (const Chain& chain : world.in_force.chains()) {
    if (chain.policy != RuleTarget::accept && chain.policy != RuleTarget::go_back)
      text += fmt::format("{}: {}\n", chain.name, kPolicyNames[static_cast<u8>(chain.policy)]);
    for (const Rule& rule : chain.rules) {
      std::string line = rule_as_command(chain.name, rule);
      for (const char* dull : {" -s 0.0.0.0/0.0.0.0", " -d 0.0.0.0/0.0.0.0"})
        if (const auto at = line.find(dull); at != std::string::npos)
          line.erase(at, std::string(dull).size());
      while (line.ends_with('\n') || line.ends_with(' ')) line.pop_back();
      text += line + "\n";
    }
  }
  return text;
}

// --- forms -----------------------------------------------------------------------------------

TEST(Ipfwadm, BecomesChains) {
  TestWorld world;
  done(world, "-F -p deny");
  done(world, "-F -a m -S 192.168.2.0/24 -D 0.0.0.0/0 -W ppp0");
  done(world, "-I -a accept -S 0/0 67 -D 0/0 68 -W ppp0 -P udp");
  done(world, "-I -i deny -P tcp -y -S 10.0.0.0/255.0.0.0 -o");
  done(world, "-O -a rej -P tcp -k -D 192.168.2.0/24 -t 0x01 0x10");
  done(world, "-F -a accept -m -S 192.168.2.7");
  done(world, "-I -a accept -P tcp -r 8080 -D 0/0 www");
  done(world, "-I -a accept -P icmp -S 0/0 8");
  EXPECT_EQ(in_words(world),
            "-A input -s 10.0.0.0/255.0.0.0 -p 6 -j DENY -y -l\n"
            "-A input 67:67 68:68 -i ppp0 -p 17 -j ACCEPT\n"
            "-A input 80:80 -p 6 -j REDIRECT 8080\n"
            "-A input 8:8 -p 1 -j ACCEPT\n"
            "forward: DENY\n"
            "-A forward -s 192.168.2.0/255.255.255.0 -i ppp0 -j MASQ\n"
            "-A forward -s 192.168.2.7/255.255.255.255 -j MASQ\n"
            "-A output -d 192.168.2.0/255.255.255.0 -p 6 -j REJECT ! -y -t 0x01 0x10\n");
}

TEST(Ipfwadm, MakesSeveralRulesOfOneLine) {
  TestWorld world;
  done(world, "-I -a deny -P tcp -S 0/0 1:2 -D 0/0 www 110 6000:6010");
  const Chain& input = world.in_force.chains()[kChainInput];
  ASSERT_EQ(input.rules.size(), 3u);
  EXPECT_EQ(input.rules[0].destination_ports, (PortMatch{80, 80}));
  EXPECT_EQ(input.rules[1].destination_ports, (PortMatch{110, 110}));
  EXPECT_EQ(input.rules[2].destination_ports, (PortMatch{6000, 6010}));
  for (const Rule& rule : input.rules) EXPECT_EQ(rule.source_ports, (PortMatch{1, 2}));
  done(world, "-I -i deny -P udp -S server.example 7 -D 192.168.2.0/24 8 9 -b");
  ASSERT_EQ(input.rules.size(), 0u + world.in_force.chains()[kChainInput].rules.size());
  const std::vector<Rule>& rules = world.in_force.chains()[kChainInput].rules;
  ASSERT_EQ(rules.size(), 11u);  // two addresses, two ports, two ways
  EXPECT_EQ(rules[0].protocol, kProtocolUdp);
  EXPECT_EQ(rules[1].source_ports, rules[0].destination_ports);
  EXPECT_EQ(rules[1].destination, rules[0].source);
  EXPECT_EQ(rules[8].protocol, kProtocolTcp);
  done(world, "-I -d deny -P udp -S server.example 7 -D 192.168.2.0/24 8 9 -b");
  EXPECT_EQ(world.in_force.chains()[kChainInput].rules.size(), 3u);
  // Of what is to be deleted, one is missing: nothing is.
  refused(world, "-I -d deny -P tcp -S 0/0 1:2 -D 0/0 www 111", 1,
          "setsockopt failed: There is no such rule.");
}

// For every protocol, -y and -k say something of TCP alone.
TEST(Ipfwadm, FlagsOfTcpLeaveOtherProtocolsAlone) {
  TestWorld world;
  done(world, "-I -a deny -y -S 10.0.0.0/8");
  done(world, "-I -a accept -k -P udp -S 10.0.0.0/8");
  const std::vector<Rule>& rules = world.in_force.chains()[kChainInput].rules;
  ASSERT_EQ(rules.size(), 3u);
  EXPECT_EQ(rules[0].protocol, kProtocolTcp);
  EXPECT_EQ(rules[0].syn, Asked::yes);
  EXPECT_EQ(rules[1].protocol, kProtocolTcp);
  EXPECT_TRUE(rules[1].protocol_inverted);
  EXPECT_EQ(rules[1].syn, Asked::either);
  EXPECT_EQ(rules[2].protocol, kProtocolUdp);
  EXPECT_EQ(rules[2].syn, Asked::either);
}

TEST(Ipfwadm, FindsAnInterfaceByItsAddress) {
  TestWorld world;
  done(world, "-I -a accept -V 192.0.2.1 -S 0/0");
  done(world, "-I -a accept -V 0.0.0.0 -S 0/0");
  done(world, "-I -a accept -V 192.0.2.1 -W ppp0");
  const std::vector<Rule>& rules = world.in_force.chains()[kChainInput].rules;
  EXPECT_EQ(rules[0].interface, "ppp0");
  EXPECT_EQ(rules[1].interface, "");
  misused(world, "-I -a accept -V 192.0.2.9", "no interface has the address 192.0.2.9");
  misused(world, "-I -a accept -V 192.0.2.1 -W eth0",
          "the address 192.0.2.1 is that of ppp0, not of eth0");
  misused(world, "-I -a accept -V 192.0.2.0/24",
          "`192.0.2.0/24' is not the one address of an interface");
}

// --- scripts ---------------------------------------------------------------------------------

// The forms of a simple firewall: policies, one rule that masquerades, timeouts, DHCP.
TEST(Ipfwadm, RunsASimpleScript) {
  TestWorld world;
  done(world, "-I -p accept");
  done(world, "-O -p accept");
  done(world, "-I -f");
  done(world, "-O -f");
  done(world, "-F -f");
  done(world, "-M -s 7200 10 160");
  done(world, "-I -a accept -S 0/0 67 -D 0/0 68 -W eth0 -P udp");
  done(world, "-F -p deny");
  done(world, "-F -a m -W ppp0 -S 192.168.2.0/24 -D 0.0.0.0/0");
  EXPECT_EQ(world.timeouts_s, (std::vector<u32>{7200, 10, 160}));
  EXPECT_EQ(ipfwadm(world, "-F -l").out,
            "IP firewall forward rules, default policy: deny\n"
            "type  prot source               destination          ports\n"
            "acc/m all  192.168.2.0/24       anywhere             n/a\n");
  EXPECT_EQ(ipfwadm(world, "-I -l -n").out,
            "IP firewall input rules, default policy: accept\n"
            "type  prot source               destination          ports\n"
            "acc   udp  0.0.0.0/0            0.0.0.0/0            67 -> 68\n");
  EXPECT_EQ(ipfwadm(world, "-O -l").out, "IP firewall output rules, default policy: accept\n");
  EXPECT_EQ(ipfwadm(world, "-M -l").out, "IP masquerading entries\n");
}

// The forms of a strong one: everything refused, interfaces by address, spoofed sources, what is
// left over logged.
TEST(Ipfwadm, RunsAStrongScript) {
  TestWorld world;
  for (const char* line :
       {"-I -f", "-I -p reject", "-O -f", "-O -p reject", "-F -f", "-F -p reject",
        "-I -a accept -V 192.168.2.1 -S 192.168.2.0/24 -D 0.0.0.0/0",
        "-I -a reject -V 192.0.2.1 -S 192.168.2.0/24 -D 0.0.0.0/0 -o",
        "-I -a accept -V 192.0.2.1 -S 0.0.0.0/0 -D 192.0.2.1/32",
        "-I -a accept -W lo -S 0.0.0.0/0 -D 0.0.0.0/0", "-I -a reject -S 0.0.0.0/0 -D 0.0.0.0/0 -o",
        "-O -a accept -V 192.168.2.1 -S 0.0.0.0/0 -D 192.168.2.0/24",
        "-O -a reject -V 192.0.2.1 -S 0.0.0.0/0 -D 192.168.2.0/24 -o",
        "-O -a accept -V 192.0.2.1 -S 192.0.2.1/32 -D 0.0.0.0/0",
        "-O -a accept -W lo -S 0.0.0.0/0 -D 0.0.0.0/0", "-O -a reject -S 0.0.0.0/0 -D 0.0.0.0/0 -o",
        "-F -a m -W ppp0 -S 192.168.2.0/24 -D 0.0.0.0/0",
        "-F -a reject -S 0.0.0.0/0 -D 0.0.0.0/0 -o"})
    done(world, line);
  EXPECT_EQ(ipfwadm(world, "-I -l -e").out,
            "IP firewall input rules, default policy: reject\n"
            " pkts bytes type  prot opt  tosa tosx ifname  ifaddress       source               "
            "destination          ports\n"
            "    0     0 acc   all  ---- 0xFF 0x00 eth0    any             192.168.2.0/24       "
            "anywhere             n/a\n"
            "    0     0 rej   all  ---o 0xFF 0x00 ppp0    any             192.168.2.0/24       "
            "anywhere             n/a\n"
            "    0     0 acc   all  ---- 0xFF 0x00 ppp0    any             anywhere             "
            "gw.example           n/a\n"
            "    0     0 acc   all  ---- 0xFF 0x00 lo      any             anywhere             "
            "anywhere             n/a\n"
            "    0     0 rej   all  ---o 0xFF 0x00 any     any             anywhere             "
            "anywhere             n/a\n");
  EXPECT_EQ(ipfwadm(world, "-I -c -P tcp -V 192.0.2.1 -S 192.168.2.7 1024 -D 192.0.2.1 80").out,
            "packet rejected\n");
  EXPECT_EQ(ipfwadm(world, "-I -c -P tcp -V 192.0.2.1 -S 198.51.100.1 1024 -D 192.0.2.1 80").out,
            "packet accepted\n");
  EXPECT_EQ(ipfwadm(world, "-F -c -P tcp -W ppp0 -S 192.168.2.7 1024 -D 198.51.100.1 80").out,
            "packet masqueraded\n");
  EXPECT_EQ(ipfwadm(world, "-F -c -P tcp -W eth0 -S 192.168.2.7 1024 -D 198.51.100.1 80").out,
            "packet rejected\n");
}

// --- accounting ------------------------------------------------------------------------------

TEST(Ipfwadm, CountsApartFromPolicy) {
  TestWorld world;
  done(world, "-I -a deny -S 10.0.0.0/8");
  done(world, "-A in -a -P tcp -S 192.168.2.5 -D 0/0 80");
  done(world, "-A both -a -S 192.168.2.6");
  done(world, "-A out -i -D 192.168.2.7 -b");
  EXPECT_EQ(ipfwadm(world, "-I -l -n").out,
            "IP firewall input rules, default policy: accept\n"
            "type  prot source               destination          ports\n"
            "deny  all  10.0.0.0/8           0.0.0.0/0            n/a\n");
  EXPECT_EQ(ipfwadm(world, "-O -l -n").out, "IP firewall output rules, default policy: accept\n");
  EXPECT_EQ(ipfwadm(world, "-A -l -n").out,
            "IP accounting rules\n"
            " pkts bytes dir prot source               destination          ports\n"
            "    0     0 in  tcp  192.168.2.5          0.0.0.0/0            any -> 80\n"
            "    0     0 in  all  192.168.2.6          0.0.0.0/0            n/a\n"
            "    0     0 out all  0.0.0.0/0            192.168.2.7          n/a\n"
            "    0     0 out all  192.168.2.7          0.0.0.0/0            n/a\n"
            "    0     0 out all  192.168.2.6          0.0.0.0/0            n/a\n");
  EXPECT_EQ(in_words(world),
            "-A input -j acctin\n"
            "-A input -s 10.0.0.0/255.0.0.0 -j DENY\n"
            "-A output -j acctout\n"
            "-A acctin -s 192.168.2.5/255.255.255.255 80:80 -p 6\n"
            "-A acctin -s 192.168.2.6/255.255.255.255\n"
            "-A acctout -d 192.168.2.7/255.255.255.255\n"
            "-A acctout -s 192.168.2.7/255.255.255.255\n"
            "-A acctout -s 192.168.2.6/255.255.255.255\n");
  done(world, "-I -i deny -S 11.0.0.0/8");
  EXPECT_EQ(world.in_force.chains()[kChainInput].rules[0].chain, kAccountIn);
  done(world, "-I -f");
  EXPECT_EQ(world.in_force.chains()[kChainInput].rules.size(), 1u);
  done(world, "-A in -d -P tcp -S 192.168.2.5 -D 0/0 80");
  done(world, "-A -d -S 192.168.2.6");
  EXPECT_EQ(world.in_force.find(kAccountIn), nullptr);
  EXPECT_NE(world.in_force.find(kAccountOut), nullptr);
  done(world, "-A -f");
  EXPECT_EQ(rules_to_json(world.in_force), rules_to_json(RuleSet::empty()));
}

TEST(Ipfwadm, ListsAndForgetsWhatWasCounted) {
  TestWorld world;
  done(world, "-A in -a -S 192.168.2.5");
  done(world, "-I -a accept -P tcp -y -S 192.168.2.5 -D 0/0 ftp");
  world.in_force.count(kBuiltInChains, 0, 123456, 200000000);
  world.in_force.count(kChainInput, 1, 7, 99999);
  EXPECT_EQ(ipfwadm(world, "-A -l -z").out,
            "IP accounting rules\n"
            " pkts bytes dir prot source               destination          ports\n"
            " 123K  200M in  all  192.168.2.5          anywhere             n/a\n");
  EXPECT_EQ(ipfwadm(world, "-A -l -x").out,
            "IP accounting rules\n"
            "    pkts      bytes dir prot source               destination          ports\n"
            "       0          0 in  all  192.168.2.5          anywhere             n/a\n");
  EXPECT_EQ(
      ipfwadm(world, "-I -l -e -x").out,
      "IP firewall input rules, default policy: accept\n"
      "    pkts      bytes type  prot opt  tosa tosx ifname  ifaddress       source             "
      "  destination          ports\n"
      "       7      99999 acc   tcp  --y- 0xFF 0x00 any     any             192.168.2.5        "
      "  anywhere             any -> ftp\n");
  done(world, "-I -z");
  EXPECT_EQ(world.in_force.chains()[kChainInput].rules[1].packets, 0u);
}

// A packet's fate is the same with and without accounting rules, whatever they are.
TEST(Ipfwadm, AccountingChangesNoVerdict) {
  Random random(3);
  const auto pick = [&](std::initializer_list<const char*> of) {
    return std::string(of.begin()[random() % of.size()]);
  };
  u32 accepted = 0, all = 0;
  for (u32 round = 0; round < 200; ++round) {
    TestWorld with, without;
    for (u32 i = 0; i < 12; ++i) {
      const std::string fits = " -P tcp -S " + pick({"0/0", "10.0.0.0/8", "10.0.0.1"}) + " " +
                               pick({"", "5", "5:9"}) + " -D " + pick({"0/0", "10.0.0.2"}) + " " +
                               pick({"", "80", "80 90"}) + pick({"", " -y", " -k", " -b"});
      if (random() % 2 == 0) {
        done(with, "-A " + pick({"in", "out", "both"}) + pick({" -a", " -i"}) + fits);
        continue;
      }
      const std::string line =
          pick({"-I", "-O"}) + pick({" -a ", " -i "}) + pick({"accept", "deny", "reject"}) + fits;
      done(with, line);
      done(without, line);
    }
    for (const char* chain : {"-I", "-O"})
      for (u32 i = 0; i < 20; ++i) {
        const std::string packet = std::string(chain) + " -c -W eth0 -P tcp -S " +
                                   pick({"10.0.0.1", "10.0.0.2"}) + " " + pick({"5", "6"}) +
                                   " -D 10.0.0.2 " + pick({"80", "90", "91"}) + pick({"", " -y"});
        const CommandResult verdict = ipfwadm(without, packet);
        ASSERT_EQ(verdict.exit_code, 0) << packet << verdict.err;
        ASSERT_EQ(ipfwadm(with, packet).out, verdict.out) << packet;
        accepted += verdict.out == "packet accepted\n";
        all += 1;
      }
    EXPECT_EQ(ipfwadm(with, "-I -l").out, ipfwadm(without, "-I -l").out);
  }
  EXPECT_GT(accepted, all / 10);
  EXPECT_LT(accepted, all - all / 10);
}

// --- the rest --------------------------------------------------------------------------------

TEST(Ipfwadm, ListsConnections) {
  TestWorld world;
  MasqueradeEntry entry;
  entry.protocol = kProtocolTcp;
  entry.inner = *address_from("192.168.2.6");
  entry.remote = *address_from("198.51.100.9");
  entry.inner_port = 1034;
  entry.external_port = 61003;
  entry.remote_port = 80;
  entry.expires_hundredths = 719261;
  world.connections = {entry};
  EXPECT_EQ(ipfwadm(world, "-M -l -n").out,
            "IP masquerading entries\n"
            "prot expire   source               destination          ports\n"
            "TCP  119:52.61 192.168.2.6          198.51.100.9         1034 (61003) -> 80\n");
  EXPECT_EQ(ipfwadm(world, "-M -l -e").out.substr(24, 40),
            "prot expire   initseq    delta prevd sou");
}

TEST(Ipfwadm, SaysWhatItDid) {
  TestWorld world;
  EXPECT_EQ(ipfwadm(world, "-I -a accept -v -n -S 192.168.2.5").out,
            " pkts bytes type  prot opt  tosa tosx ifname  ifaddress       source               "
            "destination          ports\n"
            "    0     0 acc   all  ---- 0xFF 0x00 any     any             192.168.2.5          "
            "0.0.0.0/0            n/a\n");
  EXPECT_EQ(ipfwadm(world, "-h").out.substr(0, 6), "usage:");
}

TEST(Ipfwadm, SaysWhatIsWrong) {
  TestWorld world;
  done(world, "-I -a accept -S 192.168.2.5");
  misused(world, "", "name a category: -I, -F, -O, -A or -M");
  misused(world, "-I", "name a command, such as -a, -d, -f, -l or -p");
  misused(world, "-I -F -l", "only one of -I, -F, -O, -A and -M can be given");
  misused(world, "-I -a accept -f", "only one command can be given, or -l with -z");
  misused(world, "-I -a", "a rule needs a policy: accept, deny or reject");
  misused(world, "-I -a allow", "`allow' is none of accept, deny, reject and masquerade");
  misused(world, "-I -a m", "only what is forwarded (-F) can be masqueraded");
  misused(world, "-F -a deny -m", "only what is accepted can be masqueraded (-m)");
  misused(world, "-F -a accept -r -P tcp", "only what input (-I) accepts can be redirected (-r)");
  misused(world, "-I -a accept -r", "only tcp and udp can be redirected (-r)");
  misused(world, "-A accept -a", "`accept' is none of in, out and both");
  misused(world, "-A -a accept", "accounting rules have no policy");
  misused(world, "-A in -a accept", "accounting rules have no policy");
  misused(world, "-A -p deny", "that category has no command `-p'");
  misused(world, "-M -a accept", "that category has no command `-a'");
  misused(world, "-M -s 1 2", "`-s' needs three numbers: tcp, tcpfin and udp");
  misused(world, "-M -s 1 2 x", "`x' is no number of seconds from 0 to 1209600");
  misused(world, "-I -l -S 192.168.2.5", "`-l' takes none of -P, -S, -D, -V, -W and -t");
  misused(world, "-I -f -o", "`-o' cannot stand with `-f'");
  misused(world, "-I -a deny -S 0/0 80",
          "ports need a protocol (-P) that has them: tcp, udp, or icmp for its types");
  misused(world, "-I -a deny -P icmp -D 0/0 8",
          "types of ICMP stand with the source (-S), not with the destination");
  misused(world, "-I -a deny -P icmp -S 0/0 256",
          "`256' is no type of ICMP; they go from 0 to 255");
  misused(world, "-I -a deny -P tcp -S 0/0 1 2 3 4 5 -D 0/0 1:2 3:4 5:6",
          "there may be 10 ports in a rule, and a range is two of them");
  misused(world, "-I -a deny -P tcp -S 0/0 1 2 3 4 5 6 7 8 9 10 11", "`11' belongs to no option");
  misused(world, "-I -a deny -k -y",
          "no packet opens a connection (-y) and acknowledges something (-k)");
  misused(world, "-I -a deny -t 0x01", "`-t' needs two bytes");
  misused(world, "-I -c -P tcp", "checking needs -P, -S, -D and the interface by -V or -W");
  misused(world, "-I -c -P tcp -W eth0 -S 10.0.0.1 -D 10.0.0.2 5",
          "checking needs one address and one port on each side");
  refused(world, "-I -p m", 1, "setsockopt failed: That cannot be the policy of this category.");
  refused(world, "-I -d deny -S 192.168.2.5", 1, "setsockopt failed: There is no such rule.");
  refused(world, "-A -d -S 192.168.2.5", 1, "setsockopt failed: There is no such rule.");
  done(world, "-I -a deny -P tcp -S 0/0 1 2 3 4 5 -D 0/0 1:2 3:4 6");
  done(world, "-M -s 0 0 1209600");
  world.refuses = "Only root may do that.";
  refused(world, "-I -f", 1, "setsockopt failed: Only root may do that.");
  refused(world, "-M -s 1 2 3", 1, "setsockopt failed: Only root may do that.");
}

const std::vector<std::string> kSomeWords = {"-I",
                                             "-F",
                                             "-O",
                                             "-A",
                                             "-M",
                                             "-a",
                                             "-i",
                                             "-d",
                                             "-l",
                                             "-z",
                                             "-f",
                                             "-p",
                                             "-s",
                                             "-c",
                                             "-h",
                                             "-P",
                                             "-S",
                                             "-D",
                                             "-V",
                                             "-W",
                                             "-b",
                                             "-e",
                                             "-k",
                                             "-m",
                                             "-n",
                                             "-o",
                                             "-r",
                                             "-t",
                                             "-v",
                                             "-x",
                                             "-y",
                                             "-Z",
                                             "accept",
                                             "deny",
                                             "rej",
                                             "m",
                                             "in",
                                             "out",
                                             "both",
                                             "tcp",
                                             "udp",
                                             "icmp",
                                             "all",
                                             "47",
                                             "999",
                                             "0/0",
                                             "10.0.0.0/8",
                                             "192.168.2.5",
                                             "192.0.2.1",
                                             "server.example",
                                             "nowhere",
                                             "10.0.0.0/33",
                                             "80",
                                             "www",
                                             "1:2",
                                             "2:1",
                                             "65536",
                                             "eth0",
                                             "ppp0",
                                             "ppp+",
                                             "a-name-too-long-for-it",
                                             "0x01",
                                             "0x10",
                                             "",
                                             "-",
                                             "--",
                                             "!",
                                             "\xff",
                                             "7200",
                                             "10",
                                             "160",
                                             "-Il",
                                             "-Fam"};

TEST(Ipfwadm, WithAnyWordsSucceedsOrChangesNothing) {
  static const char* const lines[] = {"-F -a m -S 192.168.2.0/24 -D 0.0.0.0/0 -W ppp0",
                                      "-I -a accept -S 0/0 67 -D 0/0 68 -W ppp0 -P udp",
                                      "-I -i deny -P tcp -y -S 10.0.0.0/8 -o -b",
                                      "-I -d deny -P tcp -y -S 10.0.0.0/8 -o -b",
                                      "-A both -a -S 192.168.2.6",
                                      "-A -d -S 192.168.2.6",
                                      "-A -f",
                                      "-I -f",
                                      "-F -p deny",
                                      "-I -l -e",
                                      "-A -l -z",
                                      "-M -s 7200 10 160",
                                      "-I -c -P tcp -W eth0 -S 10.0.0.1 5 -D 10.0.0.2 5"};
  Random random(11);
  TestWorld world;
  u32 succeeded = 0, failed = 0;
  for (u32 i = 0; i < 12000; ++i) {
    const std::string before = rules_to_json(world.in_force);
    const std::vector<u32> timeouts = world.timeouts_s;
    std::vector<std::string> words;
    if (random() % 3 != 0) {
      words = split(lines[random() % std::size(lines)]);
      if (random() % 2 == 0)
        words[random() % words.size()] = kSomeWords[random() % kSomeWords.size()];
    } else {
      for (u32 left = random() % 12; left != 0; --left)
        words.push_back(kSomeWords[random() % kSomeWords.size()]);
    }
    const CommandResult result = run_ipfwadm(words, world);
    if (world.in_force.chains()[kChainInput].rules.size() > 12) world.in_force = RuleSet::empty();
    if (result.exit_code == 0) {
      ASSERT_EQ(result.err, "");
      succeeded += 1;
      continue;
    }
    ASSERT_TRUE(result.exit_code == 1 || result.exit_code == 2);
    ASSERT_EQ(result.out, "");
    ASSERT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    ASSERT_TRUE(result.err.ends_with(".\n")) << result.err;
    ASSERT_EQ(rules_to_json(world.in_force), before);
    ASSERT_EQ(world.timeouts_s, timeouts);
    failed += 1;
  }
  EXPECT_GT(succeeded, 2000u);
  EXPECT_GT(failed, 2000u);
}

}  // namespace
}  // namespace masq
