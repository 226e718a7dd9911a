// The kept configuration, then the settings.
#include "gateway/timeouts.h"

#include "gateway/gateway.h"
#include "gateway/state.h"

namespace masq {

Result<TimeoutChange> TimeoutChange::prepare(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) {
  const std::string path = run_file("config.toml");
  const ParsedConfig kept = load_config(path);
  if (!kept.mistakes.empty()) return error("{}", to_text(path, kept.mistakes.front()));
  Config config = kept.config;
  set_timeouts_in(config, tcp_s, tcp_fin_s, udp_s);
  if (const auto mistakes = check_config(config); !mistakes.empty())
    return error("{}", mistakes.front().sentence);
  if (Status status = keep_config(config); !status) return status.error();
  return TimeoutChange(kept.config, config);
}

void TimeoutChange::commit(AnyDatapath& datapath) const {
  Settings& s = datapath.settings();
  s.tcp_established = ticks_from_s(after_.tcp_established_s);
  s.tcp_closing = ticks_from_s(after_.tcp_closing_s);
  s.udp = ticks_from_s(after_.udp_s);
}

Status TimeoutChange::undo() const {
  return keep_config(before_);
}

}  // namespace masq
