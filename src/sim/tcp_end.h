// One end of an honest TCP connection (RFC 9293), as small as it can be while a tracker on the way
// still sees what real ends do: a handshake with window scaling, data within the window, cumulative
// acknowledgments, retransmission with growing patience, half-close, RST, and RFC 5961's care about
// what strangers send.
//
// Limits: what arrives out of order is not kept but sent again; no congestion control; both ends
// know the whole connection, so that the bytes that arrive can be checked.
#pragma once

#include <functional>

#include "sim/datagram.h"
#include "sim/events.h"
#include "sim/ledger.h"

namespace masq::sim {

// What both ends share, and the simulator knows of it.
struct Connection {
  u32 number = 0;
  Endpoint client, server;
  // Of a server that is an inner host too: then `server` is where it shows outside.
  Endpoint listener{};
  u32 link = 0;                            // where the client lives
  u32 client_start = 0, server_start = 0;  // initial sequence numbers
  Nanos started = 0;
  bool fin[2] = {false, false};  // has sent its FIN: client, server
  bool ended = false;            // both have, or one has sent a RST or has given up
  bool given_up = false;
  bool may_fail = false;  // the gateway was allowed to break it
};

class TcpEnd {
 public:
  using Send = std::function<void(const Datagram&, const Note&)>;

  // `far`: where it sends to; for the server's end that is what the gateway made of the client.
  TcpEnd(Events& events, Connection& c, bool is_client, Endpoint far, Send send);

  void set_window(u32 window, int scale);
  void set_link(u32 mtu, bool offers);  // and whether it tells the other end so
  void connect();
  void give(u32 bytes);  // to be sent
  void finish();         // then a FIN
  void reset();          // at once, with a RST
  void receive(const Datagram& d);
  void set_segment_max(u32 bytes) { segment_max_ = bytes < segment_max_ ? bytes : segment_max_; }

  bool is_open() const { return open_; }
  bool is_quiet() const { return acknowledged_ == sent_max_ && !resending_; }
  bool has_finished() const { return finish_ && acknowledged_ > queued_ + 1; }
  u64 received() const { return received_; }
  u64 given() const { return queued_; }
  // The numbers that an exact RST or FIN would have, for attackers to keep away from or be near.
  u32 next_sequence() const { return start_ + static_cast<u32>(sent_max_); }
  u32 next_expected() const { return far_start_ + 1 + static_cast<u32>(received_) + far_done_; }

 private:
  void pump();
  void send_segment(u64 from, u32 length, u8 flags);
  void acknowledge();
  void arm();
  void on_timer(u64 armed);
  void take_data(const Datagram& d);

  Events& events_;
  Connection& c_;
  const bool is_client_;
  const Endpoint near_, far_;
  const Send send_;
  u32 start_, far_start_;
  bool open_ = false, seen_far_ = false, finish_ = false, resending_ = false, dead_ = false;
  u32 far_done_ = 0;  // 1 when the other end's FIN has come
  // Positions in this end's stream: 0 is the SYN, 1 the first byte, queued_ + 1 the FIN.
  u64 queued_ = 0, sent_ = 0, sent_max_ = 0, acknowledged_ = 0;
  u64 received_ = 0;
  u32 window_ = 65535, segment_max_ = 1460;
  int mss_ = -1;
  bool told_ = false;  // how large the segments may be that the other end gets
  u64 far_window_ = 1000;
  int scale_ = -1, far_scale_ = -1;
  u32 tries_ = 0;
  u64 armed_ = 0;
};

// The byte at this place of a connection's stream.
u8 byte_of(u32 connection, bool from_client, u64 at);

}  // namespace masq::sim
