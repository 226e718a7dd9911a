// Where a TCP connection stands, for its timer (RFC 5382 REQ-5, RFC 7857 section 2).
//
// Only a segment that is in sequence moves a connection or refreshes its timer; any other is passed
// on and changes nothing here, so an off-path sender who does not know the numbers can neither
// shorten nor prolong a flow. The ends judge what is passed on, and they send the challenge ACKs
// of RFC 5961: the gateway sends none, and an ACK with the right numbers is in sequence here. Nor
// are out-of-window segments dropped: they are how a half-open connection is found out (RFC 9293
// section 3.5.1). TCP checksums are not verified: who knows the exact number of a RST can sum it up
// too, and what the receiver then refuses for its sum is put right by the next data.
//
//   in sequence   the segment overlaps what the receiver can take (up to its window past what it
//                 has acknowledged) and bears an ACK that the other end would take (RFC 5961
//                 section 5.2). Windows are the largest announced; that of a SYN is never scaled
//                 (RFC 7323 section 2.2).
//   RST, FIN      exact: RST at the next number expected or the next to be sent; FIN right behind
//                 what was sent, or its retransmission. A FIN that overtakes data is not counted
//                 when it comes; the connection then ends by its timer. Where a RST is not exact,
//                 the receiver asks back, and the RST that answers him is.
//   SYN           on an open connection says nothing, whatever its number (RFC 5961 section 4). But
//                 the inner host may have begun anew: if the remote end answers its SYN with the
//                 exact SYN,ACK, and not with a challenge, a new connection is open.
//
// opening -SYN,ACK from remote-> established -FIN-> fin_out | fin_in -FIN of the other-> closing
// any -RST-> transitory -data-> established; data past a FIN: that FIN was a forgery, back one
// step. Nothing is removed here: timers do that, 240 s later.
//
// A connection of which the gateway knows nothing (it has lost its table) is taken over, if
// settings allow, from what the inner host sends in its midst: it is `opening` until the remote end
// answers, its numbers are learnt from both, and its windows are taken for as large as scaling
// allows.
//
// Of a simultaneous open in which the remote end sends no SYN,ACK (our SYN was lost, as with peers
// behind other gateways, RFC 5128 section 3.4) the windows are taken for as large too.
#pragma once

#include "core/packet.h"
#include "core/record.h"
#include "core/settings.h"

namespace masq {

MASQ_INLINE bool after(u32 a, u32 b) {
  return static_cast<i32>(a - b) > 0;
}

// Of a SYN the window is not scaled, while it is kept here as if it were (rounded up).
MASQ_INLINE u16 tcp_window(const Packet& p) {
  if (!(p.tcp_flags & kTcpSyn) || p.window_scale == 0xff) return p.window;
  u32 shift = p.window_scale & 15;
  return static_cast<u16>((p.window + (1u << shift) - 1) >> shift);
}

// How far past the acknowledged the other end may be sent to. Without window scaling known (one SYN
// without the option switches it off for both, RFC 7323 section 1.3) the plain window counts.
MASQ_INLINE u32 receive_window(const Record& r, u32 direction) {
  u32 other = direction ^ 1;
  const u8 both = kFlagScaleOut | kFlagScaleIn;
  u32 shift = (r.flags & both) == both ? (r.scales >> (other * 4)) & 15 : 0;
  u32 window = static_cast<u32>(r.window[other & 1]) << shift;
  return window == 0 ? 1 : window;
}

MASQ_INLINE bool tcp_in_sequence(const Record& r, u32 direction, const Packet& p) {
  u32 other = direction ^ 1;
  bool seen = r.flags & (direction == kOut ? kFlagSeenOut : kFlagSeenIn);
  bool other_seen = r.flags & (other == kOut ? kFlagSeenOut : kFlagSeenIn);
  if (p.tcp_flags & kTcpAck) {
    // Of what the other end has sent, and not older than the largest window that it was given.
    if (!other_seen || after(p.acknowledgment, r.sequence_end[other & 1])) return false;
    // A number half the circle away is neither before nor after, and must not pass for right.
    u32 known = r.acknowledged[other & 1];
    if (!after(p.acknowledgment, seen ? known - receive_window(r, other) - 1 : known)) return false;
  } else if (seen && other_seen) {
    return false;  // without an ACK nobody takes it (RFC 9293 section 3.10.7.4)
  }
  // The first segment of the remote end must prove that it has seen our SYN: a bare SYN
  // (simultaneous open) is passed on, but its numbers are not believed. What acknowledges ours is:
  // a SYN,ACK, or an ACK if the inner host has answered that SYN with a SYN,ACK of its own.
  if (!seen) return p.tcp_flags & kTcpAck;
  if (!other_seen) return p.sequence + p.segment_length == r.sequence_end[direction & 1];
  u32 window = receive_window(r, direction);
  u32 acknowledged = r.acknowledged[direction & 1];
  if (after(p.sequence, acknowledged + window)) return false;
  return !after(acknowledged - window - 1, p.sequence + p.segment_length);
}

// A new connection, from its SYN; or from the SYN,ACK of an inner host that answers a SYN which its
// filtering let in without a flow. What the remote end said there is known only so far as the
// answer tells: it acknowledges the number, and offers scaling only if the remote end did (RFC 7323
// section 2.2), with a shift that we then take for the largest.
MASQ_INLINE void tcp_begin(Record& r, const Packet& p) {
  r.sequence_end[kOut] = p.sequence + p.segment_length;
  r.acknowledged[kOut] = p.sequence;
  r.window[kOut] = tcp_window(p);
  r.window[kIn] = 0;  // of the life before
  r.flags = static_cast<u8>((r.flags & kFlagLocal) | kFlagSeenOut);
  r.scales = 0;
  r.syn_again = 0;
  if (p.window_scale != 0xff) {
    r.flags |= kFlagScaleOut;
    r.scales = p.window_scale & 15;
  }
  if (p.tcp_flags & kTcpAck) {
    r.sequence_end[kIn] = r.acknowledged[kIn] = p.acknowledgment;
    r.window[kIn] = 65535;
    r.flags |= kFlagSeenIn;
    if (p.window_scale != 0xff) {
      r.flags |= kFlagScaleIn;
      r.scales |= 14 << 4;
    }
    if (!(p.tcp_flags & kTcpSyn)) {  // taken over
      r.flags |= kFlagScaleOut | kFlagScaleIn;
      r.scales = 14 << 4 | 14;
    }
  }
  r.state = State::tcp_opening;
}

// The inner host has begun anew on an open connection, and this SYN,ACK acknowledges its SYN, of
// which no more is known than that (see tcp_begin).
MASQ_INLINE void tcp_begin_answered(Record& r, const Packet& p) {
  r.sequence_end[kOut] = r.acknowledged[kOut] = p.acknowledgment;
  r.sequence_end[kIn] = p.sequence + p.segment_length;
  r.acknowledged[kIn] = p.sequence;
  r.window[kOut] = 65535;
  r.window[kIn] = tcp_window(p);
  r.flags = static_cast<u8>((r.flags & kFlagLocal) | kFlagSeenOut | kFlagSeenIn);
  r.scales = 0;
  r.syn_again = 0;
  if (p.window_scale != 0xff) {
    r.flags |= kFlagScaleOut | kFlagScaleIn;
    r.scales = static_cast<u8>(14 | (p.window_scale & 15) << 4);
  }
  r.state = State::tcp_established;
}

MASQ_INLINE State tcp_after_fin(State state, u32 direction) {
  State mine = direction == kOut ? State::tcp_fin_out : State::tcp_fin_in;
  if (state == State::tcp_established || state == mine) return mine;
  return state == State::tcp_transitory ? state : State::tcp_closing;
}

// Data behind a FIN of the same direction: whoever sent that FIN was not the host.
MASQ_INLINE State tcp_without_fin(State state, u32 direction) {
  State mine = direction == kOut ? State::tcp_fin_out : State::tcp_fin_in;
  State others = direction == kOut ? State::tcp_fin_in : State::tcp_fin_out;
  if (state == State::tcp_closing) return others;
  return state == mine ? State::tcp_established : state;
}

// Takes what an in-sequence segment says into the record.
MASQ_INLINE void tcp_learn(Record& r, u32 direction, const Packet& p) {
  u32 d = direction & 1, o = d ^ 1;
  u32 end = p.sequence + p.segment_length;
  u8 seen = d == kOut ? kFlagSeenOut : kFlagSeenIn;
  if (!(r.flags & seen)) {
    r.sequence_end[d] = end;
    r.acknowledged[d] = p.sequence;
    r.flags |= seen;
    if (!(p.tcp_flags & kTcpSyn)) {  // how windows are scaled was said in a SYN that proved nothing
      r.flags |= kFlagScaleOut | kFlagScaleIn;
      r.scales = 14 << 4 | 14;
    }
  } else if (after(end, r.sequence_end[d])) {
    r.sequence_end[d] = end;
  }
  if ((p.tcp_flags & kTcpSyn) && p.window_scale != 0xff) {
    r.flags |= d == kOut ? kFlagScaleOut : kFlagScaleIn;
    r.scales =
        static_cast<u8>((r.scales & (d == kOut ? 0xf0 : 0x0f)) | (p.window_scale & 15) << (d * 4));
  }
  u16 window = tcp_window(p);
  if (window > r.window[d]) r.window[d] = window;
  if ((p.tcp_flags & kTcpAck) && after(p.acknowledgment, r.acknowledged[o]))
    r.acknowledged[o] = p.acknowledgment;
}

// A segment of a known connection. Returns whether it was in sequence, that is whether the timer
// starts again. `answered`: the remote end may have begun it (some filtering lets in a SYN without
// a flow, or a forward did), so a SYN,ACK of ours too may begin it, or begin anew.
MASQ_INLINE bool tcp_track(Record& r, u32 direction, const Packet& p, bool answered = false) {
  u32 d = direction & 1;
  if (p.tcp_flags & kTcpRst) {
    bool exact = p.sequence == r.sequence_end[d] || p.sequence == r.acknowledged[d];
    // The refusal of a SYN has no number of its own, but acknowledges the SYN (RFC 9293 3.10.7.3).
    if (r.state == State::tcp_opening && d == kIn && !(r.flags & kFlagSeenIn))
      exact = (p.tcp_flags & kTcpAck) && p.acknowledgment == r.sequence_end[kOut];
    if (d == kIn && (p.tcp_flags & kTcpAck) && r.syn_again != 0)
      exact |= p.acknowledgment == r.syn_again;
    if (exact) r.state = State::tcp_transitory;
    return exact;
  }
  bool ended = r.state == State::tcp_closing || r.state == State::tcp_transitory;
  bool opening = r.state == State::tcp_opening;
  bool first = (p.tcp_flags & (kTcpSyn | kTcpAck)) == kTcpSyn;
  // The same SYN again, perhaps without the data that it bore (RFC 7413 section 4.1.3), is no
  // other.
  bool repeated =
      opening && first && !(r.flags & kFlagSeenIn) && p.sequence == r.acknowledged[kOut];
  bool answering = answered && (ended || !(r.flags & kFlagSeenOut));
  bool again = first || (answering && (p.tcp_flags & kTcpSyn));
  if (d == kOut && again && (ended || opening) && !repeated) {
    tcp_begin(r, p);  // the inner host uses the same endpoints again
    return true;
  }
  if ((p.tcp_flags & kTcpSyn) && r.state >= State::tcp_established) {
    u32 syn = r.syn_again;
    if (d == kOut && first) r.syn_again = p.sequence + 1;
    bool answers = d == kIn && !first && syn != 0 && p.acknowledgment == syn;
    if (answers) tcp_begin_answered(r, p);
    return answers;
  }
  if (!(d == kOut && repeated) && !tcp_in_sequence(r, d, p)) return false;
  if (p.tcp_flags & kTcpFin) {
    u32 fin = p.sequence + p.segment_length;
    // Ahead of data that we have not seen, or in the middle of what was sent: a guess. A SYN,ACK
    // that closes at once has nothing before it.
    bool seen = r.flags & (d == kOut ? kFlagSeenOut : kFlagSeenIn);
    if (seen && (after(p.sequence, r.sequence_end[d]) || after(r.sequence_end[d], fin)))
      return false;
    tcp_learn(r, d, p);
    if (r.state >= State::tcp_established) r.state = tcp_after_fin(r.state, d);
    return true;
  }
  bool more = p.segment_length != 0 && after(p.sequence + p.segment_length, r.sequence_end[d]);
  tcp_learn(r, d, p);
  const u8 both = kFlagSeenOut | kFlagSeenIn;
  if (r.state == State::tcp_opening) {
    // What we send ourselves proves nothing of the remote end: its SYN may bear anybody's address.
    if ((r.flags & both) == both && (p.tcp_flags & kTcpAck) && d == kIn)
      r.state = State::tcp_established;
  } else if (r.state == State::tcp_transitory && p.segment_length != 0) {
    r.state = State::tcp_established;
  } else if (more) {
    r.state = tcp_without_fin(r.state, d);
  }
  return true;
}

}  // namespace masq
