// What the datapath in user space asks the kernel while packets wait: by which way an address is
// reached, and whether a program of the gateway has a port. One question, one answer, a few
// microseconds each (rtnetlink and sock_diag).
//
// Answers about ways are kept for a quarter of a second and at most until routes change, as the
// kernel programs keep theirs (bpf/kernel_world.h). Not for several threads.
#pragma once

#include <vector>

#include "engine/engine.h"
#include "gateway/fd.h"
#include "policy/result.h"

namespace masq {

// Whether the kernel tells of sockets is tried with some of our own. `masq explain` leaves that
// out: it opens no port, and masqd has tried.
enum class SocketTrial { made, left_out };

class KernelAnswers {
 public:
  static Result<KernelAnswers> open(SocketTrial trial = SocketTrial::made);

  // As if the packet came from the loopback interface, so that rules which choose by its source
  // hold. Where the kernel's check of sources forbids that question: as if the gateway sent it.
  EngineRoute route(Ipv4 destination, Ipv4 source, Ticks now, u32 generation);

  // core/world.h says what is meant.
  bool port_has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port);

  // Not so once a question got no answer at all; then what was said for it is "no".
  bool answers_all() const { return answers_all_; }

 private:
  struct Cached {
    Ipv4 destination, source;
    Ticks asked;
    u32 generation;
    bool filled;
    EngineRoute route;
  };

  // Does the kernel find a socket that is there?
  bool finds_sockets();
  // 0 or a negative error number.
  int ask_route(Ipv4 destination, Ipv4 source, bool as_forwarded, EngineRoute& route);

  Fd routes_, sockets_;
  u32 loopback_ = 0;
  u32 sequence_ = 0;
  bool answers_all_ = true;
  std::vector<Cached> cache_;
};

}  // namespace masq
