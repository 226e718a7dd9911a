// Mounts, one after another. Sources are opened first, since they may lie in folders that are
// covered, and are named by their descriptors.
#include "compat/view_mounts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "compat/view_store.h"
#include "gateway/fd.h"

namespace masq {
namespace {

constexpr const char* kStoreFolder = ".masq";
constexpr const char* kFoldersOfCommands[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                              "/usr/bin",        "/sbin",          "/bin"};

Error refused(const std::string& what) {
  int why = errno;
  const char* advice =
      why == EPERM || why == EACCES
          ? "; a container must allow mounts, with the right CAP_SYS_ADMIN and without a profile "
            "that forbids them"
          : "";
  return error("The script's view cannot be made: {} ({}){}.", what, strerror(why), advice);
}

std::string by_number(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

std::string real_path(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) != nullptr ? real : "";
}

bool is_link(const std::string& path) {
  struct stat entry {};
  return lstat(path.c_str(), &entry) == 0 && S_ISLNK(entry.st_mode);
}

Status bind(const std::string& from, const std::string& to, unsigned long more = 0) {
  if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND | more, nullptr) != 0) return refused(to);
  return Done{};
}

// A link of the store on a link of the real world. Only the newer calls do not follow them.
Status mount_link(const std::string& link, const std::string& on) {
  Fd tree(
      open_tree(AT_FDCWD, link.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
  if (!tree || move_mount(tree.get(), "", AT_FDCWD, on.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return refused(on);
  return Done{};
}

// Mounts one entry of a covered folder in its cover.
Status show_entry(int folder, int cover, const std::string& path, const std::string& name) {
  struct stat entry {};
  if (fstatat(folder, name.c_str(), &entry, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0)
    return Done{};  // it has gone meanwhile
  std::string place = path + "/" + name;
  if (S_ISLNK(entry.st_mode)) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(folder, name.c_str(), target, sizeof target - 1);
    if (length < 0) return Done{};
    target[length] = '\0';
    if (symlinkat(target, cover, name.c_str()) != 0) return refused(place);
    return Done{};
  }
  if (S_ISDIR(entry.st_mode)) {
    if (mkdirat(cover, name.c_str(), 0755) != 0) return refused(place);
  } else if (Fd made(openat(cover, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
             !made) {
    return refused(place);
  }
  return bind(by_number(folder) + "/" + name, place, S_ISDIR(entry.st_mode) ? MS_REC : 0);
}

// A file system in memory on a folder, in which everything of it is to be seen but `without`.
Status cover(const std::string& path, const std::set<std::string>& without) {
  Fd folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return refused(path);
  std::vector<std::string> names;
  if (DIR* list = fdopendir(fcntl(folder.get(), F_DUPFD_CLOEXEC, 3))) {
    while (const dirent* entry = readdir(list))
      if (std::string name = entry->d_name; name != "." && name != "..") names.push_back(name);
    closedir(list);
  }
  if (names.size() > kFolderEntriesMost)
    return error("{} has more files than can be shown to a script ({}).", path, kFolderEntriesMost);
  if (mount("masq", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") != 0)
    return refused(path);
  Fd top(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!top) return refused(path);
  for (const std::string& name : names) {
    if (without.count(name) != 0) continue;
    Status shown = show_entry(folder.get(), top.get(), path, name);
    if (!shown) return shown;
  }
  return Done{};
}

Status make_read_only(const std::string& path, unsigned long more = 0) {
  if (mount(nullptr, path.c_str(), nullptr,
            MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | more, nullptr) != 0)
    return refused(path);
  return Done{};
}

class View {
 public:
  explicit View(const ViewPlan& plan) : plan_(plan) {}

  Status make() {
    using Step = Status (View::*)();
    for (Step step : {&View::open_sources, &View::cover_folders, &View::add_store,
                      &View::add_commands, &View::replace_elsewhere, &View::replace_shell,
                      &View::replace_proc, &View::close_folders, &View::replace_script})
      if (Status done = (this->*step)(); !done) return done;
    return Done{};
  }

 private:
  Status open_sources() {
    stand_in_ = Fd(open(plan_.stand_in.c_str(), O_PATH | O_CLOEXEC));
    if (!stand_in_) return refused(plan_.stand_in);
    for (const OldCommand& command : old_commands()) {
      if (!command.is_program || programs_.count(command.name) != 0) continue;
      Fd program(open((plan_.programs + "/" + command.name).c_str(), O_PATH | O_CLOEXEC));
      if (program) programs_[command.name] = std::move(program);
    }
    switches_ = Fd(open("/proc/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!switches_) return refused("/proc/sys");
    return Done{};
  }

  // The folders in which names are added. One that is not there is made in a cover of what it would
  // lie in.
  Status cover_folders() {
    for (const OldCommand& command : old_commands()) {
      std::string folder = command.folder;
      if (Status made = provide(folder); !made) return made;
      covered_[real_path(folder)].insert(command.name);
    }
    for (auto& [folder, names] : covered_) {
      // The other stand-ins too, where there is a file of their name.
      for (const OldCommand& command : old_commands())
        if (struct stat entry{}; lstat((folder + "/" + command.name).c_str(), &entry) == 0)
          names.insert(command.name);
      if (Status done = cover(folder, names); !done) return done;
    }
    return Done{};
  }

  Status provide(const std::string& folder) {
    struct stat entry {};
    if (stat(folder.c_str(), &entry) == 0) return Done{};
    std::string above = folder.substr(0, folder.rfind('/'));
    if (above.empty()) return error("There is no {}.", folder);
    if (Status made = provide(above); !made) return made;
    std::string real = real_path(above);
    if (made_.count(real) == 0) {
      if (Status done = cover(real, {}); !done) return done;
      made_.insert(real);
    }
    if (mkdir(folder.c_str(), 0755) != 0) return refused(folder);
    return Done{};
  }

  Status add_store() {
    if (mkdir(store_in_view().c_str(), 0755) != 0) return refused(store_in_view());
    if (move_mount(plan_.store, "", AT_FDCWD, store_in_view().c_str(), MOVE_MOUNT_F_EMPTY_PATH) !=
        0)
      return refused(store_in_view());
    for (const auto& [name, program] : programs_) {
      std::string place = fmt::format("{}/{}/{}", store_in_view(), kStorePrograms, name);
      if (Status done = bind(by_number(program.get()), place); !done) return done;
    }
    return Done{};
  }

  Status add_commands() {
    for (const auto& [folder, names] : covered_)
      for (const std::string& name : names) {
        std::string place = folder + "/" + name;
        if (Fd made(open(place.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755)); !made)
          return refused(place);
        if (Status done = bind(by_number(stand_in_.get()), place); !done) return done;
      }
    return Done{};
  }

  // Where else PATH may lead: /bin/lsmod, which is a link to another program.
  Status replace_elsewhere() {
    std::set<std::string> seen;
    for (const char* each : kFoldersOfCommands) {
      std::string folder = real_path(each);
      if (folder.empty() || covered_.count(folder) != 0 || !seen.insert(folder).second) continue;
      for (const OldCommand& command : old_commands()) {
        std::string place = folder + "/" + command.name;
        struct stat entry {};
        if (lstat(place.c_str(), &entry) != 0) continue;
        Status done = S_ISLNK(entry.st_mode) ? mount_link(link_to(command.name), place)
                                             : bind(by_number(stand_in_.get()), place);
        if (!done) return done;
      }
    }
    return Done{};
  }

  Status replace_shell() {
    std::string shell = real_path("/bin/sh"), bash = real_path("/bin/bash");
    if (bash.empty() || shell.empty() || shell == bash) return Done{};
    return is_link("/bin/sh") ? mount_link(link_to("sh"), "/bin/sh") : bind(bash, "/bin/sh");
  }

  Status replace_proc() {
    std::string copy = fmt::format("{}/{}", store_in_view(), kStoreSwitches);
    if (Status done = bind(copy, "/proc/sys"); !done) return done;
    for (const char* shown : kShownReadOnly) {
      std::string place = std::string("/proc/sys/") + shown;
      struct stat entry {};
      if (fstatat(switches_.get(), shown, &entry, 0) != 0) continue;
      if (Status done = bind(by_number(switches_.get()) + "/" + shown, place); !done) return done;
      // In some containers /proc is so, and a mount of it may not be less strict.
      if (Status done = make_read_only(place, MS_NOEXEC); !done) return done;
    }
    return mount_link(link_to("net"), "/proc/net");
  }

  Status close_folders() {
    for (const auto& [folder, names] : covered_)
      if (Status done = make_read_only(folder); !done) return done;
    for (const std::string& folder : made_)
      if (Status done = make_read_only(folder); !done) return done;
    return Done{};
  }

  Status replace_script() {
    std::string copy = fmt::format("{}/{}/{}", store_in_view(), kStoreScript, plan_.script_name);
    if (Status done = bind(copy, plan_.script); !done) return done;
    // What lies in the folder where the caller stands may be covered now.
    if (chdir(plan_.working_folder.c_str()) != 0) return refused(plan_.working_folder);
    return Done{};
  }

  static std::string link_to(const std::string& name) {
    return fmt::format("{}/{}/{}", store_in_view(), kStoreLinks, name);
  }

  const ViewPlan& plan_;
  Fd stand_in_, switches_;
  std::map<std::string, Fd> programs_;
  std::map<std::string, std::set<std::string>> covered_;  // folder -> our names in it
  std::set<std::string> made_;                            // covered because something is not there
};

}  // namespace

const std::vector<OldCommand>& old_commands() {
  static const std::vector<OldCommand> all = {
      {"/sbin", "depmod", false},
      {"/sbin", "modprobe", false},
      {"/sbin", "insmod", false},
      {"/sbin", "rmmod", false},
      {"/sbin", "lsmod", false},
      {"/sbin", "ifconfig", false},
      {"/sbin", "ipchains", true},
      {"/sbin", "ipchains-save", true},
      {"/sbin", "ipchains-restore", true},
      {"/sbin", "ipfwadm", true},
      {"/usr/sbin", "ipmasqadm", true},
      {"/usr/local/sbin", "ipmasqadm", true},
      {"/usr/local/sbin", "ipportfw", true},
  };
  return all;
}

std::string sbin_folder() {
  std::string real = real_path("/sbin");
  return real.empty() ? "/sbin" : real;
}

std::string store_in_view() {
  return sbin_folder() + "/" + kStoreFolder;
}

std::string stage_in_view() {
  return fmt::format("{}/{}", store_in_view(), kStoreStage);
}

Status enter_view(const ViewPlan& plan) {
  if (unshare(CLONE_NEWNS) != 0) return refused("a mount namespace");
  // Before the first mount: nothing of it may reach anybody else, nor anything of theirs us.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return refused("a private mount namespace");
  return View(plan).make();
}

}  // namespace masq
