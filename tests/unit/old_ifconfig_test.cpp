// `ifconfig` in its old form.
#include "compat/old_ifconfig.h"

#include <gtest/gtest.h>
#include <net/if_arp.h>

namespace masq {
namespace {

OldInterface ethernet() {
  OldInterface eth0;
  eth0.name = "eth0";
  eth0.link_type = ARPHRD_ETHER;
  eth0.hardware_address = "02:00:C0:A8:01:FE";
  eth0.address = "192.168.1.254";
  eth0.broadcast = "192.168.1.255";
  eth0.mask = "255.255.255.0";
  eth0.flags = IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST;
  eth0.mtu = 1500;
  eth0.queue_length = 100;
  eth0.received.packets = 7;
  eth0.sent.packets = 9;
  return eth0;
}

OldInterface down() {
  OldInterface eth1 = ethernet();
  eth1.name = "eth1";
  eth1.address = "";
  eth1.flags = IFF_BROADCAST | IFF_MULTICAST;
  return eth1;
}

TEST(OldIfconfig, EthernetAsItWasPrinted) {
  EXPECT_EQ(old_ifconfig_text(ethernet()),
            "eth0      Link encap:Ethernet  HWaddr 02:00:C0:A8:01:FE  \n"
            "          inet addr:192.168.1.254  Bcast:192.168.1.255  Mask:255.255.255.0\n"
            "          UP BROADCAST RUNNING MULTICAST  MTU:1500  Metric:1\n"
            "          RX packets:7 errors:0 dropped:0 overruns:0 frame:0\n"
            "          TX packets:9 errors:0 dropped:0 overruns:0 carrier:0\n"
            "          collisions:0 txqueuelen:100 \n"
            "\n");
}

TEST(OldIfconfig, PointToPointNamesThePeer) {
  OldInterface ppp0;
  ppp0.name = "ppp0";
  ppp0.link_type = ARPHRD_PPP;
  ppp0.address = "10.0.0.1";
  ppp0.peer = "10.0.0.2";
  ppp0.mask = "255.255.255.255";
  ppp0.flags = IFF_UP | IFF_POINTOPOINT | IFF_RUNNING | IFF_NOARP | IFF_MULTICAST;
  ppp0.mtu = 1492;
  std::string text = old_ifconfig_text(ppp0);
  EXPECT_TRUE(
      text.starts_with("ppp0      Link encap:Point-to-Point Protocol  \n"
                       "          inet addr:10.0.0.1  P-t-P:10.0.0.2  Mask:255.255.255.255\n"
                       "          UP POINTOPOINT RUNNING NOARP MULTICAST  MTU:1492  Metric:1\n"))
      << text;
}

TEST(OldIfconfig, AliasHasNoCounters) {
  OldInterface alias = ethernet();
  alias.name = "eth0:1";
  alias.is_alias = true;
  EXPECT_EQ(old_ifconfig_text(alias).find("RX packets"), std::string::npos);
}

TEST(OldIfconfig, WithoutAddressThereIsNoSuchLine) {
  EXPECT_EQ(old_ifconfig_text(down()).find("inet"), std::string::npos);
}

TEST(OldIfconfig, ShowsWhatIsUpOrAllOrOne) {
  std::vector<OldInterface> both = {ethernet(), down()};
  std::string eth0 = old_ifconfig_text(both[0]), eth1 = old_ifconfig_text(both[1]);
  EXPECT_EQ(run_ifconfig({"ifconfig"}, both).out, eth0);
  EXPECT_EQ(run_ifconfig({"/sbin/ifconfig", "-a"}, both).out, eth0 + eth1);
  EXPECT_EQ(run_ifconfig({"ifconfig", "eth1"}, both).out, eth1);
  EXPECT_EQ(run_ifconfig({"ifconfig", "eth0", "inet"}, both).out, eth0);
}

TEST(OldIfconfig, MissingInterfaceIsSaidAsItWas) {
  CommandResult said = run_ifconfig({"ifconfig", "ppp0"}, {ethernet()});
  EXPECT_EQ(said.exit_code, 1);
  EXPECT_EQ(said.out, "");
  EXPECT_EQ(said.err, "ifconfig: ppp0: error fetching interface information: Device not found\n");
}

TEST(OldIfconfig, ChangesNothing) {
  for (std::vector<std::string> argv :
       {std::vector<std::string>{"ifconfig", "eth0", "up"},
        {"ifconfig", "eth0", "192.168.1.1", "netmask", "255.255.255.0"},
        {"ifconfig", "eth0:1", "10.0.0.1"}}) {
    CommandResult said = run_ifconfig(argv, {ethernet()});
    EXPECT_EQ(said.exit_code, 1);
    EXPECT_EQ(said.out, "");
    EXPECT_NE(said.err.find("only shows"), std::string::npos) << said.err;
  }
  EXPECT_EQ(run_ifconfig({"ifconfig", "--no-such"}, {}).exit_code, 2);
}

TEST(OldIfconfig, ThisMachineHasALoopback) {
  bool found = false;
  for (const OldInterface& interface : interfaces_of_this_machine())
    if (interface.name == "lo") {
      found = true;
      EXPECT_EQ(interface.link_type, ARPHRD_LOOPBACK);
      EXPECT_NE(interface.flags & IFF_LOOPBACK, 0u);
      EXPECT_GT(interface.mtu, 0u);
    }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace masq
