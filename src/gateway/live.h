// The live gateway for `masq explain`: a copy of its tables, and answers of the kernel that it runs
// on. Nothing here writes to anything that the gateway uses.
//
// The copy is not of one moment: while packets pass, a flow that is being made may be in it in
// part. Then the core takes it for one that is not there, as it may at any time.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "gateway/any_datapath.h"
#include "gateway/fd.h"
#include "gateway/netlink.h"

namespace masq {

// A copy of the tables. It takes as much memory as the used parts of them.
class Snapshot {
 public:
  static Result<Snapshot> take(const AnyDatapath& datapath);

  const Tables& tables() const { return tables_; }

 private:
  Mapping memory_;
  Tables tables_{};
};

// Puts the core's questions to the kernel, in the words of whoever carries the packets, so that the
// answers are the same. Where programs in the kernel do, by a program that is run on a test packet;
// where masqd does, by netlink.
class Questions {
 public:
  // Routes, sockets and addresses as seen from this network namespace.
  static Result<std::unique_ptr<Questions>> open(const AnyDatapath& datapath,
                                                 const NetworkState& network);
  virtual ~Questions() = default;

  // The core's questions; the answers are valid as long as `this` and the datapath.
  EngineAnswers answers();
  // Sockets that are bound to an interface are looked for by this one.
  virtual void set_interface(u32) {}

  virtual EngineRoute route(Ipv4 destination, Ipv4 source) = 0;
  virtual bool has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) = 0;
  // What this address is for the gateway, if it is one of its own.
  virtual std::optional<bpf::OwnAddress> own_address(Ipv4 address) const = 0;

  // The sentence that says why a question was not answered; empty if all were.
  const std::string& failure() const { return failure_; }

 protected:
  std::string failure_;
};

}  // namespace masq
