// Runs it, says what there is to say, and applies.
#include "cli/run_script.h"

#include <unistd.h>

#include <cerrno>
#include <CLI/CLI.hpp>
#include <cstring>
#include <fstream>

#include "cli/script_effects.h"
#include "gateway/forward_keeper.h"
#include "gateway/gateway.h"
#include "gateway/kept_file.h"
#include "gateway/rights.h"
#include "gateway/running.h"
#include "gateway/state.h"
#include "gateway/timeouts.h"

extern char** environ;

namespace masq {
namespace {

int fail(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return 1;
}

int nothing_applied(const std::string& sentence) {
  return fail(sentence + " Nothing of it is applied.");
}

// Real files of /proc/sys. Those that have been written are put back unless it is kept.
class MachineSwitches {
 public:
  MachineSwitches() = default;
  ~MachineSwitches() {
    for (auto each = before_.rbegin(); each != before_.rend(); ++each)
      write(each->first, each->second);
  }
  MachineSwitches(const MachineSwitches&) = delete;
  MachineSwitches& operator=(const MachineSwitches&) = delete;

  Status set(const std::vector<SwitchChange>& changes) {
    for (const SwitchChange& change : changes) {
      const std::string path = "/proc/sys/" + change.name;
      if (access(path.c_str(), F_OK) != 0)
        return error("{} is not there on this kernel, and the script writes to it.", path);
      const std::string before = plain_value(read_sysctl(change.name));
      if (before == change.value) continue;
      if (!write(change.name, change.value))
        return error("{} cannot be set to {} ({}).", path, change.value, strerror(errno));
      before_.emplace_back(change.name, before);
    }
    return Done{};
  }
  void keep() { before_.clear(); }

 private:
  static bool write(const std::string& name, const std::string& value) {
    std::ofstream file("/proc/sys/" + name);
    file << value << "\n";
    return static_cast<bool>(file.flush());
  }
  std::vector<std::pair<std::string, std::string>> before_;
};

// How things are as the script begins.
struct Before {
  std::unique_ptr<AnyDatapath> datapath;  // null: no gateway is here
  KeptRules in_force;                     // as they are kept
  KeptRules begins;                       // as the script finds them
  Forwards forwards;                      // likewise
};

KeptRules as_after_a_boot() {
  return {RuleSet::empty(), 0, {{kForwardingSwitch, "0"}}, ""};
}

Result<Before> look(const RunScriptOptions& options) {
  Before before;
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  if (gateway_is_there(*network)) {
    Result<std::unique_ptr<AnyDatapath>> running = running_gateway(true);
    if (!running) return running.error();
    before.datapath = std::move(*running);
  }
  Result<KeptRules> kept = load_rules(before.datapath.get());
  if (!kept) return kept.error();
  Result<KeptForwards> forwards = load_forwards(before.datapath.get());
  if (!forwards) return forwards.error();
  if (!options.as_at_boot) before.forwards = forwards->forwards;
  before.in_force = *kept;
  before.begins = before.datapath == nullptr || options.as_at_boot ? as_after_a_boot() : *kept;
  before.begins.configured = kept->configured;
  return before;
}

ScriptOptions script_options(const RunScriptOptions& options, const Before& before) {
  ScriptOptions script;
  script.file = options.file;
  script.arguments = options.arguments;
  for (char** each = environ; *each != nullptr; ++each) script.environment.push_back(*each);
  script.time_limit_s = options.time_limit_s;
  script.programs = folder_of_this_program();
  script.stage[kStageRules] = rules_to_json(before.begins.rules);
  script.stage[kStageForwards] = forwards_to_json(before.forwards);
  if (!before.begins.modules.empty()) script.stage[kStageModules] = before.begins.modules;
  script.switches = before.begins.switches;
  script.switches[kForwardingSwitch] = before.begins.forwards() ? "1" : "0";
  return script;
}

// To the gateway that is here. In this order: what can fail first, and all at once last.
Status apply_to_running(Before& before, const Wanted& wanted) {
  MachineSwitches switches;
  if (Status status = switches.set(wanted.machine); !status) return status;
  Result<RuleChange> change = RuleChange::begin(before.datapath.get());
  if (!change) return change.error();
  if (!same_rules(change->kept(), before.in_force))
    return error("Somebody else has changed the rules while the script ran; run it again.");
  Result<TimeoutChange> timeouts = TimeoutChange::prepare(
      wanted.timeouts.tcp_s, wanted.timeouts.tcp_fin_s, wanted.timeouts.udp_s);
  if (!timeouts) return timeouts.error();
  Result<ForwardChange> forwards = ForwardChange::begin(before.datapath.get());
  if (!forwards) return forwards.error();
  const Forwards old_forwards = forwards->forwards();
  // What masq does by itself takes no rules.
  const bool is_plain = change->kept().generation == 0 && same_rules(change->kept(), wanted.kept);
  Status status = wanted.forwards ? forwards->store(*wanted.forwards) : Status(Done{});
  if (status && !is_plain) {
    status = change->store(wanted.kept);
    if (!status && wanted.forwards) (void)forwards->store(old_forwards);
  }
  if (!status) {
    if (Status undone = timeouts->undo(); !undone)
      return error("{} And {}", status.error().sentence, undone.error().sentence);
    return status;
  }
  timeouts->commit(*before.datapath);
  switches.keep();
  return Done{};
}

// What was kept for `masq up`, to be put back if that does not work.
class KeptFile {
 public:
  explicit KeptFile(const char* name) : name_(name) {
    if (Result<std::optional<std::string>> text = read_kept_file(name_); text) text_ = *text;
  }
  void put_back() const {
    if (!text_)
      unlink(run_file(name_).c_str());
    else if (make_run_folder())
      (void)replace_kept_file(name_, *text_);
  }

 private:
  const char* name_;
  std::optional<std::string> text_;  // none: it was not there
};

Status keep_for_start(const Forwards& forwards) {
  Result<ForwardChange> change = ForwardChange::begin(nullptr);
  return change ? change->store(forwards) : Status(change.error());
}

// Should somebody have started the gateway in the same moment, it may have missed what is kept.
Status see_that_it_is_in_force() {
  Result<std::unique_ptr<AnyDatapath>> running = running_gateway(true);
  if (!running) return running.error();
  if (Status status = keep_rules(**running); !status) return status;
  return keep_forwards(**running);
}

// Under the lock: masqd takes it before a gateway is there.
Status is_still_alone() {
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  if (!gateway_is_there(*network)) return Done{};
  return error("Somebody else has started the gateway while the script ran; run it again.");
}

int start_with(const Wanted& wanted, const BringUp& bring_up) {
  MachineSwitches switches;
  if (Status status = switches.set(wanted.machine); !status)
    return nothing_applied(status.error().sentence);
  const KeptFile kept("rules.json"), kept_forwards("forwards.json");
  {
    Result<RuleChange> change = RuleChange::begin(nullptr);
    if (!change) return nothing_applied(change.error().sentence);
    if (Status status = is_still_alone(); !status) return nothing_applied(status.error().sentence);
    if (Status status = change->store(wanted.kept); !status)
      return nothing_applied(status.error().sentence);
    if (wanted.forwards)
      if (Status status = keep_for_start(*wanted.forwards); !status) {
        kept.put_back();
        return nothing_applied(status.error().sentence);
      }
  }
  StartWith start{wanted.timeouts, std::nullopt};
  if (counts_on_old_ports(wanted.kept.rules)) start.external_ports = kOldExternalPorts;
  if (bring_up(start) != 0) {
    kept.put_back();
    kept_forwards.put_back();
    return nothing_applied("The gateway could not be started.");
  }
  switches.keep();
  if (Status status = see_that_it_is_in_force(); !status) return fail(status.error().sentence);
  return 0;
}

int apply(Before& before, const Wanted& wanted, const BringUp& bring_up) {
  if (before.datapath == nullptr) return start_with(wanted, bring_up);
  if (Status status = apply_to_running(before, wanted); !status)
    return nothing_applied(status.error().sentence);
  if (daemon_process() > 0) return 0;
  if (bring_up({}) != 0)
    return fail("What the script says is in force, but the daemon could not be started.");
  return 0;
}

// Rules that let in answers to the old ports alone, beside a gateway that gives others.
std::string about_ports(const Before& before, const Wanted& wanted) {
  if (!counts_on_old_ports(wanted.kept.rules)) return "";
  const std::string ports =
      fmt::format("{} to {}", kOldExternalPorts.first, kOldExternalPorts.last);
  Config config;
  config.external_ports = kOldExternalPorts;
  if (before.datapath == nullptr)
    return fmt::format(
        "The rules name the external ports {} of Linux 2.2; unless told otherwise "
        "the gateway gives inner hosts these alone.",
        ports);
  if (!asks_for_other_ports(config, before.datapath->settings())) return "";
  return fmt::format(
      "The rules name the external ports {} of Linux 2.2, and the running gateway "
      "gives others, too: `masq down` first, then it is started with these.",
      ports);
}

void print_all(const std::vector<std::string>& sentences) {
  for (const std::string& each : sentences) fmt::print("{}\n", each);
}

}  // namespace

void add_run_script_options(CLI::App& command, RunScriptOptions& options) {
  command.add_flag("--dry-run", options.dry_run,
                   "Run the script, say what would be in force, and apply nothing");
  command.add_flag("--keep-going", options.keep_going,
                   "Apply what succeeded although something in the script failed");
  command.add_flag("--as-at-boot", options.as_at_boot,
                   "Begin without rules and with ip_forward 0 although a gateway runs");
  command
      .add_option("--time-limit", options.time_limit_s,
                  "End the script after so many seconds, and apply nothing; no limit if not given")
      ->check(CLI::Range(1u, kScriptTimeMost_s))
      ->type_name("SECONDS");
  // One value each time they are given: what follows may be the script.
  for (CLI::Option* option : command.get_options()) option->allow_extra_args(false);
  command.prefix_command();
  command.footer(
      "The script and its arguments come last: masq run-script [OPTIONS] FILE [ARGUMENTS...]\n"
      "Exit codes: 0 applied, 1 nothing is applied, 2 wrong usage, 3 applied without what has\n"
      "failed (--keep-going). With --dry-run: what it would be.");
}

int run_script_of_rules(const RunScriptOptions& options, const BringUp& bring_up) {
  if (Status status = check_rights("run a script of rules"); !status)
    return fail(status.error().sentence);
  if (!stage_in_environment().empty())
    return fail("A script that masq runs cannot run another one by masq; `. FILE` reads it.");
  Result<Before> before = look(options);
  if (!before) return fail(before.error().sentence);
  fflush(stdout);
  Result<ScriptRun> run = run_script(script_options(options, *before));
  if (!run) return fail(run.error().sentence);
  for (const std::string& each : report_of(*run, options.file, options.keep_going))
    fmt::print(stderr, "masq: {}\n", each);
  if (!may_apply(*run, options.keep_going)) return 1;
  const int code = may_apply(*run, false) ? 0 : kScriptInPart;
  Result<Wanted> wanted = wanted_of(run->effects, before->begins);
  if (!wanted) return nothing_applied(wanted.error().sentence);
  // A change takes what was counted meanwhile from nobody.
  if (!options.as_at_boot && wanted->forwards &&
      forwards_to_json(*wanted->forwards) == forwards_to_json(before->forwards))
    wanted->forwards.reset();
  std::vector<std::string> remarks = remarks_on(run->effects, *wanted, before->begins);
  if (std::string ports = about_ports(*before, *wanted); !ports.empty()) remarks.push_back(ports);
  print_all(remarks);
  if (options.dry_run) {
    fmt::print("\n{}\nNothing is applied (--dry-run).\n", wanted_text(*wanted));
    return code;
  }
  if (int failed = apply(*before, *wanted, bring_up); failed != 0) return failed;
  fmt::print("{} is applied.\n", options.file);
  return code;
}

}  // namespace masq
