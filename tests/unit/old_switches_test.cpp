// The switches of /proc/sys/net/ipv4: which are known, and what they take.
#include "compat/old_switches.h"

#include <gtest/gtest.h>

#include <set>

namespace masq {
namespace {

TEST(OldSwitches, ThoseOfTheDescriptionAreKnown) {
  for (const char* name : {"ip_forward", "ip_dynaddr", "ip_masq_udp_dloose", "ip_masq_debug"}) {
    const KnownSwitch* known = find_switch(std::string("net/ipv4/") + name);
    ASSERT_NE(known, nullptr) << name;
    EXPECT_EQ(known->use, SwitchUse::gateway) << name;
    EXPECT_STREQ(known->at_first, "0") << name;
  }
  EXPECT_EQ(find_switch("net/ipv4/ip_always_defrag")->use, SwitchUse::settled);
  EXPECT_EQ(find_switch("net/ipv4/tcp_syncookies")->use, SwitchUse::machine);
}

TEST(OldSwitches, EveryInterfaceHasItsOwn) {
  for (const char* name : {"all", "default", "eth0", "eth0.5", "ppp0"}) {
    const KnownSwitch* known = find_switch(fmt::format("net/ipv4/conf/{}/rp_filter", name));
    ASSERT_NE(known, nullptr) << name;
    EXPECT_EQ(known->use, SwitchUse::machine);
  }
  EXPECT_EQ(find_switch("net/ipv4/conf//rp_filter"), nullptr);
  EXPECT_EQ(find_switch("net/ipv4/conf/a/b/rp_filter"), nullptr);
  EXPECT_EQ(find_switch("net/ipv4/conf/eth0/no_such"), nullptr);
  EXPECT_EQ(find_switch("net/ipv4/conf/rp_filter"), nullptr);
}

TEST(OldSwitches, OthersAreNotKnown) {
  for (const char* name : {"", "ip_forward", "net/ipv4", "net/ipv4/ip_forward2", "kernel/printk",
                           "net/ipv6/conf/all/forwarding"})
    EXPECT_EQ(find_switch(name), nullptr) << name;
}

TEST(OldSwitches, ValuesAtTheEdges) {
  auto takes = [](const char* name, const char* value) {
    return static_cast<bool>(accepted_value(*find_switch(name), value));
  };
  EXPECT_TRUE(takes("net/ipv4/ip_forward", "0\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_forward", "1\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_forward", "2\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_dynaddr", "7\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_dynaddr", "8\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_masq_udp_dloose", "2\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_masq_udp_dloose", "3\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_default_ttl", "0\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_default_ttl", "255\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_default_ttl", "256\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_always_defrag", "2147483647\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_always_defrag", "2147483648\n"));
  EXPECT_TRUE(takes("net/ipv4/ip_local_port_range", "32768\t61000\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_local_port_range", "32768\n"));
  EXPECT_FALSE(takes("net/ipv4/ip_local_port_range", "1 2 3\n"));
}

TEST(OldSwitches, BadValuesGetASentence) {
  for (const char* bad : {"", "\n", "on", "-1", "1 1", "1x", "0x1", "99999999999999999999"})
    EXPECT_FALSE(accepted_value(*find_switch("net/ipv4/ip_forward"), bad)) << bad;
  EXPECT_EQ(accepted_value(*find_switch("net/ipv4/ip_forward"), "yes\n").error().sentence,
            "net/ipv4/ip_forward takes a number from 0 to 1, and not `yes`.");
}

TEST(OldSwitches, ValueIsTheLastLine) {
  EXPECT_EQ(plain_value("1\n"), "1");
  EXPECT_EQ(plain_value("0\n1\n\n"), "1");  // echo 1 >>
  EXPECT_EQ(plain_value(" 32768\t 61000 \r\n"), "32768 61000");
  EXPECT_EQ(plain_value(""), "");
}

TEST(OldSwitches, ThoseWithAValueOfTheirOwnTakeIt) {
  std::set<std::string> names;
  for (const KnownSwitch* known : switches_with_own_value()) {
    EXPECT_TRUE(names.insert(known->name).second) << known->name;
    EXPECT_TRUE(accepted_value(*known, known->at_first)) << known->name;
    EXPECT_EQ(find_switch(known->name), known);
    EXPECT_EQ(std::string(known->name).find('*'), std::string::npos);
  }
  EXPECT_TRUE(names.count("net/ipv4/ip_always_defrag"));
}

}  // namespace
}  // namespace masq
