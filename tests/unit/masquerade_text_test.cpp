// /proc/net/ip_masquerade and its sisters, and the listings, letter by letter.
#include "compat/masquerade_text.h"

#include <gtest/gtest.h>

#include <sstream>

#include "few_names.h"
#include "policy/forwards.h"
#include "wire/headers.h"

namespace masq {
namespace {

MasqueradeEntry entry(u8 protocol, u16 inner_port, u16 external_port, u16 remote_port,
                      MasqueradeState state, u32 expires_hundredths) {
  MasqueradeEntry e;
  e.protocol = protocol;
  e.inner = *address_from("192.168.2.6");
  e.remote = *address_from("198.51.100.9");
  e.external = *address_from("192.0.2.1");
  e.inner_port = inner_port;
  e.external_port = external_port;
  e.remote_port = remote_port;
  e.state = state;
  e.expires_hundredths = expires_hundredths;
  return e;
}

std::vector<MasqueradeEntry> some_entries() {
  std::vector<MasqueradeEntry> entries = {
      entry(kProtocolTcp, 1034, 61003, 80, MasqueradeState::ESTABLISHED, 719261),
      entry(kProtocolUdp, 5353, 61004, 53, MasqueradeState::UDP, 15999),
      entry(kProtocolIcmp, 700, 61005, 8, MasqueradeState::ICMP, 5),
      entry(kProtocolTcp, 1035, 61006, 21, MasqueradeState::FIN_WAIT, 1000)};
  entries[3].initial_sequence = 0xfedcba98;
  entries[3].delta = -12;
  entries[3].previous_delta = 7;
  entries[3].flags = 0x1a0;
  entries[3].references = 2;
  entries[3].control = -1;
  return entries;
}

std::string padded(const std::string& text, std::size_t length) {
  return text + std::string(length - 1 - text.size(), ' ') + "\n";
}

const MasqueradeFree kFree{40959, 40958, 40957};

TEST(MasqueradeText, IpMasquerade) {
  EXPECT_EQ(
      proc_ip_masquerade(some_entries(), kFree),
      padded("Prc FromIP   FPrt ToIP     TPrt Masq Init-seq  Delta PDelta Expires "
             "(free=40959,40958,40957)",
             128) +
          padded("TCP C0A80206:040A C6336409:0050 EE4B 00000000      0      0  719261", 128) +
          padded("UDP C0A80206:14E9 C6336409:0035 EE4C 00000000      0      0   15999", 128) +
          padded("ICMP C0A80206:02BC C6336409:0008 EE4D 00000000      0      0       5", 128) +
          padded("TCP C0A80206:040B C6336409:0015 EE4E FEDCBA98    -12      7    1000", 128));
}

TEST(MasqueradeText, IpMasqOfEachProtocol) {
  const std::string header = padded(
      "Prot SrcIP    SPrt DstIP    DPrt MAddr    MPrt State        Flgs Ref Ctl Expires HRow HCol "
      "(free=40959,40958,40957)",
      128);
  EXPECT_EQ(proc_ip_masq(some_entries(), kProtocolTcp, kFree),
            header +
                padded("TCP  C0A80206:040A C6336409:0050 C0000201:EE4B ESTABLISHED     0   0   0 "
                       "   7192    0    0",
                       128) +
                padded("TCP  C0A80206:040B C6336409:0015 C0000201:EE4E FIN_WAIT      1A0   2  -1 "
                       "     10    1    0",
                       128));
  EXPECT_EQ(proc_ip_masq(some_entries(), kProtocolUdp, kFree),
            header + padded("UDP  C0A80206:14E9 C6336409:0035 C0000201:EE4C UDP             0   0  "
                            " 0     159    0    0",
                            128));
  EXPECT_EQ(proc_ip_masq(some_entries(), kProtocolIcmp, kFree),
            header + padded("ICMP C0A80206:02BC C6336409:0008 C0000201:EE4D ICMP            0   0  "
                            " 0       0    0    0",
                            128));
  EXPECT_EQ(proc_ip_masq({}, kProtocolTcp, kFree), header);
}

// Whatever the numbers are, a line keeps its length.
TEST(MasqueradeText, LinesKeepTheirLength) {
  MasqueradeEntry e = entry(255, 65535, 65535, 65535, MasqueradeState::ESTABLISHED, ~0u);
  e.inner = e.remote = e.external = Ipv4{~0u};
  e.initial_sequence = e.flags = ~0u;
  e.delta = e.previous_delta = e.references = e.control = -2147483647 - 1;
  const MasqueradeFree free{~0u, ~0u, ~0u};
  EXPECT_EQ(proc_ip_masquerade({e}, free).size(), 256u);
  EXPECT_EQ(proc_ip_masq({e}, 255, free).size(), 256u);
  EXPECT_EQ(proc_ip_masq_app({{255, 65535, ~0u, std::string(100, 'x')}}).size(), 80u);
}

TEST(MasqueradeText, Helpers) {
  EXPECT_EQ(proc_ip_masq_app({{kProtocolTcp, 21, 3, "ftp"}, {kProtocolUdp, 26000, 0, "quake"}}),
            padded("prot port    n_attach name", 40) + padded("TCP  21      3        ftp", 40) +
                padded("UDP  26000   0        quake", 40));
}

TEST(MasqueradeText, Listing) {
  EXPECT_EQ(masquerade_listing({}, nullptr, false), "IP masquerading entries\n");
  EXPECT_EQ(masquerade_listing(some_entries(), nullptr, false),
            "IP masquerading entries\n"
            "prot expire   source               destination          ports\n"
            "TCP  119:52.61 192.168.2.6          198.51.100.9         1034 (61003) -> 80\n"
            "UDP  02:39.99 192.168.2.6          198.51.100.9         5353 (61004) -> 53\n"
            "ICMP 00:00.05 192.168.2.6          198.51.100.9         700 (61005) -> 8\n"
            "TCP  00:10.00 192.168.2.6          198.51.100.9         1035 (61006) -> 21\n");
}

TEST(MasqueradeText, ListingWithNamesAndSequences) {
  const test::FewNames names;
  EXPECT_EQ(masquerade_listing(some_entries(), &names, true),
            "IP masquerading entries\n"
            "prot expire   initseq    delta prevd source               destination          ports\n"
            "TCP  119:52.61 0              0     0 192.168.2.6          server.example       1034 "
            "(61003) -> www\n"
            "UDP  02:39.99 0              0     0 192.168.2.6          server.example       5353 "
            "(61004) -> domain\n"
            "ICMP 00:00.05 0              0     0 192.168.2.6          server.example       700 "
            "(61005) -> 8\n"
            "TCP  00:10.00 4275878552   -12     7 192.168.2.6          server.example       1035 "
            "(61006) -> ftp\n");
}

}  // namespace
}  // namespace masq
