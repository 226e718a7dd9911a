// masqd: the daemon in the foreground. `masq up` starts it in the background. Under the name
// masq-slow it is the slow path. At SIGUSR1 it begins anew, in the same process.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "gateway/daemon.h"
#include "gateway/fd.h"
#include "gateway/gateway.h"
#include "gateway/slow_process.h"

namespace {

// Where this program lies, or lay until a newer one took its place. `masq up` gives it a bare name.
std::string path_of_program(const char* called_by) {
  if (strchr(called_by, '/') != nullptr) return called_by;
  std::error_code failure;
  std::string path = std::filesystem::read_symlink("/proc/self/exe", failure).string();
  constexpr std::string_view kReplaced = " (deleted)";
  if (path.ends_with(kReplaced)) path.resize(path.size() - kReplaced.size());
  return path;
}

// As the program that lies there now, which may be a newer one. Comes back only if that fails.
void begin_anew(std::string program, std::string path, int lock_fd) {
  fcntl(lock_fd, F_SETFD, 0);
  std::string number = fmt::format("{}", lock_fd);
  char config_option[] = "--config", lock_option[] = "--lock-fd";
  // A file that `masq up` wrote for its daemon alone has gone; what was kept of it is found again.
  const bool has_file = access(path.c_str(), R_OK) == 0;
  std::vector<char*> words{program.data(), lock_option, number.data()};
  if (has_file) words.insert(words.end(), {config_option, path.data()});
  words.push_back(nullptr);
  execv(program.c_str(), words.data());
  fmt::print(stderr, "masqd: {} cannot be started anew ({}).\n", program, strerror(errno));
}

int run(int argc, char** argv) {
  CLI::App app{
      "The daemon of masq, an IP masquerading gateway. `masq up` starts it in the background."};
  std::string path;
  int ready_fd = STDERR_FILENO, lock_fd = -1;
  app.add_option("--config", path, "Configuration in TOML; without it the interfaces are found")
      ->type_name("FILE");
  app.add_option("--ready-fd", ready_fd, "Descriptor on which to say when the gateway is up")
      ->group("");
  app.add_option("--lock-fd", lock_fd, "Descriptor of the lock, of a daemon that begins anew")
      ->group("");
  app.set_version_flag("--version", "masqd " MASQ_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& mistake) {
    if (mistake.get_exit_code() == 0) return app.exit(mistake);
    fmt::print(stderr, "masqd: {}. See `masqd --help`.\n", mistake.what());
    return 2;
  }
  masq::ParsedConfig parsed;
  if (path.empty()) path = masq::kept_config();
  if (!path.empty()) parsed = masq::load_config(path);
  // Started by `masq up`, which has written the file for this daemon alone.
  if (ready_fd != STDERR_FILENO) unlink(path.c_str());
  for (const masq::ConfigMistake& mistake : parsed.mistakes)
    fmt::print(stderr, "masqd: {}\n", masq::to_text(path, mistake));
  if (!parsed.mistakes.empty()) return 1;
  const int code = masq::run_daemon(parsed.config, ready_fd, lock_fd);
  if (code == masq::kBeginAnew) begin_anew(path_of_program(argv[0]), path, lock_fd);
  return code == masq::kBeginAnew ? 1 : code;
}

}  // namespace

int main(int argc, char** argv) {
  if (masq::is_slow_process(argc, argv)) return masq::run_slow_process();
  masq::fill_standard_streams();
  try {
    return run(argc, argv);
  } catch (const std::exception& surprise) {
    fmt::print(stderr, "masqd: this should not have happened: {}.\n", surprise.what());
    return 1;
  }
}
