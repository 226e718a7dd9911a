// Building, reading, cutting and (as the twin of the core) translating packets.
#include "sim/datagram.h"

#include <cstdio>

namespace masq::sim {

namespace {

u32 get16(const Data& d, std::size_t at) {
  return at + 1 < d.size() ? d[at] * 256u + d[at + 1] : 0;
}
u32 get32(const Data& d, std::size_t at) {
  return get16(d, at) << 16 | get16(d, at + 2);
}
void put16(Data& d, u32 v) {
  d.push_back(static_cast<u8>(v >> 8));
  d.push_back(static_cast<u8>(v));
}
void put32(Data& d, u32 v) {
  put16(d, v >> 16);
  put16(d, v);
}
void set16(Data& d, std::size_t at, u32 v) {
  if (at + 1 >= d.size()) return;
  d[at] = static_cast<u8>(v >> 8);
  d[at + 1] = static_cast<u8>(v);
}
void set32(Data& d, std::size_t at, u32 v) {
  set16(d, at, v >> 16);
  set16(d, at + 2, v);
}

u32 sum_of(const Data& d, std::size_t from, std::size_t to, u64 sum = 0) {
  std::size_t i = from;
  for (; i + 1 < to; i += 2) sum += d[i] * 256u + d[i + 1];
  if (i < to) sum += d[i] * 256u;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u32>(sum);
}

u32 header_length(const Data& d) {
  return (d[0] & 15) * 4u;
}
u32 total_length(const Data& d) {
  return get16(d, 2);
}

// The sum over the addresses, the protocol and the length (RFC 9293 section 3.1).
u32 pseudo_sum(const Data& d) {
  Data pseudo(d.begin() + 12, d.begin() + 20);
  put16(pseudo, d[9]);
  put16(pseudo, total_length(d) - header_length(d));
  return sum_of(pseudo, 0, pseudo.size());
}

std::size_t checksum_offset(u8 protocol) {
  return protocol == kTcp ? 16 : protocol == kUdp ? 6 : 2;
}

bool has_transport_checksum(u8 protocol) {
  return protocol == kTcp || protocol == kUdp || protocol == kIcmp;
}

void fill_header_checksum(Data& d, std::size_t l3 = 0) {
  set16(d, l3 + 10, 0);
  const std::size_t end = l3 + (d[l3] & 15) * 4u;
  set16(d, l3 + 10, ~sum_of(d, l3, end) & 0xffff);
}

void fill_transport_checksum(Data& d) {
  const u8 protocol = d[9];
  const std::size_t l4 = header_length(d), at = l4 + checksum_offset(protocol);
  set16(d, at, 0);
  const u32 start = protocol == kIcmp ? 0 : pseudo_sum(d);
  u32 sum = ~sum_of(d, l4, total_length(d), start) & 0xffff;
  if (protocol == kUdp && sum == 0) sum = 0xffff;
  set16(d, at, sum);
}

void put_transport(Data& out, const Datagram& d) {
  if (d.protocol == kTcp) {
    put16(out, d.source_port);
    put16(out, d.destination_port);
    put32(out, d.sequence);
    put32(out, d.acknowledgment);
    out.push_back(static_cast<u8>((5 + (d.mss >= 0) + (d.scale >= 0)) << 4));
    out.push_back(d.flags);
    put16(out, d.window);
    put32(out, 0);
    if (d.mss >= 0) put32(out, 0x02040000u | static_cast<u32>(d.mss));
    if (d.scale >= 0) put32(out, 0x01030300u | static_cast<u32>(d.scale));
  } else if (d.protocol == kUdp) {
    put16(out, d.source_port);
    put16(out, d.destination_port);
    put16(out, static_cast<u32>(8 + d.payload.size()));
    put16(out, 0);
  } else if (d.protocol == kIcmp) {
    out.push_back(d.type);
    out.push_back(d.code);
    put16(out, 0);
    put16(out, d.query);
    put16(out, d.tail);
  }
}

// Where the value of this TCP option lies between `at` and `end`, 0 if it is not there or has not
// this length (RFC 9293 section 3.1).
std::size_t option_at(const Data& b, std::size_t at, std::size_t end, u8 kind, u8 length) {
  while (at + 1 < end && b[at] != 0) {
    if (b[at] == 1) {
      at += 1;
      continue;
    }
    if (b[at + 1] < 2) return 0;
    if (b[at] == kind) return b[at + 1] == length && at + length <= end ? at + 2 : 0;
    at += b[at + 1];
  }
  return 0;
}
constexpr u8 kMss = 2, kScale = 3;

void read_transport(const Data& b, std::size_t l4, Datagram& d) {
  std::size_t body = l4;
  if (d.protocol == kTcp || d.protocol == kUdp) {
    d.source_port = static_cast<u16>(get16(b, l4));
    d.destination_port = static_cast<u16>(get16(b, l4 + 2));
    body = l4 + 8;
  }
  if (d.protocol == kTcp && l4 + 20 <= b.size()) {
    d.sequence = get32(b, l4 + 4);
    d.acknowledgment = get32(b, l4 + 8);
    d.flags = b[l4 + 13];
    d.window = static_cast<u16>(get16(b, l4 + 14));
    body = l4 + (b[l4 + 12] >> 4) * 4u;
    if (body > b.size()) return;
    const std::size_t scale = option_at(b, l4 + 20, body, kScale, 3);
    const std::size_t mss = option_at(b, l4 + 20, body, kMss, 4);
    if (scale != 0) d.scale = b[scale];
    if (mss != 0) d.mss = static_cast<int>(get16(b, mss));
  } else if (d.protocol == kIcmp && l4 + 8 <= b.size()) {
    d.type = b[l4];
    d.code = b[l4 + 1];
    d.query = static_cast<u16>(get16(b, l4 + 4));
    d.tail = static_cast<u16>(get16(b, l4 + 6));
    body = l4 + 8;
  }
  if (body < b.size()) d.payload.assign(b.begin() + static_cast<long>(body), b.end());
}

}  // namespace

Data encode(const Datagram& d) {
  Data out{0x45, 0};
  put16(out, 0);
  put16(out, d.id);
  put16(out, (d.dont_fragment ? 0x4000u : 0) | (d.more ? 0x2000u : 0) | d.offset / 8);
  out.push_back(d.ttl);
  out.push_back(d.protocol);
  put16(out, 0);
  put32(out, d.source);
  put32(out, d.destination);
  if (d.offset == 0) put_transport(out, d);
  out.insert(out.end(), d.payload.begin(), d.payload.end());
  set16(out, 2, static_cast<u32>(out.size()));
  fill_header_checksum(out);
  if (d.offset == 0 && !d.more && has_transport_checksum(d.protocol)) fill_transport_checksum(out);
  return out;
}

bool decode(const Data& b, Datagram& d, bool& sums_right) {
  d = Datagram{};
  if (b.size() < 20 || b[0] >> 4 != 4 || header_length(b) < 20) return false;
  if (total_length(b) < header_length(b) || total_length(b) > b.size()) return false;
  if (sum_of(b, 0, header_length(b)) != 0xffff) return false;
  const Data whole(b.begin(), b.begin() + total_length(b));  // what is behind it is padding
  d.source = get32(b, 12);
  d.destination = get32(b, 16);
  d.protocol = b[9];
  d.ttl = b[8];
  d.id = static_cast<u16>(get16(b, 4));
  d.dont_fragment = b[6] & 0x40;
  d.more = b[6] & 0x20;
  d.offset = (get16(b, 6) & 0x1fff) * 8;
  const std::size_t l4 = header_length(b);
  sums_right = true;
  if (d.offset != 0) {
    d.payload.assign(whole.begin() + static_cast<long>(l4), whole.end());
    return true;
  }
  read_transport(whole, l4, d);
  if (d.more || !has_transport_checksum(d.protocol)) return true;
  const u32 field = get16(whole, l4 + checksum_offset(d.protocol));
  if (d.protocol == kUdp && field == 0) return true;
  const u32 start = d.protocol == kIcmp ? 0 : pseudo_sum(whole);
  sums_right = sum_of(whole, l4, whole.size(), start) == 0xffff;
  return true;
}

bool decode_quoted(const Data& b, Datagram& d) {
  d = Datagram{};
  if (b.size() < 20 || b.size() < header_length(b) + 8) return false;
  d.source = get32(b, 12);
  d.destination = get32(b, 16);
  d.protocol = b[9];
  d.offset = (get16(b, 6) & 0x1fff) * 8;
  read_transport(b, header_length(b), d);
  return true;
}

bool is_icmp_error(const Datagram& d) {
  return d.protocol == kIcmp && d.offset == 0 && (d.type == 3 || d.type == 11 || d.type == 12);
}
bool is_icmp_query(const Datagram& d) {
  return d.protocol == kIcmp && d.offset == 0 && (d.type == 8 || d.type == 13);
}
bool is_icmp_reply(const Datagram& d) {
  return d.protocol == kIcmp && d.offset == 0 && (d.type == 0 || d.type == 14);
}

Endpoint source_of(const Datagram& d) {
  const bool icmp = d.protocol == kIcmp;
  return {d.source, icmp ? (is_icmp_query(d) ? d.query : u16{0}) : d.source_port};
}
Endpoint destination_of(const Datagram& d) {
  const bool icmp = d.protocol == kIcmp;
  return {d.destination, icmp ? (is_icmp_reply(d) ? d.query : u16{0}) : d.destination_port};
}

std::vector<Data> cut(const Data& packet, u32 mtu) {
  const std::size_t l4 = header_length(packet), step = (mtu - l4) / 8 * 8;
  std::vector<Data> pieces;
  if (packet.size() <= mtu) return {packet};
  for (std::size_t at = l4; at < packet.size(); at += step) {
    const std::size_t end = std::min(at + step, packet.size());
    Data piece(packet.begin(), packet.begin() + static_cast<long>(l4));
    piece.insert(piece.end(), packet.begin() + static_cast<long>(at),
                 packet.begin() + static_cast<long>(end));
    const u32 more = end < packet.size() ? 0x2000 : get16(packet, 6) & 0x2000;
    set16(piece, 2, static_cast<u32>(piece.size()));
    set16(piece, 6, more | ((get16(packet, 6) & 0x1fff) + static_cast<u32>(at - l4) / 8));
    fill_header_checksum(piece);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

namespace {

// The quoted packet of an ICMP error: the end that is opposite to the outer one.
void translate_quoted(Data& out, bool outward, Endpoint near, std::vector<u32>& unsure) {
  const std::size_t q = header_length(out) + 8;
  const std::size_t q4 = q + (out[q] & 15) * 4u;
  const u8 protocol = out[q + 9];
  set32(out, q + (outward ? 16 : 12), near.address);
  fill_header_checksum(out, q);
  if (protocol == kIcmp)
    set16(out, q4 + 4, near.port);
  else
    set16(out, q4 + (outward ? 2 : 0), near.port);
  unsure.push_back(static_cast<u32>(q4 + checksum_offset(protocol)));
  unsure.push_back(static_cast<u32>(header_length(out) + 2));
}

}  // namespace

Data translated(const Data& packet, bool outward, Endpoint near, std::vector<u32>& unsure) {
  Datagram d;
  bool sums_right = false;
  Data out = packet;
  if (!decode(packet, d, sums_right)) return out;
  const std::size_t l4 = header_length(out);
  out[8] = static_cast<u8>(out[8] - 1);
  set32(out, outward ? 12 : 16, near.address);
  fill_header_checksum(out);
  if (d.offset != 0) return out;
  if (is_icmp_error(d)) {
    translate_quoted(out, outward, near, unsure);
    return out;
  }
  if (d.protocol == kIcmp)
    set16(out, l4 + 4, near.port);
  else
    set16(out, l4 + (outward ? 0 : 2), near.port);
  const std::size_t field = l4 + checksum_offset(d.protocol);
  if (d.protocol == kUdp && get16(packet, field) == 0) return out;
  if (d.more || !sums_right)
    unsure.push_back(static_cast<u32>(field));
  else
    fill_transport_checksum(out);
  return out;
}

void set_mss(Data& packet, int mss) {
  Datagram d;
  bool sums_right = false;
  if (!decode(packet, d, sums_right) || d.protocol != kTcp || d.mss < 0) return;
  const std::size_t l4 = header_length(packet), end = l4 + (packet[l4 + 12] >> 4) * 4u;
  set16(packet, option_at(packet, l4 + 20, end, kMss, 4), static_cast<u32>(mss));
  if (sums_right) fill_transport_checksum(packet);
}

std::string text_of(u32 a) {
  char text[16];
  std::snprintf(text, sizeof(text), "%u.%u.%u.%u", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
  return text;
}

std::string text_of(Endpoint e) {
  return text_of(e.address) + ":" + std::to_string(e.port);
}

std::string text_of(const Data& packet) {
  Datagram d;
  bool sums_right = false;
  if (!decode(packet, d, sums_right))
    return "no sound packet, " + std::to_string(packet.size()) + " bytes";
  const char* name = d.protocol == kTcp ? "tcp " : d.protocol == kUdp ? "udp " : "ip ";
  if (d.protocol == kIcmp) name = "icmp ";
  std::string text = name + text_of(source_of(d)) + " > " + text_of(destination_of(d));
  char more[160] = "";
  if (d.offset != 0) {
    std::snprintf(more, sizeof(more), " id %u offset %u", d.id, d.offset);
  } else if (d.protocol == kTcp) {
    std::string flags;
    for (u32 i = 0; i < 6; ++i)
      if (d.flags >> i & 1) flags += "FSRPAU"[i];
    std::snprintf(more, sizeof(more), " flags %s seq %u ack %u win %u wscale %d mss %d",
                  flags.c_str(), d.sequence, d.acknowledgment, d.window, d.scale, d.mss);
  } else if (d.protocol == kIcmp) {
    std::snprintf(more, sizeof(more), " type %u code %u query %u", d.type, d.code, d.query);
  }
  text += more;
  text += " len " + std::to_string(d.payload.size()) + " ttl " + std::to_string(d.ttl);
  if (d.more) text += " mf";
  if (!sums_right) text += " sum bad";
  if (is_icmp_error(d)) text += " { " + text_of(d.payload) + " }";
  return text;
}

}  // namespace masq::sim
