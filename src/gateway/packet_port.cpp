// Sockets of the packet family; packet(7) is their manual.
#include "gateway/packet_port.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "engine/segments.h"

namespace masq {
namespace {

// Room in the kernel: a burst of 64 KB segments in, and enough out to keep a fast link busy. Twice
// as much is counted by the kernel, with its own structures.
constexpr int kReceiveRoom_bytes = 16 << 20;
constexpr int kSendRoom_bytes = 8 << 20;
// How long one flush waits for an interface that is busy before it gives frames up.
constexpr int kBusy_ms = 5;

void set_room(int fd, int forced, int plain, int bytes) {
  if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) != 0)
    setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
}

}  // namespace

Status PacketPort::read_hardware_address(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (ioctl(fd_.get(), SIOCGIFHWADDR, &request) != 0)
    return error("{} does not tell its hardware address ({}).", name, strerror(errno));
  memcpy(hardware_address_, request.ifr_hwaddr.sa_data, sizeof hardware_address_);
  return Done{};
}

Result<PacketPort> PacketPort::open(const std::string& name, u32 ifindex, u32 header_length,
                                    bool takes_large) {
  PacketPort port;
  port.takes_large_ = takes_large;
  port.ifindex_ = ifindex;
  port.header_length_ = header_length;
  // For no protocol at first: nothing comes before all is set.
  port.fd_ = Fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!port.fd_)
    return error("{}: no packet socket can be opened ({}); masq needs CAP_NET_RAW for that.", name,
                 strerror(errno));
  int yes = 1;
  if (setsockopt(port.fd(), SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0)
    return error("{}: the kernel does not pass large segments to user space ({}).", name,
                 strerror(errno));
  set_room(port.fd(), SO_RCVBUFFORCE, SO_RCVBUF, kReceiveRoom_bytes);
  set_room(port.fd(), SO_SNDBUFFORCE, SO_SNDBUF, kSendRoom_bytes);
  if (Status status = port.read_hardware_address(name); !status) return status.error();
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_IP);
  address.sll_ifindex = static_cast<int>(ifindex);
  if (bind(port.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return error("{}: the packet socket cannot be bound ({}).", name, strerror(errno));
  return port;
}

bool PacketPort::is_bound() const {
  sockaddr_ll address{};
  socklen_t length = sizeof address;
  return getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
         address.sll_ifindex == static_cast<int>(ifindex_);
}

u32 PacketPort::receive(const FrameBuffers& buffers, PortFrame* frames, bool& more) {
  mmsghdr messages[kFramesAtOnce] = {};
  iovec parts[kFramesAtOnce][2];
  sockaddr_ll from[kFramesAtOnce];
  Offload headers[kFramesAtOnce];
  // Behind a link header of 14 bytes the IPv4 header begins at a multiple of four.
  u32 room_before = kHeadroom + (header_length_ == 0 ? 0 : 2);
  for (u32 i = 0; i < kFramesAtOnce; ++i) {
    parts[i][0] = {&headers[i], sizeof headers[i]};
    parts[i][1] = {buffers.at(i) + room_before, kFrameRoom - room_before};
    messages[i].msg_hdr.msg_iov = parts[i];
    messages[i].msg_hdr.msg_iovlen = 2;
    messages[i].msg_hdr.msg_name = &from[i];
    messages[i].msg_hdr.msg_namelen = sizeof from[i];
  }
  int came = recvmmsg(fd_.get(), messages, kFramesAtOnce, MSG_DONTWAIT, nullptr);
  if (came < 0 && errno == EINVAL) ++indescribable_;  // a kind of large segment that has no name
  more = came == static_cast<int>(kFramesAtOnce);
  u32 kept = 0;
  for (int i = 0; i < came; ++i) {
    if (from[i].sll_pkttype != PACKET_HOST || messages[i].msg_len < sizeof(Offload)) continue;
    if (messages[i].msg_hdr.msg_flags & MSG_TRUNC) continue;  // no IPv4 packet is that large
    frames[kept].data = buffers.at(static_cast<u32>(i)) + room_before;
    frames[kept].length = messages[i].msg_len - static_cast<u32>(sizeof(Offload));
    frames[kept].offload = headers[i];
    ++kept;
  }
  return kept;
}

void PacketPort::put(const PortFrame& frame) {
  if (takes_large_ || frame.offload.segment_type == 0) {
    waiting_.push_back(frame);
    return;
  }
  auto pieces = cut_into_segments(frame.data, frame.length, frame.offload.headers,
                                  frame.offload.segment_size);
  not_cut_ += pieces.empty();
  for (std::vector<u8>& piece : pieces) {
    pieces_.push_back(std::move(piece));
    waiting_.push_back({pieces_.back().data(), static_cast<u32>(pieces_.back().size()), {}});
  }
}

u64 PacketPort::flush() {
  u64 not_taken = not_cut_;
  not_cut_ = 0;
  mmsghdr messages[kFramesAtOnce];
  iovec parts[kFramesAtOnce][2];
  bool waited = false;
  for (std::size_t done = 0; done < waiting_.size();) {
    u32 count = 0;
    for (; count < kFramesAtOnce && done + count < waiting_.size(); ++count) {
      PortFrame& frame = waiting_[done + count];
      parts[count][0] = {&frame.offload, sizeof frame.offload};
      parts[count][1] = {frame.data, frame.length};
      messages[count] = {};
      messages[count].msg_hdr.msg_iov = parts[count];
      messages[count].msg_hdr.msg_iovlen = 2;
    }
    int sent = sendmmsg(fd_.get(), messages, count, MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<std::size_t>(sent);
      continue;
    }
    pollfd writable{fd_.get(), POLLOUT, 0};
    bool busy = errno == EAGAIN || errno == ENOBUFS;
    if (busy && !waited) {
      waited = true;
      if (poll(&writable, 1, kBusy_ms) > 0) continue;
    }
    ++not_taken;  // the first of them; the others have a try of their own
    ++done;
  }
  waiting_.clear();
  pieces_.clear();
  return not_taken;
}

u64 PacketPort::missed() {
  u64 missed = indescribable_;
  indescribable_ = 0;
  tpacket_stats figures{};
  socklen_t length = sizeof figures;
  if (getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &figures, &length) != 0) return missed;
  return missed + figures.tp_drops;
}

}  // namespace masq
