// ipmasqadm and ipportfw: what they change, what they print letter by letter, and what they refuse.
#include "compat/ipmasqadm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "few_names.h"
#include "random.h"
#include "wire/headers.h"

namespace masq {
namespace {

using test::Random;

class TestWorld : public ForwardWorld {
 public:
  const Names& names() const override { return names_; }
  Result<Forwards> load_forwards() override { return in_force; }
  Status store_forwards(const Forwards& forwards) override {
    if (!refuses.empty()) return Error{refuses};
    EXPECT_TRUE(check_forwards(forwards));
    in_force = forwards;
    return Done{};
  }
  Result<MasqueradeEntry> find_entry(const MasqueradeEntry& key) override {
    asked = key;
    if (entries.empty()) return error("There is no such connection.");
    return entries[0];
  }
  Status make_entry(const MasqueradeEntry& entry) override {
    if (!refuses.empty()) return Error{refuses};
    entries.push_back(entry);
    return Done{};
  }
  Status remove_entry(const MasqueradeEntry& key) override {
    asked = key;
    if (entries.empty()) return error("There is no such connection.");
    entries.clear();
    return Done{};
  }
  Status set_entry_timeout(const MasqueradeEntry& key, u32 timeout_s) override {
    asked = key;
    if (entries.empty()) return error("There is no such connection.");
    entries[0].expires_hundredths = timeout_s * 100;
    return Done{};
  }

  Forwards in_force;
  std::vector<MasqueradeEntry> entries;
  MasqueradeEntry asked;
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

CommandResult ipmasqadm(TestWorld& world, const std::string& line) {
  return run_ipmasqadm(split(line), world);
}

// Everything that is in force, a line each.
std::string in_words(const TestWorld& world) {
  std::string text;
  for (const Forward& f : world.in_force.list) {
    text += to_text(f);
    for (const ForwardTo& to : f.targets) text += fmt::format(" p{}", to.preference);
    text += "\n";
  }
  return text;
}

void done(TestWorld& world, const std::string& line) {
  const CommandResult result = ipmasqadm(world, line);
  EXPECT_EQ(result.exit_code, 0) << line << ": " << result.err;
  EXPECT_EQ(result.err, "") << line;
  EXPECT_EQ(result.out, "") << line;
}

// Refused with this exit code and sentence, and nothing has changed.
void refused(TestWorld& world, const std::string& line, int code, const std::string& sentence) {
  const std::string before = forwards_to_json(world.in_force);
  const CommandResult result = ipmasqadm(world, line);
  EXPECT_EQ(result.exit_code, code) << line;
  EXPECT_EQ(result.err, sentence + "\n") << line;
  EXPECT_EQ(result.out, "") << line;
  EXPECT_EQ(forwards_to_json(world.in_force), before) << line;
}

void misused(TestWorld& world, const std::string& line, const std::string& problem) {
  refused(world, line, 2, problem + "; nothing was changed.");
}

std::string padded(const std::string& text, std::size_t length) {
  return text + std::string(length - 1 - text.size(), ' ') + "\n";
}

// --- portfw ----------------------------------------------------------------------------------

TEST(Portfw, AddsListsAndDeletes) {
  TestWorld world;
  done(world, "portfw -f");
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 8080");
  done(world, "portfw -a -P udp -L 192.0.2.1 domain -R 192.168.2.6 53 -p 3");
  done(world, "portfw -aPtcp -L192.0.2.1 80 -R 192.168.2.7 80 -p20");
  EXPECT_EQ(in_words(world),
            "udp 192.0.2.1:53 -> 192.168.2.6:53 p3\n"
            "tcp 192.0.2.1:80 -> 192.168.2.7:80, 192.168.2.5:8080 p20 p10\n");
  EXPECT_EQ(ipmasqadm(world, "portfw -l -n").out,
            "prot localaddr            rediraddr               lport    rport  pcnt  pref\n"
            "UDP  192.0.2.1            192.168.2.6                53       53     3     3\n"
            "TCP  192.0.2.1            192.168.2.7                80       80    20    20\n"
            "TCP  192.0.2.1            192.168.2.5                80     8080    10    10\n");
  EXPECT_EQ(ipmasqadm(world, "portfw -l").out,
            "prot localaddr            rediraddr               lport    rport  pcnt  pref\n"
            "UDP  gw.example           192.168.2.6            domain   domain     3     3\n"
            "TCP  gw.example           192.168.2.7               www      www    20    20\n"
            "TCP  gw.example           192.168.2.5               www     8080    10    10\n");
  EXPECT_EQ(proc_portfw(world.in_force),
            padded("Prot LAddr    LPort > RAddr    RPort PrCnt  Pref", 64) +
                padded("UDP  C0000201    53 > C0A80206    53     3     3", 64) +
                padded("TCP  C0000201    80 > C0A80207    80    20    20", 64) +
                padded("TCP  C0000201    80 > C0A80205  8080    10    10", 64));
  done(world, "portfw -d -P tcp -L 192.0.2.1 80 -R 192.168.2.7 80");
  EXPECT_EQ(in_words(world),
            "udp 192.0.2.1:53 -> 192.168.2.6:53 p3\ntcp 192.0.2.1:80 -> 192.168.2.5:8080 p10\n");
  done(world, "portfw -d -P tcp -L 192.0.2.1 80");
  done(world, "portfw -d -P u -L gw.example 53");
  EXPECT_EQ(in_words(world), "");
}

TEST(Portfw, AddingAgainEditsThePreference) {
  TestWorld world;
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80");
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.6 80");
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80 -p 7");
  EXPECT_EQ(in_words(world), "tcp 192.0.2.1:80 -> 192.168.2.6:80, 192.168.2.5:80 p10 p7\n");
}

TEST(Portfw, ShowsHowFarATurnIs) {
  TestWorld world;
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80 -p 5");
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.6 80 -p 9");
  auto table = std::make_unique<ForwardTable>();
  ASSERT_TRUE(compile_forwards(world.in_force, 1, *table));
  ForwardState state{};
  for (u32 i = 0; i < 11; ++i) take_target(*table, table->entries[0], state);
  fold_state(world.in_force.list[0], state);
  EXPECT_EQ(ipmasqadm(world, "portfw -ln").out,
            "prot localaddr            rediraddr               lport    rport  pcnt  pref\n"
            "TCP  192.0.2.1            192.168.2.5                80       80     3     5\n"
            "TCP  192.0.2.1            192.168.2.6                80       80     9     9\n");
}

TEST(Portfw, ZeroIsWhateverAddressThereIs) {
  TestWorld world;
  done(world, "portfw -a -P tcp -L 0.0.0.0 80 -R 192.168.2.5 80");
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80");
  done(world, "portfw -a -P tcp -L 192.0.2.1 81 -R 192.168.2.5 80");
  EXPECT_EQ(in_words(world),
            "tcp 192.0.2.1:81 -> 192.168.2.5:80 p10\ntcp 192.0.2.1:80 -> 192.168.2.5:80 p10\n"
            "tcp *:80 -> 192.168.2.5:80 p10\n");
  done(world, "portfw -d -P tcp -L 0.0.0.0 80");
  EXPECT_EQ(in_words(world), "tcp 192.0.2.1:81 -> 192.168.2.5:80 p10\n");
}

TEST(Portfw, SaysWhatIsWrong) {
  TestWorld world;
  done(world, "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80");
  misused(world, "portfw", "portfw: say what to do: add, delete, flush or list");
  misused(world, "portfw -n", "portfw: say what to do: add, delete, flush or list");
  misused(world, "portfw -a -d",
          "portfw: only one of adding, deleting, flushing and listing can be "
          "done at once");
  misused(world, "portfw -f -P tcp", "portfw: flushing and listing take no other options");
  misused(world, "portfw -l -p 5", "portfw: flushing and listing take no other options");
  misused(world, "portfw -f -n", "portfw: flushing and listing take no other options");
  misused(world, "portfw -a", "portfw: the protocol (-P) must be tcp or udp");
  misused(world, "portfw -a -P icmp", "portfw: the protocol (-P) must be tcp or udp");
  misused(world, "portfw -a -P tcp", "portfw: the address and port here (-L) are missing");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 80",
          "portfw: the address and port there (-R) are missing");
  misused(world, "portfw -a -P tcp -L 192.0.2.1", "portfw: `-L' needs an address and a port");
  misused(world, "portfw -a -P tcp -L", "portfw: `-L' needs a value");
  misused(world, "portfw -a -P tcp -L 192.0.2 80 -R 192.168.2.5 80",
          "portfw: there is no address `192.0.2'");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 0 -R 192.168.2.5 80",
          "portfw: `0' is no port from 1 to 60999");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 61000 -R 192.168.2.5 80",
          "portfw: `61000' is no port from 1 to 60999");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 81 -R 192.168.2.5 65536",
          "portfw: `65536' is no port from 1 to 65535");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 81 -R 192.168.2.5 81 -p 0",
          "portfw: `0' is no preference from 1 to 65535");
  misused(world, "portfw -a -P tcp -L 192.0.2.1 81 -R 192.168.2.5 81 -p 65536",
          "portfw: `65536' is no preference from 1 to 65535");
  misused(world, "portfw -d -P tcp -L 192.0.2.1 80 -p 5",
          "portfw: a preference (-p) is only for adding");
  misused(world, "portfw -x", "portfw: there is no option `-x'");
  misused(world, "portfw -l all", "portfw: `all' belongs to no option");
  misused(world, "portfw -a -P tcp -P udp", "portfw: `-P' is there twice");
  refused(world, "portfw -d -P tcp -L 192.0.2.1 81", 1,
          "portfw: setsockopt failed: There is no such forward of tcp 192.0.2.1:81.");
  refused(world, "portfw -a -P tcp -L 192.0.2.1 81 -R 127.0.0.1 80", 1,
          "portfw: setsockopt failed: 127.0.0.1 is not the address of a host that something can be "
          "forwarded to.");
  done(world, "portfw -a -P tcp -L 192.0.2.1 60999 -R 192.168.2.5 65535 -p 65535");
  world.refuses = "Only root may do that.";
  refused(world, "portfw -f", 1, "portfw: setsockopt failed: Only root may do that.");
}

// What masq forward has made, portfw neither shows nor takes away, but may not contradict either.
TEST(Portfw, LeavesTheForwardsOfOthersAlone) {
  TestWorld world;
  Forward f;
  f.protocol = ForwardProtocol::both;
  f.first = 80;
  f.last = 90;
  f.targets = {{*address_from("192.168.2.9"), 0, 10}};
  ASSERT_TRUE(add_forward(world.in_force, f));
  done(world, "portfw -f");
  EXPECT_EQ(in_words(world), "tcp and udp *:80-90 -> 192.168.2.9 p10\n");
  EXPECT_EQ(ipmasqadm(world, "portfw -l").out,
            "prot localaddr            rediraddr               lport    rport  pcnt  pref\n");
  refused(world, "portfw -d -P tcp -L 0.0.0.0 80", 1,
          "portfw: setsockopt failed: There is no such forward of tcp 0.0.0.0:80.");
  refused(world, "portfw -a -P tcp -L 0.0.0.0 85 -R 192.168.2.5 80", 1,
          "portfw: setsockopt failed: Two forwards contradict each other: tcp and udp *:80-90 -> "
          "192.168.2.9 (0) and tcp *:85 -> 192.168.2.5:80 (1); remove one of them.");
}

TEST(Ipportfw, IsTheSameInItsOwnWords) {
  TestWorld world;
  const auto run = [&](const std::string& line) { return run_ipportfw(split(line), world); };
  EXPECT_EQ(run("-A -t192.0.2.1/80 -R 192.168.2.5/8080").exit_code, 0);
  EXPECT_EQ(run("-A -u 192.0.2.1/53 -R 192.168.2.5/53").exit_code, 0);
  EXPECT_EQ(run("-L").out,
            "prot localaddr            rediraddr               lport    rport  pcnt  pref\n"
            "UDP  gw.example           192.168.2.5            domain   domain    10    10\n"
            "TCP  gw.example           192.168.2.5               www     8080    10    10\n");
  EXPECT_EQ(run("-D -t 192.0.2.1/80").exit_code, 0);
  EXPECT_EQ(in_words(world), "udp 192.0.2.1:53 -> 192.168.2.5:53 p10\n");
  CommandResult result = run("-A -t 192.0.2.1:80 -R 192.168.2.5/80");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "ipportfw: `-t' needs ADDRESS/PORT; nothing was changed.\n");
  result = run("-A -t 192.0.2.1/80 -u 192.0.2.1/80 -R 192.168.2.5/80");
  EXPECT_EQ(result.err, "ipportfw: an endpoint is there twice; nothing was changed.\n");
  EXPECT_EQ(run("-C").exit_code, 0);
  EXPECT_EQ(in_words(world), "");
  EXPECT_EQ(run("-h").exit_code, 0);
}

// --- autofw ----------------------------------------------------------------------------------

TEST(Autofw, AddsAndDeletes) {
  TestWorld world;
  done(world, "autofw -F");
  done(world, "autofw -A -r udp 6970 7170 -c tcp 7070");
  done(world, "autofw -A -r tcp 2300 2400 -c tcp 7070 -u");
  done(world, "autofw -A -r tcp 6000 6010 -h 192.168.2.5");
  done(world, "autofw -A -d udp 4000 4001");
  done(world, "autofw -A -p tcp 8080 192.168.2.6:80");
  EXPECT_EQ(in_words(world),
            "udp *:6970-7170 -> whoever uses tcp port 7070\n"
            "tcp *:2300-2400 -> whoever uses tcp port 7070\n"
            "tcp *:6000-6010 -> 192.168.2.5 p10\n"
            "source ports kept towards udp 4000-4001\n"
            "tcp *:8080 -> 192.168.2.6:80 p10\n");
  EXPECT_EQ(world.in_force.list[0].window_s, 15);
  EXPECT_FALSE(world.in_force.list[0].any_outside);
  EXPECT_EQ(world.in_force.list[1].window_s, 0);
  EXPECT_EQ(
      proc_autofw(world.in_force),
      padded("Type Prot Low  High Vis  Hid  Where    Last     CPto CPrt Timer Flags", 128) +
          padded("   1   11 1B3A 1C02 0000 0000 00000000 00000000 0006 1B9E     0     7", 128) +
          padded("   1    6 08FC 0960 0000 0000 00000000 00000000 0006 1B9E     0     5", 128) +
          padded("   1    6 1770 177A 0000 0000 C0A80205 00000000 0000 0000     0     1", 128) +
          padded("   3   11 0FA0 0FA1 0000 0000 00000000 00000000 0000 0000     0     1", 128) +
          padded("   2    6 1F90 1F90 1F90 0050 C0A80206 00000000 0000 0000     0     1", 128));
  done(world, "autofw -D -r udp 6970 7170 -c tcp 7070");
  refused(
      world, "autofw -D -r tcp 2300 2400 -c tcp 7070", 1,
      "autofw: setsockopt failed: There is no such forward: tcp *:2300-2400 -> whoever uses tcp "
      "port 7070.");
  done(world, "autofw -D -r tcp 2300 2400 -c tcp 7070 -u");
  done(world, "autofw -D -d udp 4000 4001");
  EXPECT_EQ(in_words(world),
            "tcp *:6000-6010 -> 192.168.2.5 p10\ntcp *:8080 -> 192.168.2.6:80 p10\n");
  EXPECT_EQ(ipmasqadm(world, "autofw -A -v -r udp 1 2 -h 192.168.2.5").out,
            "added: udp *:1-2 -> 192.168.2.5\n");
  done(world, "autofw -F");
  EXPECT_EQ(in_words(world), "");
}

TEST(Autofw, SaysWhatIsWrong) {
  TestWorld world;
  const CommandResult usage = ipmasqadm(world, "autofw");
  EXPECT_EQ(usage.exit_code, 2);
  EXPECT_EQ(usage.err.substr(0, 20), "autofw: usage: autof");
  misused(world, "autofw -A", "autofw: name the ports by -r, -d or -p");
  misused(world, "autofw -r udp 1 2 -h 192.168.2.5", "autofw: say what to do: -A, -D or -F");
  misused(world, "autofw -F -u", "autofw: -F takes no other options");
  misused(world, "autofw -A -D", "autofw: only one of -A, -D and -F can be done at once");
  misused(world, "autofw -A -r udp 1 2",
          "autofw: -r needs a host (-h) or a control port (-c), else it would lead nowhere");
  misused(world, "autofw -A -r udp 1 2 -c tcp 5 -i", "autofw: -i cannot stand with -c");
  misused(world, "autofw -A -r udp 1 2 -c tcp 5 -h 192.168.2.5",
          "autofw: -h names the host that -c is to find; only one of them can be there");
  misused(world, "autofw -A -r udp 2 1 -h 192.168.2.5", "autofw: the ports 2 to 1 are no range");
  misused(world, "autofw -A -r udp 1", "autofw: `-r' needs 3 words");
  misused(world, "autofw -A -c tcp", "autofw: `-c' needs 2 words");
  misused(world, "autofw -A -r gre 1 2 -h 192.168.2.5", "autofw: `gre' is neither tcp nor udp");
  misused(world, "autofw -A -r udp 0 2 -h 192.168.2.5", "autofw: `0' is no port from 1 to 65535");
  misused(world, "autofw -A -d udp 1 2 -u", "autofw: -h, -c, -u and -i belong to -r, not to -d");
  misused(world, "autofw -A -p udp 1 192.168.2.5", "autofw: `192.168.2.5' is not HOST:PORT");
  misused(world, "autofw -A -r udp 1 2 -d udp 3 4",
          "autofw: only one of -r, -d and -p can be there");
  done(world, "autofw -A -r udp 1 2 -h 192.168.2.5 -i");
  refused(world, "autofw -A -r udp 2 3 -h 192.168.2.6", 1,
          "autofw: setsockopt failed: Two forwards contradict each other: udp *:1-2 -> 192.168.2.5 "
          "(0) and udp *:2-3 -> 192.168.2.6 (1); remove one of them.");
}

// --- mfw -------------------------------------------------------------------------------------

TEST(Mfw, AddsEditsAndDeletes) {
  TestWorld world;
  done(world, "mfw -F");
  done(world, "mfw -A -m 1 -r 192.168.2.5 80");
  done(world, "mfw -A -m 1 -r 192.168.2.6 80 -p 0");
  done(world, "mfw -I -m 1 -r 192.168.2.7");
  done(world, "mfw -A -m 0x10 -r server.example www -p 3");
  EXPECT_EQ(in_words(world),
            "mark 1 -> 192.168.2.7, 192.168.2.5:80, 192.168.2.6:80 p10 p10 p0\n"
            "mark 16 -> 198.51.100.9:80 p3\n");
  EXPECT_EQ(ipmasqadm(world, "mfw -L -n").out,
            "  fwmark rediraddr               rport  pcnt  pref\n"
            "       1 192.168.2.7                 0    10    10\n"
            "       1 192.168.2.5                80    10    10\n"
            "       1 192.168.2.6                80     0     0\n"
            "      16 198.51.100.9               80     3     3\n");
  EXPECT_EQ(proc_mfw(world.in_force), padded("FwMark     > RAddr    RPort PrCnt  Pref", 64) +
                                          padded("0x1        > C0A80207     0    10    10", 64) +
                                          padded("0x1        > C0A80205    80    10    10", 64) +
                                          padded("0x1        > C0A80206    80     0     0", 64) +
                                          padded("0x10       > C6336409    80     3     3", 64));
  done(world, "mfw -S -m 1");
  done(world, "mfw -E -m 1 -r 192.168.2.6 80 -p 4");
  EXPECT_EQ(in_words(world),
            "mark 1 -> 192.168.2.5:80, 192.168.2.6:80, 192.168.2.7 p10 p4 p10\n"
            "mark 16 -> 198.51.100.9:80 p3\n");
  done(world, "mfw -E -m 1 -p 2");
  done(world, "mfw -D -m 1 -r 192.168.2.5 80");
  done(world, "mfw -D -m 16");
  EXPECT_EQ(in_words(world), "mark 1 -> 192.168.2.6:80, 192.168.2.7 p2 p2\n");
  EXPECT_EQ(ipmasqadm(world, "mfw -L").out,
            "  fwmark rediraddr               rport  pcnt  pref\n"
            "       1 192.168.2.6               www     2     2\n"
            "       1 192.168.2.7                 0     2     2\n");
}

TEST(Mfw, SaysWhatIsWrong) {
  TestWorld world;
  done(world, "mfw -A -m 1 -r 192.168.2.5 80");
  misused(world, "mfw", "mfw: say what to do: -A, -I, -D, -E, -S, -F or -L");
  misused(world, "mfw -A", "mfw: `-A' needs `-m'");
  misused(world, "mfw -A -m 1", "mfw: `-A' needs `-r'");
  misused(world, "mfw -E -m 1", "mfw: `-E' needs `-p'");
  misused(world, "mfw -S -m 1 -p 3", "mfw: `-p' cannot stand with `-S'");
  misused(world, "mfw -F -m 1", "mfw: `-m' cannot stand with `-F'");
  misused(world, "mfw -A -n -m 1 -r 192.168.2.5", "mfw: `-n' cannot stand with `-A'");
  misused(world, "mfw -A -m 0 -r 192.168.2.5",
          "mfw: `0' is no mark; marks are numbers from 1 to 4294967295");
  misused(world, "mfw -A -m 1 -r 192.168.2.5 -p -1", "mfw: `-1' is no preference from 0 to 65535");
  misused(world, "mfw -A -m 1 -r 192.168.2.5 70000", "mfw: `70000' is no port from 1 to 65535");
  misused(world, "mfw -A -m 1 -r nowhere", "mfw: there is no address `nowhere'");
  misused(world, "mfw -A -F", "mfw: only one of -A, -I, -D, -E, -S, -F and -L can be done at once");
  refused(world, "mfw -D -m 2", 1, "mfw: setsockopt failed: There is no such forward of mark 2.");
  refused(world, "mfw -A -m 1 -r 192.168.2.5 80", 1,
          "mfw: setsockopt failed: mark 1 -> 192.168.2.5:80, 192.168.2.5:80 names a target twice; "
          "give it a higher preference instead.");
}

// --- user ------------------------------------------------------------------------------------

TEST(User, MakesAndFindsEntries) {
  TestWorld world;
  done(world, "user -a -P tcp -M 192.0.2.1 61005 -D 198.51.100.9 80 -S 192.168.2.5 1024 -t 90");
  ASSERT_EQ(world.entries.size(), 1u);
  const MasqueradeEntry& entry = world.entries[0];
  EXPECT_EQ(entry.protocol, kProtocolTcp);
  EXPECT_EQ(address_text(entry.external), "192.0.2.1");
  EXPECT_EQ(entry.external_port, 61005);
  EXPECT_EQ(address_text(entry.remote), "198.51.100.9");
  EXPECT_EQ(entry.remote_port, 80);
  EXPECT_EQ(address_text(entry.inner), "192.168.2.5");
  EXPECT_EQ(entry.inner_port, 1024);
  EXPECT_EQ(entry.expires_hundredths, 9000u);
  EXPECT_EQ(ipmasqadm(world, "user -g -P t -S 192.168.2.5 1024 -n").out,
            "IP masquerading entries\n"
            "prot expire   source               destination          ports\n"
            "TCP  01:30.00 192.168.2.5          198.51.100.9         1024 (61005) -> 80\n");
  EXPECT_EQ(world.asked.inner_port, 1024);
  done(world, "user -s -P tcp -M 192.0.2.1 61005 -t 5");
  EXPECT_EQ(world.entries[0].expires_hundredths, 500u);
  done(world, "user -d -P tcp -M 192.0.2.1 61005");
  EXPECT_TRUE(world.entries.empty());
  done(world, "user -a -P udp -S 192.168.2.5 1024");
  EXPECT_EQ(world.entries[0].state, MasqueradeState::LISTEN);
}

TEST(User, SaysWhatIsWrong) {
  TestWorld world;
  misused(world, "user", "user: say what to do: -a, -d, -s or -g");
  misused(world, "user -a -P tcp", "user: `-a' needs the inner endpoint (-S)");
  misused(world, "user -a -P tcp -S 192.168.2.5 0", "user: the inner endpoint (-S) needs a port");
  misused(world, "user -d -P tcp -D 192.0.2.1 5",
          "user: `-d' needs the inner endpoint (-S) or the external one (-M)");
  misused(world, "user -s -P tcp -S 192.168.2.5 5", "user: `-s' needs a time (-t)");
  misused(world, "user -d -P tcp -S 192.168.2.5 5 -t 9", "user: `-t' cannot stand with `-d'");
  misused(world, "user -s -P tcp -S 192.168.2.5 5 -t 0",
          "user: `0' is no number of seconds from 1 to 1209600");
  misused(world, "user -a -P sctp -S 192.168.2.5 5", "user: the protocol (-P) must be tcp or udp");
  refused(world, "user -g -P tcp -S 192.168.2.5 5", 1,
          "user: setsockopt failed: There is no such connection.");
  EXPECT_TRUE(world.entries.empty());
}

// --- all of them -----------------------------------------------------------------------------

TEST(Ipmasqadm, KnowsItsModules) {
  TestWorld world;
  misused(world, "", "ipmasqadm: name a module: portfw, autofw, mfw or user");
  refused(world, "vdolive -l", 1,
          "ipmasqadm: There is no module `vdolive'; there are portfw, autofw, mfw and user.");
  for (const char* line : {"-h", "--help", "portfw -h", "mfw -h", "user -h"}) {
    const CommandResult result = ipmasqadm(world, line);
    EXPECT_EQ(result.exit_code, 0) << line;
    EXPECT_EQ(result.out.substr(0, 7), "usage: ") << line;
    EXPECT_EQ(result.err, "") << line;
  }
}

const std::vector<std::string> kSomeWords = {"-a",
                                             "-d",
                                             "-f",
                                             "-l",
                                             "-n",
                                             "-P",
                                             "-L",
                                             "-R",
                                             "-p",
                                             "-A",
                                             "-D",
                                             "-F",
                                             "-I",
                                             "-E",
                                             "-S",
                                             "-m",
                                             "-r",
                                             "-h",
                                             "-c",
                                             "-u",
                                             "-i",
                                             "-v",
                                             "-g",
                                             "-s",
                                             "-t",
                                             "-M",
                                             "-C",
                                             "-x",
                                             "--",
                                             "-",
                                             "",
                                             "-Ptcp",
                                             "-aP",
                                             "tcp",
                                             "udp",
                                             "icmp",
                                             "80",
                                             "0",
                                             "65535",
                                             "65536",
                                             "61000",
                                             "99999999999",
                                             "-1",
                                             "0x10",
                                             "192.0.2.1",
                                             "192.168.2.5",
                                             "192.168.2.6",
                                             "0.0.0.0",
                                             "255.255.255.255",
                                             "server.example",
                                             "nowhere",
                                             "192.168.2.5:80",
                                             "192.0.2.1/80",
                                             "192.168.2.5/80",
                                             "www",
                                             "1",
                                             "2",
                                             "10",
                                             "\xff\xfe",
                                             "%s%n",
                                             "a b",
                                             "'",
                                             "-P\xf0"};

std::vector<std::string> some_words(Random& random) {
  std::vector<std::string> words;
  const u32 count = random() % 14;
  for (u32 i = 0; i < count; ++i) words.push_back(kSomeWords[random() % kSomeWords.size()]);
  return words;
}

// A line that is right, or nearly: one word may be another, missing or there twice.
std::vector<std::string> nearly_right(Random& random) {
  static const char* const lines[] = {
      "portfw -a -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80 -p 10",
      "portfw -d -P tcp -L 192.0.2.1 80 -R 192.168.2.5 80",
      "portfw -d -P tcp -L 0.0.0.0 80",
      "portfw -l -n",
      "portfw -f",
      "autofw -A -r tcp 80 90 -c tcp 7070 -u",
      "autofw -D -r tcp 80 90 -c tcp 7070 -u",
      "autofw -A -r udp 1 2 -h 192.168.2.5",
      "autofw -A -p tcp 81 192.168.2.5:80",
      "autofw -F",
      "mfw -A -m 1 -r 192.168.2.5 80 -p 10",
      "mfw -I -m 1 -r 192.168.2.6",
      "mfw -E -m 1 -p 2",
      "mfw -S -m 1",
      "mfw -D -m 1",
      "mfw -L",
      "user -a -P tcp -M 192.0.2.1 61005 -D 198.51.100.9 80 -S 192.168.2.5 1024 -t 90",
      "user -d -P tcp -S 192.168.2.5 1024"};
  std::vector<std::string> words = split(lines[random() % std::size(lines)]);
  if (random() % 2 == 0) return words;
  const std::size_t at = random() % words.size();
  switch (random() % 3) {
    case 0:
      words[at] = kSomeWords[random() % kSomeWords.size()];
      break;
    case 1:
      words.erase(words.begin() + static_cast<std::ptrdiff_t>(at));
      break;
    default:
      words.insert(words.begin() + static_cast<std::ptrdiff_t>(at),
                   kSomeWords[random() % kSomeWords.size()]);
  }
  return words;
}

TEST(Ipmasqadm, WithAnyWordsSucceedsOrChangesNothing) {
  Random random(7);
  TestWorld world;
  u32 succeeded = 0, failed = 0;
  for (u32 i = 0; i < 20000; ++i) {
    const std::string before = forwards_to_json(world.in_force);
    const std::size_t entries = world.entries.size();
    const u32 form = random() % 8;
    std::vector<std::string> words = form < 5 ? nearly_right(random) : some_words(random);
    static const char* const modules[] = {"portfw", "autofw", "mfw", "user"};
    if (form == 5) words.insert(words.begin(), modules[random() % 4]);
    const CommandResult result =
        form == 7 ? run_ipportfw(words, world) : run_ipmasqadm(words, world);
    if (result.exit_code == 0) {
      ASSERT_EQ(result.err, "");
      ASSERT_TRUE(check_forwards(world.in_force));
      succeeded += 1;
      continue;
    }
    ASSERT_TRUE(result.exit_code == 1 || result.exit_code == 2);
    ASSERT_EQ(result.out, "");
    ASSERT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    ASSERT_TRUE(result.err.ends_with(".\n") || result.err.starts_with("autofw: usage"))
        << result.err;
    ASSERT_EQ(forwards_to_json(world.in_force), before);
    ASSERT_EQ(world.entries.size(), entries);
    failed += 1;
  }
  EXPECT_GT(succeeded, 4000u);
  EXPECT_GT(failed, 4000u);
}

}  // namespace
}  // namespace masq
