// Holding, ordering, cutting.
#include "slow/slow_path.h"

#include <algorithm>
#include <cstring>

#include "core/hash.h"
#include "wire/checksum.h"

namespace masq {
namespace {

constexpr u32 kOffsetMask = 0x1fff;  // of the fragment field in host order
constexpr u32 kMore = 0x2000;

u16 header_checksum(const u8* header, u32 length) {
  return static_cast<u16>(~checksum_fold(checksum_sum(header, length)));
}

// Both headers of a frame whose datagram is whole and has the length that it says.
bool read_frame(const u8* frame, u32 length, SlowHeader& h, Ipv4Header& ip) {
  if (length < sizeof(SlowHeader) + sizeof(Ipv4Header) || length > kSlowFrameMax) return false;
  std::memcpy(&h, frame, sizeof(h));
  std::memcpy(&ip, frame + sizeof(h), sizeof(ip));
  const u32 header = (ip.version_ihl & 15) * 4u, total = swap16(ip.total_length);
  return h.mark == kSlowMark && h.kind == kSlowAsked && ip.version_ihl >> 4 == 4 &&
         header >= sizeof(ip) && total >= header && sizeof(h) + total <= length;
}

}  // namespace

SlowPath::SlowPath(u64 secret_a, u64 secret_b, Send send)
    : secret_{secret_a, secret_b}, send_(std::move(send)), lanes_(2 * kSlowLanesEach) {}

SlowPath::Lane& SlowPath::lane_of(const SlowHeader& h, const Ipv4Header& ip) {
  const u64 hash = keyed_hash(secret_, ip.source.be, h.ifindex);
  return lanes_[(h.inside ? 0 : kSlowLanesEach) + (hash & (kSlowLanesEach - 1))];
}

SlowPath::Datagram* SlowPath::find(Lane& lane, const SlowHeader& h, const Ipv4Header& ip) {
  for (Datagram& d : lane.datagrams)
    if (d.source == ip.source.be && d.destination == ip.destination.be && d.id == ip.id &&
        d.protocol == ip.protocol && d.ifindex == h.ifindex)
      return &d;
  return nullptr;
}

SlowPath::Datagram& SlowPath::open(Lane& lane, const SlowHeader& h, const Ipv4Header& ip,
                                   u64 now_ms) {
  if (lane.datagrams.size() >= kDatagramsMax) close_oldest(lane, kSlowFull);
  lane.datagrams.push_back({ip.source.be,
                            ip.destination.be,
                            h.ifindex,
                            ip.id,
                            ip.protocol,
                            false,
                            now_ms + kHold_ms,
                            0,
                            {}});
  return lane.datagrams.back();
}

void SlowPath::close_oldest(Lane& lane, SlowKind why) {
  const Datagram oldest = std::move(lane.datagrams.front());
  lane.datagrams.pop_front();
  lane.bytes -= oldest.bytes;
  for (const auto& frame : oldest.waiting) give_back(frame, why);
}

void SlowPath::take(const u8* frame, u32 length, u64 now_ms) {
  SlowHeader h;
  Ipv4Header ip;
  if (!read_frame(frame, length, h, ip)) return;
  length = static_cast<u32>(sizeof(h)) + swap16(ip.total_length);  // without the link's padding
  const u32 fragment = swap16(ip.fragment);
  const bool later = (fragment & kOffsetMask) != 0, first = !later && (fragment & kMore) != 0;
  Lane& lane = lane_of(h, ip);
  Datagram* known = later || first ? find(lane, h, ip) : nullptr;
  if (later && h.hold && (known == nullptr || !known->first_seen)) {
    while (lane.bytes + length > kLaneBytes && !lane.datagrams.empty())
      close_oldest(lane, kSlowFull);
    known = find(lane, h, ip);
    if (known == nullptr) known = &open(lane, h, ip, now_ms);
    known->waiting.emplace_back(frame, frame + length);
    known->bytes += length;
    lane.bytes += length;
    return;
  }
  cut(frame, length, kSlowAsked);
  if (!first) return;
  if (known == nullptr) known = &open(lane, h, ip, now_ms);
  known->first_seen = true;
  const auto waiting = std::move(known->waiting);
  lane.bytes -= known->bytes;
  known->bytes = 0;
  known->waiting.clear();
  for (const auto& each : waiting) cut(each.data(), static_cast<u32>(each.size()), kSlowOrdered);
}

void SlowPath::expire(u64 now_ms) {
  for (Lane& lane : lanes_)
    while (!lane.datagrams.empty() && now_ms >= lane.datagrams.front().until_ms)
      close_oldest(lane, kSlowAsked);
}

void SlowPath::give_back(const std::vector<u8>& frame, SlowKind kind) {
  out_ = frame;
  out_[1] = kind;
  send_(out_.data(), static_cast<u32>(out_.size()));
}

// Sends the frame back, in pieces if it is larger than the next link takes.
void SlowPath::cut(const u8* frame, u32 length, SlowKind kind) {
  SlowHeader h;
  Ipv4Header ip;
  std::memcpy(&h, frame, sizeof(h));
  std::memcpy(&ip, frame + sizeof(h), sizeof(ip));
  const u32 total = swap16(ip.total_length), payload = total - static_cast<u32>(sizeof(ip));
  const u32 fragment = swap16(ip.fragment);
  const bool may_be_cut = ip.version_ihl == 0x45 && (ip.fragment & kFragmentDont) == 0;
  // No link is smaller than 68 bytes (RFC 791).
  if (h.mtu == 0 || total <= h.mtu || h.mtu < 68 || !may_be_cut) {
    out_.assign(frame, frame + length);
    // Too large still: it must not come here again.
    out_[1] = h.mtu != 0 && total > h.mtu ? kSlowPiece : kind;
    return send_(out_.data(), length);
  }
  const u32 room = (h.mtu - static_cast<u32>(sizeof(ip))) / 8 * 8;
  const bool whole = (fragment & (kMore | kOffsetMask)) == 0;
  for (u32 at = 0; at < payload; at += room) {
    const u32 size = std::min(room, payload - at);
    const bool last = at + size == payload;
    const u32 offset = (fragment & kOffsetMask) + at / 8;
    if (offset > kOffsetMask) return;  // no datagram reaches that far
    h.kind = at == 0 && whole                  ? kSlowPieceFirst
             : at == 0 && kind == kSlowOrdered ? kSlowOrdered
                                               : kSlowPiece;
    ip.total_length = swap16(static_cast<u16>(sizeof(ip) + size));
    ip.fragment = swap16(static_cast<u16>((fragment & ~kOffsetMask) | offset | (last ? 0 : kMore)));
    ip.checksum = 0;
    ip.checksum = header_checksum(reinterpret_cast<const u8*>(&ip), sizeof(ip));
    out_.resize(sizeof(h) + sizeof(ip) + size);
    std::memcpy(out_.data(), &h, sizeof(h));
    std::memcpy(out_.data() + sizeof(h), &ip, sizeof(ip));
    std::memcpy(out_.data() + sizeof(h) + sizeof(ip), frame + sizeof(h) + sizeof(ip) + at, size);
    send_(out_.data(), static_cast<u32>(out_.size()));
  }
}

u32 SlowPath::held_bytes() const {
  u32 bytes = 0;
  for (const Lane& lane : lanes_) bytes += lane.bytes;
  return bytes;
}

}  // namespace masq
