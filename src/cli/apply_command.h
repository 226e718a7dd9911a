// `masq check`, `masq plan`, `masq apply` and `masq rules`: a configuration beside the gateway that
// runs, what it would change there, and changing that while packets pass (gateway/plan.h).
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace masq {

inline constexpr const char* kUsualConfig = "/etc/masq/masq.toml";
inline constexpr int kPlanChanges = 3;          // exit code of `plan`: something would change
inline constexpr std::size_t kFlowsNamed = 20;  // of those that would be refused; all are counted

struct ApplyCommands {
  CLI::App* check = nullptr;
  CLI::App* plan = nullptr;
  CLI::App* apply = nullptr;
  CLI::App* rules = nullptr;
  std::string checked, path = kUsualConfig;
  bool as_json = false;

  void add_to(CLI::App& app);
  bool asked() const;
  int run() const;
};

// Says every mistake, with its line; 0 if there is none.
int check_command(const std::string& path);

}  // namespace masq
