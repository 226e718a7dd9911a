// masq-shim: the old commands in a script's view, by the name under which it is called.
//
// modprobe, insmod, rmmod, lsmod, depmod and ifconfig it is itself. ipchains, ipfwadm, ipmasqadm
// and ipportfw are programs of masq's own: it starts them, passes on what they say and their exit
// code, and notes in the stage when one failed. So no program has to note that by itself, and a
// missing one is noted too.
//
// Exit codes are those of the commands; 127 if a program of masq's is missing.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "compat/old_ifconfig.h"
#include "compat/old_modules.h"
#include "compat/stage.h"
#include "compat/view_mounts.h"
#include "compat/view_store.h"
#include "gateway/fd.h"

namespace masq {
namespace {

constexpr std::size_t kMessageBytes = 1024;  // of what a program says, enough for its first line

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
}

std::string stage_path() {
  const std::string named = stage_in_environment();
  return !named.empty() ? named : stage_in_view();  // the script has emptied its environment
}

std::string first_line(const std::string& text) {
  std::size_t begin = text.find_first_not_of("\r\n\t ");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_first_of("\r\n", begin) - begin);
}

void note(const Stage& stage, const std::vector<std::string>& argv, int exit_code,
          const std::string& said) {
  Status noted = stage.add_failure({argv, exit_code, first_line(said)});
  // Then the script must not look as if all had gone well: nothing more can be done here.
  if (!noted) fmt::print(stderr, "masq: {}\n", noted.error().sentence);
}

int print(const CommandResult& said) {
  fmt::print(stdout, "{}", said.out);
  fflush(stdout);
  fmt::print(stderr, "{}", said.err);
  return said.exit_code;
}

Result<CommandResult> change_modules(const Stage& stage, const std::vector<std::string>& argv) {
  Result<Fd> held = stage.lock();
  if (!held) return held.error();
  Result<std::string> text = stage.read(kStageModules);
  if (!text) return text.error();
  Result<std::vector<LoadedModule>> modules = modules_from_json(*text);
  if (!modules) return modules.error();
  std::vector<LoadedModule> before = *modules;
  CommandResult said = run_module_command(argv, modules_of_this_machine(), *modules);
  if (*modules == before) return said;
  Status written = stage.write(kStageModules, modules_to_json(*modules));
  if (!written) return written.error();
  return said;
}

// Starts a program of masq's and passes on what it says on standard error. The beginning of that is
// the message of a failure.
int run_program(const std::string& path, char** argv, std::string& said) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) return 127;
  Fd read_end(pipe_ends[0]), write_end(pipe_ends[1]);
  pid_t child = fork();
  if (child == 0) {
    dup2(write_end.get(), STDERR_FILENO);
    setenv(kStageVariable, stage_path().c_str(), 1);
    execv(path.c_str(), argv);
    _exit(127);
  }
  write_end.reset();
  if (child < 0) return 127;
  char buffer[4096];
  for (;;) {
    ssize_t length = read(read_end.get(), buffer, sizeof buffer);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) break;
    std::string part(buffer, static_cast<std::size_t>(length));
    if (said.size() < kMessageBytes) said += part.substr(0, kMessageBytes - said.size());
    write_all(STDERR_FILENO, part);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int stand_in_for_program(const Stage& stage, const std::string& name, char** argv,
                         const std::vector<std::string>& words) {
  std::string path = fmt::format("{}/{}/{}", store_in_view(), kStorePrograms, name);
  std::string said;
  int exit_code = 127;
  if (access(path.c_str(), X_OK) == 0) {
    exit_code = run_program(path, argv, said);
  } else {
    said = fmt::format("{}: masq's program {} is not installed beside masq-shim.", name, name);
    fmt::print(stderr, "{}\n", said);
  }
  if (exit_code != 0) note(stage, words, exit_code, said);
  return exit_code;
}

int run(int argc, char** argv) {
  std::string name = argc > 0 ? last_part(argv[0]) : "";
  std::vector<std::string> words(argv, argv + argc);
  bool is_program = false, is_known = false;
  for (const OldCommand& command : old_commands())
    if (name == command.name) {
      is_known = true;
      is_program = command.is_program;
    }
  if (!is_known) {
    fmt::print(stderr,
               "masq-shim: there is nothing to do under the name `{}`; it stands in for old "
               "commands in a script that `masq run-script` runs.\n",
               name);
    return 2;
  }
  Result<Stage> stage = Stage::open(stage_path());
  if (!stage) {
    fmt::print(stderr, "{}: {}\n", name, stage.error().sentence);
    return 1;
  }
  if (is_program) return stand_in_for_program(*stage, name, argv, words);
  Result<CommandResult> said =
      name == "ifconfig" ? Result<CommandResult>(run_ifconfig(words, interfaces_of_this_machine()))
                         : change_modules(*stage, words);
  if (!said) said = CommandResult{1, "", fmt::format("{}: {}\n", name, said.error().sentence)};
  if (said->exit_code != 0) note(*stage, words, said->exit_code, said->err);
  return print(*said);
}

}  // namespace
}  // namespace masq

int main(int argc, char** argv) {
  masq::fill_standard_streams();
  try {
    return masq::run(argc, argv);
  } catch (const std::exception& surprise) {
    fmt::print(stderr, "masq-shim: this should not have happened: {}.\n", surprise.what());
    return 1;
  }
}
