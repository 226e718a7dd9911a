// Locking, keeping, compiling, switching.
#include "gateway/forward_keeper.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "gateway/kept_file.h"
#include "gateway/kept_table.h"
#include "policy/forward_words.h"
#include "policy/forwards_nftables.h"

namespace masq {
namespace {

constexpr const char* kFile = "forwards.json";
constexpr const char* kLock = "forwards.lock";
constexpr KeptTable kTable{"ip masq_forwards", "own_forwards"};

Result<KeptForwards> read_kept() {
  Result<std::optional<std::string>> text = read_kept_file(kFile);
  if (!text) return text.error();
  if (!*text) return KeptForwards{};
  const nlohmann::json json = nlohmann::json::parse(**text, nullptr, false);
  if (!json.is_object() || !json.contains("generation") || !json.contains("forwards") ||
      !json["generation"].is_number_unsigned() || json["generation"].get<u64>() > 0xffffffff)
    return error("The file {} of the gateway is damaged; new forwards replace it once it is gone.",
                 kFile);
  Result<Forwards> forwards = forwards_from_json(json["forwards"].dump());
  if (!forwards)
    return error("The file {} of the gateway is damaged: {}", kFile, forwards.error().sentence);
  return KeptForwards{std::move(*forwards), json["generation"].get<u32>()};
}

Status write_kept(const KeptForwards& kept) {
  const nlohmann::json json = {
      {"generation", kept.generation},
      {"forwards", nlohmann::json::parse(forwards_to_json(kept.forwards))}};
  return replace_kept_file(kFile, json.dump(1) + "\n");
}

bool is_in_force(const AnyDatapath& datapath, const KeptForwards& kept) {
  return kept.generation != 0 && datapath.settings().forwards_generation == kept.generation;
}

void fold_states(const AnyDatapath& datapath, Forwards& forwards) {
  for (Forward& forward : forwards.list)
    fold_state(forward, datapath.tables().forwards->states[forward.place % kForwardsMax]);
}

// Each place counts on from its forward. Who has asked stays, but where `after` asks for something
// else there.
void set_states(ForwardMemory& memory, const Forwards& forwards, const ForwardTable& before,
                const ForwardTable& after) {
  for (u16 place : windows_to_close(before, after))
    atomic_store(&memory.states[place % kForwardsMax].asked, u64{0});
  for (u32 place = 0; place < kForwardsMax; ++place) {
    const auto at = std::find_if(forwards.list.begin(), forwards.list.end(),
                                 [&](const Forward& f) { return f.place == place; });
    const ForwardState fresh = at == forwards.list.end() ? ForwardState{} : state_of(*at);
    ForwardState& state = memory.states[place];
    atomic_store(&state.turn, fresh.turn);
    atomic_store(&state.flows, fresh.flows);
    atomic_store(&state.refused, fresh.refused);
  }
}

Result<std::string> asked_for(const AnyDatapath& datapath, const Forwards& forwards) {
  Result<std::vector<NftInterface>> interfaces = interfaces_for_nft(datapath);
  if (!interfaces) return interfaces.error();
  return forwards_to_nftables(forwards, datapath.settings(), *interfaces);
}

Status put_table(const AnyDatapath& datapath, const Forwards& forwards) {
  if (datapath.sees_own_packets()) return Done{};
  Result<std::string> asked = asked_for(datapath, forwards);
  if (!asked) return asked.error();
  if (Status status = make_table(kTable, *asked); !status)
    return error(
        "The kernel cannot be kept from answering for what is forwarded: nftables does not take "
        "the rules for it ({}).",
        status.error().sentence);
  return Done{};
}

bool own_forwards_stand(const AnyDatapath& datapath, const Forwards& forwards) {
  if (datapath.sees_own_packets()) return true;
  Result<std::string> asked = asked_for(datapath, forwards);
  return asked && table_stands(kTable, *asked);
}

// The kernel's table comes before the switch: for a moment nobody answers, and never two.
Status install(AnyDatapath& datapath, KeptForwards& kept, const Forwards& before) {
  Settings& settings = datapath.settings();
  ForwardMemory& memory = *datapath.tables().forwards;
  const u32 in_force = settings.forwards_generation;
  kept.generation = std::max(kept.generation, in_force) + 1;
  // The half must not be the one in force.
  if (in_force != 0 && in_force % kForwardHalves == kept.generation % kForwardHalves)
    kept.generation += 1;
  auto table = std::make_unique<ForwardTable>();
  if (Status status = compile_forwards(kept.forwards, kept.generation, *table); !status)
    return status;
  if (Status status = put_table(datapath, kept.forwards); !status) return status;
  if (Status status = write_kept(kept); !status) {
    // Should that fail too, masqd sees at its next look that it is not as it should be.
    (void)put_table(datapath, before);
    return status;
  }
  datapath.wait_for_readers();
  memory.halves[kept.generation % kForwardHalves] = *table;
  set_states(memory, kept.forwards, memory.halves[in_force % kForwardHalves], *table);
  // Looked at before the generation: asked in vain for a moment, never forgotten.
  if (table->controls != 0) settings.forwards_control = 1;
  __atomic_store_n(&settings.forwards_generation, kept.generation, __ATOMIC_SEQ_CST);
  if (table->controls == 0) settings.forwards_control = 0;
  return Done{};
}

}  // namespace

Result<KeptForwards> load_forwards(const AnyDatapath* datapath) {
  Result<KeptForwards> kept = read_kept();
  if (kept && datapath != nullptr && is_in_force(*datapath, *kept))
    fold_states(*datapath, kept->forwards);
  return kept;
}

Result<ForwardChange> ForwardChange::begin(AnyDatapath* datapath) {
  Result<Fd> lock = lock_kept_file(kLock);
  if (!lock) return lock.error();
  Result<KeptForwards> kept = load_forwards(datapath);
  if (!kept) return kept.error();
  return ForwardChange(std::move(*lock), std::move(*kept), datapath);
}

Status ForwardChange::store(const Forwards& forwards) {
  if (Status status = check_forwards(forwards); !status) return status;
  KeptForwards fresh{forwards, datapath_ == nullptr ? 0 : kept_.generation};
  Status status =
      datapath_ == nullptr ? write_kept(fresh) : install(*datapath_, fresh, kept_.forwards);
  if (status) kept_ = std::move(fresh);
  return status;
}

Status replace_configured(AnyDatapath& datapath, const Forwards& configured) {
  Result<std::optional<std::string>> there = read_kept_file(kFile);
  if (!there) return there.error();
  if (!*there && configured.list.empty()) return Done{};
  Result<ForwardChange> change = ForwardChange::begin(&datapath);
  if (!change) return change.error();
  Forwards forwards;
  std::vector<std::string> before, after;
  for (const Forward& each : change->forwards().list) {
    if (each.maker == ForwardMaker::config)
      before.push_back(words_of(each));
    else
      forwards.list.push_back(each);
  }
  for (const Forward& each : configured.list) {
    after.push_back(words_of(each));
    if (Result<u16> place = add_forward(forwards, each); !place)
      return error("The configuration's forward \"{}\" cannot be made: {}", words_of(each),
                   place.error().sentence);
  }
  std::sort(before.begin(), before.end());
  std::sort(after.begin(), after.end());
  return before == after ? Status(Done{}) : change->store(forwards);
}

Status keep_forwards(AnyDatapath& datapath) {
  Result<std::optional<std::string>> there = read_kept_file(kFile);
  if (!there) return there.error();
  if (!*there) {
    // Of a gateway that nobody has taken down.
    if (datapath.settings().forwards_generation == 0 && !datapath.sees_own_packets())
      take_off_table(kTable);
    return Done{};
  }
  Result<Fd> lock = lock_kept_file(kLock);
  if (!lock) return lock.error();
  Result<KeptForwards> kept = load_forwards(&datapath);
  if (!kept) return kept.error();
  if (!is_in_force(datapath, *kept)) return install(datapath, *kept, kept->forwards);
  if (own_forwards_stand(datapath, kept->forwards)) return Done{};
  return put_table(datapath, kept->forwards);
}

void take_off_own_forwards() {
  take_off_table(kTable);
}

}  // namespace masq
