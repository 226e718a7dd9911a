// What must be known to undo what was done, kept in /run/masq/net-<inode of the network
// namespace>/:
//
//   lock         held by the daemon while it lives; its process number is inside, and whether it is
//                ready
//   state.json   sysctls as they were, qdiscs that masq made, the holder's process number, the
//                gateway's interfaces
//   config.toml  the configuration of the running gateway
//   config.<process>.toml  that of a `masq up` which goes on
//   log          what the daemon has to say
//   rules.json, forwards.json, ...   rule_keeper.h, forward_keeper.h
//   tables       flows and settings of the datapath in user space (user_tables.h)
//
// Beside that, with the option to take over streams, /var/lib/masq/secret outlives the gateway: the
// choice of external ports follows from it, and open connections must get the same ones again.
//
// One folder a namespace, so that several gateways live on one machine.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

// A link as it was last seen: its index alone is given to a stranger when it has gone.
struct KnownLink {
  u32 ifindex = 0;
  std::string name, kind, hardware_address;
};

// The gateway's interfaces, by name.
struct OurInterfaces {
  std::vector<std::string> external, internal;
  std::vector<std::string> closed;         // found to be internal, until a default route led there
  bool internal_found = false;             // nobody has named the internal ones
  std::map<std::string, KnownLink> links;  // those that are there, also under another name by now
};

struct SavedState {
  std::map<std::string, std::string> sysctls;  // path -> value before masq
  std::set<std::string> qdiscs;                // interfaces on which masq made the clsact qdisc
  int holder = 0;                              // process that keeps the maps
  bool ipv6_left = false;                      // IPv6 is not blocked, since it was forwarded before
  OurInterfaces interfaces;
  bool of_this_life = false;  // saved in this boot and this very network namespace
};

// What no other network namespace has, or will have before the next boot. 0 on kernels before 5.14,
// which do not tell.
u64 namespace_cookie();
std::string boot_id();

std::string run_folder();
std::string run_file(const std::string& name);

Status make_run_folder();
// Nothing saved is an empty state; something that cannot be read is an error.
Result<SavedState> load_state();
Status save_state(const SavedState& state);
void remove_run_folder();

// The daemon's lock. Another's process number if it is taken.
struct DaemonLock {
  Fd fd;
  int owner = 0;  // who holds it, if not we
};
// Waits for whoever has it without being masqd, such as a `masq down`: 10 seconds at most. `held`
// is a descriptor by which this process has had it before it began anew, or -1.
Result<DaemonLock> take_daemon_lock(int held = -1);
Error held_by_another();
// False if somebody has removed it: then it keeps nobody out.
bool is_in_place(const DaemonLock& lock);
// From now on packets are translated.
Status note_ready(const DaemonLock& lock);
// The living daemon's process number; 0 if nobody has the lock, and -1 if somebody else has it.
int daemon_process();
// The same, but waits for one that has been killed and is only not gone yet (5 seconds at most),
// for one that is starting (20 seconds at most), and for others (10 seconds at most).
int lasting_daemon_process();

// Makes `secret` the one that is kept on this machine, or keeps it if there is none yet.
Status keep_secret(u64 (&secret)[2]);

std::string read_sysctl(const std::string& path);  // empty if it cannot be read
// The path of what is said for one interface.
std::string sysctl_of(const std::string& link, const char* name);
bool machine_forwards();
bool ipv6_is_forwarded();
// Writes a sysctl and remembers what was there, the first time.
Status set_sysctl(SavedState& state, const std::string& path, const std::string& value);
void restore_sysctls(const SavedState& state);

}  // namespace masq
