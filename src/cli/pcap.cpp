// Captures, from bytes. Every length is checked against what is left of the file.
#include "cli/pcap.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "wire/headers.h"

namespace masq {
namespace {

constexpr u32 kMagicMicroseconds = 0xa1b2c3d4, kMagicNanoseconds = 0xa1b23c4d;
constexpr u32 kBlockSection = 0x0a0d0d0a, kByteOrder = 0x1a2b3c4d;
constexpr u32 kBlockInterface = 1, kBlockSimple = 3, kBlockPacket = 6;
constexpr u32 kCapturedBytesMax = 262144;  // as in every capture program

// Link types (LINKTYPE_...).
constexpr u32 kEthernet = 1, kRawOld = 12, kRawOther = 14, kRaw = 101, kCooked = 113,
              kRawIpv4 = 228, kRawIpv6 = 229, kCooked2 = 276;

class File {
 public:
  explicit File(std::string bytes) : bytes_(std::move(bytes)) {}
  bool swapped = false;

  std::size_t left() const { return bytes_.size() - at_; }
  std::size_t at() const { return at_; }
  void go_to(std::size_t at) { at_ = std::min(at, bytes_.size()); }
  const u8* here() const { return reinterpret_cast<const u8*>(bytes_.data()) + at_; }
  u32 word(std::size_t offset) const {
    u32 value = 0;
    if (offset + 4 <= left()) memcpy(&value, here() + offset, 4);
    return swapped ? swap32(value) : value;
  }
  u32 half(std::size_t offset) const {
    u16 value = 0;
    if (offset + 2 <= left()) memcpy(&value, here() + offset, 2);
    return swapped ? swap16(value) : value;
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

bool is_known(u32 link) {
  for (u32 known : {kEthernet, kRawOld, kRawOther, kRaw, kCooked, kRawIpv4, kRawIpv6, kCooked2})
    if (link == known) return true;
  return false;
}

// The packet in a captured frame, or nothing if the frame is too short for its link header.
StrippedPacket strip_link(const u8* frame, u32 captured, u32 length, u32 link) {
  StrippedPacket p;
  u32 header = 0;
  const auto type_at = [&](u32 at) {
    u16 type = 0;
    if (at + 2 <= captured) memcpy(&type, frame + at, 2);
    return type;
  };
  if (link == kEthernet) {
    header = kEthernetHeaderLength;
    p.ether_type = type_at(12);
  } else if (link == kCooked) {
    header = 16;
    p.ether_type = type_at(14);
  } else if (link == kCooked2) {
    header = 20;
    p.ether_type = type_at(0);
  } else {
    p.ether_type = captured != 0 && frame[0] >> 4 == 6 ? kEtherTypeIpv6 : kEtherTypeIpv4;
  }
  // The tag of VLAN 0 carries nothing but a priority.
  while (p.ether_type == swap16(0x8100) && header + 4 <= captured && (frame[header] & 0x0f) == 0 &&
         frame[header + 1] == 0) {
    p.ether_type = type_at(header + 2);
    header += 4;
  }
  if (captured < header) header = captured;
  captured = std::min(captured, header + kPacketLengthMax);
  p.bytes.assign(frame + header, frame + captured);
  p.length = std::clamp(length, captured, header + kPacketLengthMax) - header;
  return p;
}

void read_classic(File& file, Capture& capture, std::string& refusal) {
  u32 link = file.word(20) & 0x0fffffff;
  if (!is_known(link)) {
    refusal = fmt::format(
        "The capture is of link type {}, which is not understood; Ethernet and raw IP are.", link);
    return;
  }
  file.go_to(24);
  while (file.left() != 0) {
    u32 captured = file.word(8), length = file.word(12);
    if (file.left() < 16 || captured > kCapturedBytesMax || captured > file.left() - 16) {
      capture.damage = fmt::format("The capture is damaged or cut short behind packet {}.",
                                   capture.packets.size());
      return;
    }
    capture.packets.push_back(strip_link(file.here() + 16, captured, length, link));
    file.go_to(file.at() + 16 + captured);
  }
}

void read_blocks(File& file, Capture& capture, std::string& refusal) {
  std::vector<u32> links;
  while (file.left() != 0) {
    u32 type = file.word(0);
    if (type == kBlockSection) {
      file.swapped = false;
      file.swapped = file.word(8) != kByteOrder;
      if (file.word(8) != kByteOrder) break;
      links.clear();
    }
    u32 size = file.word(4);
    if (file.left() < 12 || size < 12 || size % 4 != 0 || size > file.left()) break;
    if (type == kBlockInterface) links.push_back(file.half(8));
    u32 body = type == kBlockPacket ? 28 : 12;
    if (type == kBlockPacket || type == kBlockSimple) {
      u32 interface = type == kBlockPacket ? file.word(8) : 0;
      u32 length = type == kBlockPacket ? file.word(24) : file.word(8);
      u32 captured = type == kBlockPacket ? file.word(20) : std::min(length, size - 16);
      if (size < body + 4 || captured > size - body - 4 || interface >= links.size()) break;
      if (!is_known(links[interface])) {
        refusal = fmt::format(
            "The capture is of link type {}, which is not understood; Ethernet and raw IP are.",
            links[interface]);
        return;
      }
      capture.packets.push_back(strip_link(file.here() + body, captured, length, links[interface]));
    }
    file.go_to(file.at() + size);
  }
  if (file.left() != 0)
    capture.damage = fmt::format("The capture is damaged or cut short behind packet {}.",
                                 capture.packets.size());
}

}  // namespace

Result<Capture> read_capture(const std::string& path) {
  struct stat what {};
  if (stat(path.c_str(), &what) != 0)
    return error("{} cannot be read ({}).", path, strerror(errno));
  if (!S_ISREG(what.st_mode)) return error("{} is no file.", path);
  if (static_cast<u64>(what.st_size) > kCaptureBytesMax)
    return error("{} is larger than {} bytes; cut out what is to be explained with editcap.", path,
                 kCaptureBytesMax);
  std::ifstream in(path, std::ios::binary);
  std::string bytes(static_cast<std::size_t>(what.st_size), '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!in) return error("{} cannot be read.", path);
  File file(std::move(bytes));
  Capture capture;
  std::string refusal;
  u32 magic = file.word(0);
  for (u32 known : {kMagicMicroseconds, kMagicNanoseconds})
    if (magic == swap32(known)) file.swapped = true;
  magic = file.word(0);
  if (file.left() >= 24 && (magic == kMagicMicroseconds || magic == kMagicNanoseconds))
    read_classic(file, capture, refusal);
  else if (file.left() >= 28 && magic == kBlockSection)
    read_blocks(file, capture, refusal);
  else
    return error("{} is no capture: it begins neither as pcap nor as pcapng.", path);
  if (!refusal.empty()) return Error{refusal};
  if (capture.packets.empty())
    return error("{}", capture.damage.empty() ? path + " has no packets." : capture.damage);
  return capture;
}

}  // namespace masq
