// Finding what runs by its programs, or by its tables in a file.
#include "gateway/running.h"

#include "gateway/datapath.h"
#include "gateway/gateway.h"
#include "gateway/rights.h"
#include "gateway/user_tables.h"

namespace masq {

Result<std::unique_ptr<AnyDatapath>> running_gateway(bool to_write) {
  if (Status status = check_rights("look into the tables"); !status) return status.error();
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  std::vector<u32> programs = attached_programs(*network);
  if (programs.empty() && user_tables_exist()) return UserTables::look(to_write);
  if (programs.empty())
    return error("masq is not running in this network namespace; `masq up` starts it.");
  Result<Datapath> datapath = Datapath::look(programs);
  if (!datapath) return datapath.error();
  return std::unique_ptr<AnyDatapath>(std::make_unique<Datapath>(std::move(*datapath)));
}

u32 expires_s(const Settings& settings, const Record& r, Ticks now) {
  Ticks passed = now - r.last_seen, limit = timeout_of(settings, r);
  return static_cast<i32>(passed) >= static_cast<i32>(limit) ? 0
                                                             : seconds_from_ticks(limit - passed);
}

}  // namespace masq
