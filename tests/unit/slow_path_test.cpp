// The slow path as a function: what is held, in which order it comes back, how it is cut, and what
// bounds it.
#include "slow/slow_path.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

namespace masq {
namespace {

using Bytes = std::vector<u8>;

struct Returned {
  u8 kind;
  u32 offset;  // bytes
  bool more;
  Bytes payload;
  u32 length;  // of the datagram
};

u64 sum_of(const u8* header) {
  u64 sum = 0;
  for (u32 i = 0; i < 20; i += 2) sum += static_cast<u64>(header[i] | header[i + 1] << 8);
  return checksum_fold(sum);
}

Bytes frame_of(u32 source, u16 id, u32 offset, bool more, const Bytes& payload, bool hold = false,
               u16 mtu = 0) {
  SlowHeader h{kSlowMark, kSlowAsked, mtu, hold, 1, kSlowMark, 0, 7, kEtherTypeIpv4};
  Ipv4Header ip{};
  ip.version_ihl = 0x45;
  ip.total_length = swap16(static_cast<u16>(20 + payload.size()));
  ip.id = id;
  ip.fragment = swap16(static_cast<u16>(offset / 8 | (more ? 0x2000 : 0)));
  ip.protocol = kProtocolUdp;
  ip.source.be = source;
  ip.destination.be = 1;
  ip.checksum = static_cast<u16>(~sum_of(reinterpret_cast<const u8*>(&ip)));
  Bytes frame(sizeof(h) + sizeof(ip));
  std::memcpy(frame.data(), &h, sizeof(h));
  std::memcpy(frame.data() + sizeof(h), &ip, sizeof(ip));
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

struct SlowPathTest : testing::Test {
  std::vector<Returned> back;
  SlowPath path{1, 2, [this](const u8* frame, u32 length) { note(frame, length); }};

  void note(const u8* frame, u32 length) {
    Ipv4Header ip;
    std::memcpy(&ip, frame + sizeof(SlowHeader), sizeof(ip));
    const u32 fragment = swap16(ip.fragment);
    ASSERT_EQ(length, sizeof(SlowHeader) + swap16(ip.total_length));
    back.push_back({frame[1], (fragment & 0x1fff) * 8, (fragment & 0x2000) != 0,
                    Bytes(frame + sizeof(SlowHeader) + 20, frame + length),
                    swap16(ip.total_length)});
    if (frame[1] == kSlowPiece || frame[1] == kSlowPieceFirst) {
      EXPECT_EQ(sum_of(frame + sizeof(SlowHeader)), 0xffffu);
    }
  }
  void take(const Bytes& frame, u64 now) {
    path.take(frame.data(), static_cast<u32>(frame.size()), now);
  }
};

TEST_F(SlowPathTest, TheFirstFragmentComesBackFirst) {
  take(frame_of(9, 5, 16, false, Bytes(8, 'c'), true), 0);
  take(frame_of(9, 5, 8, true, Bytes(8, 'b'), true), 1);
  take(frame_of(9, 6, 8, true, Bytes(8, 'x'), true), 1);  // another datagram
  EXPECT_TRUE(back.empty());
  take(frame_of(9, 5, 0, true, Bytes(8, 'a')), 2);
  ASSERT_EQ(back.size(), 3u);
  EXPECT_EQ(back[0].offset, 0u);
  EXPECT_EQ(back[1].offset, 16u);
  EXPECT_EQ(back[1].kind, kSlowOrdered);
  EXPECT_EQ(back[2].offset, 8u);
  // What was under way meanwhile goes on at once.
  take(frame_of(9, 5, 24, false, Bytes(8, 'd'), true), 3);
  EXPECT_EQ(back.size(), 4u);
}

TEST_F(SlowPathTest, WhatIsNeverCompletedComesBackInTime) {
  take(frame_of(9, 5, 16, false, Bytes(8, 'c'), true), 1000);
  path.expire(1000 + kHold_ms - 1);
  EXPECT_TRUE(back.empty());
  path.expire(1000 + kHold_ms);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].kind, kSlowAsked);
  EXPECT_EQ(path.held_bytes(), 0u);
}

TEST_F(SlowPathTest, ALaneHasRoomForSoManyDatagrams) {
  for (u16 id = 0; id < kDatagramsMax; ++id)
    take(frame_of(9, id, 16, false, Bytes(8, 'c'), true), id);
  EXPECT_TRUE(back.empty());
  take(frame_of(9, 1000, 16, false, Bytes(8, 'c'), true), 100);
  ASSERT_EQ(back.size(), 1u);  // the oldest
  EXPECT_EQ(back[0].kind, kSlowFull);
  back.clear();
  take(frame_of(9, 0, 0, true, Bytes(8, 'a')), 101);  // its first fragment comes too late
  EXPECT_EQ(back[0].offset, 0u);
  for (const Returned& r : back) EXPECT_NE(r.kind, kSlowOrdered);
}

TEST_F(SlowPathTest, AFloodOfOneSourceLeavesTheOthersTheirPlaces) {
  // Every other source but those of the flood's own lane.
  u32 held = 0;
  for (u32 source = 100; source < 200; ++source)
    take(frame_of(source, 1, 8, false, Bytes(8, 'o'), true), 0);
  for (u32 i = 0; i < 10000; ++i)
    take(frame_of(9, static_cast<u16>(i), 8, false, Bytes(1000, 'f'), true), 1);
  EXPECT_LE(path.held_bytes(), kLaneBytes + 100 * 50);
  back.clear();
  for (u32 source = 100; source < 200; ++source) {
    take(frame_of(source, 1, 0, true, Bytes(8, 'a')), 2);
    held += back.back().kind == kSlowOrdered;
  }
  EXPECT_GE(held, 85u);  // of 100 in 32 lanes, 3 on average share one with the flood
}

TEST_F(SlowPathTest, MemoryIsBounded) {
  std::mt19937 random(1);
  // Of many small datagrams their number is the bound, of some large ones their bytes.
  for (u32 i = 0; i < 20000; ++i) {
    const u32 source = static_cast<u32>(random());
    for (u32 offset = 1400; offset < (i % 2 == 0 ? 2000u : 30000u); offset += 1400)
      take(frame_of(source, static_cast<u16>(i), offset, true, Bytes(1400), true), 1);
    ASSERT_LE(path.held_bytes(), kSlowLanesEach * kLaneBytes);
  }
  EXPECT_GT(path.held_bytes(), kSlowLanesEach * kLaneBytes / 2);
}

TEST_F(SlowPathTest, CutPiecesMakeTheWhole) {
  Bytes payload(3001);
  for (u32 i = 0; i < payload.size(); ++i) payload[i] = static_cast<u8>(i * 7);
  for (const u16 mtu : std::vector<u16>{68, 69, 576, 1000, 1500, 3020, 3021}) {
    for (u32 offset : {0u, 1200u}) {
      for (bool more : {false, true}) {
        back.clear();
        Bytes part(payload.begin(), payload.end() - (more ? 1 : 0));
        take(frame_of(9, 5, offset, more, part, false, mtu), 0);
        Bytes joined;
        for (const Returned& r : back) {
          EXPECT_LE(r.length, mtu);
          EXPECT_EQ(r.offset, offset + joined.size());
          joined.insert(joined.end(), r.payload.begin(), r.payload.end());
          EXPECT_EQ(r.more, more || joined.size() < part.size());
        }
        EXPECT_EQ(joined, part) << mtu;
        if (mtu < 3000 && offset == 0 && !more) {
          EXPECT_EQ(back[0].kind, kSlowPieceFirst);
          EXPECT_EQ(back[1].kind, kSlowPiece);
        }
      }
    }
  }
}

TEST_F(SlowPathTest, WhatCannotBeCutDoesNotComeAgain) {
  take(frame_of(9, 5, 0, false, Bytes(100), false, 67), 0);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].kind, kSlowPiece);
}

TEST_F(SlowPathTest, NonsenseIsLostAndDoesNoHarm) {
  std::mt19937 random(2);
  SlowPath any(1, 2, [](const u8*, u32) {});
  for (u32 i = 0; i < 200000; ++i) {
    Bytes frame = frame_of(static_cast<u32>(random() % 50), static_cast<u16>(random() % 8),
                           random() % 4 * 8, random() % 2, Bytes(random() % 200), random() % 2,
                           static_cast<u16>(random() % 120));
    for (u32 n = random() % 4; n > 0; --n)
      frame[random() % frame.size()] = static_cast<u8>(random());
    if (random() % 8 == 0) frame.resize(random() % frame.size());
    any.take(frame.data(), static_cast<u32>(frame.size()), i / 10);
  }
  any.expire(200000);
  EXPECT_EQ(any.held_bytes(), 0u);
}

}  // namespace
}  // namespace masq
