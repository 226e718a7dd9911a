// Locking, keeping, compiling, switching.
#include "gateway/rule_keeper.h"

#include <net/if.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "gateway/kept_file.h"
#include "gateway/own_rules.h"
#include "gateway/state.h"

namespace masq {
namespace {

constexpr u32 kGenerationMost = 0xffff;
constexpr const char* kFile = "rules.json";
constexpr const char* kLock = "rules.lock";

Result<KeptRules> read_kept() {
  const std::string path = run_file(kFile);
  Result<std::optional<std::string>> text = read_kept_file(kFile);
  if (!text) return text.error();
  if (!*text) return KeptRules{RuleSet::plain(), 0, {}, ""};
  const nlohmann::json json = nlohmann::json::parse(**text, nullptr, false);
  if (!json.is_object() || !json.contains("generation") || !json.contains("rules") ||
      !json["generation"].is_number_unsigned() || json["generation"].get<u64>() > kGenerationMost)
    return error("{} is damaged; `ipchains -F` and new rules replace it once it is deleted.", path);
  Result<RuleSet> rules = rules_from_json(json["rules"].dump());
  if (!rules) return error("{} is damaged: {}", path, rules.error().sentence);
  KeptRules kept{std::move(*rules), json["generation"].get<u32>(), {}, ""};
  try {
    kept.switches = json.value("switches", kept.switches);
    kept.modules = json.value("modules", kept.modules);
    kept.configured = json.value("configured", kept.configured);
  } catch (const nlohmann::json::exception&) {
    return error("{} is damaged: its switches cannot be read.", path);
  }
  return kept;
}

Status write_kept(const KeptRules& kept) {
  const nlohmann::json json = {{"generation", kept.generation},
                               {"rules", nlohmann::json::parse(rules_to_json(kept.rules))},
                               {"switches", kept.switches},
                               {"modules", kept.modules},
                               {"configured", kept.configured}};
  return replace_kept_file(kFile, json.dump(1) + "\n");
}

// What was counted under `generation`, whose rules these are. The layout of the slots does not
// depend on interfaces.
void add_counts(RuleSet& rules, const RuleTotals& totals) {
  const CompiledRules compiled = compile_rules(rules, {});
  for (std::size_t i = 0; i < compiled.origins.size() && i < totals.size(); ++i)
    rules.count(compiled.origins[i].chain, compiled.origins[i].rule, totals[i].packets,
                totals[i].bytes);
}

void add_all_counts(const AnyDatapath& datapath, KeptRules& kept) {
  add_counts(kept.rules, datapath.rule_totals(kept.generation & 1));
  add_own_counts(datapath, kept.rules, kept.generation);
}

// What the log of packets calls them.
void name_rules(const RuleSet& rules, const CompiledRules& compiled, RuleHalf& half) {
  for (std::size_t i = 0; i < compiled.slots.size(); ++i) {
    const SlotOrigin origin = compiled.origins[i];
    rules.chains()[origin.chain].name.copy(half.names[i].chain, sizeof half.names[i].chain);
    half.names[i].number = static_cast<u16>(origin.rule + 1);
    half.logs |= (compiled.slots[i].does & kRuleLogs) != 0;
  }
}

// What the switch of UDP mappings asks for. They are open only where both agree.
void set_udp_loose(AnyDatapath& datapath, const KeptRules& kept) {
  const auto at = kept.switches.find(kUdpLooseSwitch);
  const u32 asked = at == kept.switches.end() || at->second.size() != 1 ? kUdpStrict
                    : at->second == "1"                                 ? kUdpLooseHighPorts
                    : at->second == "2"                                 ? kUdpLoose
                                                                        : kUdpStrict;
  Settings& s = datapath.settings();
  s.udp_loose_asked = asked;
  s.filters_open = static_cast<u8>((s.filters_open & kOpenAsConfigured) |
                                   (asked != kUdpStrict ? kOpenAsAsked : 0));
}

// After 65535 changes the numbers begin again; no record may still have one of them.
u32 next_generation(AnyDatapath& datapath, u32 last) {
  if (last < kGenerationMost) return last + 1;
  datapath.forget_judgements();
  return 2;  // the last one was odd: this is the other half
}

// The order: first the half that is not in force, which changes nothing yet; then the kernel's part
// of it (own_rules.h), which is all or nothing and may be refused; then what is kept; and at once
// the switch. Between the second and the last the kernel judges the gateway's own packets by the
// new rules already, and the datapath its copies by the old ones: so what is refused anew is
// refused without an ICMP error for a moment, and nothing passes that neither lets in. `before`:
// what was in force, to go back to.
Status install(AnyDatapath& datapath, KeptRules& kept, const KeptRules& before) {
  const CompiledRules compiled = compile_rules(kept.rules, rule_interfaces(datapath));
  const u32 in_force = datapath.settings().rules_generation;
  kept.generation = next_generation(datapath, std::max(kept.generation, in_force));
  // The half must not be the one in force.
  if (in_force != 0 && ((in_force ^ kept.generation) & 1) == 0) kept.generation += 1;
  datapath.wait_for_readers();
  RuleHalf& half = datapath.tables().rules->halves[kept.generation & 1];
  std::memset(&half, 0, sizeof half);
  fill_half(compiled, kept.forwards(), half);
  name_rules(kept.rules, compiled, half);
  std::memset(&datapath.tables().paths->halves[kept.generation & 1], 0,
              sizeof datapath.tables().paths->halves[0]);
  datapath.clear_rule_totals(kept.generation & 1);
  if (Status status = put_own_rules(datapath, kept.rules, kept.generation); !status) return status;
  if (Status status = write_kept(kept); !status) {
    // Should that fail too, masqd sees at its next look that it is not as it should be.
    (void)put_own_rules(datapath, before.rules, before.generation);
    return status;
  }
  set_udp_loose(datapath, kept);
  __atomic_store_n(&datapath.settings().rules_generation, kept.generation, __ATOMIC_SEQ_CST);
  return Done{};
}

}  // namespace

Status check_targets(const RuleSet& rules) {
  for (const Chain& chain : rules.chains())
    for (const Rule& rule : chain.rules) {
      if (rule.copies)
        return error("Copies of packets (-o) are not there yet: a rule in chain {} asks for them.",
                     chain.name);
    }
  return Done{};
}

void add_target_mistakes(ParsedConfig& parsed) {
  if (!parsed.config.rules || !parsed.mistakes.empty()) return;
  const std::vector<Chain>& chains = parsed.config.rules->chains();
  for (std::size_t place = 0; place < chains.size() && place < parsed.rule_lines.size(); ++place)
    for (std::size_t i = 0; i < parsed.rule_lines[place].size(); ++i) {
      RuleSet alone = RuleSet::plain();
      if (place >= kBuiltInChains) (void)alone.create(chains[place].name);
      (void)alone.append(chains[place].name, chains[place].rules[i]);
      if (Status status = check_targets(alone); !status)
        parsed.mistakes.push_back({parsed.rule_lines[place][i], status.error().sentence});
    }
}

std::vector<RuleInterface> rule_interfaces(const AnyDatapath& datapath) {
  std::vector<RuleInterface> found;
  for (const Interface& each : datapath.interfaces()) {
    char name[IF_NAMESIZE] = {};
    if (each.rule_bit != 0 && if_indextoname(each.ifindex, name) != nullptr)
      found.push_back({name, each.rule_bit - 1u});
  }
  return found;
}

void fill_half(const CompiledRules& compiled, bool forwards, RuleHalf& half) {
  for (u32 i = 0; i < kBuiltInChains; ++i) half.starts[i] = compiled.starts[i];
  half.asks_for_syn = compiled.asks_for_syn;
  half.closed = !forwards;
  std::copy(compiled.slots.begin(), compiled.slots.end(), half.slots);
}

Result<KeptRules> load_rules(const AnyDatapath* datapath) {
  Result<KeptRules> kept = read_kept();
  if (kept && datapath != nullptr && kept->generation != 0 &&
      datapath->settings().rules_generation == kept->generation)
    add_all_counts(*datapath, *kept);
  return kept;
}

Result<RuleChange> RuleChange::begin(AnyDatapath* datapath) {
  Result<Fd> lock = lock_kept_file(kLock);
  if (!lock) return lock.error();
  Result<KeptRules> kept = load_rules(datapath);
  if (!kept) return kept.error();
  return RuleChange(std::move(*lock), std::move(*kept), datapath);
}

Status RuleChange::store(const RuleSet& rules) {
  KeptRules wanted = kept_;
  wanted.rules = rules;
  return store(std::move(wanted));
}

Status RuleChange::store(KeptRules wanted) {
  if (Status status = check_targets(wanted.rules); !status) return status;
  wanted.generation = datapath_ == nullptr ? 0 : kept_.generation;
  Status status = datapath_ == nullptr ? write_kept(wanted) : install(*datapath_, wanted, kept_);
  if (status) kept_ = std::move(wanted);
  return status;
}

Status replace_configured_rules(const Config& config) {
  const std::string text = rules_text(config);
  if (text.empty() && access(run_file(kFile).c_str(), F_OK) != 0) return Done{};
  Result<RuleChange> change = RuleChange::begin(nullptr);
  if (!change) return change.error();
  if (change->kept().configured == text) return Done{};
  KeptRules wanted = change->kept();
  wanted.rules = config.rules ? *config.rules : RuleSet::plain();
  wanted.configured = text;
  return change->store(std::move(wanted));
}

Status keep_rules(AnyDatapath& datapath) {
  // First: the table of nftables is there before the file, while somebody brings the first rules.
  Result<Fd> lock = lock_kept_file(kLock);
  if (!lock) return lock.error();
  if (access(run_file(kFile).c_str(), F_OK) != 0) {
    // Of a gateway that nobody has taken down.
    if (datapath.settings().rules_generation == 0) take_off_own_rules();
    return Done{};
  }
  Result<KeptRules> kept = read_kept();
  if (!kept) return kept.error();
  set_udp_loose(datapath, *kept);
  const u32 in_force = datapath.settings().rules_generation;
  if (in_force != 0 && in_force == kept->generation) {
    const CompiledRules compiled = compile_rules(kept->rules, rule_interfaces(datapath));
    const RuleHalf& half = datapath.tables().rules->halves[in_force & 1];
    if (std::memcmp(half.slots, compiled.slots.data(), compiled.slots.size() * sizeof(RuleSlot)) ==
            0 &&
        own_rules_stand(datapath, kept->rules, in_force))
      return Done{};
    add_all_counts(datapath, *kept);
  }
  KeptRules before = *kept;
  before.generation = in_force;
  return install(datapath, *kept, before);
}

}  // namespace masq
