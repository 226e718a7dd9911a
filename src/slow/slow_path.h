// The slow path itself: holds fragments until the first one of their datagram has come, and cuts
// datagrams. A pure function of frames and time, with no other knowledge; the process masq-slow
// (gateway/slow_process.h) and the datapath in user space run it. core/slow.h says how frames come
// here and go back.
//
// Everything that comes goes back, once: the first fragment before those that waited for it, a
// datagram in pieces. What has waited for kHold_ms goes back as it came, and is refused there as a
// fragment without a first one. No timer runs longer than that, so nothing is here for ever.
//
// Memory. Sources are divided among lanes by a keyed hash, those inside and outside apart. Each
// lane has room for kDatagramsMax datagrams and kLaneBytes; when it is full the datagram that has
// waited longest goes back (kSlowFull), since it is the one that is least likely to be completed.
// So a flood of one source fills its lane and no other, and a flood of many shortens the time that
// fragments may be late, instead of shutting out whoever comes after it. All lanes together hold
// 8 MiB at most.
//
// Cutting: RFC 791 section 3.2 and RFC 1812 section 5.2.2. The pieces are equal but for the last; a
// fragment that is cut stays a fragment. Datagrams with options do not come here.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "core/slow.h"

namespace masq {

inline constexpr u64 kHold_ms = 2000;  // kHeldLife
static_assert(ticks_from_ns(kHold_ms * 1000000) == kHeldLife);
inline constexpr u32 kSlowLanesEach = 32;  // for each of the two sides
// A lane holds one datagram of the largest size and what comes beside it.
inline constexpr u32 kLaneBytes = 128 * 1024;
inline constexpr u32 kDatagramsMax = 64;
inline constexpr u32 kSlowFrameMax = sizeof(SlowHeader) + 65535;

class SlowPath {
 public:
  // A frame goes back.
  using Send = std::function<void(const u8* frame, u32 length)>;

  // `secret` keys the hash that divides sources among lanes.
  SlowPath(u64 secret_a, u64 secret_b, Send send);

  // A frame that has come; begins with a SlowHeader. Whatever is no such frame is lost.
  void take(const u8* frame, u32 length, u64 now_ms);
  // What has waited too long goes back. To be called at least when something waits, every now and
  // then.
  void expire(u64 now_ms);

  // For tests: what waits at this moment.
  u32 held_bytes() const;

 private:
  struct Datagram {
    u32 source, destination, ifindex;
    u16 id;
    u8 protocol;
    bool first_seen;  // what comes now goes on at once
    u64 until_ms;
    u32 bytes;
    std::vector<std::vector<u8>> waiting;  // in the order in which they came
  };
  struct Lane {
    std::deque<Datagram> datagrams;  // in the order of their time
    u32 bytes = 0;
  };

  Lane& lane_of(const SlowHeader& h, const Ipv4Header& ip);
  static Datagram* find(Lane& lane, const SlowHeader& h, const Ipv4Header& ip);
  Datagram& open(Lane& lane, const SlowHeader& h, const Ipv4Header& ip, u64 now_ms);
  void close_oldest(Lane& lane, SlowKind why);
  void give_back(const std::vector<u8>& frame, SlowKind kind);
  void cut(const u8* frame, u32 length, SlowKind kind);

  u64 secret_[2];
  Send send_;
  std::vector<Lane> lanes_;
  std::vector<u8> out_;
};

}  // namespace masq
