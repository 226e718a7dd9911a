// The live gateway for `masq explain`: a copy of its tables, and answers of the kernel that it runs
// on. Nothing here writes to anything that the gateway uses.
//
// The copy is not of one moment: while packets pass, a flow that is being made may be in it in
// part. Then the core takes it for one that is not there, as it may at any time.
#pragma once

#include <string>

#include "engine/engine.h"
#include "gateway/datapath.h"

namespace masq {

// A copy of the tables. It takes as much memory as the used parts of them.
class Snapshot {
 public:
  static Result<Snapshot> take(const Datapath& datapath);

  const Tables& tables() const { return tables_; }

 private:
  Mapping memory_;
  Tables tables_{};
};

// Puts the core's questions to the kernel, by a program that is run on a test packet.
class Questions {
 public:
  // Routes and sockets as seen from this network namespace.
  static Result<Questions> open(const Datapath& datapath);

  // The core's questions; the answers are valid as long as `this` and the datapath.
  EngineAnswers answers();
  // Sockets that are bound to an interface are looked for by this one.
  void set_interface(u32 ifindex) { ifindex_ = ifindex; }

  EngineRoute route(Ipv4 destination, Ipv4 source);
  bool has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port);

  // The sentence that says why a question was not answered; empty if all were.
  const std::string& failure() const { return failure_; }

 private:
  explicit Questions(const Datapath& datapath) : datapath_(&datapath) {}
  bool ask(bpf::Question& question);

  const Datapath* datapath_;
  Fd program_;
  u32 loopback_ifindex_ = 1;
  u32 ifindex_ = 0;
  std::string failure_;
};

}  // namespace masq
