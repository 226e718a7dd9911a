// The command `masq explain`.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace masq {

struct ExplainOptions {
  std::vector<std::string> words;
  std::string capture, interface;
  bool last = false;
  bool as_json = false;
};

// Adds the command's options, which are written to `options`.
void add_explain_options(CLI::App& command, ExplainOptions& options);

// The command's exit code.
int explain(const ExplainOptions& options);

}  // namespace masq
