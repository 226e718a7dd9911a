// masq: the command. Starting, ending and looking at the gateway of this network namespace.
//
// Exit codes: 0 done, 1 it did not work, 2 wrong usage. Errors go to standard error as one
// sentence.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/replay.h"
#include "cli/report.h"
#include "gateway/daemon.h"
#include "gateway/gateway.h"
#include "gateway/state.h"
#include "policy/config.h"

namespace masq {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int fail(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return kFailed;
}

int misuse(const std::string& sentence) {
  fmt::print(stderr, "masq: {} See `masq --help`.\n", sentence);
  return kUsage;
}

// masqd lies beside masq, or else in the path.
std::string daemon_path() {
  std::error_code failure;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failure);
  std::filesystem::path beside = self.parent_path() / "masqd";
  return !failure && access(beside.c_str(), X_OK) == 0 ? beside.string() : "masqd";
}

[[noreturn]] void become_daemon(const std::string& config_path, int ready_fd) {
  setsid();
  int nothing = open("/dev/null", O_RDWR);
  int log = open(run_file("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(nothing, STDIN_FILENO);
  dup2(nothing, STDOUT_FILENO);
  dup2(log >= 0 ? log : nothing, STDERR_FILENO);
  int ready = 3;
  if (ready_fd != ready) dup2(ready_fd, ready);
  close_range(static_cast<unsigned>(ready) + 1, ~0u, 0);
  if (chdir("/") != 0) _exit(127);
  std::string path = daemon_path();
  execlp(path.c_str(), "masqd", "--config", config_path.c_str(), "--ready-fd", "3", nullptr);
  std::string why = fmt::format("{}masqd cannot be started ({}).\n", kErrorPrefix, strerror(errno));
  if (write(ready, why.data(), why.size()) < 0) _exit(127);
  _exit(127);
}

enum class Heard { nothing, ready, already };

// Passes on what the starting daemon says, to its last word.
Heard hear(int fd, std::string& why_not) {
  std::string all;
  char buffer[4096];
  ssize_t length;
  while ((length = read(fd, buffer, sizeof buffer)) > 0 || (length < 0 && errno == EINTR))
    if (length > 0) all.append(buffer, static_cast<std::size_t>(length));
  std::istringstream lines(all);
  std::string line;
  Heard heard = Heard::nothing;
  while (std::getline(lines, line)) {
    if (line == kReady)
      heard = Heard::ready;
    else if (line == kAlready)
      heard = Heard::already;
    else if (line.starts_with(kErrorPrefix))
      why_not = line.substr(strlen(kErrorPrefix));
    else
      fmt::print("{}\n", line);
  }
  return heard;
}

// Is there a gateway without a daemon?
bool gateway_is_left_over() {
  Result<NetworkState> network = read_network();
  return network && (!attached_programs(*network).empty() || user_tables_exist());
}

int up(const Config& config) {
  if (geteuid() != 0) return fail("Only root can start the gateway; run masq as root.");
  if (config.datapath == "xdp")
    return fail("The datapath \"xdp\" is not there yet; tc and user are.");
  if (int daemon = lasting_daemon_process(); daemon != 0) {
    fmt::print("masq is running here already (masqd is process {}); nothing is changed.\n", daemon);
    return 0;
  }
  if (Status status = make_run_folder(); !status) return fail(status.error().sentence);
  std::string path = run_file(fmt::format("config.{}.toml", getpid()));
  {
    std::ofstream file(path);
    file << to_toml(config);
    if (!file.flush()) return fail(fmt::format("{} cannot be written.", path));
  }
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return fail("No pipe can be made.");
  fflush(stdout);
  pid_t first = fork();
  if (first == 0) {
    if (fork() == 0) become_daemon(path, pipe_fds[1]);
    _exit(0);
  }
  close(pipe_fds[1]);
  if (first > 0) waitpid(first, nullptr, 0);
  std::string why_not = "masqd ended before it was ready; see " + run_file("log") + ".";
  Heard heard = hear(pipe_fds[0], why_not);
  close(pipe_fds[0]);
  unlink(path.c_str());  // if the daemon has not made it its own
  if (heard == Heard::already) return 0;
  if (heard == Heard::nothing) {
    if (daemon_process() == 0) {
      if (!gateway_is_left_over()) remove_run_folder();
    }
    return fail(why_not);
  }
  Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
  if (!datapath) return fail(datapath.error().sentence);
  nlohmann::json status = status_json(**datapath);
  fmt::print("{}\n", status["translating"].get<bool>()
                         ? "masq is translating."
                         : "masq is up and closed, waiting for an external address.");
  return 0;
}

int down() {
  if (geteuid() != 0) return fail("Only root can end the gateway; run masq as root.");
  Result<std::vector<std::string>> remarks = take_down();
  if (!remarks) return fail(remarks.error().sentence);
  for (const std::string& remark : *remarks) fmt::print("{}\n", remark);
  return 0;
}

int check(const std::string& path) {
  ParsedConfig parsed = load_config(path);
  for (const ConfigMistake& mistake : parsed.mistakes)
    fmt::print(stderr, "{}\n", to_text(path, mistake));
  if (!parsed.mistakes.empty()) return kFailed;
  fmt::print("{} is in order.\n", path);
  return 0;
}

template <class MakeJson, class MakeText>
int show(bool as_json, MakeJson make_json, MakeText make_text) {
  Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
  if (!datapath) return fail(datapath.error().sentence);
  nlohmann::json out = make_json(**datapath);
  if (as_json)
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  else
    fmt::print("{}", make_text(out));
  return 0;
}

// What can be said to `masq up`.
struct UpOptions {
  std::string config_path, filtering, ipv6 = "auto", datapath;
  std::vector<std::string> external, internal, filtering_for;
  u32 flows_max = 0, host_flows = 0, host_ports = 0;
};

void add_options(CLI::App& command, UpOptions& o) {
  command.add_option("--external", o.external, "Interface to the outside; may be given again")
      ->type_name("IF");
  command.add_option("--internal", o.internal, "Interface to the inside; may be given again")
      ->type_name("IF");
  command.add_option("--datapath", o.datapath, "auto, tc (in the kernel) or user (in masqd)")
      ->check(CLI::IsMember({"auto", "tc", "xdp", "user"}));
  command
      .add_option("--filtering", o.filtering,
                  "Who may send to a mapping: apdf (who was asked), adf (any port of such an "
                  "address), eif (everybody)")
      ->check(CLI::IsMember({"apdf", "adf", "eif"}));
  command
      .add_option("--filtering-for", o.filtering_for,
                  "Another filtering for inner hosts, as 192.168.2.4=eif or 192.168.2.0/24=adf; "
                  "may be given again")
      ->type_name("NET=MODE");
  command
      .add_option("--flows-max", o.flows_max, "Flows that the table holds; by memory if not given")
      ->check(CLI::Range(kFlowsMin, kFlowsMax));
  command.add_option("--host-flows", o.host_flows, "Flows per inner host; 0 for no limit");
  command.add_option("--host-ports", o.host_ports, "External ports per inner host; 0 for no limit");
  command.add_option("--ipv6", o.ipv6, "IPv6 between inside and outside: auto, block or leave")
      ->check(CLI::IsMember({"auto", "block", "leave"}));
  command.add_option("--config", o.config_path, "Configuration in TOML; options given here win")
      ->type_name("FILE");
}

int up_with(UpOptions o) {
  Config config;
  // A gateway whose daemon has gone keeps the configuration that it had.
  std::string kept = run_file("config.toml");
  if (o.config_path.empty() && gateway_is_left_over() && access(kept.c_str(), R_OK) == 0)
    o.config_path = kept;
  if (!o.config_path.empty()) {
    ParsedConfig parsed = load_config(o.config_path);
    if (!parsed.mistakes.empty()) return check(o.config_path);
    config = parsed.config;
  }
  if (!o.filtering.empty()) config.filtering = *filtering_named(o.filtering);
  for (const std::string& rule : o.filtering_for) {
    std::size_t equals = rule.find('=');
    std::string mode = equals == std::string::npos ? "" : rule.substr(equals + 1);
    if (Status status = add_filtering_for(config, rule.substr(0, equals), mode); !status)
      return misuse(status.error().sentence);
  }
  if (o.host_flows != 0 || o.host_ports != 0)
    return fail("Limits per inner host are not there yet; only 0, no limit, is.");
  if (!o.external.empty()) config.external = o.external;
  if (!o.internal.empty()) config.internal = o.internal;
  if (!o.datapath.empty()) config.datapath = o.datapath;
  if (o.flows_max != 0) config.flows_max = o.flows_max;
  if (o.ipv6 != "auto") config.ipv6 = o.ipv6 == "block" ? Ipv6Mode::block : Ipv6Mode::leave;
  for (const ConfigMistake& mistake : check_config(config)) return fail(mistake.sentence);
  return up(config);
}

void add_replay_options(CLI::App& command, ReplayOptions& o, std::string& config_path) {
  command.add_option("in", o.in, "The capture to read")->required()->type_name("IN");
  command.add_option("out", o.out, "The capture to write")->required()->type_name("OUT");
  command.add_option("--address", o.address, "External address of the gateway")
      ->required()
      ->type_name("ADDRESS");
  command
      .add_option("--inside", o.inside,
                  "Network inside, such as 192.168.2.0/24; may be given again")
      ->type_name("NETWORK");
  command.add_option("--inner-address", o.inner_address, "The gateway's own address inside")
      ->type_name("ADDRESS");
  command.add_option("--mtu", o.mtu, "Of both sides")->check(CLI::Range(68, 65535));
  command.add_option("--seed", o.seed, "Another one makes other choices of ports");
  command.add_option("--config", config_path, "Configuration in TOML, for its timeouts")
      ->type_name("FILE");
}

int replay(const ReplayOptions& options, const std::string& config_path, bool as_json) {
  Config config;
  if (!config_path.empty()) {
    ParsedConfig parsed = load_config(config_path);
    if (!parsed.mistakes.empty()) return check(config_path);
    config = parsed.config;
  }
  Result<Replay> checked = check_replay(options);
  if (!checked) return misuse(checked.error().sentence);
  Result<nlohmann::json> replayed = run_replay(*checked, config);
  if (!replayed) return fail(replayed.error().sentence);
  if (as_json)
    fmt::print("{}\n", replayed->dump(2));
  else
    fmt::print("{}", replay_text(*replayed));
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app{"masq: many hosts share one address. An IP masquerading gateway."};
  app.require_subcommand(1);
  app.set_version_flag("--version", "masq " MASQ_VERSION);
  UpOptions up_options;
  ReplayOptions replay_options;
  std::string checked, replay_config;
  bool as_json = false;
  CLI::App* up_command = app.add_subcommand("up", "Start the gateway in this network namespace");
  add_options(*up_command, up_options);
  CLI::App* down_command = app.add_subcommand("down", "End the gateway and remove every trace");
  CLI::App* status_command =
      app.add_subcommand("status", "How the gateway is, and what it refused");
  CLI::App* flows_command = app.add_subcommand("flows", "The flows in force");
  CLI::App* mappings_command = app.add_subcommand("mappings", "The mappings in force");
  CLI::App* replay_command =
      app.add_subcommand("replay", "What a gateway would have made of a capture");
  add_replay_options(*replay_command, replay_options, replay_config);
  for (CLI::App* each : {status_command, flows_command, mappings_command, replay_command})
    each->add_flag("--json", as_json, "For programs");
  CLI::App* check_command = app.add_subcommand("check", "Find every mistake in a configuration");
  check_command->add_option("file", checked, "The configuration")->required()->type_name("FILE");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& mistake) {
    if (mistake.get_exit_code() == 0) return app.exit(mistake);
    return misuse(fmt::format("{}.", mistake.what()));
  }
  if (*down_command) return down();
  if (*check_command) return check(checked);
  if (*replay_command) return replay(replay_options, replay_config, as_json);
  if (*status_command) return show(as_json, status_json, status_text);
  if (*flows_command) return show(as_json, flows_json, flows_text);
  if (*mappings_command) return show(as_json, mappings_json, mappings_text);
  return up_with(up_options);
}

}  // namespace
}  // namespace masq

int main(int argc, char** argv) {
  return masq::run(argc, argv);
}
