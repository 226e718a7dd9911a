// Files in a folder, by its descriptor: it stays readable when the script's view has gone.
#include "compat/stage.h"

#include <sys/file.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

extern char** environ;

namespace masq {
namespace {

using nlohmann::json;

constexpr std::size_t kFileBytesMost = 64u << 20;  // more does not fit into a stage

Fd open_in(int folder, const std::string& name, int flags) {
  return Fd(openat(folder, name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600));
}

std::string line_of_failure(const CommandFailure& failure, std::size_t message_bytes,
                            std::size_t words) {
  json entry;
  entry["command"] = std::vector<std::string>(
      failure.command.begin(), failure.command.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                             words, failure.command.size())));
  entry["exit_code"] = failure.exit_code;
  entry["message"] = failure.message.substr(0, message_bytes);
  return entry.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string read_all(int fd, std::size_t most) {
  std::string text;
  char buffer[16384];
  while (text.size() < most) {
    ssize_t length = read(fd, buffer, sizeof buffer);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    text.append(buffer, static_cast<std::size_t>(length));
  }
  return text;
}

bool write_all(int fd, const std::string& text) {
  std::size_t at = 0;
  while (at < text.size()) {
    ssize_t length = write(fd, text.data() + at, text.size() - at);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return false;
    at += static_cast<std::size_t>(length);
  }
  return true;
}

std::string stage_in_environment() {
  const std::string begin = std::string(kStageVariable) + "=";
  for (char** each = environ; each != nullptr && *each != nullptr; ++each)
    if (std::string(*each).starts_with(begin)) return *each + begin.size();
  return "";
}

std::string timeouts_to_json(const StagedTimeouts& timeouts) {
  const json out = {{"tcp_established_s", timeouts.tcp_s},
                    {"tcp_closing_s", timeouts.tcp_fin_s},
                    {"udp_s", timeouts.udp_s}};
  return out.dump(2) + "\n";
}

Result<StagedTimeouts> timeouts_from_json(const std::string& text) {
  StagedTimeouts timeouts;
  if (text.empty()) return timeouts;
  const json all = json::parse(text, nullptr, false);
  for (const auto& [name, into] :
       {std::pair{"tcp_established_s", &timeouts.tcp_s},
        std::pair{"tcp_closing_s", &timeouts.tcp_fin_s}, std::pair{"udp_s", &timeouts.udp_s}}) {
    if (!all.is_object() || !all.contains(name) || !all[name].is_number_unsigned() ||
        all[name].get<u64>() > 0xffffffff)
      return error("The timeouts of the script cannot be read.");
    *into = all[name].get<u32>();
  }
  return timeouts;
}

Result<Stage> Stage::open(const std::string& path) {
  Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder)
    return error(
        "There is no stage at {} ({}): this command is masq's stand-in for one of the old ones, "
        "and "
        "works in a script that `masq run-script` runs.",
        path, strerror(errno));
  return Stage(std::move(folder));
}

Result<std::string> Stage::read(const std::string& name) const {
  Fd file = open_in(folder_.get(), name, O_RDONLY);
  if (!file && errno == ENOENT) return std::string();
  if (!file) return error("{} of the stage cannot be read ({}).", name, strerror(errno));
  return read_all(file.get(), kFileBytesMost);
}

Status Stage::write(const std::string& name, const std::string& text) const {
  std::string beside = fmt::format(".{}.{}", name, getpid());
  Fd file = open_in(folder_.get(), beside, O_WRONLY | O_CREAT | O_TRUNC);
  if (file && write_all(file.get(), text) &&
      renameat(folder_.get(), beside.c_str(), folder_.get(), name.c_str()) == 0)
    return Done{};
  Error failure = error("{} of the stage cannot be written ({}).", name, strerror(errno));
  unlinkat(folder_.get(), beside.c_str(), 0);
  return failure;
}

Result<Fd> Stage::lock() const {
  Fd file = open_in(folder_.get(), "lock", O_RDWR | O_CREAT);
  while (file && flock(file.get(), LOCK_EX) != 0)
    if (errno != EINTR) return error("The stage cannot be locked ({}).", strerror(errno));
  if (!file) return error("The stage cannot be locked ({}).", strerror(errno));
  return file;
}

Status Stage::add_failure(const CommandFailure& failure) const {
  Status noted = append_failure(failure);
  if (!noted) unlinkat(folder_.get(), kStageWhole, 0);
  return noted;
}

Status Stage::append_failure(const CommandFailure& failure) const {
  Result<Fd> held = lock();
  if (!held) return held.error();
  Fd file = open_in(folder_.get(), kStageFailures, O_WRONLY | O_CREAT | O_APPEND);
  if (!file) return error("The failure cannot be noted ({}).", strerror(errno));
  if (lseek(file.get(), 0, SEEK_END) >= static_cast<off_t>(kFailuresMost * kFailureBytesMost))
    return Done{};  // long noted that the script has failed
  std::string line = line_of_failure(failure, 1024, failure.command.size());
  if (line.size() > kFailureBytesMost) line = line_of_failure(failure, 256, 8);
  if (line.size() > kFailureBytesMost) line = line_of_failure(failure, 256, 0);
  if (!write_all(file.get(), line)) return error("The failure cannot be noted.");
  return Done{};
}

Result<std::vector<CommandFailure>> Stage::failures() const {
  Result<std::string> text = read(kStageFailures);
  if (!text) return text.error();
  std::vector<CommandFailure> all;
  for (std::size_t at = 0; at < text->size() && all.size() < kFailuresMost;) {
    std::size_t end = text->find('\n', at);
    if (end == std::string::npos) end = text->size();
    json entry = json::parse(text->substr(at, end - at), nullptr, false);
    at = end + 1;
    // A line that somebody else has written is a failure too.
    CommandFailure failure{{}, 1, "a note that cannot be read"};
    if (entry.is_object() && entry.contains("command") && entry["command"].is_array()) {
      for (const json& word : entry["command"])
        if (word.is_string()) failure.command.push_back(word);
      if (entry.contains("exit_code") && entry["exit_code"].is_number_integer())
        failure.exit_code = entry["exit_code"];
      if (entry.contains("message") && entry["message"].is_string())
        failure.message = entry["message"];
    }
    all.push_back(std::move(failure));
  }
  if (faccessat(folder_.get(), kStageWhole, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    all.push_back({{}, 1, "a command failed, and there was no room to note which"});
  return all;
}

}  // namespace masq
