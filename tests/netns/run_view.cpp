// A script in its view, without a gateway: what the command for it does, up to the point where the
// effects would be applied. For tests.
//
//   run_view [--result FILE] [--programs FOLDER] [--time-limit N] [--keep-going] [--switches-most
//   N]
//            [--stage NAME=TEXT] [--switch NAME=VALUE] [--net NAME=TEXT] SCRIPT [WORD...]
//
// The result is JSON: the run, `applied` (would it be?) and the sentences of the report, which go
// to standard error too. The exit code is that of the script; 100 if it did not begin, and 101 if
// it would not be applied although it ended well.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "compat/run_script.h"

extern "C" char** environ;

namespace {

std::map<std::string, std::string> pairs_of(const std::vector<std::string>& words) {
  std::map<std::string, std::string> pairs;
  for (const std::string& word : words)
    pairs[word.substr(0, word.find('='))] = word.substr(word.find('=') + 1);
  return pairs;
}

int run(int argc, char** argv) {
  CLI::App app{"A script in its view."};
  masq::ScriptOptions options;
  options.programs = masq::folder_of_this_program();
  std::string result;
  std::vector<std::string> stage, switches, net;
  bool keep_going = false;
  app.add_option("--result", result);
  app.add_option("--programs", options.programs);
  app.add_option("--time-limit", options.time_limit_s);
  app.add_option("--switches-most", options.switches_most);
  app.add_option("--stage", stage)->allow_extra_args(false);
  app.add_option("--switch", switches)->allow_extra_args(false);
  app.add_option("--net", net)->allow_extra_args(false);
  app.add_flag("--keep-going", keep_going);
  app.prefix_command();
  CLI11_PARSE(app, argc, argv);
  std::vector<std::string> rest = app.remaining();
  if (rest.empty()) return 100;
  options.file = rest[0];
  options.arguments.assign(rest.begin() + 1, rest.end());
  options.stage = pairs_of(stage);
  options.switches = pairs_of(switches);
  options.net = pairs_of(net);
  for (char** each = environ; *each != nullptr; ++each) options.environment.push_back(*each);

  masq::Result<masq::ScriptRun> run = masq::run_script(options);
  nlohmann::json out;
  int exit_code = 100;
  if (run) {
    out = nlohmann::json::parse(masq::script_run_to_json(*run));
    out["applied"] = masq::may_apply(*run, keep_going);
    out["report"] = masq::report_of(*run, options.file, keep_going);
    for (const std::string& each : masq::report_of(*run, options.file, keep_going))
      fmt::print(stderr, "masq: {}\n", each);
    exit_code = run->exit_code != 0 ? run->exit_code : out["applied"].get<bool>() ? 0 : 101;
  } else {
    out["error"] = run.error().sentence;
    fmt::print(stderr, "masq: {}\n", run.error().sentence);
  }
  if (!result.empty()) std::ofstream(result) << out.dump(2) << "\n";
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  return run(argc, argv);
}
