// The parser on hostile bytes: never a byte beyond the end, and never a field that was not there.
// The buffer ends where a page ends and the next one may not be touched.
#include "core/packet.h"
#include "core/rewrite.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "packets/packet_text.h"
#include "unit/random.h"

namespace masq {
namespace {

class Guarded {
 public:
  Guarded() {
    page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    at_ = static_cast<u8*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(at_ + page_, page_, PROT_NONE);
  }
  ~Guarded() { munmap(at_, 2 * page_); }
  Bytes put(const test::Data& data) {
    u8* begin = at_ + page_ - data.size();
    if (!data.empty()) std::memcpy(begin, data.data(), data.size());
    return {begin, begin + data.size()};
  }

 private:
  u8* at_;
  std::size_t page_;
};

test::Data build(const std::string& text) {
  const test::Words words = test::split_words(text);
  std::size_t at = 0;
  return test::build_packet(test::parse_packet(words, at), {}, {});
}

const char* const kPackets[] = {
    "udp 192.168.2.4:5000 > 198.51.100.1:9",
    "udp 192.168.2.4:5000 > 198.51.100.1:9 options 9404000001010100",
    "tcp 192.168.2.4:5000 > 198.51.100.1:80 flags S wscale 7 len 20",
    "tcp 192.168.2.4:5000 > 198.51.100.1:80 flags FA len 0",
    "icmp 192.168.2.4 > 198.51.100.1 echo query 77",
    "icmp 192.168.2.4 > 198.51.100.1 unreachable code 3 { udp 198.51.100.1:9 > 192.168.2.4:5 }",
    "icmp 192.168.2.4 > 198.51.100.1 unreachable { tcp 198.51.100.1:9 > 192.168.2.4:5 options "
    "01010101 }",
    "icmp 192.168.2.4 > 198.51.100.1 time-exceeded { icmp 198.51.100.1 > 192.168.2.4 echo query 9 "
    "}",
    "ip 192.168.2.4 > 198.51.100.1 proto 47",
};

// What a correct parse may say about a packet of `length` bytes in the buffer.
void check_bounds(const Packet& p, Reason reason, u32 length) {
  if (reason == Reason::malformed) return;
  ASSERT_LE(p.total_length, length - p.l3);
  ASSERT_GE(p.l4, p.l3 + 20);
  ASSERT_LE(p.l4, length);
  if (p.kind == Kind::tcp) {
    ASSERT_LE(
        p.l3 + p.headers +
            (p.segment_length - ((p.tcp_flags & kTcpSyn) != 0) - ((p.tcp_flags & kTcpFin) != 0)),
        length);
  }
  if (p.kind == Kind::icmp_error && reason == Reason::none) {
    ASSERT_LE(p.quoted_l4 + 8u, length);
  }
}

void set_header_sum(test::Data& d) {
  const std::size_t header = std::min<std::size_t>((d[0] & 15) * 4u, d.size());
  if (header < 20) return;
  d[10] = d[11] = 0;
  u32 sum = 0;
  for (std::size_t i = 0; i + 1 < header; i += 2) sum += d[i] * 256u + d[i + 1];
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  d[10] = static_cast<u8>(~sum >> 8);
  d[11] = static_cast<u8>(~sum);
}

TEST(Parse, EveryTruncationIsMalformed) {
  Guarded guarded;
  for (const char* text : kPackets) {
    const test::Data whole = build(text);
    Packet p;
    ASSERT_NE(parse(guarded.put(whole), 0, static_cast<u32>(whole.size()), p), Reason::malformed)
        << text;
    for (std::size_t n = 0; n < whole.size(); ++n) {
      const test::Data cut(whole.begin(), whole.begin() + static_cast<long>(n));
      ASSERT_EQ(parse(guarded.put(cut), 0, static_cast<u32>(n), p), Reason::malformed)
          << text << " cut to " << n;
    }
  }
}

// The kernel shows a part of a large packet: lengths are right, bytes are missing.
TEST(Parse, ReadsNothingBehindWhatIsShown) {
  Guarded guarded;
  for (const char* text : kPackets) {
    const test::Data whole = build(text);
    for (std::size_t n = 0; n < whole.size(); ++n) {
      const test::Data cut(whole.begin(), whole.begin() + static_cast<long>(n));
      Packet p;
      const Reason reason = parse(guarded.put(cut), 0, static_cast<u32>(whole.size()), p);
      if (n < 28) {
        ASSERT_FALSE(reason == Reason::none && p.kind != Kind::other) << text << n;
      }
      if (p.kind != Kind::tcp || reason != Reason::none) continue;
      read_syn_options(guarded.put(cut), p);
      ASSERT_TRUE(p.mss_at == 0 || p.mss_at + 2 <= p.l3 + p.headers);
      Verdict lower{};
      lower.mss_most = 1;
      u16 before = 0, now = 0;
      lower_mss(guarded.put(cut), p, lower, before, now);
    }
  }
}

TEST(Parse, RandomFieldsStayInBounds) {
  Guarded guarded;
  test::Random random(1);
  u32 accepted = 0;
  for (int i = 0; i < 1000000; ++i) {
    test::Data d = build(kPackets[0]);
    static test::Data built[std::size(kPackets)];
    test::Data& base = built[random() % std::size(kPackets)];
    if (base.empty()) base = build(kPackets[&base - built]);
    d = base;
    for (u32 changes = random() % 4; changes > 0; --changes)
      d[random() % d.size()] = static_cast<u8>(random());
    if (random() & 1) d[0] = static_cast<u8>(0x45 + random() % 11);
    if (random() & 1) set_header_sum(d);
    if (random() % 4 == 0) d.resize(random() % d.size() + 1);
    Packet p;
    const Bytes bytes = guarded.put(d);
    const Reason reason = parse(bytes, 0, static_cast<u32>(d.size()), p);
    check_bounds(p, reason, static_cast<u32>(d.size()));
    if (reason == Reason::none && p.kind == Kind::tcp && (p.tcp_flags & kTcpSyn))
      read_syn_options(bytes, p);
    accepted += reason != Reason::malformed;
  }
  EXPECT_GT(accepted, 100000u);
}

TEST(Parse, WindowScaleOption) {
  Guarded guarded;
  const auto scale = [&](const std::string& options) -> int {
    const test::Data d = build("tcp 1.2.3.4:5 > 5.6.7.8:9 flags S tcpoptions " + options);
    Packet p;
    if (parse(guarded.put(d), 0, static_cast<u32>(d.size()), p) != Reason::none) return -1;
    read_syn_options(guarded.put(d), p);
    return p.window_scale;
  };
  EXPECT_EQ(scale("03030700"), 7);
  EXPECT_EQ(scale("01030307"), 7);
  EXPECT_EQ(scale("020405b4010303070402080a0000000000000000"), 7);
  EXPECT_EQ(scale("03030f00"), 14) << "RFC 7323: larger counts as 14";
  EXPECT_EQ(scale("03020700"), 0xff) << "wrong length";
  EXPECT_EQ(scale("03010700"), 0xff);
  EXPECT_EQ(scale("00030307"), 0xff) << "behind the end of the options";
  EXPECT_EQ(scale("01010303"), 0xff) << "cut off";
  EXPECT_EQ(scale("08ff0000"), 0xff) << "an option that leads outside";
  EXPECT_EQ(scale("05000000"), 0xff) << "an option of no length";
}

TEST(Parse, FieldsOfASegment) {
  Guarded guarded;
  const test::Data d = build(
      "tcp 192.168.2.4:5000 > 198.51.100.1:80 flags SF seq 7 ack 9 win 55 tos 3 id 0x1234 df len "
      "5");
  Packet p;
  ASSERT_EQ(parse(guarded.put(d), 0, static_cast<u32>(d.size()), p), Reason::none);
  EXPECT_EQ(to_host(p.source), 0xc0a80204u);
  EXPECT_EQ(to_host(p.source_port), 5000);
  EXPECT_EQ(to_host(p.destination_port), 80);
  EXPECT_EQ(p.sequence, 7u);
  EXPECT_EQ(p.acknowledgment, 9u);
  EXPECT_EQ(p.window, 55);
  EXPECT_EQ(p.segment_length, 7u);
  EXPECT_EQ(p.tos, 3);
  EXPECT_EQ(p.id, swap16(0x1234));
  EXPECT_TRUE(p.dont_fragment);
  EXPECT_FALSE(p.first_fragment);
}

}  // namespace
}  // namespace masq
