// The run folder, the lock and the sysctls.
#include "gateway/state.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gateway/powerless.h"

namespace masq {

using nlohmann::json;

namespace {

Error damaged() {
  return error("{} is damaged, so what masq has changed on this machine cannot all be undone.",
               run_file("state.json"));
}

json to_json(const OurInterfaces& ours) {
  json links = json::object();
  for (const auto& [name, link] : ours.links)
    links[name] = {{"ifindex", link.ifindex},
                   {"name", link.name},
                   {"kind", link.kind},
                   {"hardware_address", link.hardware_address}};
  return {{"external", ours.external},
          {"internal", ours.internal},
          {"closed", ours.closed},
          {"internal_found", ours.internal_found},
          {"links", links}};
}

std::string this_life() {
  return fmt::format("{} {}", boot_id(), namespace_cookie());
}

OurInterfaces interfaces_from(const json& saved) {
  using Names = std::vector<std::string>;
  std::map<std::string, KnownLink> links;
  for (const auto& [name, link] : saved.at("links").items())
    links[name] = {link.at("ifindex").get<u32>(), link.at("name").get<std::string>(),
                   link.at("kind").get<std::string>(),
                   link.at("hardware_address").get<std::string>()};
  return {saved.at("external").get<Names>(), saved.at("internal").get<Names>(),
          saved.at("closed").get<Names>(), saved.at("internal_found").get<bool>(), links};
}

}  // namespace

u64 namespace_cookie() {
  Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  u64 cookie = 0;
  socklen_t length = sizeof cookie;
  if (!fd || getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return 0;
  return cookie;
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::string run_folder() {
  struct stat space {};
  if (stat("/proc/self/ns/net", &space) != 0) space.st_ino = 0;
  return fmt::format("/run/masq/net-{}", space.st_ino);
}

std::string run_file(const std::string& name) {
  return run_folder() + "/" + name;
}

Status make_run_folder() {
  std::error_code failure;
  std::filesystem::create_directories(run_folder(), failure);
  if (failure)
    return error("{} cannot be made ({}); run masq as root.", run_folder(), failure.message());
  // For root alone: whoever may open the lock may also hold it.
  chmod("/run/masq", 0700);
  chmod(run_folder().c_str(), 0700);
  return Done{};
}

void remove_run_folder() {
  std::error_code ignored;
  for (const char* name : {"state.json", "state.json.new", "config.toml", "config.toml.new", "log",
                           "tables", "tables.new", "rules.json", "rules.json.new", "rules.lock",
                           "own_rules", "own_rules.new", "forwards.json", "forwards.json.new",
                           "forwards.lock", "own_forwards", "own_forwards.new", "lock"})
    std::filesystem::remove(run_file(name), ignored);
  // Also what a `masq up` that was killed has left for its daemon: config.<process>.toml.
  std::vector<std::filesystem::path> left;
  for (std::filesystem::directory_iterator at(run_folder(), ignored), end; !ignored && at != end;
       at.increment(ignored)) {
    int process = 0;
    if (sscanf(at->path().filename().c_str(), "config.%d.toml", &process) == 1 &&
        kill(process, 0) != 0)
      left.push_back(at->path());
  }
  for (const std::filesystem::path& path : left) std::filesystem::remove(path, ignored);
  std::filesystem::remove(run_folder(), ignored);
  std::filesystem::remove("/run/masq", ignored);  // only if it is empty
}

Status keep_secret(u64 (&secret)[2]) {
  const std::string path = "/var/lib/masq/secret";
  Fd kept(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (kept) {
    struct stat about {};
    u64 read_back[2];
    if (fstat(kept.get(), &about) != 0 || !S_ISREG(about.st_mode) || about.st_uid != 0 ||
        (about.st_mode & 077) != 0 || about.st_size != sizeof read_back ||
        read(kept.get(), read_back, sizeof read_back) != sizeof read_back)
      return error(
          "{} is not what masq has written there (16 bytes that only root may read); remove it, "
          "and "
          "external ports will be chosen anew.",
          path);
    secret[0] = read_back[0];
    secret[1] = read_back[1];
    return Done{};
  }
  auto failed = [&] { return error("{} cannot be kept ({}).", path, strerror(errno)); };
  if (errno != ENOENT) return failed();
  std::error_code ignored;
  std::filesystem::create_directories("/var/lib/masq", ignored);
  const std::string fresh = fmt::format("{}.{}", path, getpid());
  Fd file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  bool written = file && write(file.get(), secret, sizeof secret) == sizeof secret &&
                 fsync(file.get()) == 0 && link(fresh.c_str(), path.c_str()) == 0;
  const bool others = !written && errno == EEXIST;  // another gateway was faster
  Status status = written ? Status{Done{}} : failed();
  unlink(fresh.c_str());
  return others ? keep_secret(secret) : status;
}

// Written by us, but read as if by a stranger.
Result<SavedState> load_state() {
  SavedState state;
  std::ifstream file(run_file("state.json"));
  if (!file) return state;
  try {
    json saved = json::parse(file);
    state.sysctls = saved.at("sysctls").get<std::map<std::string, std::string>>();
    state.qdiscs = saved.at("qdiscs").get<std::set<std::string>>();
    state.holder = saved.at("holder").get<int>();
    state.ipv6_left = saved.at("ipv6_left").get<bool>();
    state.interfaces = interfaces_from(saved.at("interfaces"));
    state.of_this_life = saved.value("life", "") == this_life();
  } catch (const std::exception&) {
    return damaged();
  }
  for (const auto& [path, value] : state.sysctls)
    if (!path.starts_with("net/ipv4/") || path.find("/../") != std::string::npos) return damaged();
  return state;
}

Status save_state(const SavedState& state) {
  json saved = {{"sysctls", state.sysctls},
                {"qdiscs", state.qdiscs},
                {"holder", state.holder},
                {"ipv6_left", state.ipv6_left},
                {"interfaces", to_json(state.interfaces)},
                {"life", this_life()}};
  std::string path = run_file("state.json"), fresh = path + ".new";
  {
    std::ofstream file(fresh);
    file << saved.dump(2) << "\n";
    if (!file.flush()) return error("{} cannot be written ({}).", fresh, strerror(errno));
  }
  if (rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be written ({}).", path, strerror(errno));
  return Done{};
}

namespace {

bool is_file_at(const Fd& fd, const std::string& path) {
  struct stat opened {
  }, there{};
  return fstat(fd.get(), &opened) == 0 && stat(path.c_str(), &there) == 0 &&
         opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
}

// A `masq down` has it for as long as it undoes.
constexpr int kWaitForOthers_ms = 10000;
constexpr int kTurn_ms = 20;
constexpr int kTurnsForOthers = kWaitForOthers_ms / kTurn_ms;

}  // namespace

Error held_by_another() {
  return error("{} has been held for {} s, and not by masqd; `fuser` says by which process.",
               run_file("lock"), kWaitForOthers_ms / 1000);
}

Result<DaemonLock> take_daemon_lock(int held) {
  DaemonLock lock;
  lock.fd = Fd(held);
  if (held >= 0) fcntl(held, F_SETFD, FD_CLOEXEC);
  // Locking what one has locked does no harm, and fails if it is another's after all.
  const bool kept =
      held >= 0 && flock(held, LOCK_EX | LOCK_NB) == 0 && is_file_at(lock.fd, run_file("lock"));
  for (int tries = 0; !kept; ++tries) {
    // Whoever had the lock may have taken the folder away, also between these two.
    if (Status status = make_run_folder(); !status) return status.error();
    lock.fd = Fd(open(run_file("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock.fd && errno != ENOENT)
      return error("{} cannot be opened ({}).", run_file("lock"), strerror(errno));
    fchmod(lock.fd.get(), 0600);  // an older masq may have made it
    if (flock(lock.fd.get(), LOCK_EX | LOCK_NB) == 0) {
      // The file may have been removed, and made anew by others, since it was opened.
      if (is_file_at(lock.fd, run_file("lock"))) break;
    } else if (lock.owner = daemon_process(); lock.owner > 0) {
      return lock;
    }
    // Somebody looks, ends or starts at this moment, or takes the gateway down.
    if (tries == kTurnsForOthers) return held_by_another();
    usleep(kTurn_ms * 1000);
  }
  lock.owner = 0;
  std::string number = fmt::format("{}\n", getpid());
  if (ftruncate(lock.fd.get(), 0) != 0 || lseek(lock.fd.get(), 0, SEEK_SET) != 0 ||
      write(lock.fd.get(), number.data(), number.size()) != static_cast<ssize_t>(number.size()))
    return error("{} cannot be written ({}).", run_file("lock"), strerror(errno));
  return lock;
}

bool is_in_place(const DaemonLock& lock) {
  return is_file_at(lock.fd, run_file("lock"));
}

Status note_ready(const DaemonLock& lock) {
  if (write(lock.fd.get(), "ready\n", 6) == 6) return Done{};
  return error("{} cannot be written ({}).", run_file("lock"), strerror(errno));
}

namespace {

// One whose lock somebody has removed.
int daemon_without_lock() {
  int process = find_powerless("masqd");
  struct stat about {};
  bool ours = process != 0 && stat(fmt::format("/proc/{}", process).c_str(), &about) == 0 &&
              about.st_uid == geteuid();
  return ours ? process : 0;
}

}  // namespace

int daemon_process() {
  Fd fd(open(run_file("lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return daemon_without_lock();
  if (!fd || flock(fd.get(), LOCK_SH | LOCK_NB) == 0) return 0;
  std::ifstream file(run_file("lock"));
  int number = 0;
  // What is written there may be of another life, or of a `masq down`.
  return file >> number && powerless_lives("masqd", number) ? number : -1;
}

namespace {

// Has it been killed, and only not got around to ending yet?
bool is_dying(int process) {
  std::ifstream file(fmt::format("/proc/{}/status", process));
  std::string line;
  bool has_memory = false;
  while (std::getline(file, line)) {
    if (line.starts_with("VmSize:")) has_memory = true;  // given up early on the way out
    // Pending signals, to the process or its thread: bit 8 is SIGKILL.
    if (line.starts_with("ShdPnd:") || line.starts_with("SigPnd:"))
      if (std::stoull(line.substr(7), nullptr, 16) & 0x100) return true;
  }
  return !has_memory;
}

bool is_starting() {
  std::ifstream file(run_file("lock"));
  std::string number, word;
  return !(file >> number >> word);
}

}  // namespace

int lasting_daemon_process() {
  int daemon = daemon_process();
  auto turns = [&] {
    if (daemon < 0) return kTurnsForOthers;
    if (is_dying(daemon)) return 250;
    return is_starting() ? 1000 : 0;
  };
  for (int i = 0; daemon != 0 && i < turns(); ++i) {
    usleep(kTurn_ms * 1000);
    daemon = daemon_process();
  }
  return daemon;
}

std::string read_sysctl(const std::string& path) {
  std::ifstream file("/proc/sys/" + path);
  std::string value;
  std::getline(file, value);
  return value;
}

Status set_sysctl(SavedState& state, const std::string& path, const std::string& value) {
  std::string before = read_sysctl(path);
  if (before == value) return Done{};
  // Saved before it is changed: whenever we are killed, what was there is known.
  if (state.sysctls.emplace(path, before).second)
    if (Status status = save_state(state); !status) return status;
  std::ofstream file("/proc/sys/" + path);
  file << value << "\n";
  if (!file.flush()) return error("/proc/sys/{} cannot be set to {}.", path, value);
  return Done{};
}

void restore_sysctls(const SavedState& state) {
  for (const auto& [path, value] : state.sysctls) {
    std::ofstream file("/proc/sys/" + path);  // an interface that has gone has no sysctl any more
    file << value << "\n";
  }
}

std::string sysctl_of(const std::string& link, const char* name) {
  // A dot in an interface's name (a VLAN) stays as it is in the path.
  return fmt::format("net/ipv4/conf/{}/{}", link, name);
}

bool machine_forwards() {
  return read_sysctl("net/ipv4/ip_forward") == "1";
}

bool ipv6_is_forwarded() {
  return read_sysctl("net/ipv6/conf/all/forwarding") == "1";
}

}  // namespace masq
