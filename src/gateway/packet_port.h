// The packet socket (AF_PACKET) of one interface: frames in and out, many at a time, as they are
// between kernel and driver. Large segments that are yet to be cut, and checksums that are yet to
// be completed, stay so; the header of virtio devices (PACKET_VNET_HDR) tells of them.
//
// Bound to IPv4: it sees what is addressed to this host and to no VLAN of the interface, behind the
// kernel's own removal of tags. The kernel's stack gets a copy of each frame, whatever we do; see
// put_on_guard in guard.h.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr u32 kFramesAtOnce = 32;            // taken by one call
inline constexpr u32 kFrameRoom = 64 + 65536 + 64;  // the largest segment, and headers before it
inline constexpr u32 kHeadroom = 32;                // for a longer link header, or an ICMP error

// What the kernel's virtio_net_hdr holds (its own header is not C++): a checksum that is to be
// completed, and how a large segment is to be cut.
struct Offload {
  u8 flags;
  u8 segment_type;  // 0: not to be cut
  u16 headers;      // bytes before the payload of a large segment
  u16 segment_size;
  u16 checksum_start;   // where the sum begins; with kNeedsChecksum
  u16 checksum_offset;  // and where it goes, from there
};
static_assert(sizeof(Offload) == 10);
inline constexpr u8 kNeedsChecksum = 1;

// A frame in one of the buffers.
struct PortFrame {
  u8* data = nullptr;
  u32 length = 0;
  Offload offload{};
};

// The buffers that all ports of a gateway share: a batch is done with before the next is taken.
class FrameBuffers {
 public:
  FrameBuffers() : memory_(new u8[static_cast<std::size_t>(kFrameRoom) * kFramesAtOnce]) {}
  u8* at(u32 i) const { return memory_.get() + static_cast<std::size_t>(kFrameRoom) * i; }

 private:
  std::unique_ptr<u8[]> memory_;
};

class PacketPort {
 public:
  // `header_length` is that of the link layer: 14, or 0 for none. Does the interface take large
  // segments from us (engine/segments.h)?
  static Result<PacketPort> open(const std::string& name, u32 ifindex, u32 header_length,
                                 bool takes_large);

  // Not any more if the interface was away, were it for a moment in another namespace: it may come
  // back under the same number, but the kernel ends the binding for good.
  bool is_bound() const;

  int fd() const { return fd_.get(); }
  u32 ifindex() const { return ifindex_; }
  u32 header_length() const { return header_length_; }
  const u8* hardware_address() const { return hardware_address_; }
  Status read_hardware_address(const std::string& name);

  // Frames for this host that have come, at most kFramesAtOnce; `more` if there may be others.
  // What was for others is left out.
  u32 receive(const FrameBuffers& buffers, PortFrame* frames, bool& more);

  // To be sent by `flush`; the bytes must stay until then.
  void put(const PortFrame& frame);
  // How many frames the interface did not take.
  u64 flush();
  // How many frames have come and were not taken in time, or could not be described to us, since
  // the last question.
  u64 missed();

 private:
  Fd fd_;
  u32 ifindex_ = 0;
  u32 header_length_ = 0;
  u8 hardware_address_[6] = {};
  bool takes_large_ = true;
  std::vector<PortFrame> waiting_;
  std::deque<std::vector<u8>> pieces_;  // of large segments that are waiting
  u64 not_cut_ = 0;
  u64 indescribable_ = 0;
};

}  // namespace masq
