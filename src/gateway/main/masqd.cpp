// masqd: the daemon in the foreground. `masq up` starts it in the background. Under the name
// masq-slow it is the slow path.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "gateway/daemon.h"
#include "gateway/fd.h"
#include "gateway/gateway.h"
#include "gateway/slow_process.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{
      "The daemon of masq, an IP masquerading gateway. `masq up` starts it in the background."};
  std::string path;
  int ready_fd = STDERR_FILENO;
  app.add_option("--config", path, "Configuration in TOML; without it the interfaces are found")
      ->type_name("FILE");
  app.add_option("--ready-fd", ready_fd, "Descriptor on which to say when the gateway is up")
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
  return masq::run_daemon(parsed.config, ready_fd);
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
