// The words of `masq forward`, and what nftables is told for the datapath in user space.
#include "policy/forward_words.h"

#include <gtest/gtest.h>

#include "policy/forwards_nftables.h"

namespace masq {
namespace {

std::string again(const std::string& words) {
  const Result<Forward> forward = forward_from_text(words);
  return forward ? words_of(*forward) : "wrong: " + forward.error().sentence;
}

TEST(ForwardWords, SaySoAgain) {
  for (const char* words :
       {"tcp 80 192.168.2.5", "udp 5000-5010 192.168.2.5:6000", "both 53 192.168.2.5",
        "tcp 443 192.168.2.5@3 192.168.2.6:8443@1", "all 192.168.2.7 --at 198.51.100.7",
        "tcp 1-65535 192.168.2.5 --at 198.51.100.7 --from 203.0.113.0/24 --from 0.0.0.0/0"})
    EXPECT_EQ(again(words), words);
  EXPECT_EQ(again("tcp --from 203.0.113.9 80 --at 198.51.100.7 192.168.2.5"),
            "tcp 80 192.168.2.5 --at 198.51.100.7 --from 203.0.113.9/32");
}

TEST(ForwardWords, AreRefusedInOneSentence) {
  for (const char* words : {"",
                            "tcp",
                            "tcp 80",
                            "icmp 80 192.168.2.5",
                            "tcp 0 192.168.2.5",
                            "tcp 65536 192.168.2.5",
                            "tcp 80-79 192.168.2.5",
                            "tcp 80- 192.168.2.5",
                            "tcp -80 192.168.2.5",
                            "tcp +80 192.168.2.5",
                            "tcp 80 192.168.2",
                            "tcp 80 192.168.2.5:",
                            "tcp 80 192.168.2.5:0",
                            "tcp 80 192.168.2.5@0",
                            "tcp 80 192.168.2.5@65536",
                            "tcp 80 192.168.2.5 --from",
                            "tcp 80 192.168.2.5 --from 10.0.0.0/33",
                            "tcp 80 192.168.2.5 --from 10.0.0.1/8",
                            "tcp 80 192.168.2.5 --at nowhere",
                            "tcp 80 192.168.2.5 --at 1.2.3.4 --at 1.2.3.5",
                            "tcp 80 192.168.2.5 --to 1.2.3.4",
                            "all 192.168.2.5",
                            "all --at 198.51.100.7",
                            "99999999999999999999 80 192.168.2.5",
                            "tcp 99999999999999999999 192.168.2.5"}) {
    const Result<Forward> forward = forward_from_text(words);
    ASSERT_FALSE(forward) << words;
    EXPECT_EQ(forward.error().sentence.find('\n'), std::string::npos) << words;
    EXPECT_NE(std::string(".?").find(forward.error().sentence.back()), std::string::npos) << words;
  }
}

std::string rules_for(const std::string& words) {
  Forwards forwards;
  const Result<Forward> forward = forward_from_text(words);
  EXPECT_TRUE(forward && add_forward(forwards, *forward)) << words;
  Settings settings{};
  settings.pool[0] = {1024, 32767};
  settings.pool[1] = settings.pool[2] = settings.pool[3] = {1, 0};
  settings.externals[0] = {*address_from("198.51.100.7"), 3, kExternalLive, 1};
  settings.externals[1] = {*address_from("198.51.100.8"), 3, 0, 1};
  std::string text = forwards_to_nftables(
      forwards, settings, {{"out0", 3, true, true, false}, {"in0", 4, true, false, false}});
  const std::string head =
      "add table ip masq_forwards\n"
      "add chain ip masq_forwards input { type filter hook input priority -299; }\n"
      "add rule ip masq_forwards input iif != { 3, 4 } accept\n"
      "add rule ip masq_forwards input udp sport 67 udp dport 68 accept\n";
  if (!text.starts_with(head)) return text.empty() ? "nothing" : text;
  text = text.substr(head.size());
  const std::string begin = "add rule ip masq_forwards input ";
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin))
    text.erase(at, begin.size());
  return text;
}

TEST(ForwardsForNftables, DropWhatIsForwarded) {
  EXPECT_EQ(rules_for("tcp 80 192.168.2.5"),
            "ip daddr 198.51.100.7 meta l4proto tcp th dport 80 drop\n");
  EXPECT_EQ(rules_for("both 50-60 192.168.2.5 --from 203.0.113.0/24"),
            "ip daddr 198.51.100.7 ip saddr { 203.0.113.0/24 } meta l4proto { tcp, udp } th dport "
            "50-60 drop\n");
  // The external address is a sender too: inner hosts are seen with it.
  EXPECT_EQ(rules_for("udp 53 192.168.2.5 --from 198.51.100.0/24"),
            "ip daddr 198.51.100.7 ip saddr { 198.51.100.0/24 } meta l4proto udp th dport 53 "
            "drop\nip daddr 198.51.100.7 iif { 4 } meta l4proto udp th dport 53 drop\n");
  EXPECT_EQ(
      rules_for("all 192.168.2.5 --at 198.51.100.7"),
      "ip daddr 198.51.100.7 meta l4proto { tcp, udp } th dport { 1024-32767 } socket transparent "
      "0 accept\n"
      "ip daddr 198.51.100.7 meta l4proto { tcp, udp } th dport { 1024-32767 } socket transparent "
      "1 accept\n"
      "ip daddr 198.51.100.7 meta l4proto { tcp, udp } drop\n"
      "ip daddr 198.51.100.7 icmp type { echo-request, timestamp-request } drop\n");
}

TEST(ForwardsForNftables, NothingAtAnAddressThatIsNotThere) {
  EXPECT_EQ(rules_for("tcp 80 192.168.2.5 --at 198.51.100.8"), "nothing");
}

}  // namespace
}  // namespace masq
