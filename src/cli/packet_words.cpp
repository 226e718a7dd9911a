// From words to bytes. The first mistake is kept and ends the reading; nothing is guessed after it.
#include "cli/packet_words.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>

#include "wire/checksum.h"
#include "wire/headers.h"

namespace masq {
namespace {

using Bytes = std::vector<u8>;

struct Range {
  u32 least, most;
};

const std::map<std::string, u32> kProtocols = {{"tcp", kProtocolTcp},
                                               {"udp", kProtocolUdp},
                                               {"icmp", kProtocolIcmp},
                                               {"ping", kProtocolIcmp},
                                               {"igmp", 2},
                                               {"ipip", 4},
                                               {"gre", 47},
                                               {"esp", 50},
                                               {"ah", 51},
                                               {"sctp", 132},
                                               {"ip", 253},
                                               {"arp", 0},
                                               {"ipv6", 0}};
const std::map<std::string, u32> kIcmpTypes = {{"echo-reply", 0},
                                               {"reply", 0},
                                               {"unreachable", 3},
                                               {"source-quench", 4},
                                               {"redirect", 5},
                                               {"echo", 8},
                                               {"time-exceeded", 11},
                                               {"parameter-problem", 12},
                                               {"timestamp", 13},
                                               {"timestamp-reply", 14},
                                               {"information-request", 15}};
const std::map<std::string, std::string> kFlagWords = {
    {"syn", "S"}, {"syn-ack", "SA"}, {"ack", "A"}, {"fin", "FA"}, {"rst", "R"}};
const std::map<std::string, Range> kNumbers = {
    {"ttl", {0, 255}},      {"tos", {0, 255}},   {"len", {0, 65515}},  {"size", {20, 65535}},
    {"offset", {0, 65528}}, {"seq", {0, ~0u}},   {"ack", {0, ~0u}},    {"win", {0, 65535}},
    {"code", {0, 255}},     {"type", {0, 255}},  {"mtu", {0, 65535}},  {"id", {0, 65535}},
    {"query", {0, 65535}},  {"proto", {0, 255}}, {"version", {0, 15}}, {"ihl", {0, 15}},
    {"total", {0, 65535}},  {"doff", {0, 15}},   {"cut", {0, 65535}},  {"gso", {1, 65535}},
    {"wscale", {0, 14}}};
const char* const kSwitches[] = {"df", "mf", "options", "bad-checksum", "reply"};
const char* const kFillers[] = {"to", ">", "->", "and", "with", "{", "}"};

struct Said {
  std::string protocol;
  std::string source, destination;
  u32 source_port = 0, destination_port = 0;
  bool has_source_port = false;
  std::map<std::string, u32> numbers;
  std::map<std::string, bool> switches;
  std::string flags, came_in_on;
  std::shared_ptr<Said> about;
  bool has(const char* name) const { return numbers.contains(name) || switches.contains(name); }
  u32 get(const char* name, u32 otherwise) const {
    auto it = numbers.find(name);
    return it == numbers.end() ? otherwise : it->second;
  }
};

bool parse_number(const std::string& word, u64& value) {
  bool hex = word.starts_with("0x");
  const char* begin = word.data() + (hex ? 2 : 0);
  const char* end = word.data() + word.size();
  auto [stop, failure] = std::from_chars(begin, end, value, hex ? 16 : 10);
  return failure == std::errc() && stop == end && begin != end;
}

bool is_address(const std::string& word) {
  in_addr address{};
  return inet_pton(AF_INET, word.substr(0, word.find(':')).c_str(), &address) == 1;
}

Ipv4 address_of(const std::string& word) {
  in_addr address{};
  inet_pton(AF_INET, word.c_str(), &address);
  return Ipv4{address.s_addr};
}

class Reader {
 public:
  explicit Reader(std::vector<std::string> words) : words_(std::move(words)) {}

  Result<Said> read() {
    Said said;
    read_packet(said, false);
    if (!mistake_.empty()) return Error{mistake_};
    return said;
  }

 private:
  void fail(std::string sentence) {
    if (mistake_.empty()) mistake_ = std::move(sentence);
  }
  bool more() const { return mistake_.empty() && at_ < words_.size(); }

  void read_packet(Said& said, bool quoted) {
    while (more() && said.protocol.empty()) {
      const std::string& word = words_[at_++];
      if (word == "from" || word == "in" || word == "on") {
        if (at_ >= words_.size()) return fail("The word behind \"from\" is missing.");
        said.came_in_on = words_[at_++];
      } else if (kProtocols.contains(word)) {
        said.protocol = word;
      } else if (!is_filler(word) && word != "a" && word != "an") {
        return fail(
            fmt::format("\"{}\" is no protocol; say for example `masq explain udp "
                        "192.168.2.4:5000 198.51.100.1:53`.",
                        shown(word)));
      }
    }
    if (said.protocol.empty())
      return fail(
          "The packet is missing; say for example `masq explain udp 192.168.2.4:5000 "
          "198.51.100.1:53`.");
    while (more()) read_word(said, quoted);
    if (mistake_.empty() && said.protocol != "ipv6" && said.destination.empty())
      fail(fmt::format("Two addresses are needed behind \"{}\": from whom, and to whom.",
                       said.protocol));
  }

  static bool is_filler(const std::string& word) {
    return std::find(std::begin(kFillers), std::end(kFillers), word) != std::end(kFillers);
  }

  // What is repeated in a sentence must not fill the screen, nor do anything to the terminal.
  static std::string shown(const std::string& word) {
    std::string text = word.substr(0, 40);
    for (char& c : text)
      if (c < 32 || c > 126) c = '?';
    return word.size() > 40 ? text + "..." : text;
  }

  void read_word(Said& said, bool quoted) {
    const std::string word = words_[at_++];
    if (is_filler(word) && word != "{") return;
    if (word == "about" || word == "{") {
      if (quoted) return fail("A packet that is quoted quotes none itself.");
      said.about = std::make_shared<Said>();
      return read_packet(*said.about, true);
    }
    if (word == "from" || word == "in" || word == "on") {
      if (at_ >= words_.size()) return fail("The word behind \"from\" is missing.");
      if (is_address(words_[at_])) return;
      said.came_in_on = words_[at_++];
      return;
    }
    if (is_address(word)) return read_end(said, word);
    if (said.protocol == "icmp" && kIcmpTypes.contains(word)) {
      said.numbers["type"] = kIcmpTypes.at(word);
      return;
    }
    if (word == "flags") return read_flags(said);
    // "ack" is a flag by itself, and a number if one follows.
    u64 value = 0;
    bool number_follows = at_ < words_.size() && parse_number(words_[at_], value);
    if (said.protocol == "tcp" && kFlagWords.contains(word) && !number_follows) {
      said.flags = kFlagWords.at(word);
      return;
    }
    if (std::find(std::begin(kSwitches), std::end(kSwitches), word) != std::end(kSwitches)) {
      said.switches[word] = true;
      return;
    }
    if (auto known = kNumbers.find(word); known != kNumbers.end())
      return read_value(said, word, known->second);
    if (said.destination.empty())
      return fail(fmt::format("\"{}\" is no IPv4 address (names are not looked up).", shown(word)));
    fail(
        fmt::format("\"{}\" is not understood; docs/explain.md lists what can be said of a packet.",
                    shown(word)));
  }

  void read_value(Said& said, const std::string& name, Range range) {
    u64 value = 0;
    if (at_ >= words_.size())
      return fail(fmt::format("The number behind \"{}\" is missing.", name));
    const std::string& word = words_[at_++];
    if (!parse_number(word, value) || value < range.least || value > range.most)
      return fail(fmt::format("\"{} {}\" cannot be: a number from {} to {} is needed.", name,
                              shown(word), range.least, range.most));
    said.numbers[name] = static_cast<u32>(value);
  }

  void read_flags(Said& said) {
    if (at_ >= words_.size()) return fail("The letters behind \"flags\" are missing.");
    const std::string& word = words_[at_++];
    if (word.empty() || word.find_first_not_of("FSRPAU") != std::string::npos)
      return fail(fmt::format("\"{}\" are no TCP flags; the letters are F, S, R, P, A and U.",
                              shown(word)));
    said.flags = word;
  }

  void read_end(Said& said, const std::string& word) {
    std::size_t colon = word.find(':');
    u64 port = 0;
    if (colon != std::string::npos) {
      std::string text = word.substr(colon + 1);
      if (!parse_number(text, port) || port > 65535)
        return fail(fmt::format("\"{}\" is no port; ports go from 0 to 65535.", shown(text)));
    }
    if (!said.destination.empty())
      return fail(fmt::format("\"{}\" is one address too many.", shown(word)));
    bool first = said.source.empty();
    (first ? said.source : said.destination) = word.substr(0, colon);
    (first ? said.source_port : said.destination_port) = static_cast<u32>(port);
    if (first) said.has_source_port = colon != std::string::npos;
  }

  std::vector<std::string> words_;
  std::size_t at_ = 0;
  std::string mistake_;
};

// --- building --------------------------------------------------------------------------------

void put16(Bytes& b, u32 value) {
  b.push_back(static_cast<u8>(value >> 8));
  b.push_back(static_cast<u8>(value));
}
void put32(Bytes& b, u32 value) {
  put16(b, value >> 16);
  put16(b, value & 0xffff);
}

// The ones' complement sum in the order of the bytes, folded.
u32 sum_of(const Bytes& b, u32 sum = 0) {
  for (std::size_t i = 0; i < b.size(); ++i) {
    sum += i % 2 == 0 ? b[i] * 256u : b[i];
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

void set_checksum(Bytes& b, std::size_t at, u32 sum) {
  u32 field = ~sum & 0xffff;
  b[at] = static_cast<u8>(field >> 8);
  b[at + 1] = static_cast<u8>(field);
}

u32 protocol_of(const Said& said) {
  return said.get("proto", kProtocols.at(said.protocol));
}

u32 pseudo_sum(const Said& said, std::size_t length) {
  Bytes b;
  put32(b, to_host(address_of(said.source)));
  put32(b, to_host(address_of(said.destination)));
  put16(b, protocol_of(said));
  put16(b, static_cast<u32>(length));
  return sum_of(b);
}

Bytes build(const Said& said);

Bytes icmp_message(const Said& said) {
  u32 type = said.get("type", said.has("reply") ? 0 : 8);
  Bytes b{static_cast<u8>(type), static_cast<u8>(said.get("code", 0)), 0, 0};
  if (said.about) {
    put16(b, 0);
    put16(b, said.get("mtu", 0));
    Bytes quote = build(*said.about);
    b.insert(b.end(), quote.begin(), quote.end());
  } else {
    put16(b, said.get("query", said.get("id", said.source_port | said.destination_port)));
    put16(b, said.get("seq", 1));
  }
  return b;
}

// The transport header, without its checksum; where the checksum lies, or 0.
Bytes transport_header(const Said& said, std::size_t& checksum_at) {
  Bytes b;
  checksum_at = 0;
  switch (protocol_of(said)) {
    case kProtocolTcp: {
      const std::string letters = "FSRPAU";
      u32 flags = 0;
      for (char c : said.flags.empty() ? std::string("S") : said.flags)
        flags |= 1u << letters.find(c);
      put16(b, said.source_port);
      put16(b, said.destination_port);
      put32(b, said.get("seq", 0));
      put32(b, said.get("ack", 0));
      b.push_back(static_cast<u8>(said.get("doff", said.has("wscale") ? 6 : 5) << 4));
      b.push_back(static_cast<u8>(flags));
      put16(b, said.get("win", 65535));
      put32(b, 0);
      if (said.has("wscale")) b.insert(b.end(), {1, 3, 3, static_cast<u8>(said.get("wscale", 0))});
      checksum_at = 16;
      break;
    }
    case kProtocolUdp:
      put16(b, said.source_port);
      put16(b, said.destination_port);
      put32(b, 0);
      checksum_at = 6;
      break;
    case kProtocolIcmp:
      b = icmp_message(said);
      checksum_at = 2;
      break;
    default:
      break;
  }
  return b;
}

Bytes ip_header(const Said& said, std::size_t payload_length) {
  Bytes options;
  if (said.has("options")) options = {7, 7, 4, 0, 0, 0, 0, 0};  // record route, room for one
  const u32 words = static_cast<u32>(5 + options.size() / 4);
  Bytes b;
  b.push_back(static_cast<u8>(said.get("version", 4) << 4 | said.get("ihl", words)));
  b.push_back(static_cast<u8>(said.get("tos", 0)));
  put16(b, said.get("total", static_cast<u32>(words * 4 + payload_length)));
  // Of a query, "id" is the identifier, unless that is given as "query".
  bool id_is_ours = protocol_of(said) != kProtocolIcmp || said.has("query") || said.has("offset");
  put16(b, id_is_ours ? said.get("id", 0) : 0);
  put16(b, (said.has("df") ? 0x4000u : 0) | (said.has("mf") ? 0x2000u : 0) |
               said.get("offset", 0) / 8);
  b.push_back(static_cast<u8>(said.get("ttl", 64)));
  b.push_back(static_cast<u8>(protocol_of(said)));
  put16(b, 0);
  put32(b, to_host(address_of(said.source)));
  put32(b, to_host(address_of(said.destination)));
  b.insert(b.end(), options.begin(), options.end());
  u32 sum = sum_of(b);
  set_checksum(b, 10, said.has("bad-checksum") ? sum ^ 0x0101 : sum);
  return b;
}

Bytes build(const Said& said) {
  std::size_t checksum_at = 0;
  Bytes transport;
  if (said.get("offset", 0) == 0) transport = transport_header(said, checksum_at);
  std::size_t header = (said.has("options") ? 28 : 20) + transport.size();
  bool bare = said.about || (protocol_of(said) == kProtocolTcp && said.get("offset", 0) == 0);
  std::size_t payload = said.get("len", bare ? 0 : 8);
  if (said.has("size")) payload = said.get("size", 0) > header ? said.get("size", 0) - header : 0;
  if (header + payload > 65535) payload = 65535 - header;
  transport.resize(transport.size() + payload);
  const u32 protocol = protocol_of(said);
  if (checksum_at != 0) {
    if (protocol == kProtocolUdp) {
      transport[4] = static_cast<u8>(transport.size() >> 8);
      transport[5] = static_cast<u8>(transport.size());
    }
    u32 start = protocol == kProtocolIcmp ? 0 : pseudo_sum(said, transport.size());
    set_checksum(transport, checksum_at, sum_of(transport, start));
  }
  Bytes packet = ip_header(said, transport.size());
  packet.insert(packet.end(), transport.begin(), transport.end());
  if (said.has("cut")) packet.resize(std::min<std::size_t>(packet.size(), said.get("cut", 0)));
  return packet;
}

Bytes build_arp(const Said& said) {
  Bytes b{0, 1, 8, 0, 6, 4, 0, static_cast<u8>(said.has("reply") ? 2 : 1)};
  b.resize(b.size() + 6);
  put32(b, to_host(address_of(said.source)));
  b.resize(b.size() + 6);
  put32(b, to_host(address_of(said.destination)));
  return b;
}

// What cannot be said of such a packet, or nothing.
std::string contradiction(const Said& said) {
  const u32 protocol = said.protocol == "ipv6" ? 0 : protocol_of(said);
  if (said.get("offset", 0) % 8 != 0) return "A fragment's offset is a multiple of 8 bytes.";
  if (!said.flags.empty() && protocol != kProtocolTcp) return "Only TCP segments have flags.";
  if (protocol != kProtocolIcmp) {
    for (const char* name : {"type", "code", "query", "mtu"})
      if (said.has(name)) return fmt::format("\"{}\" belongs to ICMP messages.", name);
    return said.about ? "Only ICMP errors are about another packet." : "";
  }
  const u32 type = said.get("type", 8);
  bool is_error =
      type == kIcmpUnreachable || type == kIcmpTimeExceeded || type == kIcmpParameterProblem;
  if (is_error && !said.about && said.get("offset", 0) == 0 && !said.has("cut"))
    return "An ICMP error quotes the packet that it is about: add for example `about udp "
           "203.0.113.2:5000 198.51.100.1:53`.";
  return "";
}

}  // namespace

Result<WordedPacket> packet_from_words(const std::vector<std::string>& words) {
  // One argument may hold several words, and commas are only for the eye.
  std::vector<std::string> split;
  for (const std::string& argument : words) {
    std::string word;
    for (char c : argument + " ") {
      if (c != ' ' && c != ',' && c != '\t' && c != '\n') {
        word += c;
      } else if (!word.empty()) {
        split.push_back(std::exchange(word, ""));
      }
    }
  }
  Result<Said> said = Reader(std::move(split)).read();
  if (!said) return said.error();
  std::string mistake = contradiction(*said);
  if (!mistake.empty()) return Error{mistake};
  WordedPacket packet;
  packet.came_in_on = said->came_in_on;
  packet.segment_size = said->get("gso", 0);
  if (said->protocol == "arp") {
    packet.bytes = build_arp(*said);
    packet.ether_type = kEtherTypeArp;
  } else if (said->protocol == "ipv6") {
    packet.bytes.resize(48);
    packet.bytes[0] = 0x60;
    packet.ether_type = kEtherTypeIpv6;
  } else {
    packet.bytes = build(*said);
    packet.ether_type = kEtherTypeIpv4;
  }
  return packet;
}

}  // namespace masq
