// The datapath in user space: the engine on the tables of user_tables.h, with a packet socket on
// each interface, in one thread of masqd. For machines and containers that let no BPF programs be
// loaded.
//
// What passes is what the engine says, as in the kernel programs. What differs:
//
//   * it lives and dies with masqd: while that is dead nothing is forwarded. Flows are kept, and
//     the next masqd goes on with them;
//   * the kernel's stack gets a copy of every frame, and is kept from answering by nftables rules
//     (put_on_guard in guard.h), not by us. What rules refuse of the gateway's own packets is
//     stopped in the same way (own_rules.h);
//   * the gateway's own packets do not pass through the engine: they have no mappings. A program of
//     the gateway that opens a port which a mapping has already gets in that mapping's way.
//
// If masqd died while it changed the tables, they may contradict themselves. The next one checks
// all of it (engine/verify.h) and begins anew if so: then the flows are lost, and it says so.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "engine/engine.h"
#include "gateway/kernel_answers.h"
#include "gateway/neighbours.h"
#include "gateway/netlink.h"
#include "gateway/packet_port.h"
#include "gateway/user_tables.h"
#include "slow/slow_path.h"

namespace masq {

class UserDatapath final : public UserTables {
 public:
  // With a table for `settings.flows_max` flows. Nothing passes before the first interface.
  static Result<std::unique_ptr<UserDatapath>> make(const Settings& settings);
  // On the tables that another masqd has left; `damaged` if they had to be emptied.
  static Result<std::unique_ptr<UserDatapath>> take_over(const Settings& settings, bool& damaged);
  ~UserDatapath() override;

  // From now on packets that come in on this link are carried; again for a link that is known.
  Status carry(const Link& link);
  // No longer those of any link but these.
  void keep_only(const std::set<u32>& ifindexes);

  Status set_own_addresses(const OwnAddresses& by_importance) override;
  // Begins to work: packets, expiry, all.
  Status start_sweeper() override;

 private:
  explicit UserDatapath(UserMemory memory, const Settings* fresh);

  EngineAnswers answers();
  Status open_questions();
  void work();
  void take_batch(PacketPort& port);
  void pass(PacketPort& port, PortFrame& frame);
  void send(u32 header_length, PortFrame& frame, const Outcome& outcome);
  void take_back(const u8* bytes, u32 length);
  void send_waiting(const Neighbours::NextHop& next_hop);
  void fill_link_header(PacketPort& to, PortFrame& frame, const u8* hardware_address);
  void flush();
  void sweep(u64 now_ns);
  void listen_to(int fd, u64 what);

  // The thread waits for whoever wants to change something between two batches.
  class Turn {
   public:
    explicit Turn(UserDatapath& datapath);
    ~Turn();

   private:
    UserDatapath& datapath_;
  };

  Engine engine_;
  std::optional<KernelAnswers> answers_;
  std::optional<Neighbours> neighbours_;
  std::map<u32, PacketPort> ports_;
  FrameBuffers buffers_;
  SlowPath slow_path_;
  std::unique_ptr<u8[]> slow_buffer_;  // for one frame that comes back from it
  Fd events_, wake_;
  u64 now_ns_ = 0;
  u64 swept_ns_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::atomic<u32> waiting_ = 0;
  std::atomic<bool> stop_ = false;
};

}  // namespace masq
