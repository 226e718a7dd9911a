// A header of 24 bytes, then for each packet one of 16 and its bytes.
#include "cli/capture_file.h"

#include <cerrno>
#include <cstring>

namespace masq {
namespace {

constexpr u32 kMicroseconds = 0xa1b2c3d4;
constexpr u32 kNanoseconds = 0xa1b23c4d;
constexpr u32 kNextGeneration = 0x0a0d0d0a;

// Numbers of link types, as libpcap gives them.
constexpr u32 kLinkEthernet = 1, kLinkRawOld = 12, kLinkRaw = 101, kLinkCooked = 113,
              kLinkIpv4 = 228, kLinkCooked2 = 276;

struct FileHeader {
  u32 magic;
  u16 major, minor;
  u32 zone, accuracy;
  u32 snap_length;
  u32 link_type;
};
static_assert(sizeof(FileHeader) == 24);

struct PacketHeader {
  u32 seconds, fraction;
  u32 captured, length;
};
static_assert(sizeof(PacketHeader) == 16);

// Where the IP header begins on such a link, and where the two bytes are that say what follows; -1
// if there are none.
struct LinkHeader {
  u32 length;
  int type_at;
};

bool known_link(u32 link_type, LinkHeader& header) {
  switch (link_type) {
    case kLinkEthernet:
      header = {14, 12};
      return true;
    case kLinkCooked:
      header = {16, 14};
      return true;
    case kLinkCooked2:
      header = {20, 0};
      return true;
    case kLinkRaw:
    case kLinkRawOld:
    case kLinkIpv4:
      header = {0, -1};
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<CaptureReader> CaptureReader::open(const std::string& path) {
  CaptureReader reader;
  reader.path_ = path;
  reader.file_.open(path, std::ios::binary);
  if (!reader.file_) return error("{} cannot be read ({}).", path, strerror(errno));
  FileHeader header{};
  reader.file_.read(reinterpret_cast<char*>(&header), sizeof header);
  if (reader.file_.gcount() < static_cast<std::streamsize>(sizeof header.magic))
    return error("{} is not a capture file; it is too short.", path);
  if (header.magic == kNextGeneration)
    return error(
        "{} is a pcapng file; `editcap -F pcap` or `tcpdump -r ... -w` makes it a pcap file.",
        path);
  for (bool swapped : {false, true}) {
    u32 magic = swapped ? swap32(header.magic) : header.magic;
    if (magic != kMicroseconds && magic != kNanoseconds) continue;
    reader.swapped_ = swapped;
    reader.nanoseconds_ = magic == kNanoseconds;
    reader.link_type_ = reader.number(header.link_type) & 0xffff;
    LinkHeader link{};
    if (!reader.file_ || !known_link(reader.link_type_, link))
      return error(
          "{} is a capture of a kind of link (number {}) that masq does not know; Ethernet, Linux "
          "cooked captures and plain IP are known.",
          path, reader.link_type_);
    return reader;
  }
  return error("{} is not a capture file as tcpdump writes them.", path);
}

Result<bool> CaptureReader::next(CapturedPacket& packet) {
  PacketHeader header{};
  file_.read(reinterpret_cast<char*>(&header), sizeof header);
  if (file_.gcount() == 0) return false;
  Error cut = error("{} is cut off behind packet {}.", path_, count_);
  if (!file_) return cut;
  u32 captured = number(header.captured);
  if (captured > kPacketMax) return error("{} is damaged behind packet {}.", path_, count_);
  packet.bytes.resize(captured);
  file_.read(reinterpret_cast<char*>(packet.bytes.data()), static_cast<std::streamsize>(captured));
  if (!file_) return cut;
  ++count_;
  packet.time_ns = static_cast<u64>(number(header.seconds)) * 1000000000ull +
                   static_cast<u64>(number(header.fraction)) * (nanoseconds_ ? 1 : 1000);
  packet.length = number(header.length);
  LinkHeader link{};
  known_link(link_type_, link);
  packet.is_ipv4 = captured > link.length && packet.length > link.length;
  if (packet.is_ipv4 && link.type_at >= 0) {
    const u8* type = &packet.bytes[static_cast<std::size_t>(link.type_at)];
    packet.is_ipv4 = type[0] == 8 && type[1] == 0;
  } else if (packet.is_ipv4) {
    packet.is_ipv4 = packet.bytes[0] >> 4 == 4;
  }
  if (!packet.is_ipv4) {
    packet.bytes.clear();
    return true;
  }
  packet.bytes.erase(packet.bytes.begin(), packet.bytes.begin() + link.length);
  packet.length -= link.length;
  return true;
}

Result<CaptureWriter> CaptureWriter::open(const std::string& path) {
  CaptureWriter writer;
  writer.path_ = path;
  writer.file_.open(path, std::ios::binary | std::ios::trunc);
  FileHeader header{kNanoseconds, 2, 4, 0, 0, kPacketMax, kLinkRaw};
  writer.file_.write(reinterpret_cast<const char*>(&header), sizeof header);
  if (!writer.file_.flush()) return error("{} cannot be written ({}).", path, strerror(errno));
  return writer;
}

void CaptureWriter::write(u64 time_ns, const u8* bytes, u32 captured, u32 length) {
  PacketHeader header{static_cast<u32>(time_ns / 1000000000ull),
                      static_cast<u32>(time_ns % 1000000000ull), captured, length};
  file_.write(reinterpret_cast<const char*>(&header), sizeof header);
  file_.write(reinterpret_cast<const char*>(bytes), static_cast<std::streamsize>(captured));
}

Status CaptureWriter::finish() {
  file_.close();
  if (!file_) return error("{} cannot be written to its end ({}).", path_, strerror(errno));
  return Done{};
}

}  // namespace masq
