// The line about a packet that fitted a rule with -l: each kind of packet, target and chain.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "policy/packet_log.h"

namespace masq {
namespace {

class PacketLine : public testing::Test {
 protected:
  PacketLine() : half_(std::make_unique<RuleHalf>()) {
    std::memcpy(half_->names[5].chain, "input", 5);
    half_->names[5].number = 2;
    std::memcpy(half_->names[9].chain, "eightlet", 8);
    half_->names[9].number = 1;
    half_->slots[5].target = RuleTarget::deny;
    packet_.interface = 1;
    packet_.source = ipv4_from_host(0xc6336401);
    packet_.destination = ipv4_from_host(0xcb007102);
    packet_.source_port = 1025;
    packet_.destination_port = 23;
    packet_.length = 60;
    packet_.id = 5;
    packet_.fragment = 0x4000;
    packet_.slot = 5;
    packet_.protocol = kProtocolTcp;
    packet_.ttl = 63;
  }

  std::string line(const std::string& interface = "eth0") const {
    return packet_log_line(packet_, *half_, interface);
  }

  std::unique_ptr<RuleHalf> half_;
  LoggedPacket packet_{};
};

TEST_F(PacketLine, OfTcp) {
  EXPECT_EQ(line(),
            "Packet log: input DENY eth0 PROTO=6 198.51.100.1:1025 203.0.113.2:23 L=60 S=0x00 I=5 "
            "F=0x4000 T=63 (#"
            "2)");
  packet_.is_syn = 1;
  packet_.tos = 0x1a;
  EXPECT_EQ(line(),
            "Packet log: input DENY eth0 PROTO=6 198.51.100.1:1025 203.0.113.2:23 L=60 S=0x1A I=5 "
            "F=0x4000 T=63 SYN (#"
            "2)");
}

TEST_F(PacketLine, OfIcmpAndOfWhatHasNoPorts) {
  packet_.protocol = kProtocolIcmp;
  packet_.source_port = 8;
  packet_.destination_port = 0;
  EXPECT_NE(line().find("PROTO=1 198.51.100.1:8 203.0.113.2:0 L"), std::string::npos);
  packet_.protocol = 47;
  packet_.source_port = packet_.destination_port = kNoPort;
  packet_.fragment = 0x20b9;
  EXPECT_NE(line().find("PROTO=47 198.51.100.1:65535 203.0.113.2:65535 L"), std::string::npos);
  EXPECT_NE(line().find("F=0x20B9 T"), std::string::npos);
}

TEST_F(PacketLine, NamesTheTarget) {
  const std::pair<RuleTarget, const char*> targets[] = {
      {RuleTarget::none, "-"},         {RuleTarget::accept, "ACCEPT"},
      {RuleTarget::reject, "REJECT"},  {RuleTarget::masquerade, "MASQ"},
      {RuleTarget::go_back, "RETURN"}, {RuleTarget::redirect, "REDIRECT 9"},
      {RuleTarget::chain, "eightlet"}};
  half_->slots[5].to = 9;
  for (const auto& [target, word] : targets) {
    half_->slots[5].target = target;
    EXPECT_EQ(line().substr(0, line().find(" eth0")), std::string("Packet log: input ") + word);
  }
}

TEST_F(PacketLine, OfAnInterfaceThatHasGone) {
  EXPECT_NE(line("").find("input DENY - PROTO"), std::string::npos);
}

}  // namespace
}  // namespace masq
