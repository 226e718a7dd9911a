// The TCP machine on pages of rows: who sends what, is it in sequence, and where does the
// connection stand then. Inner host: initial number 100. Remote host: initial number 900.
#include "core/tcp.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace masq {
namespace {

constexpr State kOpening = State::tcp_opening;
constexpr State kEstablished = State::tcp_established;
constexpr State kFinOut = State::tcp_fin_out;
constexpr State kFinIn = State::tcp_fin_in;
constexpr State kClosing = State::tcp_closing;
constexpr State kTransitory = State::tcp_transitory;

struct Row {
  u32 direction;
  const char* flags;
  u32 sequence;
  u32 acknowledgment;
  u32 length;
  bool in_sequence;
  State state;
  u16 window = 1000;
  u8 scale = 0xff;
};

Packet packet_of(const Row& row) {
  Packet p{};
  p.kind = Kind::tcp;
  for (const char* c = row.flags; *c != 0; ++c)
    p.tcp_flags |= *c == 'F' ? kTcpFin : *c == 'S' ? kTcpSyn : *c == 'R' ? kTcpRst : kTcpAck;
  p.sequence = row.sequence;
  p.acknowledgment = row.acknowledgment;
  p.segment_length = row.length + ((p.tcp_flags & kTcpSyn) != 0) + ((p.tcp_flags & kTcpFin) != 0);
  p.window = row.window;
  p.window_scale = row.scale;
  return p;
}

// The first row is the SYN that makes the flow. `shift` is added to every number.
void play(const std::vector<Row>& rows, u32 shift_out = 0, u32 shift_in = 0) {
  Record r{};
  bool first = true;
  int number = 0;
  for (Row row : rows) {
    ++number;
    row.sequence += row.direction == kOut ? shift_out : shift_in;
    row.acknowledgment += row.direction == kOut ? shift_in : shift_out;
    const Packet p = packet_of(row);
    if (first) {
      r.state = State::tcp_opening;
      tcp_begin(r, p);
    }
    first = false;
    EXPECT_EQ(tcp_track(r, row.direction, p), row.in_sequence)
        << "row " << number << ", shifted by " << shift_out << " and " << shift_in;
    EXPECT_EQ(static_cast<int>(r.state), static_cast<int>(row.state)) << "row " << number;
  }
}

// At every offset at which one of the numbers wraps somewhere in the rows.
void play_everywhere(const std::vector<Row>& rows) {
  play(rows);
  for (u32 back = 0; back < 320; ++back) {
    play(rows, 0u - 100 - back + 20, 0);
    play(rows, 0, 0u - 900 - back + 20);
    play(rows, 0x7fffffffu - back, 0x80000000u - back);
  }
}

const Row kSyn{kOut, "S", 100, 0, 0, true, kOpening};
const Row kSynAck{kIn, "SA", 900, 101, 0, true, kEstablished};
const Row kAck{kOut, "A", 101, 901, 0, true, kEstablished};

TEST(Tcp, HandshakeDataAndClose) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kOut, "A", 101, 901, 100, true, kEstablished},
                   {kIn, "A", 901, 201, 50, true, kEstablished},
                   {kOut, "FA", 201, 951, 0, true, kFinOut},
                   {kIn, "A", 951, 202, 20, true, kFinOut},
                   {kIn, "FA", 971, 202, 0, true, kClosing},
                   {kOut, "A", 202, 972, 0, true, kClosing}});
}

TEST(Tcp, RemoteClosesFirst) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "FA", 901, 101, 30, true, kFinIn},
                   {kOut, "A", 101, 932, 10, true, kFinIn},
                   {kIn, "A", 932, 111, 0, true, kFinIn},
                   {kIn, "FA", 901, 101, 30, true, kFinIn},  // again: it was lost behind us
                   {kOut, "FA", 111, 932, 0, true, kClosing}});
}

TEST(Tcp, SynIsRetransmitted) {
  // On an open connection it says nothing any more (RFC 5961 section 4).
  play_everywhere({kSyn, kSyn, kSyn, kSynAck, {kIn, "SA", 900, 101, 0, false, kEstablished}, kAck});
}

TEST(Tcp, SynAckOfAnotherIsNotBelieved) {
  play_everywhere({kSyn,
                   {kIn, "SA", 900, 100, 0, false, kOpening},
                   {kIn, "SA", 900, 101 + 0x80000000u, 0, false, kOpening},  // half the circle off
                   {kIn, "SA", 900, 102, 0, false, kOpening},
                   {kIn, "SA", 900, 4000000, 0, false, kOpening},
                   {kIn, "A", 900, 100, 5, false, kOpening},
                   {kIn, "FA", 900, 102, 5, false, kOpening},
                   kSynAck});
}

TEST(Tcp, SimultaneousOpen) {
  play_everywhere({kSyn,
                   {kIn, "S", 900, 0, 0, false, kOpening},
                   {kOut, "SA", 100, 901, 0, false, kOpening},
                   kSynAck,
                   kAck});
  // The remote end has not got our SYN: our SYN,ACK is the answer to its own.
  play_everywhere({kSyn,
                   {kIn, "S", 900, 0, 0, false, kOpening},
                   {kOut, "SA", 100, 901, 0, false, kOpening},
                   {kIn, "A", 901, 100, 0, false, kOpening},
                   {kIn, "A", 901, 102, 0, false, kOpening},
                   {kIn, "A", 901, 101, 0, true, kEstablished},
                   {kOut, "A", 101, 901, 50, true, kEstablished}});
}

TEST(Tcp, ResetMustBeExact) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "R", 902, 0, 0, false, kEstablished},
                   {kIn, "R", 900, 0, 0, false, kEstablished},
                   {kIn, "RA", 1800, 101, 0, false, kEstablished},
                   {kIn, "R", 901, 0, 0, true, kTransitory}});
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kOut, "A", 101, 901, 50, true, kEstablished},
                   {kOut, "R", 120, 0, 0, false, kEstablished},
                   {kOut, "R", 151, 0, 0, true, kTransitory}});
  // The next number that the receiver expects is exact too (RFC 5961 section 3.2).
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "A", 901, 101, 50, true, kEstablished},
                   {kIn, "R", 901, 0, 0, true, kTransitory}});
}

TEST(Tcp, ResetInAnswerToSyn) {
  play_everywhere({kSyn,
                   {kIn, "R", 0, 0, 0, false, kOpening},
                   {kIn, "RA", 0, 100, 0, false, kOpening},
                   {kIn, "RA", 0, 101, 0, true, kTransitory}});
}

TEST(Tcp, DataAfterResetMeansItLives) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "R", 901, 0, 0, true, kTransitory},
                   {kIn, "A", 901, 101, 0, true, kTransitory},  // no data: says nothing
                   {kOut, "A", 101, 901, 10, true, kEstablished}});
}

TEST(Tcp, EndpointsAreUsedAgain) {
  const std::vector<Row> closed{kSyn,
                                kSynAck,
                                kAck,
                                {kOut, "FA", 101, 901, 0, true, kFinOut},
                                {kIn, "FA", 901, 102, 0, true, kClosing}};
  std::vector<Row> again = closed;
  again.push_back({kOut, "S", 50000000, 0, 0, true, kOpening});
  again.push_back({kIn, "SA", 70000000, 50000001, 0, true, kEstablished});
  play_everywhere(again);
  // Only the inner host may: a SYN from outside changes nothing.
  again = closed;
  again.push_back({kIn, "S", 70000000, 0, 0, false, kClosing});
  play_everywhere(again);
  // Nor does a SYN in the midst of a connection begin another.
  play_everywhere({kSyn, kSynAck, kAck, {kOut, "S", 50000000, 0, 0, false, kEstablished}});
}

TEST(Tcp, FinThatOvertakesDataIsNotCounted) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kOut, "FA", 201, 901, 0, false, kEstablished},
                   {kOut, "A", 101, 901, 100, true, kEstablished},
                   {kOut, "FA", 201, 901, 0, true, kFinOut},
                   {kOut, "FA", 201, 901, 0, true, kFinOut}});
  // Far outside: an off-path guess.
  play_everywhere({kSyn, kSynAck, kAck, {kIn, "FA", 5000000, 101, 0, false, kEstablished}});
}

TEST(Tcp, WindowWithoutScaling) {
  // 1000 from the inner host: the remote end may send up to 1901.
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "A", 1901, 101, 1, true, kEstablished},
                   {kIn, "A", 1903, 101, 1, false, kEstablished}});
  // Only one end offers scaling: nobody scales (RFC 7323 section 1.3).
  play_everywhere({{kOut, "S", 100, 0, 0, true, kOpening, 1000, 7},
                   kSynAck,
                   kAck,
                   {kIn, "A", 1902, 101, 1, false, kEstablished}});
}

TEST(Tcp, WindowWithScaling) {
  play_everywhere({{kOut, "S", 100, 0, 0, true, kOpening, 1000, 3},
                   {kIn, "SA", 900, 101, 0, true, kEstablished, 1000, 5},
                   kAck,
                   {kIn, "A", 901, 101, 0, true, kEstablished},
                   {kIn, "A", 901 + 8000, 101, 1, true, kEstablished},
                   {kOut, "A", 101 + 32000, 901, 1, true, kEstablished},
                   {kOut, "A", 101 + 32001, 901, 1, false, kEstablished}});
}

TEST(Tcp, WindowOfASynIsNotScaled) {
  // 65535 bytes by scale 7 are 512 units of 128 bytes, not 65535 units.
  const Row syn{kOut, "S", 100, 0, 0, true, kOpening, 65535, 7};
  const Row answer{kIn, "SA", 900, 101, 0, true, kEstablished, 65535, 7};
  play_everywhere({syn, answer, {kOut, "A", 101 + 65535, 901, 1, true, kEstablished}});
  play_everywhere({syn, answer, {kOut, "A", 101 + 65538, 901, 1, false, kEstablished}});
}

TEST(Tcp, OldAcknowledgmentsAreNotTaken) {
  // RFC 5961 section 5.2: not older than the largest window, here 1000.
  play_everywhere({kSyn,
                   kSynAck,
                   {kOut, "A", 101, 901, 500, true, kEstablished},
                   {kIn, "A", 901, 601, 0, true, kEstablished},
                   {kIn, "A", 901, 601u - 1000, 10, true, kEstablished},
                   {kIn, "A", 911, 601u - 1001, 10, false, kEstablished}});
}

TEST(Tcp, WithoutAcknowledgmentNothingCounts) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "", 901, 0, 10, false, kEstablished},
                   {kIn, "F", 901, 0, 0, false, kEstablished}});
}

TEST(Tcp, DataBehindAFinShowsThatItWasForged) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "FA", 901, 101, 0, true, kFinIn},
                   {kOut, "FA", 101, 901, 0, true, kClosing},
                   {kIn, "A", 901, 101, 50, true, kFinOut},
                   {kOut, "A", 101, 951, 50, true, kEstablished}});
}

TEST(Tcp, InnerHostBeginsAnewOnAnOpenConnection) {
  const Row again{kOut, "S", 50000, 0, 0, false, kEstablished};
  // The remote end has forgotten the connection too.
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   again,
                   {kIn, "SA", 70000, 50002, 0, false, kEstablished},
                   {kIn, "SA", 70000, 50001, 0, true, kEstablished},
                   {kOut, "A", 50001, 70001, 10, true, kEstablished},
                   {kIn, "R", 901, 0, 0, false, kEstablished}});
  // It refuses.
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   again,
                   {kIn, "RA", 0, 50002, 0, false, kEstablished},
                   {kIn, "RA", 0, 50001, 0, true, kTransitory}});
  // Nobody has begun anew: such an answer is a forgery.
  play_everywhere({kSyn, kSynAck, kAck, {kIn, "SA", 70000, 0, 0, false, kEstablished}});
}

TEST(Tcp, FastOpenSynComesAgainWithoutItsData) {
  play_everywhere({{kOut, "S", 100, 0, 50, true, kOpening},
                   {kOut, "S", 100, 0, 0, true, kOpening},
                   {kIn, "SA", 900, 151, 0, true, kEstablished},
                   {kOut, "A", 151, 901, 10, true, kEstablished}});
}

TEST(Tcp, AcknowledgmentOfWhatWasNotSent) {
  play_everywhere({kSyn,
                   kSynAck,
                   kAck,
                   {kIn, "A", 901, 102, 10, false, kEstablished},
                   {kIn, "A", 901, 101, 10, true, kEstablished}});
}

TEST(Tcp, ZeroWindowProbesKeepItAlive) {
  play_everywhere({kSyn,
                   kSynAck,
                   {kOut, "A", 101, 901, 0, true, kEstablished, 0},
                   {kIn, "A", 901, 101, 1, true, kEstablished}});
}

TEST(Tcp, KeepaliveIsOneBelow) {
  play_everywhere({kSyn, kSynAck, kAck, {kOut, "A", 100, 901, 0, true, kEstablished}});
}

}  // namespace
}  // namespace masq
