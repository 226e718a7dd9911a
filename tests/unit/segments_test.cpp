// A large segment in pieces: each is a whole packet, and together they are what there was.
#include "engine/segments.h"

#include <gtest/gtest.h>

#include <numeric>

namespace masq {
namespace {

constexpr u32 kOptions = 12;  // of TCP, as with timestamps

std::vector<u8> large(bool tcp, u32 payload) {
  u32 l4 = sizeof(Ipv4Header);
  u32 headers = l4 + static_cast<u32>(tcp ? sizeof(TcpHeader) + kOptions : sizeof(UdpHeader));
  std::vector<u8> packet(headers + payload);
  std::iota(packet.begin() + headers, packet.end(), static_cast<u8>(1));
  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_length = swap16(static_cast<u16>(packet.size()));
  ip.id = swap16(0xfffe);  // comes round in the middle
  ip.fragment = kFragmentDont;
  ip.ttl = 63;
  ip.protocol = tcp ? kProtocolTcp : kProtocolUdp;
  ip.checksum = 0x1234;
  ip.source = Ipv4{swap32(0xc0a801fe)};
  ip.destination = Ipv4{swap32(0xc0a80102)};
  std::memcpy(packet.data(), &ip, sizeof ip);
  if (tcp) {
    TcpHeader t{};
    t.sequence = swap32(0xfffffc00);
    t.data_offset = (sizeof t + kOptions) / 4 << 4;
    t.flags = kTcpAck | kTcpFin | kTcpPush | kTcpWindowReduced;
    t.checksum = 0x4321;
    std::memcpy(packet.data() + l4, &t, sizeof t);
    std::memset(packet.data() + l4 + sizeof t, 1, kOptions);
  } else {
    UdpHeader u{};
    u.checksum = 0x4321;
    std::memcpy(packet.data() + l4, &u, sizeof u);
  }
  return packet;
}

// By the letter of RFC 1071: over the whole the sum is all ones.
bool is_whole(const std::vector<u8>& packet) {
  auto sum = [](const std::vector<u8>& bytes) {
    u32 all = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i)
      all += i % 2 == 0 ? static_cast<u32>(bytes[i]) << 8 : bytes[i];
    while (all >> 16 != 0) all = (all & 0xffff) + (all >> 16);
    return all;
  };
  std::vector<u8> header(packet.begin(), packet.begin() + 20);
  std::vector<u8> transport(packet.begin() + 20, packet.end());
  u32 length = static_cast<u32>(transport.size());
  if (length % 2 != 0) transport.push_back(0);
  transport.insert(transport.end(), packet.begin() + 12, packet.begin() + 20);
  for (u32 each : {0u, static_cast<u32>(packet[9]), length >> 8, length & 255})
    transport.push_back(static_cast<u8>(each));
  return sum(header) == 0xffff && sum(transport) == 0xffff;
}

class LargeSegments : public testing::TestWithParam<u32> {};

TEST_P(LargeSegments, OfTcpAreOneRow) {
  constexpr u32 kSize = 1348, kHeaders = 40 + kOptions;
  std::vector<u8> whole = large(true, GetParam());
  auto pieces = cut_into_segments(whole.data(), static_cast<u32>(whole.size()), kHeaders, kSize);
  ASSERT_EQ(pieces.size(), (GetParam() + kSize - 1) / kSize);
  std::vector<u8> payload;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::vector<u8>& piece = pieces[i];
    EXPECT_TRUE(is_whole(piece)) << i;
    EXPECT_LE(piece.size(), kHeaders + kSize);
    Ipv4Header ip = read_header<Ipv4Header>(piece.data());
    EXPECT_EQ(swap16(ip.total_length), piece.size());
    EXPECT_EQ(swap16(ip.id), static_cast<u16>(0xfffe + i));
    EXPECT_EQ(ip.fragment, kFragmentDont);
    TcpHeader t = read_header<TcpHeader>(piece.data() + 20);
    EXPECT_EQ(swap32(t.sequence), static_cast<u32>(0xfffffc00 + payload.size()));
    EXPECT_EQ(t.flags & (kTcpFin | kTcpPush), i + 1 == pieces.size() ? kTcpFin | kTcpPush : 0);
    EXPECT_EQ(t.flags & kTcpWindowReduced, i == 0 ? kTcpWindowReduced : 0);
    EXPECT_TRUE(t.flags & kTcpAck);
    payload.insert(payload.end(), piece.begin() + kHeaders, piece.end());
  }
  EXPECT_EQ(payload, std::vector<u8>(whole.begin() + kHeaders, whole.end()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, LargeSegments,
                         testing::Values(1, 1347, 1348, 1349, 2696, 2697, 64000));

TEST(Segments, OfUdpAreDatagrams) {
  std::vector<u8> whole = large(false, 2501);
  auto pieces = cut_into_segments(whole.data(), static_cast<u32>(whole.size()), 28, 1200);
  ASSERT_EQ(pieces.size(), 3u);
  for (const std::vector<u8>& piece : pieces) {
    EXPECT_TRUE(is_whole(piece));
    EXPECT_EQ(swap16(read_header<UdpHeader>(piece.data() + 20).length), piece.size() - 20);
  }
  EXPECT_EQ(pieces[2].size(), 28u + 101);
}

TEST(Segments, WhatIsNoSegmentGivesNothing) {
  std::vector<u8> whole = large(true, 3000);
  u32 length = static_cast<u32>(whole.size());
  auto count = [&](u32 bytes, u32 headers, u32 size) {
    return cut_into_segments(whole.data(), bytes, headers, size).size();
  };
  EXPECT_EQ(count(length, 52, 1000), 3u);
  EXPECT_EQ(count(length, 52, 2), 1500u);
  EXPECT_EQ(count(length, 52, 1), 0u);
  EXPECT_EQ(count(length, 52, 0), 0u);
  EXPECT_EQ(count(length, 39, 1000), 0u);
  EXPECT_EQ(count(52, 52, 1000), 0u);
  EXPECT_EQ(count(19, 10, 1000), 0u);
  whole[9] = 47;
  EXPECT_EQ(count(length, 52, 1000), 0u);
}

}  // namespace
}  // namespace masq
