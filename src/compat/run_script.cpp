// Makes the store, starts the keeper, waits, and reads what has been gathered.
#include "compat/run_script.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <set>

#include "compat/descendants.h"
#include "compat/script_keeper.h"
#include "compat/script_text.h"
#include "compat/view_mounts.h"

namespace masq {
namespace {

constexpr int kPassedOn[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr int kKeeperPatienceMs = kAskedToEndMs + kEndingMs + 5000;

std::string real_path(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) != nullptr ? real : "";
}

struct Script {
  std::string real;  // where it lies
  std::string name;
  std::string text;  // without carriage returns
};

Result<Script> read_script(const std::string& path) {
  Script script;
  Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat entry {};
  if (!file || fstat(file.get(), &entry) != 0)
    return error("{} cannot be read ({}).", path, strerror(errno));
  if (!S_ISREG(entry.st_mode)) return error("{} is not a file; a script has to be one.", path);
  std::string text = read_all(file.get(), kScriptBytesMost + 1);
  if (text.size() > kScriptBytesMost)
    return error("{} has more than {} bytes, which no script of rules has.", path,
                 kScriptBytesMost);
  if (text.empty()) return error("{} is empty.", path);
  if (text.find('\0') != std::string::npos) return error("{} is not a script but a program.", path);
  script.real = real_path(path);
  if (script.real.empty()) return error("{} cannot be found ({}).", path, strerror(errno));
  script.name = script.real.substr(script.real.rfind('/') + 1);
  script.text = without_carriage_returns(text);
  std::string interpreter = interpreter_of(script.text);
  if (script.text.starts_with("#!") && (interpreter.empty() || interpreter[0] != '/'))
    return error("{}, line 1: `#!` must name a program by its whole path.", path);
  if (!interpreter.empty() && access(interpreter.c_str(), X_OK) != 0)
    return error("{}, line 1: the interpreter {} is not there, or may not be run ({}).", path,
                 interpreter, strerror(errno));
  return script;
}

// What a kernel with masquerading showed in /proc/net, so that scripts which look for it find it.
std::map<std::string, std::string> proc_net_files(const ScriptOptions& options) {
  std::map<std::string, std::string> files;
  for (const char* name :
       {"ip_masquerade", "ip_fwchains", "ip_fwnames", "ip_masq/tcp", "ip_masq/udp", "ip_masq/icmp",
        "ip_masq/app", "ip_masq/portfw", "ip_masq/autofw", "ip_masq/mfw"})
    files[name] = "";
  for (const auto& [name, text] : options.net) files[name] = text;
  return files;
}

Status add_places(const ViewStore& store, const std::string& programs) {
  std::set<std::string> names;
  for (const OldCommand& command : old_commands()) {
    if (!names.insert(command.name).second) continue;
    Status done = store.add_link(fmt::format("{}/{}", kStoreLinks, command.name),
                                 fmt::format("{}/{}", command.folder, command.name));
    if (!done) return done;
    if (!command.is_program || access((programs + "/" + command.name).c_str(), X_OK) != 0) continue;
    done = store.add_place(fmt::format("{}/{}", kStorePrograms, command.name));
    if (!done) return done;
  }
  if (Status done = store.add_link(fmt::format("{}/sh", kStoreLinks), "/bin/bash"); !done)
    return done;
  return store.add_link(fmt::format("{}/net", kStoreLinks),
                        fmt::format("{}/{}", store_in_view(), kStoreNet));
}

// PATH begins with the folders of the old commands: some lie in /bin too, today.
std::vector<std::string> environment_of(const ScriptOptions& options) {
  const std::string old_path = "/usr/local/sbin:/usr/sbin:/sbin";
  std::vector<std::string> environment;
  std::string path = old_path + ":/usr/local/bin:/usr/bin:/bin";
  for (const std::string& each : options.environment) {
    if (each.starts_with("PATH="))
      path = old_path + ":" + each.substr(5);
    else if (!each.starts_with(std::string(kStageVariable) + "="))
      environment.push_back(each);
  }
  environment.push_back("PATH=" + path);
  environment.push_back(fmt::format("{}={}", kStageVariable, stage_in_view()));
  return environment;
}

// Signals as a descriptor for as long as the script runs. Those that the caller ignores stay so.
class HeldSignals {
 public:
  HeldSignals() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (int number : kPassedOn) {
      struct sigaction now {};
      sigaction(number, nullptr, &now);
      if (now.sa_handler != SIG_IGN) sigaddset(&wanted, number);
    }
    sigprocmask(SIG_BLOCK, &wanted, &before_);
    fd_ = Fd(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  ~HeldSignals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  int fd() const { return fd_.get(); }
  const sigset_t& before() const { return before_; }
  int take() const {
    signalfd_siginfo one{};
    return read(fd_.get(), &one, sizeof one) == sizeof one ? static_cast<int>(one.ssi_signo) : 0;
  }

 private:
  sigset_t before_{};
  Fd fd_;
};

// Orphans of the script come here if its keeper has died.
class Subreaper {
 public:
  Subreaper() {
    prctl(PR_GET_CHILD_SUBREAPER, &before_);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  }
  ~Subreaper() { prctl(PR_SET_CHILD_SUBREAPER, before_); }
  Subreaper(const Subreaper&) = delete;
  Subreaper& operator=(const Subreaper&) = delete;

 private:
  int before_ = 0;
};

struct Waiting {
  std::string said;
  ScriptEnd why = ScriptEnd::exited;  // or what ended it
  int signal_number = 0;
};

// Until the keeper has said all, which is when it closes its pipe.
Waiting wait_for_keeper(int report, Fd& stop, const HeldSignals& signals, u32 time_limit_s,
                        pid_t keeper) {
  using Clock = std::chrono::steady_clock;
  Waiting waiting;
  auto begun = Clock::now();
  auto limit = begun + std::chrono::seconds(time_limit_s);
  bool has_limit = time_limit_s > 0;
  for (;;) {
    int timeout_ms = -1;
    if (has_limit) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now());
      timeout_ms = static_cast<int>(std::clamp<long long>(left.count() + 1, 0, INT_MAX));
    }
    pollfd wanted[2] = {{report, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    poll(wanted, 2, timeout_ms);
    if ((wanted[0].revents & (POLLIN | POLLHUP)) != 0) {
      char buffer[4096];
      ssize_t length = read(report, buffer, sizeof buffer);
      if (length <= 0) return waiting;
      waiting.said.append(buffer, static_cast<std::size_t>(length));
      continue;
    }
    int signal_number = (wanted[1].revents & POLLIN) != 0 ? signals.take() : 0;
    bool is_late = has_limit && Clock::now() >= limit;
    if (signal_number == 0 && !is_late) continue;
    if (!stop) {  // it had its time to end the script
      kill(keeper, SIGKILL);
      has_limit = false;
      continue;
    }
    waiting.why = signal_number != 0 ? ScriptEnd::interrupted : ScriptEnd::too_slow;
    waiting.signal_number = signal_number;
    stop.reset();
    has_limit = true;
    limit = Clock::now() + std::chrono::milliseconds(kKeeperPatienceMs);
  }
}

std::vector<int> children_now() {
  std::vector<int> numbers;
  for (const Descendant& each : descendants()) numbers.push_back(each.process);
  return numbers;
}

Result<ScriptRun> run_in_keeper(KeeperPlan& plan, u32 time_limit_s) {
  int stop[2], report[2];
  if (pipe2(stop, O_CLOEXEC) != 0) return error("No pipe can be made ({}).", strerror(errno));
  Fd stop_read(stop[0]), stop_write(stop[1]);
  if (pipe2(report, O_CLOEXEC) != 0) return error("No pipe can be made ({}).", strerror(errno));
  Fd report_read(report[0]), report_write(report[1]);
  plan.stop = stop[0];
  plan.report = report[1];
  std::vector<int> others = children_now();
  Subreaper subreaper;
  HeldSignals signals;
  plan.blocked = signals.before();
  pid_t keeper = fork();
  if (keeper == 0) {
    stop_write.reset();
    keep_script(plan);
  }
  if (keeper < 0) return error("The script cannot be started ({}).", strerror(errno));
  stop_read.reset();
  report_write.reset();
  Waiting waiting = wait_for_keeper(report_read.get(), stop_write, signals, time_limit_s, keeper);
  stop_write.reset();
  while (waitpid(keeper, nullptr, 0) < 0 && errno == EINTR) {
  }
  // Nothing is left unless the keeper was killed.
  ScriptRun run;
  run.some_would_not_end = !end_descendants(0, others);
  Result<KeeperReport> said = keeper_report_from_text(waiting.said);
  if (said && !said->problem.empty()) return Error{said->problem};
  if (waiting.why != ScriptEnd::exited) {
    run.end = waiting.why;
    run.signal_number = waiting.signal_number;
  } else if (!said || said->stopped) {
    run.end = ScriptEnd::lost;
  } else {
    bool was_killed = WIFSIGNALED(said->wait_status);
    run.end = was_killed ? ScriptEnd::killed : ScriptEnd::exited;
    run.signal_number = was_killed ? WTERMSIG(said->wait_status) : 0;
    run.exit_code = was_killed ? 128 + run.signal_number : WEXITSTATUS(said->wait_status);
  }
  if (said) {
    run.left_running = said->left_running;
    run.some_would_not_end = run.some_would_not_end || said->some_would_not_end;
  }
  return run;
}

Status gather_switches(const ViewStore& store, const std::string& script, ScriptEffects& effects) {
  Result<std::vector<WrittenSwitch>> written = store.written();
  if (!written) return written.error();
  for (const WrittenSwitch& each : *written) {
    const KnownSwitch* known = find_switch(each.name);
    if (known == nullptr) {
      effects.switches.push_back({each.name, plain_value(each.text), nullptr});
      continue;
    }
    Result<std::string> value = accepted_value(*known, each.text);
    if (value) {
      effects.switches.push_back({each.name, *value, known});
      continue;
    }
    std::string last = each.name.substr(each.name.rfind('/') + 1);
    effects.failures.push_back({{"echo", plain_value(each.text), ">", "/proc/sys/" + each.name},
                                1,
                                value.error().sentence,
                                lines_with(script, last)});
  }
  return Done{};
}

Status gather(const ViewStore& store, const std::string& script, ScriptEffects& effects) {
  Result<Fd> folder = store.folder(kStoreStage);
  if (!folder) return folder.error();
  Stage stage(std::move(*folder));
  for (auto [name, into] :
       {std::pair{kStageRules, &effects.rules}, std::pair{kStageForwards, &effects.forwards},
        std::pair{kStageTimeouts, &effects.timeouts}}) {
    Result<std::string> text = stage.read(name);
    if (!text) return text.error();
    *into = *text;
  }
  Result<std::string> text = stage.read(kStageModules);
  if (!text) return text.error();
  Result<std::vector<LoadedModule>> modules = modules_from_json(*text);
  if (!modules) return modules.error();
  effects.modules = *modules;
  Result<std::vector<CommandFailure>> failures = stage.failures();
  if (!failures) return failures.error();
  for (const CommandFailure& each : *failures)
    effects.failures.push_back(
        {each.command, each.exit_code, each.message, lines_of_command(script, each.command)});
  return gather_switches(store, script, effects);
}

}  // namespace

Result<ScriptRun> run_script(const ScriptOptions& options) {
  Result<Script> script = read_script(options.file);
  if (!script) return script.error();
  std::string stand_in = options.programs + "/masq-shim";
  if (access(stand_in.c_str(), X_OK) != 0)
    return error("{} is not there ({}); it belongs to masq and stands in for the old commands.",
                 stand_in, strerror(errno));
  StoreContents contents{options.stage, proc_net_files(options), options.switches, script->name,
                         script->text,  options.switches_most};
  Result<ViewStore> store = ViewStore::make(contents);
  if (!store) return store.error();
  if (Status done = add_places(*store, options.programs); !done) return done.error();

  KeeperPlan plan;
  char here[PATH_MAX];
  plan.view = {store->fd(),  stand_in,     options.programs,
               script->real, script->name, getcwd(here, sizeof here) != nullptr ? here : "/"};
  bool has_folder = options.file.find('/') != std::string::npos;
  plan.argv = {has_folder ? options.file : "./" + options.file};
  plan.argv.insert(plan.argv.end(), options.arguments.begin(), options.arguments.end());
  plan.environment = environment_of(options);
  Result<ScriptRun> run = run_in_keeper(plan, options.time_limit_s);
  if (!run) return run;
  if (Status done = gather(*store, script->text, run->effects); !done) return done.error();
  return run;
}

std::string folder_of_this_program() {
  std::string self = real_path("/proc/self/exe");
  return self.substr(0, self.rfind('/'));
}

}  // namespace masq
