// Makes the file system, copies /proc/sys into it, and finds what has been written.
#include "compat/view_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "compat/old_switches.h"
#include "compat/stage.h"

namespace masq {
namespace {

constexpr int kDepthMost = 16;  // folders in folders; /proc/sys has 6

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

Fd open_folder(int at, const std::string& path) {
  return Fd(openat(at, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

// The names in a folder, without `.` and `..`.
std::vector<std::string> names_in(int folder) {
  std::vector<std::string> names;
  int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  Folder open(copy >= 0 ? fdopendir(copy) : nullptr);
  if (!open && copy >= 0) close(copy);
  while (open != nullptr) {
    const dirent* entry = readdir(open.get());
    if (entry == nullptr) break;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// With this mode, whatever the umask is.
bool make_folder(int root, const std::string& path, mode_t mode) {
  return mkdirat(root, path.c_str(), mode) == 0 && fchmodat(root, path.c_str(), mode, 0) == 0;
}

Status make_folders(int root, const std::string& path) {
  for (std::size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
    if (!make_folder(root, path.substr(0, at), 0755) && errno != EEXIST)
      return error("The script's view cannot be made: {} ({}).", path, strerror(errno));
  return Done{};
}

bool write_file(int root, const std::string& path, const std::string& text, mode_t mode) {
  Fd file(openat(root, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  return file && write_all(file.get(), text) && fchmod(file.get(), mode) == 0;
}

Status put(int root, const std::string& path, const std::string& text, mode_t mode) {
  Status made = make_folders(root, path);
  if (!made) return made;
  if (!write_file(root, path, text, mode))
    return error("The script's view cannot be made: {} ({}).", path, strerror(errno));
  return Done{};
}

// Nobody has written to it.
bool mark_unwritten(int folder, const std::string& name) {
  const timespec never[2] = {{0, 0}, {0, 0}};
  return utimensat(folder, name.c_str(), never, AT_SYMLINK_NOFOLLOW) == 0;
}

class SwitchCopy {
 public:
  explicit SwitchCopy(std::size_t most) : most_(most) {}

  Status copy(int from, int to, const std::string& path, int depth) {
    struct stat here {};
    if (fstat(from, &here) != 0 || depth > kDepthMost) return Done{};
    if (depth == 0) device_ = here.st_dev;
    for (const std::string& name : names_in(from)) {
      struct stat entry {};
      if (fstatat(from, name.c_str(), &entry, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) continue;
      std::string whole = path.empty() ? name : path + "/" + name;
      Status done = S_ISDIR(entry.st_mode) ? copy_folder(from, to, name, whole, entry, depth)
                                           : copy_file(from, to, name, entry);
      if (!done) return done;
    }
    return Done{};
  }

 private:
  Status copy_folder(int from, int to, const std::string& name, const std::string& whole,
                     const struct stat& entry, int depth) {
    if (!make_folder(to, name, 0755))
      return error("/proc/sys/{} cannot be copied ({}).", whole, strerror(errno));
    bool is_shown = std::any_of(std::begin(kShownReadOnly), std::end(kShownReadOnly),
                                [&](const char* each) { return whole == each; });
    // Nor what is mounted below, such as binfmt_misc: an automounter would mount it for us.
    if (is_shown || entry.st_dev != device_) return Done{};
    Fd inner_from = open_folder(from, name), inner_to = open_folder(to, name);
    if (!inner_from) return Done{};
    if (!inner_to) return error("/proc/sys/{} cannot be copied ({}).", whole, strerror(errno));
    return copy(inner_from.get(), inner_to.get(), whole, depth + 1);
  }

  Status copy_file(int from, int to, const std::string& name, const struct stat& entry) {
    if (copied_++ == most_)
      return error(
          "/proc/sys has more files than a script's view copies ({}); this machine has too many "
          "interfaces for it.",
          most_);
    std::string text;
    if ((entry.st_mode & 0444) != 0) {
      Fd file(openat(from, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
      if (file) text = read_all(file.get(), kSwitchBytesMost);
    }
    if (!write_file(to, name, text, entry.st_mode & 0777) || !mark_unwritten(to, name))
      return error("/proc/sys cannot be copied: {} ({}).", name, strerror(errno));
    return Done{};
  }

  std::size_t most_, copied_ = 0;
  dev_t device_ = 0;
};

Status find_written(int folder, const std::string& path, int depth,
                    std::vector<WrittenSwitch>& found) {
  for (const std::string& name : names_in(folder)) {
    struct stat entry {};
    if (fstatat(folder, name.c_str(), &entry, AT_SYMLINK_NOFOLLOW) != 0) continue;
    std::string whole = path.empty() ? name : path + "/" + name;
    if (S_ISDIR(entry.st_mode) && depth < kDepthMost) {
      Fd inner = open_folder(folder, name);
      if (!inner) return error("/proc/sys/{} of the script cannot be read.", whole);
      Status done = find_written(inner.get(), whole, depth + 1, found);
      if (!done) return done;
    } else if (S_ISREG(entry.st_mode) &&
               (entry.st_mtim.tv_sec != 0 || entry.st_mtim.tv_nsec != 0)) {
      Fd file(openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      if (!file) return error("/proc/sys/{} of the script cannot be read.", whole);
      found.push_back({whole, read_all(file.get(), kSwitchBytesMost)});
    }
  }
  return Done{};
}

Error not_mounted(const char* step) {
  int why = errno;
  if (why == EPERM)
    return error(
        "A script needs a view of its own, and this process may not make one ({}: {}): that takes "
        "root with the right CAP_SYS_ADMIN, and in a container that mounts are allowed.",
        step, strerror(why));
  return error("A view of its own for the script cannot be made ({}: {}).", step, strerror(why));
}

}  // namespace

Result<ViewStore> ViewStore::make(const StoreContents& contents) {
  ViewStore store;
  Fd context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context) return not_mounted("fsopen");
  std::string size = std::to_string(kStoreBytes);
  // Files, not bytes, are what /proc/sys needs.
  if (fsconfig(context.get(), FSCONFIG_SET_STRING, "size", size.c_str(), 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_SET_STRING, "mode", "0755", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_SET_STRING, "nr_inodes", "400000", 0) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return not_mounted("fsconfig");
  store.root_ = Fd(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  if (!store.root_) return not_mounted("fsmount");
  Status filled = store.fill(contents);
  if (!filled) return filled.error();
  return store;
}

Status ViewStore::fill(const StoreContents& contents) const {
  int root = root_.get();
  for (const char* name : {kStoreSwitches, kStoreNet, kStorePrograms, kStoreLinks, kStoreScript})
    if (!make_folder(root, name, 0755)) return not_mounted(name);
  if (!make_folder(root, kStoreStage, 0700)) return not_mounted(kStoreStage);
  for (const auto& [name, text] : contents.stage) {
    Status done = put(root, fmt::format("{}/{}", kStoreStage, name), text, 0600);
    if (!done) return done;
  }
  if (Status done = put(root, fmt::format("{}/{}", kStoreStage, kStageWhole), "", 0600); !done)
    return done;
  for (const auto& [name, text] : contents.net) {
    Status done = put(root, fmt::format("{}/{}", kStoreNet, name), text, 0444);
    if (!done) return done;
  }
  // What the kernel has to say there today; each process sees its own network namespace.
  if (Fd real(open("/proc/self/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC)); real)
    for (const std::string& name : names_in(real.get()))
      if (symlinkat(("/proc/self/net/" + name).c_str(), root,
                    fmt::format("{}/{}", kStoreNet, name).c_str()) != 0 &&
          errno != EEXIST)
        return not_mounted(name.c_str());
  if (Status done = put(root, fmt::format("{}/{}", kStoreScript, contents.script_name),
                        contents.script, 0755);
      !done)
    return done;

  Fd from(open("/proc/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Fd to = open_folder(root, kStoreSwitches);
  if (!from || !to) return error("/proc/sys cannot be read ({}).", strerror(errno));
  Status copied = SwitchCopy(contents.switches_most).copy(from.get(), to.get(), "", 0);
  if (!copied) return copied;
  std::map<std::string, std::string> values;
  for (const KnownSwitch* known : switches_with_own_value()) values[known->name] = known->at_first;
  for (const auto& [name, value] : contents.switches) values[name] = value;
  for (const auto& [name, value] : values) {
    Status done = put(to.get(), name, value + "\n", 0644);
    if (!done) return done;
    if (!mark_unwritten(to.get(), name)) return not_mounted(name.c_str());
  }
  return Done{};
}

Status ViewStore::add_place(const std::string& path) const {
  return put(root_.get(), path, "", 0755);
}

Status ViewStore::add_link(const std::string& path, const std::string& target) const {
  if (symlinkat(target.c_str(), root_.get(), path.c_str()) != 0)
    return error("The script's view cannot be made: {} ({}).", path, strerror(errno));
  return Done{};
}

Result<Fd> ViewStore::folder(const std::string& path) const {
  Fd found = open_folder(root_.get(), path);
  if (!found) return error("{} of the script's view has gone ({}).", path, strerror(errno));
  return found;
}

Result<std::vector<WrittenSwitch>> ViewStore::written() const {
  Result<Fd> switches = folder(kStoreSwitches);
  if (!switches) return switches.error();
  std::vector<WrittenSwitch> found;
  Status done = find_written(switches->get(), "", 0, found);
  if (!done) return done.error();
  return found;
}

}  // namespace masq
