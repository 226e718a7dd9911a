// Sending, resending and receiving; tcp_end.h says what is left out.
#include "sim/tcp_end.h"

#include <algorithm>

namespace masq::sim {

namespace {

constexpr u32 kTriesMax = 14;

bool after(u32 a, u32 b) {
  return static_cast<i32>(a - b) > 0;
}

}  // namespace

u8 byte_of(u32 connection, bool from_client, u64 at) {
  return static_cast<u8>((connection * 131u + (from_client ? 7 : 0) + at * 29) ^ at >> 8);
}

TcpEnd::TcpEnd(Events& events, Connection& c, bool is_client, Endpoint far, Send send)
    : events_(events),
      c_(c),
      is_client_(is_client),
      near_(is_client              ? c.client
            : c.listener.port != 0 ? c.listener
                                   : c.server),
      far_(far),
      send_(std::move(send)),
      start_(is_client ? c.client_start : c.server_start),
      far_start_(is_client ? c.server_start : c.client_start) {}

void TcpEnd::set_window(u32 window, int scale) {
  window_ = window;
  scale_ = scale;
}

void TcpEnd::set_link(u32 mtu, bool offers) {
  segment_max_ = mtu - 40;
  mss_ = offers ? static_cast<int>(segment_max_) : -1;
}

void TcpEnd::connect() {
  pump();
}

void TcpEnd::give(u32 bytes) {
  if (finish_) return;
  queued_ += bytes;
  pump();
}

void TcpEnd::finish() {
  finish_ = true;
  pump();
}

void TcpEnd::reset() {
  if (dead_) return;
  c_.ended = dead_ = true;
  send_segment(sent_max_, 0, seen_far_ ? kRst | kAck : kRst);
}

void TcpEnd::send_segment(u64 from, u32 length, u8 flags) {
  Datagram d;
  d.protocol = kTcp;
  d.source = near_.address;
  d.source_port = near_.port;
  d.destination = far_.address;
  d.destination_port = far_.port;
  d.dont_fragment = true;
  d.sequence = start_ + static_cast<u32>(from);
  d.acknowledgment = flags & kAck ? next_expected() : 0;
  d.flags = flags;
  const bool scaled = scale_ >= 0 && (far_scale_ >= 0) && !(flags & kSyn);
  d.window = static_cast<u16>(std::min(window_ >> (scaled ? scale_ : 0), 65535u));
  if (flags & kSyn) d.mss = mss_;
  if (flags & kSyn) d.scale = is_client_ || far_scale_ >= 0 ? scale_ : -1;
  d.payload.resize(length);
  for (u32 i = 0; i < length; ++i) d.payload[i] = byte_of(c_.number, is_client_, from - 1 + i);
  Note note;
  note.honest = true;
  note.established = open_;
  note.client = c_.client;
  note.listener = c_.listener;
  note.ended = &c_.ended;
  note.fits = told_;
  send_(d, note);
}

void TcpEnd::acknowledge() {
  if (!dead_) send_segment(sent_max_, 0, kAck);
}

// Sends what the window lets go.
void TcpEnd::pump() {
  if (dead_) return;
  if (sent_ == 0) {
    sent_ = 1;
    sent_max_ = std::max<u64>(sent_max_, 1);
    send_segment(0, 0, seen_far_ ? kSyn | kAck : kSyn);
    arm();
  }
  const u64 room = acknowledged_ + far_window_;
  while (open_ && sent_ < queued_ + 1 && sent_ < room) {
    const u64 length = std::min({queued_ + 1 - sent_, u64{segment_max_}, room - sent_});
    const u64 from = sent_;
    sent_ += length;
    sent_max_ = std::max(sent_max_, sent_);
    send_segment(from, static_cast<u32>(length), kAck);
    arm();
  }
  if (open_ && finish_ && sent_ == queued_ + 1) {
    sent_ = queued_ + 2;
    sent_max_ = std::max(sent_max_, sent_);
    c_.fin[is_client_ ? 0 : 1] = true;
    if (c_.fin[0] && c_.fin[1]) c_.ended = true;
    send_segment(queued_ + 1, 0, kFin | kAck);
    arm();
  }
}

void TcpEnd::arm() {
  const u64 armed = ++armed_;
  events_.after((kSecond / 2) << std::min(tries_, 6u), [this, armed] { on_timer(armed); });
}

void TcpEnd::on_timer(u64 armed) {
  if (armed != armed_ || dead_ || acknowledged_ == sent_max_) return;
  if (++tries_ > kTriesMax) {
    if (!c_.ended) c_.given_up = true;
    dead_ = c_.ended = true;
    return;
  }
  resending_ = true;
  sent_ = acknowledged_;  // everything that may have been lost
  pump();
}

void TcpEnd::receive(const Datagram& d) {
  if (dead_) return;
  if (d.flags & kRst) {
    const bool answers_syn = !seen_far_ && (d.flags & kAck) && d.acknowledgment == next_sequence();
    if (d.sequence == next_expected() || answers_syn)
      dead_ = c_.ended = true;
    else if (open_)
      acknowledge();  // RFC 5961 section 3.2
    return;
  }
  if (d.flags & kSyn) {
    if (open_) return acknowledge();  // section 4
    if (d.sequence != far_start_ || (is_client_ && !(d.flags & kAck))) return;
    seen_far_ = true;
    far_scale_ = d.scale;
    told_ = d.mss >= 0;
    if (told_) set_segment_max(static_cast<u32>(d.mss));
    if (!is_client_) {
      sent_ = 0;  // again, if this one came again
      far_window_ = d.window;
      return pump();
    }
  } else if (!seen_far_) {
    return;
  }
  if (!(d.flags & kAck)) return;
  const u32 newly = d.acknowledgment - (start_ + static_cast<u32>(acknowledged_));
  if (newly > sent_max_ - acknowledged_) {
    if (static_cast<i32>(newly) > 0) acknowledge();  // of what was never sent: section 5
    if (static_cast<i32>(newly) > 0 || after(next_expected(), d.sequence)) return;
  } else if (newly != 0) {
    acknowledged_ += newly;
    sent_ = std::max(sent_, acknowledged_);
    resending_ = acknowledged_ != sent_max_ && resending_;
    tries_ = 0;
    arm();
  }
  const bool first = !open_;
  if (acknowledged_ >= 1) open_ = true;
  const bool scaled = scale_ >= 0 && far_scale_ >= 0 && !(d.flags & kSyn);  // RFC 7323 section 2.2
  const u64 window = u64{d.window} << (scaled ? far_scale_ : 0);
  if (d.sequence == next_expected() || first) far_window_ = std::max<u64>(window, 1);
  take_data(d);
  if (first && is_client_) acknowledge();
  pump();
}

void TcpEnd::take_data(const Datagram& d) {
  if (d.payload.empty() && !(d.flags & kFin)) return;
  const u32 expected = next_expected();
  const u32 skip = expected - d.sequence;  // what has come before
  if (!after(d.sequence, expected) && !far_done_ && skip <= d.payload.size()) {
    for (std::size_t i = skip; i < d.payload.size(); ++i, ++received_)
      require(d.payload[i] == byte_of(c_.number, !is_client_, received_),
              Invariant::reply_reaches_its_host, [&] {
                return std::string("connection " + std::to_string(c_.number) +
                                   " got a wrong byte at " + std::to_string(received_));
              });
    if (d.flags & kFin) far_done_ = 1;
  }
  acknowledge();
}

}  // namespace masq::sim
