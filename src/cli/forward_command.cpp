// Words to forwards, and forwards to the gateway that runs here.
#include "cli/forward_command.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gateway/forward_keeper.h"
#include "gateway/gateway.h"
#include "gateway/rights.h"
#include "gateway/running.h"
#include "policy/forward_words.h"

namespace masq {
namespace {

int fail(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return 1;
}

int misuse(const std::string& sentence) {
  fmt::print(stderr, "masq: {} See `masq forward --help`.\n", sentence);
  return 2;
}

constexpr const char* kMakers[] = {"masq", "portfw", "autofw", "mfw", "masq.toml"};

// The number that the words name: it itself, or the whole forward as `add` takes it.
Result<u16> number_of(const Forwards& forwards, const std::vector<std::string>& words) {
  if (words.size() == 1 && !words[0].empty() && words[0].size() <= 4 &&
      std::all_of(words[0].begin(), words[0].end(), [](char c) { return c >= '0' && c <= '9'; })) {
    const u16 number = static_cast<u16>(std::stoul(words[0]));
    for (const Forward& f : forwards.list)
      if (f.place == number) return number;
    return error("There is no forward with the number {}.", number);
  }
  Result<Forward> meant = forward_from_words(words);
  if (!meant) return meant.error();
  for (const Forward& f : forwards.list)
    if (words_of(f) == words_of(*meant)) return f.place;
  return error("There is no forward \"{}\".", words_of(*meant));
}

Result<std::unique_ptr<AnyDatapath>> gateway_if_any() {
  if (Status status = check_rights("change forwards"); !status) return status.error();
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  if (!gateway_is_there(*network)) return std::unique_ptr<AnyDatapath>();
  return running_gateway(true);
}

}  // namespace

int forward_add(const std::vector<std::string>& words) {
  Result<Forward> forward = forward_from_words(words);
  if (!forward) return misuse(forward.error().sentence);
  Result<std::unique_ptr<AnyDatapath>> gateway = gateway_if_any();
  if (!gateway) return fail(gateway.error().sentence);
  Result<ForwardChange> change = ForwardChange::begin(gateway->get());
  if (!change) return fail(change.error().sentence);
  Forwards forwards = change->forwards();
  Result<u16> place = add_forward(forwards, *forward);
  if (!place) return fail(place.error().sentence);
  if (Status status = change->store(forwards); !status) return fail(status.error().sentence);
  fmt::print("Forward {}: {}\n", *place, words_of(*forward));
  if (*gateway == nullptr)
    fmt::print("masq is not running here; `masq up` will put it in force.\n");
  return 0;
}

int forward_remove(const std::vector<std::string>& words) {
  if (words.empty()) return misuse("Which forward is not said: its number, or its words.");
  Result<std::unique_ptr<AnyDatapath>> gateway = gateway_if_any();
  if (!gateway) return fail(gateway.error().sentence);
  Result<ForwardChange> change = ForwardChange::begin(gateway->get());
  if (!change) return fail(change.error().sentence);
  Forwards forwards = change->forwards();
  Result<u16> place = number_of(forwards, words);
  if (!place) return fail(place.error().sentence);
  if (Status status = remove_forward(forwards, *place); !status)
    return fail(status.error().sentence);
  if (Status status = change->store(forwards); !status) return fail(status.error().sentence);
  return 0;
}

int forward_list(bool as_json) {
  Result<std::unique_ptr<AnyDatapath>> gateway = gateway_if_any();
  if (!gateway) return fail(gateway.error().sentence);
  Result<KeptForwards> kept = load_forwards(gateway->get());
  if (!kept) return fail(kept.error().sentence);
  if (as_json) {
    nlohmann::json all = nlohmann::json::parse(forwards_to_json(kept->forwards));
    fmt::print("{}\n", all.dump(2));
    return 0;
  }
  if (kept->forwards.list.empty()) fmt::print("There are no forwards.\n");
  for (const Forward& f : kept->forwards.list)
    fmt::print("{:>3}  {}   [{}, {} flows, {} not for their sender]\n", f.place, words_of(f),
               kMakers[static_cast<u8>(f.maker)], f.flows, f.refused);
  return 0;
}

}  // namespace masq
