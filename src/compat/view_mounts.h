// The view: what a script sees instead of the real files, in a mount namespace of its own.
//
//   /sbin, /usr/sbin, /usr/local/sbin   as they are, and the old commands beside what is there
//   /bin/lsmod and its like             the same stand-ins, where PATH would lead past them
//   /bin/sh                             bash, if there is one: what it was when such scripts were
//                                       written, and they use it
//   /proc/sys                           the copy of the store
//   /proc/net                           what is there, and the files of masquerading
//   the script                          its copy without carriage returns
//   /sbin/.masq                         the store (compat/view_store.h); /sbin/.masq/stage the
//   stage
//
// A folder that gets new names is covered by a file system in memory in which each file of the
// folder is mounted, under its name. That needs neither overlayfs, which a kernel or a container
// may lack, nor one byte in the real folder. It cannot be written to: what a script installs there
// would be lost. The covers are made in the namespace of the calling process, which must be a
// private one; they are gone with its last process.
//
// /proc/net is a link to a folder that each process has of its own, so no mount can change it. The
// link itself gets another link mounted on it, which leads to a folder of links.
//
// What can go wrong: mounts are not allowed (containers without the right CAP_SYS_ADMIN, or with
// AppArmor); a kernel before Linux 5.2. Then there is a sentence, and the script does not begin.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"

namespace masq {

inline constexpr std::size_t kFolderEntriesMost = 20000;  // each takes a mount, of 100000 at most

// Where the old commands lay.
struct OldCommand {
  const char* folder;
  const char* name;
  bool is_program;  // a program of masq's of the same name, not the stand-in itself
};
const std::vector<OldCommand>& old_commands();

// The folder that is /sbin here.
std::string sbin_folder();
std::string store_in_view();  // its path in the view
std::string stage_in_view();

struct ViewPlan {
  int store = -1;           // of ViewStore
  std::string stand_in;     // masq-shim
  std::string programs;     // the folder with ipchains and the others; what is missing says so
  std::string script;       // where it lies, without links
  std::string script_name;  // in the store
  std::string working_folder;
};

// The calling process, and nobody else, sees the view from now on.
Status enter_view(const ViewPlan& plan);

}  // namespace masq
