// From the words of a packet script to bytes, and back for the reader of a failure.
#include "packets/packet_text.h"

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>

namespace masq::test {

namespace {

const std::map<std::string, u32> kIcmpTypes = {
    {"echo-reply", 0},
    {"unreachable", 3},
    {"source-quench", 4},
    {"redirect", 5},
    {"echo", 8},
    {"time-exceeded", 11},
    {"parameter-problem", 12},
    {"timestamp", 13},
    {"timestamp-reply", 14},
    {"information-request", 15},
};
const std::set<std::string> kSwitches = {"df", "mf", "received", "reply"};
const std::set<std::string> kOptions = {
    "ttl", "tos",     "id",   "offset", "len",        "hex",  "options", "slice", "ipsum",
    "sum", "version", "ihl",  "total",  "udplen",     "doff", "cut",     "pad",   "flags",
    "seq", "ack",     "win",  "wscale", "type",       "code", "query",   "mtu",   "quote",
    "ext", "sumto",   "from", "proto",  "tcpoptions", "gso"};

[[noreturn]] void fail(const std::string& what) {
  throw TextError{what};
}

void put16(Data& d, u32 v) {
  d.push_back(static_cast<u8>(v >> 8));
  d.push_back(static_cast<u8>(v));
}
void put32(Data& d, u32 v) {
  put16(d, v >> 16);
  put16(d, v & 0xffff);
}
void set16(Data& d, std::size_t at, u32 v) {
  d[at] = static_cast<u8>(v >> 8);
  d[at + 1] = static_cast<u8>(v);
}
void put_address(Data& d, const std::string& address) {
  put32(d, to_host(address_of(address)));
}
void append(Data& d, const Data& more) {
  d.insert(d.end(), more.begin(), more.end());
}

// The Internet checksum in its most obvious form.
u32 sum_of(const Data& d, u32 start = 0) {
  u32 sum = start;
  for (std::size_t i = 0; i < d.size(); ++i) {
    sum += i % 2 == 0 ? d[i] * 256u : d[i];
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

Data from_hex(const std::string& text) {
  Data d;
  if (text.size() % 2 != 0) fail("odd number of hex digits: " + text);
  for (std::size_t i = 0; i < text.size(); i += 2)
    d.push_back(static_cast<u8>(std::stoul(text.substr(i, 2), nullptr, 16)));
  return d;
}

class Builder {
 public:
  Builder(const Spec& spec, const Variables& variables, const Data& received)
      : spec_(spec), variables_(variables), received_(received) {}

  Data build() {
    if (spec_.protocol == "arp") return arp();
    if (spec_.protocol == "ipv6") return ipv6();
    Data transport = body();
    u32 offset = get("offset", 0);
    bool more = has("mf");
    if (has("slice")) {
      const std::string& slice = spec_.options.at("slice");
      std::size_t dash = slice.find('-');
      if (dash == std::string::npos) fail("slice FROM-TO");
      std::size_t from = std::stoul(slice.substr(0, dash));
      std::string to_text = slice.substr(dash + 1);
      std::size_t to = to_text == "end" ? transport.size() : std::stoul(to_text);
      if (to > transport.size() || from >= to) fail("slice outside the packet");
      more = to < transport.size();
      offset = static_cast<u32>(from);
      transport = Data(transport.begin() + static_cast<long>(from),
                       transport.begin() + static_cast<long>(to));
    }
    Data packet = ip_header(transport.size(), offset, more);
    append(packet, transport);
    if (has("cut")) packet.resize(get("cut", 0));
    packet.resize(packet.size() + get("pad", 0));
    return packet;
  }

 private:
  bool has(const std::string& name) const { return spec_.options.count(name) != 0; }
  u32 get(const std::string& name, u32 otherwise) const {
    auto it = spec_.options.find(name);
    return it == spec_.options.end() ? otherwise : number_of(it->second, variables_);
  }
  u32 port(const std::string& word) const { return number_of(word, variables_); }

  u32 protocol_number() const {
    if (spec_.protocol == "udp") return 17;
    if (spec_.protocol == "tcp") return 6;
    if (spec_.protocol == "icmp") return 1;
    return get("proto", 253);
  }

  Data payload(u32 length_default) const {
    if (has("hex")) return from_hex(spec_.options.at("hex"));
    Data d(get("len", length_default));
    for (std::size_t i = 0; i < d.size(); ++i) d[i] = static_cast<u8>(i * 7 + 1);
    return d;
  }

  Data ip_header(std::size_t payload_length, u32 offset, bool more) const {
    Data options = has("options") ? from_hex(spec_.options.at("options")) : Data{};
    while (options.size() % 4 != 0) options.push_back(0);
    const u32 words = static_cast<u32>(5 + options.size() / 4);
    Data h;
    h.push_back(static_cast<u8>(get("version", 4) << 4 | get("ihl", words)));
    h.push_back(static_cast<u8>(get("tos", 0)));
    put16(h, get("total", static_cast<u32>(words * 4 + payload_length)));
    put16(h, get("id", 0));
    put16(h, (has("df") ? 0x4000u : 0) | (more ? 0x2000u : 0) | offset / 8);
    h.push_back(static_cast<u8>(get("ttl", 64)));
    h.push_back(static_cast<u8>(protocol_number()));
    put16(h, 0);
    put_address(h, spec_.source);
    put_address(h, spec_.destination);
    append(h, options);
    u32 sum = ~sum_of(h) & 0xffff;
    if (has("ipsum")) sum ^= 0x0101;
    set16(h, 10, sum);
    return h;
  }

  Data body() const {
    if (spec_.protocol == "udp") return udp();
    if (spec_.protocol == "tcp") return tcp();
    if (spec_.protocol == "icmp") return icmp();
    if (spec_.protocol == "ip") return payload(20);
    fail("unknown protocol " + spec_.protocol);
  }

  u32 pseudo_sum(u32 length) const {
    Data d;
    put_address(d, spec_.source);
    put_address(d, spec_.destination);
    put16(d, protocol_number());
    put16(d, length);
    return sum_of(d);
  }

  // `bad` is wrong by one, in the arithmetic of the checksum: translated, it stays wrong by one.
  u32 finished(u32 sum, bool udp) const {
    u32 field = ~sum & 0xffff;
    if (udp && field == 0) field = 0xffff;
    if (!has("sum")) return field;
    const std::string& how = spec_.options.at("sum");
    if (how != "bad") return number_of(how, variables_);
    field += 1;
    return field > 0xffff ? field - 0xffff : field;
  }

  Data udp() const {
    const Data content = payload(8);
    Data d;
    put16(d, port(spec_.source_port));
    put16(d, port(spec_.destination_port));
    const u32 length = get("udplen", static_cast<u32>(8 + content.size()));
    put16(d, length);
    put16(d, 0);
    append(d, content);
    set16(d, 6, finished(sum_of(d, pseudo_sum(length)), true));
    return d;
  }

  Data tcp() const {
    const Data content = payload(0);
    Data options = has("tcpoptions") ? from_hex(spec_.options.at("tcpoptions")) : Data{};
    if (has("wscale")) append(options, {1, 3, 3, static_cast<u8>(get("wscale", 0))});
    while (options.size() % 4 != 0) options.push_back(0);
    u32 flags = 0;
    const std::string letters = "FSRPAU";
    for (char c : has("flags") ? spec_.options.at("flags") : std::string("A")) {
      if (letters.find(c) == std::string::npos) fail("unknown TCP flag");
      flags |= 1u << letters.find(c);
    }
    Data d;
    put16(d, port(spec_.source_port));
    put16(d, port(spec_.destination_port));
    put32(d, get("seq", 0));
    put32(d, get("ack", 0));
    d.push_back(static_cast<u8>(get("doff", static_cast<u32>(5 + options.size() / 4)) << 4));
    d.push_back(static_cast<u8>(flags));
    put16(d, get("win", 1000));
    put32(d, 0);
    append(d, options);
    append(d, content);
    set16(d, 16, finished(sum_of(d, pseudo_sum(static_cast<u32>(d.size()))), false));
    return d;
  }

  Data icmp() const {
    const u32 type = get("type", 8);
    const bool error = spec_.quoted || has("received");
    Data d{static_cast<u8>(type), static_cast<u8>(get("code", 0)), 0, 0};
    put16(d, error ? 0 : get("query", 0));
    put16(d, error ? get("mtu", 0) : get("seq", 0));
    if (error) {
      Data quote = has("received") ? received_ : build_packet(*spec_.quoted, variables_, received_);
      if (has("received") && quote.size() > 128) quote.resize(128);
      if (has("quote")) quote.resize(get("quote", 0));
      append(d, quote);
      if (has("ext")) {
        d.resize(8 + 128);  // RFC 4884: the extension follows 128 bytes, and says so in words
        d[5] = 32;
        append(d, from_hex(spec_.options.at("ext")));
      }
    } else {
      append(d, payload(8));
    }
    set16(d, 2, finished(sum_of(d), false));
    return d;
  }

  Data arp() const {
    Data d{0, 1, 8, 0, 6, 4, 0, static_cast<u8>(has("reply") ? 2 : 1)};
    append(d, {2, 0, 0, 0, 0, 1});
    put_address(d, spec_.source);
    append(d, {0, 0, 0, 0, 0, 0});
    put_address(d, spec_.destination);
    return d;
  }

  static Data ipv6() {
    Data d(48);
    d[0] = 0x60;
    d[5] = 8;
    d[6] = 59;  // no next header
    d[7] = 64;
    d[8] = d[24] = 0x20;
    d[9] = d[25] = 0x01;
    d[23] = 1;
    d[39] = 2;
    return d;
  }

  const Spec& spec_;
  const Variables& variables_;
  const Data& received_;
};

void parse_endpoint(const std::string& word, std::string& address, std::string& port_word) {
  const std::size_t colon = word.find(':');
  address = word.substr(0, colon);
  if (colon != std::string::npos) port_word = word.substr(colon + 1);
  address_of(address);
}

bool parse_option(Spec& spec, const Words& words, std::size_t& at) {
  const std::string& word = words[at];
  if (word == "{") {
    ++at;
    if (spec.quoted && words[at].find('.') != std::string::npos)
      spec.quoted = std::make_shared<Spec>(parse_difference(*spec.quoted, words, at));
    else
      spec.quoted = std::make_shared<Spec>(parse_packet(words, at));
    if (at >= words.size() || words[at] != "}") fail("missing }");
    ++at;
    return true;
  }
  if (auto type = kIcmpTypes.find(word); type != kIcmpTypes.end()) {
    spec.options["type"] = std::to_string(type->second);
    ++at;
    return true;
  }
  if (kSwitches.count(word) != 0) {
    spec.options[word] = "1";
    ++at;
    return true;
  }
  if (kOptions.count(word) == 0) return false;
  if (at + 1 >= words.size()) fail(word + " needs a value");
  spec.options[word] = words[at + 1];
  at += 2;
  return true;
}

}  // namespace

Words split_words(const std::string& line) {
  Words words;
  std::istringstream in(line.substr(0, line.find('#')));
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

u32 number_of(const std::string& word, const Variables& variables) {
  if (word.empty()) fail("a number is missing");
  if (word[0] == '$') {
    auto it = variables.find(word);
    if (it == variables.end()) fail(word + " is not known yet");
    return it->second;
  }
  char* end = nullptr;
  const unsigned long long value = std::strtoull(word.c_str(), &end, 0);
  if (*end != 0) fail("not a number: " + word);
  return static_cast<u32>(value);
}

Ipv4 address_of(const std::string& word) {
  in_addr address{};
  if (inet_pton(AF_INET, word.c_str(), &address) != 1) fail("not an address: " + word);
  return Ipv4{address.s_addr};
}

Spec parse_packet(const Words& words, std::size_t& at) {
  Spec spec;
  if (at >= words.size()) fail("a packet is missing");
  spec.protocol = words[at++];
  if (spec.protocol != "ipv6") {
    if (at + 2 >= words.size() || words[at + 1] != ">") fail("endpoint > endpoint expected");
    parse_endpoint(words[at], spec.source, spec.source_port);
    parse_endpoint(words[at + 2], spec.destination, spec.destination_port);
    at += 3;
  }
  while (at < words.size() && parse_option(spec, words, at)) {
  }
  return spec;
}

Spec parse_difference(const Spec& base, const Words& words, std::size_t& at) {
  Spec spec = base;
  if (at + 2 < words.size() && words[at + 1] == ">") {
    parse_endpoint(words[at], spec.source, spec.source_port);
    parse_endpoint(words[at + 2], spec.destination, spec.destination_port);
    at += 3;
  }
  while (at < words.size() && parse_option(spec, words, at)) {
  }
  return spec;
}

Data build_packet(const Spec& spec, const Variables& variables, const Data& received) {
  return Builder(spec, variables, received).build();
}

void settle_checksum(Spec& spec, const Variables& variables) {
  if (spec.options.count("sumto") == 0) return;
  const u32 wanted = number_of(spec.options["sumto"], variables);
  Spec seen = spec;
  if (spec.options.count("from") != 0)
    parse_endpoint(spec.options["from"], seen.source, seen.source_port);
  for (Spec* s : {&spec, &seen}) {
    s->options.erase("sumto");
    s->options.erase("from");
    s->options["hex"] = "0000";
  }
  const Data whole = build_packet(seen, variables, {});
  const std::size_t field = 20u + (spec.protocol == "tcp" ? 16 : 6);
  const u32 sum = ~(whole[field] * 256u + whole[field + 1]) & 0xffff;
  u32 word = (~wanted & 0xffff) + (~sum & 0xffff);
  word = (word & 0xffff) + (word >> 16);
  char text[8];
  std::snprintf(text, sizeof(text), "%04x", word & 0xffff);
  spec.options["hex"] = text;
}

std::string hex_dump(const Data& data) {
  std::string text;
  char digits[16];
  for (std::size_t i = 0; i < data.size(); ++i) {
    std::snprintf(digits, sizeof(digits), "%s%02x", i % 16 == 0 ? "\n      " : " ", data[i]);
    text += digits;
  }
  return text;
}

}  // namespace masq::test
