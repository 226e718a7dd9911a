// The table of helper modules, and the commands that change it.
#include "compat/old_modules.h"

#include <gtest/gtest.h>

namespace masq {
namespace {

const MachineModules kMachine = {{"dummy", "ppp_generic"}, {"tulip"}};

std::string list(int ports) {
  std::string text;
  for (int i = 0; i < ports; ++i) text += (i > 0 ? "," : "") + std::to_string(1000 + i);
  return text;
}

struct Table {
  std::vector<LoadedModule> modules;
  CommandResult run(const std::vector<std::string>& argv) {
    return run_module_command(argv, kMachine, modules);
  }
};

TEST(OldModules, ModuleIsLoadedWithItsPorts) {
  Table table;
  CommandResult said = table.run({"/sbin/modprobe", "ip_masq_ftp", "ports=21,2021"});
  EXPECT_EQ(said.exit_code, 0);
  EXPECT_EQ(said.out + said.err, "");
  ASSERT_EQ(table.modules.size(), 1u);
  EXPECT_EQ(table.modules[0].name, "ip_masq_ftp");
  EXPECT_EQ(table.modules[0].parameters.at("ports"), (std::vector<u32>{21, 2021}));
}

TEST(OldModules, EveryModuleOfTheDescriptionIsThere) {
  for (const char* name :
       {"ip_masq_ftp", "ip_masq_raudio", "ip_masq_irc", "ip_masq_quake", "ip_masq_cuseeme",
        "ip_masq_vdolive", "ip_masq_portfw", "ip_masq_autofw", "ip_masq_mfw", "ip_masq_user"}) {
    Table table;
    EXPECT_EQ(table.run({"modprobe", name}).exit_code, 0) << name;
    EXPECT_EQ(table.modules.size(), 1u) << name;
  }
}

TEST(OldModules, TwelvePortsAndNotOneMore) {
  Table table;
  EXPECT_EQ(table.run({"modprobe", "ip_masq_irc", "ports=" + list(12)}).exit_code, 0);
  CommandResult said = Table().run({"modprobe", "ip_masq_irc", "ports=" + list(13)});
  EXPECT_EQ(said.exit_code, 1);
  EXPECT_EQ(said.err,
            "modprobe: ip_masq_irc takes at most 12 values for ports, and here are 13.\n");
  Table refused;
  refused.run({"modprobe", "ip_masq_irc", "ports=" + list(13)});
  EXPECT_TRUE(refused.modules.empty());
}

TEST(OldModules, PortsAreFromOneTo65535) {
  for (const char* good : {"1", "65535", "0x15", "025"})
    EXPECT_EQ(Table().run({"modprobe", "ip_masq_ftp", std::string("ports=") + good}).exit_code, 0)
        << good;
  for (const char* bad : {"0", "65536", "", "21,", ",21", "ftp", "-1", "21 22", "99999999999999"}) {
    CommandResult said = Table().run({"modprobe", "ip_masq_ftp", std::string("ports=") + bad});
    EXPECT_EQ(said.exit_code, 1) << bad;
    EXPECT_NE(said.err.find("is not a port from 1 to 65535."), std::string::npos) << said.err;
  }
}

TEST(OldModules, UnknownParameterIsAnErrorThatNamesTheOthers) {
  Table table;
  CommandResult said = table.run({"modprobe", "ip_masq_irc", "portz=6667"});
  EXPECT_EQ(said.exit_code, 1);
  EXPECT_EQ(said.err,
            "modprobe: ip_masq_irc has no parameter portz; it knows ports, insecure and debug.\n");
  EXPECT_TRUE(table.modules.empty());
  EXPECT_EQ(table.run({"modprobe", "ip_masq_irc", "6667"}).exit_code, 1);
}

TEST(OldModules, QuakeTakesItsPortsInEveryWayThatUsersWroteThem) {
  const std::vector<u32> ports = {26000, 27000, 27910, 27960};
  for (const char* word : {"ports=26000,27000,27910,27960", "26000,27000,27910,27960"}) {
    Table table;
    EXPECT_EQ(table.run({"modprobe", "ip_masq_quake", word}).exit_code, 0) << word;
    EXPECT_EQ(table.modules.at(0).parameters.at("ports"), ports);
  }
  Table table;
  EXPECT_EQ(table.run({"modprobe", "ip_masq_quake"}).exit_code, 0);
  EXPECT_TRUE(table.modules.at(0).parameters.empty());
}

TEST(OldModules, NumbersAreOne) {
  EXPECT_EQ(Table().run({"modprobe", "ip_masq_irc", "insecure=1"}).exit_code, 0);
  EXPECT_EQ(Table().run({"modprobe", "ip_masq_irc", "insecure=1,2"}).err,
            "modprobe: ip_masq_irc takes at most 1 value for insecure, and here are 2.\n");
}

TEST(OldModules, UnknownModuleIsSaidAsModprobeSaysIt) {
  EXPECT_EQ(Table().run({"modprobe", "ip_masq_h323"}).err,
            "modprobe: Can't locate module ip_masq_h323\n");
  EXPECT_EQ(Table().run({"modprobe", "ip_masq_h323"}).exit_code, 1);
  EXPECT_EQ(Table().run({"insmod", "ip_masq_h323"}).err,
            "insmod: ip_masq_h323: no module by that name found\n");
  CommandResult quiet = Table().run({"modprobe", "-q", "ip_masq_h323"});
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(quiet.exit_code, 1);
}

TEST(OldModules, ModulesOfTheMachineAreThereOrRefused) {
  EXPECT_EQ(Table().run({"modprobe", "dummy"}).exit_code, 0);
  EXPECT_EQ(Table().run({"modprobe", "ppp-generic"}).exit_code, 0);
  CommandResult said = Table().run({"modprobe", "tulip", "debug=1"});
  EXPECT_EQ(said.exit_code, 1);
  EXPECT_NE(said.err.find("load it before the script."), std::string::npos) << said.err;
  said = Table().run({"rmmod", "dummy"});
  EXPECT_EQ(said.exit_code, 1);
  EXPECT_NE(said.err.find("unloads none"), std::string::npos) << said.err;
}

TEST(OldModules, LoadedTwiceIsFineForModprobeAndAnErrorForInsmod) {
  Table table;
  table.run({"insmod", "/lib/modules/2.2.26/ipv4/ip_masq_ftp.o", "ports=21"});
  ASSERT_EQ(table.modules.size(), 1u);
  EXPECT_EQ(table.run({"modprobe", "ip_masq_ftp"}).err, "");
  CommandResult other = table.run({"modprobe", "ip_masq_ftp", "ports=2021"});
  EXPECT_EQ(other.exit_code, 0);
  EXPECT_NE(other.err.find("is loaded already"), std::string::npos);
  EXPECT_EQ(table.modules.at(0).parameters.at("ports"), std::vector<u32>{21});
  EXPECT_EQ(table.run({"insmod", "ip_masq_ftp"}).err,
            "insmod: a module named ip_masq_ftp already exists\n");
  EXPECT_EQ(table.modules.size(), 1u);
}

TEST(OldModules, RemovedByRmmodAndByModprobe) {
  Table table;
  for (const char* name : {"ip_masq_ftp", "ip_masq_irc", "ip_masq_quake"})
    table.run({"modprobe", name});
  EXPECT_EQ(table.run({"rmmod", "ip_masq_irc"}).exit_code, 0);
  EXPECT_EQ(table.run({"modprobe", "-r", "ip_masq_ftp"}).exit_code, 0);
  ASSERT_EQ(table.modules.size(), 1u);
  EXPECT_EQ(table.modules[0].name, "ip_masq_quake");
  EXPECT_EQ(table.run({"rmmod", "ip_masq_irc"}).err, "rmmod: module ip_masq_irc is not loaded\n");
  EXPECT_EQ(table.run({"rmmod", "-a"}).exit_code, 0);
  EXPECT_EQ(table.modules.size(), 1u);
}

TEST(OldModules, LsmodHasTheOldColumns) {
  Table table;
  table.run({"modprobe", "-a", "ip_masq_ftp", "ip_masq_irc"});
  EXPECT_EQ(table.run({"/sbin/lsmod"}).out,
            "Module                  Size  Used by\n"
            "ip_masq_irc                0   0 (unused)\n"
            "ip_masq_ftp                0   0 (unused)\n");
}

TEST(OldModules, DryRunsChangeNothing) {
  Table table;
  EXPECT_EQ(table.run({"modprobe", "-n", "ip_masq_ftp"}).exit_code, 0);
  EXPECT_EQ(table.run({"insmod", "-n", "ip_masq_ftp"}).exit_code, 0);
  EXPECT_EQ(table.run({"depmod", "-a"}).exit_code, 0);
  EXPECT_TRUE(table.modules.empty());
}

TEST(OldModules, WrongUsageIsSaid) {
  EXPECT_EQ(Table().run({"modprobe"}).exit_code, 2);
  EXPECT_EQ(Table().run({"rmmod"}).exit_code, 2);
  EXPECT_EQ(Table().run({"insmod"}).exit_code, 2);
  EXPECT_EQ(Table().run({"modprobe", "-j", "ip_masq_ftp"}).err,
            "modprobe: masq's stand-in has no option j.\n");
  Table table;  // -o NAME takes a word, joined or not
  table.run({"insmod", "-o", "other", "ip_masq_ftp"});
  EXPECT_EQ(table.modules.size(), 1u);
}

TEST(OldModules, TableIsWrittenAndReadAgain) {
  Table table;
  table.run({"modprobe", "ip_masq_ftp", "ports=21,2021", "debug=0"});
  table.run({"modprobe", "ip_masq_irc"});
  Result<std::vector<LoadedModule>> again = modules_from_json(modules_to_json(table.modules));
  ASSERT_TRUE(again) << again.error().sentence;
  EXPECT_EQ(*again, table.modules);
  EXPECT_TRUE(modules_from_json(""));
}

TEST(OldModules, BadTableIsRefused) {
  for (const char* bad :
       {"{", "{}", "[1]", R"([{"module":"x","parameters":{}}])",
        R"([{"module":"ip_masq_ftp","parameters":{"ports":[0]}}])",
        R"([{"module":"ip_masq_ftp","parameters":{"ports":["a"]}}])",
        R"([{"module":"ip_masq_ftp","parameters":{"ports":3}}])", R"([{"module":"ip_masq_ftp"}])",
        R"([{"module":"ip_masq_ftp","parameters":{}},{"module":"ip_masq_ftp","parameters":{}}])"})
    EXPECT_FALSE(modules_from_json(bad)) << bad;
}

}  // namespace
}  // namespace masq
