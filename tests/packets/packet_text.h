// Packets in words: the notation of the packet tests, parsed and built.
//
//   udp 192.168.2.4:5000 > 198.51.100.1:9 ttl 64 len 8
//   tcp 192.168.2.4:5000 > 198.51.100.1:80 flags SA seq 100 ack 1 win 1000 wscale 7
//   icmp 192.168.2.4 > 198.51.100.1 echo query 77 seq 1
//   icmp 198.51.100.1 > 203.0.113.2 unreachable code 3 { udp 203.0.113.2:$a > 198.51.100.1:9 }
//   ip 192.168.2.4 > 198.51.100.1 proto 47        arp 203.0.113.1 > 192.168.2.1        ipv6
//
// Every packet is complete and intact unless an option says otherwise: lengths and checksums are
// computed here from the whole packet, independently of the code under test.
//
//   any      ttl 64  tos 0  id 0  df  mf  offset BYTES  len PAYLOAD  hex PAYLOAD  options HEX
//            slice FROM-TO   only these bytes of the IP payload, as a fragment (TO may be "end")
//   damage   ipsum bad   sum bad|0|0xHEX   version N  ihl N  total N  udplen N  doff N
//            cut N (keep N bytes of the packet)   pad N (zeros behind it)
//   tcp      flags FSRPAU  seq  ack  win  wscale  tcpoptions HEX
//   icmp     echo echo-reply timestamp timestamp-reply unreachable time-exceeded parameter-problem
//            redirect source-quench information-request, or type N; code N  query ID  seq  mtu
//            { packet }   what an error quotes; quote N: only its first N bytes; ext HEX behind it
//            received     quotes the packet that the error answers, the first 128 bytes of it
//   sumto 0xHEX from A:P   chooses the payload so that the checksum becomes this, seen from there
//   arp      A > B: A asks for B; reply: A says that it is A
//
// `$name` stands for a port or identifier that the gateway has chosen.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "wire/types.h"

namespace masq::test {

using Data = std::vector<u8>;
using Words = std::vector<std::string>;
using Variables = std::map<std::string, u32>;

struct Spec {
  std::string protocol;
  std::string source, destination;            // addresses
  std::string source_port, destination_port;  // numbers or $names; empty if none
  std::map<std::string, std::string> options;
  std::shared_ptr<Spec> quoted;
};

// A mistake in a script.
struct TextError {
  std::string what;
};

Words split_words(const std::string& line);

// The packet that begins at words[at]; `at` ends behind it.
Spec parse_packet(const Words& words, std::size_t& at);

// A packet given as the difference to `base`: endpoints and options.
Spec parse_difference(const Spec& base, const Words& words, std::size_t& at);

// The bytes from the IP header on. `received` is what `received` quotes.
Data build_packet(const Spec& spec, const Variables& variables, const Data& received);

// Replaces `sumto` by the payload that it asks for.
void settle_checksum(Spec& spec, const Variables& variables);

u32 number_of(const std::string& word, const Variables& variables);
Ipv4 address_of(const std::string& word);
std::string hex_dump(const Data& data);

}  // namespace masq::test
