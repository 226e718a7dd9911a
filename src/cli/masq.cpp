// masq: the command. Starting, ending and looking at the gateway of this network namespace.
//
// Exit codes: 0 done, 1 it did not work, 2 wrong usage. Errors go to standard error as one
// sentence.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <tuple>

#include "cli/apply_command.h"
#include "cli/doctor.h"
#include "cli/explain.h"
#include "cli/forward_command.h"
#include "cli/replay.h"
#include "cli/report.h"
#include "cli/run_script.h"
#include "gateway/daemon.h"
#include "gateway/gateway.h"
#include "gateway/rights.h"
#include "gateway/rule_keeper.h"
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

// What is wrong with options, in the words of `masq check`.
int misuse(const std::vector<ConfigMistake>& mistakes) {
  for (const ConfigMistake& mistake : mistakes) fmt::print(stderr, "masq: {}\n", mistake.sentence);
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
  if (ready_fd == ready)
    fcntl(ready, F_SETFD, 0);  // otherwise it would be closed by execlp
  else
    dup2(ready_fd, ready);
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

// The last line of the daemon's log: why it has ended without a word to us.
std::string last_words() {
  std::ifstream log(run_file("log"));
  std::string line, last;
  while (std::getline(log, line))
    if (!line.empty()) last = line;
  return last.empty() ? "masqd ended before it was ready, without saying why."
                      : fmt::format("masqd ended before it was ready; its last line is: {}", last);
}

// What the running gateway has otherwise than was asked for; nothing asked for is no difference.
// The timers count only if a file has named them.
std::vector<std::string> differences(const Config& config, bool from_file,
                                     const AnyDatapath& datapath) {
  std::vector<std::string> found;
  const Settings& s = datapath.settings();
  Result<SavedState> state = load_state();
  auto same_names = [](std::vector<std::string> a, std::vector<std::string> b) {
    std::sort(a.begin(), a.end());
    std::sort(b.begin(), b.end());
    return a.empty() || a == b;
  };
  auto differs = [&](bool is, const char* name) {
    if (is) found.push_back(name);
  };
  differs(state && !same_names(config.external, state->interfaces.external), "external");
  differs(state && !same_names(config.internal, state->interfaces.internal), "internal");
  // What runs is what was asked for then, since an address may be away.
  const std::string kept = kept_config();
  const Config then = kept.empty() ? Config{} : load_config(kept).config;
  differs(differ_in_addresses(config, then), "external_addresses");
  differs(from_file && config.forwards != then.forwards, "forwards");
  differs(from_file && rules_text(config) != rules_text(then), "rules");
  differs(config.filtering != then.filtering, "filtering");
  differs(differ_in_filtering_for(config, then), "filtering_for");
  differs(config.datapath != "auto" && config.datapath != datapath.name(), "datapath");
  differs(config.flows_max != 0 && config.flows_max != s.flows_max, "flows_max");
  for (const HostLimit& limit : kHostLimits)
    differs(config.*limit.asked && *(config.*limit.asked) != s.*limit.used, limit.key);
  differs(asks_for_other_ports(config, s), "external_ports");
  differs(asks_for_other_blocks(config, s), "port_blocks");
  differs(config.ipv6 != Ipv6Mode::automatic && (config.ipv6 == Ipv6Mode::block) != s.block_ipv6,
          "ipv6");
  differs((from_file || config.mss_clamp != kMssByMtu) && config.mss_clamp != s.mss_clamp,
          "mss_clamp");
  differs((from_file || !config.reset_replaced) && config.reset_replaced != s.resets_replaced,
          "dead_address");
  differs((from_file || config.udp_loose != kUdpStrict) && config.udp_loose != s.udp_loose,
          "udp_loose");
  differs((from_file || config.take_over_streams) && config.take_over_streams != s.takes_streams,
          "take_over_streams");
  if (!from_file) return found;
  differs(config.udp_refresh_inbound != s.udp_refresh_inbound, "udp_refresh_inbound");
  const std::tuple<u32, Ticks, const char*> timers[] = {
      {config.tcp_established_s, s.tcp_established, "tcp_established_s"},
      {config.tcp_opening_s, s.tcp_opening, "tcp_opening_s"},
      {config.tcp_closing_s, s.tcp_closing, "tcp_closing_s"},
      {config.udp_s, s.udp, "udp_s"},
      {config.dns_s, s.dns, "dns_s"},
      {config.icmp_s, s.icmp, "icmp_s"}};
  for (const auto& [asked, is, name] : timers) differs(ticks_from_s(asked) != is, name);
  return found;
}

std::string keeps_what_it_has(int daemon, const std::vector<std::string>& asked) {
  return fmt::format(
      "masq is running here already (masqd is process {}) and keeps what it has: to change {}, "
      "`masq down` comes first.",
      daemon, fmt::join(asked, ", "));
}

// `masq up` while masqd runs.
int is_running_already(const Config& config, bool from_file, int daemon) {
  Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
  if (!datapath)
    return fail(fmt::format("masqd is process {}, but translates nothing yet.", daemon));
  std::vector<std::string> found = differences(config, from_file, **datapath);
  if (!found.empty()) return fail(keeps_what_it_has(daemon, found));
  fmt::print("masq is running here already (masqd is process {}); nothing is changed.\n", daemon);
  return 0;
}

int up(const Config& config, bool from_file) {
  if (Status status = check_rights("start the gateway"); !status)
    return fail(status.error().sentence);
  if (config.datapath == "xdp")
    return fail("The datapath \"xdp\" is not there yet; tc and user are.");
  const int daemon = lasting_daemon_process();
  if (daemon > 0) return is_running_already(config, from_file, daemon);
  if (daemon < 0) return fail(held_by_another().sentence);
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
  std::string why_not;
  Heard heard = hear(pipe_fds[0], why_not);
  close(pipe_fds[0]);
  unlink(path.c_str());  // if the daemon has not made it its own
  if (heard == Heard::already) return up(config, from_file);  // another was quicker
  if (heard == Heard::nothing) {
    if (why_not.empty()) why_not = last_words();
    Result<NetworkState> network = read_network();
    Result<SavedState> state = load_state();
    bool left_over = !network || gateway_is_there(*network) || (state && state->of_this_life);
    if (daemon_process() == 0 && !left_over) remove_run_folder();
    return fail(why_not);
  }
  Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
  if (!datapath) return fail(datapath.error().sentence);
  fmt::print("{}\n", headline(status_json(**datapath)));
  return 0;
}

int down() {
  if (Status status = check_rights("end the gateway"); !status)
    return fail(status.error().sentence);
  Result<std::vector<std::string>> remarks = take_down();
  if (!remarks) return fail(remarks.error().sentence);
  for (const std::string& remark : *remarks) fmt::print("{}\n", remark);
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

// Of NET=VALUE both; the second is empty if there is no equals sign.
std::pair<std::string, std::string> sides_of(const std::string& text) {
  std::size_t equals = text.find('=');
  return {text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1)};
}

// What can be said to `masq up`.
struct UpOptions {
  std::string config_path, filtering, ipv6, datapath, external_ports;
  std::vector<std::string> external, external_addresses, internal, filtering_for, port_blocks;
  u32 flows_max = 0;
  std::optional<u32> host_limits[std::size(kHostLimits)];
  std::string mss_clamp, dead_address;
  std::optional<u32> udp_loose;
  bool take_over_streams = false;
};

void add_host_options(CLI::App& command, UpOptions& o) {
  for (std::size_t i = 0; i < std::size(kHostLimits); ++i) {
    const HostLimit& limit = kHostLimits[i];
    command.add_option(limit.option, o.host_limits[i], limit.help)
        ->check(CLI::Range(limit.least, limit.most))
        ->type_name("N");
  }
}

void add_options(CLI::App& command, UpOptions& o) {
  command.add_option("--external", o.external, "Interface to the outside; may be given again")
      ->type_name("IF");
  command
      .add_option("--external-address", o.external_addresses,
                  "Address of an external interface that inner hosts share; may be given again; "
                  "the first of each interface if not given")
      ->type_name("ADDRESS");
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
  command
      .add_option("--external-ports", o.external_ports,
                  "External ports for inner hosts, as 20000-29999; all but the gateway's own if "
                  "not given")
      ->type_name("RANGE");
  command
      .add_option("--port-block", o.port_blocks,
                  "External ports for each inner host of a network alone, as 192.168.2.0/24=128; "
                  "may be given again")
      ->type_name("NET=PORTS");
  add_host_options(command, o);
  command
      .add_option(
          "--mss-clamp", o.mss_clamp,
          "What TCP may agree on as segment size: auto (as the interfaces' MTUs allow), off "
          "(anything) or a number of bytes")
      ->type_name("auto|off|N");
  command.add_flag("--take-over-streams", o.take_over_streams,
                   "Go on with TCP connections that inner hosts opened before the gateway began");
  command
      .add_option("--dead-address", o.dead_address,
                  "When another address replaces the external one: end open TCP connections by a "
                  "RST to their inner hosts (reset), or tell nobody (silent)")
      ->check(CLI::IsMember({"reset", "silent"}));
  command
      .add_option("--udp-loose", o.udp_loose,
                  "Everybody outside may send to UDP mappings: 0 of none, 1 of inner ports from "
                  "1024 on, 2 of all")
      ->check(CLI::Range(u32{kUdpStrict}, u32{kUdpLoose}))
      ->type_name("N");
  command.add_option("--ipv6", o.ipv6, "IPv6 between inside and outside: auto, block or leave")
      ->check(CLI::IsMember({"auto", "block", "leave"}));
  command.add_option("--config", o.config_path, "Configuration in TOML; options given here win")
      ->type_name("FILE");
}

// Of options and file; 0, or the exit code of whoever is told what is wrong.
int make_config(UpOptions o, Config& config, bool& from_file) {
  lasting_daemon_process();  // a `masq down` that goes on takes the configuration away
  // A gateway whose daemon has gone keeps the configuration that it had.
  from_file = !o.config_path.empty();
  if (!from_file) o.config_path = kept_config();
  if (!o.config_path.empty()) {
    ParsedConfig parsed = load_config(o.config_path);
    add_target_mistakes(parsed);
    if (!parsed.mistakes.empty()) return check_command(o.config_path);
    config = parsed.config;
  }
  if (!o.filtering.empty()) config.filtering = *filtering_named(o.filtering);
  if (!o.filtering_for.empty()) config.filtering_for.clear();
  for (const std::string& rule : o.filtering_for) {
    const auto [network, mode] = sides_of(rule);
    if (Status status = add_filtering_for(config, network, mode); !status)
      return misuse(status.error().sentence);
  }
  if (!o.port_blocks.empty()) config.port_blocks.clear();
  for (const std::string& blocks : o.port_blocks) {
    const auto [network, ports] = sides_of(blocks);
    if (Status status = add_port_blocks(config, network, ports); !status)
      return misuse(status.error().sentence);
  }
  for (std::size_t i = 0; i < std::size(kHostLimits); ++i)
    if (o.host_limits[i]) config.*kHostLimits[i].asked = o.host_limits[i];
  if (!o.external.empty()) config.external = o.external;
  if (!o.internal.empty()) config.internal = o.internal;
  if (!o.external_addresses.empty()) config.external_addresses.clear();
  for (const std::string& address : o.external_addresses)
    if (Status status = add_external_address(config, address); !status)
      return misuse(status.error().sentence);
  if (!o.datapath.empty()) config.datapath = o.datapath;
  if (o.flows_max != 0) config.flows_max = o.flows_max;
  if (!o.mss_clamp.empty()) {
    std::optional<u16> clamp = mss_clamp_named(o.mss_clamp);
    if (!clamp)
      return misuse(fmt::format("--mss-clamp must be auto, off or a number from {} to {}.", kMssMin,
                                kMssMax));
    config.mss_clamp = *clamp;
  }
  if (!o.dead_address.empty()) config.reset_replaced = o.dead_address == "reset";
  if (o.udp_loose) config.udp_loose = static_cast<UdpLoose>(*o.udp_loose);
  if (o.take_over_streams) config.take_over_streams = true;
  if (!o.external_ports.empty())
    if (Status status = set_external_ports(config, o.external_ports); !status)
      return misuse(status.error().sentence);
  if (!o.ipv6.empty()) config.ipv6 = *ipv6_named(o.ipv6);
  if (auto mistakes = check_config(config); !mistakes.empty()) return misuse(mistakes);
  return 0;
}

int up_with(const UpOptions& o) {
  Config config;
  bool from_file = false;
  if (int code = make_config(o, config, from_file); code != 0) return code;
  return up(config, from_file);
}

void add_doctor_options(CLI::App& command, UpOptions& o) {
  command.add_option("--external", o.external, "As `masq up` would be told")->type_name("IF");
  command.add_option("--internal", o.internal, "Likewise")->type_name("IF");
  command.add_option("--config", o.config_path, "Likewise")->type_name("FILE");
}

int doctor_with(const UpOptions& o, bool as_json) {
  Config config;
  bool from_file = false;
  if (int code = make_config(o, config, from_file); code != 0) return code;
  return doctor(config, as_json);
}

// `words` are what stands behind the options.
int run_script_with(const UpOptions& o, RunScriptOptions script,
                    const std::vector<std::string>& words) {
  if (words.empty()) return misuse("run-script needs the name of a script.");
  if (words[0].starts_with("-"))
    return misuse(fmt::format("run-script has no option {}.", words[0]));
  script.file = words[0];
  script.arguments.assign(words.begin() + 1, words.end());
  Config config;
  bool from_file = false;
  if (int code = make_config(o, config, from_file); code != 0) return code;
  if (from_file && config.rules)
    return misuse("The configuration has rules, and so has the script: one of them is enough.");
  if (const int daemon = daemon_process(); daemon > 0) {
    Result<std::unique_ptr<AnyDatapath>> datapath = running_gateway();
    if (!datapath) return fail(datapath.error().sentence);
    if (const auto found = differences(config, false, **datapath); !found.empty())
      return fail(keeps_what_it_has(daemon, found));
  }
  return run_script_of_rules(script, [&](const StartWith& start) {
    const StagedTimeouts& timeouts = start.timeouts;
    set_timeouts_in(config, timeouts.tcp_s, timeouts.tcp_fin_s, timeouts.udp_s);
    if (!config.external_ports) config.external_ports = start.external_ports;
    if (auto mistakes = check_config(config); !mistakes.empty()) return misuse(mistakes);
    return up(config, from_file);
  });
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
    if (!parsed.mistakes.empty()) return check_command(config_path);
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

// `masq forward ...`; what is behind add and remove is read by forward_from_words.
struct ForwardCommands {
  CLI::App* add = nullptr;
  CLI::App* list = nullptr;
  CLI::App* remove = nullptr;
  bool as_json = false;

  void add_to(CLI::App& command) {
    command.require_subcommand(1);
    add =
        command.add_subcommand("add",
                               "tcp|udp|both PORT[-PORT] TARGET... [--at ADDRESS] [--from NET]..., "
                               "or all TARGET --at ADDRESS; TARGET is ADDRESS[:PORT][@FLOWS]");
    list = command.add_subcommand("list", "All of them, with their numbers");
    list->add_flag("--json", as_json, "For programs");
    remove = command.add_subcommand("remove", "The one of this number, or of these words");
    for (CLI::App* each : {add, remove}) each->prefix_command();
  }
  int run() const {
    if (*add) return forward_add(add->remaining());
    if (*remove) return forward_remove(remove->remaining());
    return forward_list(as_json);
  }
};

int run(int argc, char** argv) {
  CLI::App app{"masq: many hosts share one address. An IP masquerading gateway."};
  app.require_subcommand(1);
  app.set_version_flag("--version", "masq " MASQ_VERSION);
  UpOptions up_options;
  ReplayOptions replay_options;
  std::string replay_config;
  bool as_json = false;
  CLI::App* up_command = app.add_subcommand("up", "Start the gateway in this network namespace");
  add_options(*up_command, up_options);
  CLI::App* script_command = app.add_subcommand(
      "run-script", "Run an old rc.firewall, and put what it says in force as one change");
  RunScriptOptions script_options;
  add_options(*script_command, up_options);
  add_run_script_options(*script_command, script_options);
  CLI::App* down_command = app.add_subcommand("down", "End the gateway and remove every trace");
  CLI::App* status_command =
      app.add_subcommand("status", "How the gateway is, and what it refused");
  CLI::App* flows_command = app.add_subcommand("flows", "The flows in force");
  CLI::App* mappings_command = app.add_subcommand("mappings", "The mappings in force");
  CLI::App* hosts_command =
      app.add_subcommand("hosts", "The inner hosts that have flows, and what each has");
  CLI::App* replay_command =
      app.add_subcommand("replay", "What a gateway would have made of a capture");
  add_replay_options(*replay_command, replay_options, replay_config);
  CLI::App* doctor_command =
      app.add_subcommand("doctor", "What is wrong with this gateway, its machine and its network");
  add_doctor_options(*doctor_command, up_options);
  for (CLI::App* each : {status_command, flows_command, mappings_command, hosts_command,
                         replay_command, doctor_command})
    each->add_flag("--json", as_json, "For programs");
  CLI::App* explain_command = app.add_subcommand(
      "explain", "What the gateway would do with a packet, and why; changes nothing");
  ExplainOptions explain_options;
  add_explain_options(*explain_command, explain_options);
  CLI::App* forward_command =
      app.add_subcommand("forward", "External ports that lead to inner hosts");
  ForwardCommands forward;
  forward.add_to(*forward_command);
  ApplyCommands apply_commands;
  apply_commands.add_to(app);

  auto is_asked_for = [&](const CLI::App* each) { return each->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_asked_for).empty())
    return misuse(fmt::format("There is no command \"{}\".", argv[1]));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& mistake) {
    if (mistake.get_exit_code() == 0) return app.exit(mistake);
    return misuse(fmt::format("{}.", mistake.what()));
  }
  if (*down_command) return down();
  if (*script_command)
    return run_script_with(up_options, script_options, script_command->remaining());
  if (*explain_command) return explain(explain_options);
  if (*doctor_command) return doctor_with(up_options, as_json);
  if (apply_commands.asked()) return apply_commands.run();
  if (*forward_command) return forward.run();
  if (*replay_command) return replay(replay_options, replay_config, as_json);
  if (*status_command) return show(as_json, status_json, status_text);
  if (*flows_command) return show(as_json, flows_json, flows_text);
  if (*hosts_command) return show(as_json, hosts_json, hosts_text);
  if (*mappings_command) return show(as_json, mappings_json, mappings_text);
  return up_with(up_options);
}

}  // namespace
}  // namespace masq

int main(int argc, char** argv) {
  masq::fill_standard_streams();
  // Whoever reads a part of a list must not take it for the whole.
  try {
    int code = masq::run(argc, argv);
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
  } catch (const std::system_error&) {
    // Of fmt::print: errno is what is told below.
  }
  return masq::fail(fmt::format("The output cannot be written ({}).", strerror(errno)));
}
