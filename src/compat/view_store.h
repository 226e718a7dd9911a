// What a script's view is made of, in a file system in memory that nobody else sees: the stage, the
// copy of /proc/sys that the script writes to, what it finds in /proc/net, and its own text without
// carriage returns.
//
// The file system is made without being mounted anywhere (fsmount(2)). Whoever holds the descriptor
// reads it, also after the script's view has gone; with the last descriptor it is gone itself.
//
// The copy of /proc/sys: every file that can be read, with its value. A time of change of zero says
// that nobody has written to it. Folders with files for each interface other than net/ipv4/conf are
// left empty (kShownReadOnly): the view shows the real ones there, and they cannot be written to.
//
// Limits: below. What can go wrong: the right CAP_SYS_ADMIN is missing, or the kernel is older than
// Linux 5.2; then there is a sentence, and nothing has been made.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr u64 kStoreBytes = 256u << 20;        // memory for all of it, if it is used
inline constexpr std::size_t kSwitchesMost = 100000;  // files; a thousand interfaces have 40000
inline constexpr std::size_t kSwitchBytesMost = 64u << 10;

// Folders of the store.
inline constexpr const char* kStoreStage = "stage";
inline constexpr const char* kStoreSwitches = "sys";
inline constexpr const char* kStoreNet = "net";
inline constexpr const char* kStorePrograms = "bin";
inline constexpr const char* kStoreLinks = "links";
inline constexpr const char* kStoreScript = "script";

// Below /proc/sys.
inline constexpr const char* kShownReadOnly[] = {"net/ipv4/neigh", "net/ipv6", "net/mpls"};

struct StoreContents {
  std::map<std::string, std::string> stage;     // its files at the beginning
  std::map<std::string, std::string> net;       // below /proc/net, such as ip_masq/tcp
  std::map<std::string, std::string> switches;  // their values now, where masq knows them better
  std::string script_name, script;
  std::size_t switches_most = kSwitchesMost;
};

// A switch that was written to.
struct WrittenSwitch {
  std::string name;  // below /proc/sys
  std::string text;
};

class ViewStore {
 public:
  static Result<ViewStore> make(const StoreContents& contents);

  int fd() const { return root_.get(); }
  // An empty file that something can be mounted on, or a symbolic link.
  Status add_place(const std::string& path) const;
  Status add_link(const std::string& path, const std::string& target) const;
  Result<Fd> folder(const std::string& path) const;
  Result<std::vector<WrittenSwitch>> written() const;

 private:
  Status fill(const StoreContents& contents) const;
  Fd root_;
};

}  // namespace masq
