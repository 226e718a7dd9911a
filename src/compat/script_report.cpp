// What is said about a script that has run, to people and to programs; and whether it counts.
#include <cstring>
#include <nlohmann/json.hpp>

#include "compat/run_script.h"
#include "compat/script_text.h"

namespace masq {
namespace {

using nlohmann::json;

const char* end_name(ScriptEnd end) {
  switch (end) {
    case ScriptEnd::exited:
      return "exited";
    case ScriptEnd::killed:
      return "killed";
    case ScriptEnd::interrupted:
      return "interrupted";
    case ScriptEnd::too_slow:
      return "too_slow";
    case ScriptEnd::lost:
      return "lost";
  }
  return "";
}

const char* use_name(const SwitchChange& change) {
  if (change.known == nullptr) return "unknown";
  switch (change.known->use) {
    case SwitchUse::gateway:
      return "gateway";
    case SwitchUse::machine:
      return "machine";
    case SwitchUse::settled:
      return "settled";
  }
  return "";
}

std::string failure_sentence(const ScriptFailure& failure, const std::string& file) {
  if (failure.command.empty()) return fmt::format("{}: {}.", file, failure.message);
  std::string where = lines_in_words(failure.lines);
  std::string message = failure.message.empty() ? "" : ": " + failure.message;
  if (!message.empty() && message.find_last_of(".?") != message.size() - 1) message += '.';
  return fmt::format("{}, {}: `{}` failed with exit code {}{}", file,
                     where.empty() ? "in a line that cannot be told" : where,
                     in_shell_words(failure.command), failure.exit_code,
                     message.empty() ? "." : message);
}

// Why the run as a whole is no success; empty if it is.
std::string end_sentence(const ScriptRun& run, const std::string& file) {
  const char* name = run.signal_number != 0 ? strsignal(run.signal_number) : "";
  switch (run.end) {
    case ScriptEnd::exited:
      if (run.exit_code == 0) return "";
      return fmt::format("{} ended with exit code {}.", file, run.exit_code);
    case ScriptEnd::killed:
      return fmt::format("{} was killed ({}).", file, name);
    case ScriptEnd::interrupted:
      return fmt::format("{} was interrupted ({}).", file, name);
    case ScriptEnd::too_slow:
      return fmt::format("{} took longer than its time limit and was ended.", file);
    case ScriptEnd::lost:
      return fmt::format("The process that kept {} was killed, and the script with it.", file);
  }
  return "";
}

bool is_whole(const ScriptRun& run) {
  return run.end == ScriptEnd::exited && run.exit_code == 0 && run.effects.failures.empty() &&
         run.left_running.empty() && !run.some_would_not_end;
}

}  // namespace

bool may_apply(const ScriptRun& run, bool keep_going) {
  return is_whole(run) || (keep_going && run.end == ScriptEnd::exited);
}

std::vector<std::string> report_of(const ScriptRun& run, const std::string& file, bool keep_going) {
  std::vector<std::string> sentences;
  for (const ScriptFailure& failure : run.effects.failures)
    sentences.push_back(failure_sentence(failure, file));
  for (const SwitchChange& change : run.effects.switches)
    if (change.known == nullptr)
      sentences.push_back(fmt::format(
          "{} wrote `{}` to /proc/sys/{}, which masq knows nothing of; that has no effect.", file,
          change.value, change.name));
  for (const std::string& name : run.left_running)
    sentences.push_back(fmt::format(
        "{} left {} running, which was ended: it would have seen masq's stand-ins for ever. Start "
        "it outside of the script.",
        file, name));
  if (run.some_would_not_end)
    sentences.push_back(fmt::format("Some of what {} started could not be ended.", file));
  if (std::string sentence = end_sentence(run, file); !sentence.empty())
    sentences.push_back(sentence);
  if (!may_apply(run, keep_going))
    sentences.push_back(run.end != ScriptEnd::exited
                            ? "Nothing of it is applied."
                            : "Nothing of it is applied, since a part of a firewall is none; "
                              "--keep-going applies what succeeded.");
  else if (!is_whole(run))
    sentences.push_back("What succeeded is applied, as --keep-going asks.");
  return sentences;
}

std::string script_run_to_json(const ScriptRun& run) {
  json out = {{"end", end_name(run.end)},
              {"exit_code", run.exit_code},
              {"signal", run.signal_number},
              {"left_running", run.left_running},
              {"rules", run.effects.rules},
              {"forwards", run.effects.forwards},
              {"timeouts", run.effects.timeouts},
              {"modules", json::parse(modules_to_json(run.effects.modules))}};
  out["switches"] = json::array();
  for (const SwitchChange& change : run.effects.switches)
    out["switches"].push_back(
        {{"name", change.name}, {"value", change.value}, {"use", use_name(change)}});
  out["failures"] = json::array();
  for (const ScriptFailure& failure : run.effects.failures)
    out["failures"].push_back({{"command", failure.command},
                               {"exit_code", failure.exit_code},
                               {"message", failure.message},
                               {"lines", failure.lines}});
  return out.dump(2, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace masq
