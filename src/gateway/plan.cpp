// Comparing key by key and line by line; judging live flows on a copy; and the change itself.
#include "gateway/plan.h"

#include <algorithm>
#include <map>

#include "core/flows.h"
#include "engine/judge_flows.h"
#include "gateway/gateway.h"
#include "gateway/live.h"
#include "gateway/state.h"
#include "policy/forward_words.h"
#include "policy/rule_words.h"

namespace masq {
namespace {

constexpr const char* kFilterings[] = {"apdf", "adf", "eif"};

std::string names_text(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names.empty() ? "found" : fmt::format("{}", fmt::join(names, ", "));
}

std::string addresses_text(const std::vector<Ipv4>& addresses) {
  std::vector<std::string> names;
  for (Ipv4 each : addresses) names.push_back(address_text(each));
  std::sort(names.begin(), names.end());
  return names.empty() ? "the first of each interface" : fmt::format("{}", fmt::join(names, ", "));
}

std::string filterings_text(const Config& config) {
  std::vector<std::string> names;
  for (const FilteringFor& each : config.filtering_for)
    names.push_back(fmt::format("{}/{} {}", address_text(each.network), each.length,
                                kFilterings[each.filtering]));
  std::sort(names.begin(), names.end());
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string blocks_text(const Config& config) {
  std::vector<std::string> names;
  for (const PortBlocksFor& each : config.port_blocks)
    names.push_back(fmt::format("{}/{} {}", address_text(each.network), each.length, each.ports));
  std::sort(names.begin(), names.end());
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::string ports_text(const Config& config) {
  if (!config.external_ports) return "all but the gateway's own";
  return fmt::format("{}-{}", config.external_ports->first, config.external_ports->last);
}

std::string mss_text(u16 clamp) {
  if (clamp == kMssByMtu) return "auto";
  return clamp == kMssLeft ? "off" : fmt::format("{}", clamp);
}

const char* ipv6_text(Ipv6Mode mode) {
  return mode == Ipv6Mode::block ? "block" : mode == Ipv6Mode::leave ? "leave" : "auto";
}

const char* switch_text(bool on) {
  return on ? "true" : "false";
}

bool same_names(std::vector<std::string> a, std::vector<std::string> b) {
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  return a == b;
}

// What is not named stays as it is.
Config with_what_stays(const Config& wanted, const Config& then) {
  Config config = wanted;
  if (config.external.empty()) config.external = then.external;
  if (config.internal.empty()) config.internal = then.internal;
  if (config.datapath == "auto") config.datapath = then.datapath;
  if (config.flows_max == 0) config.flows_max = then.flows_max;
  if (!config.external_ports) config.external_ports = then.external_ports;
  return config;
}

class Comparison {
 public:
  Comparison(const Config& wanted, const Config& then, const AnyDatapath& datapath,
             std::vector<KeyChange>& keys)
      : wanted_(wanted), then_(then), datapath_(datapath), keys_(keys) {}

  void compare() {
    compare_fixed();
    compare_live();
    compare_timers();
  }

 private:
  template <class Text>
  void differs(bool is, const char* key, KeyNeeds needs, Text text) {
    if (is) keys_.push_back({key, text(then_), text(wanted_), needs});
  }

  void compare_fixed() {
    const Settings& s = datapath_.settings();
    Result<SavedState> state = load_state();
    const OurInterfaces none, &ours = state ? state->interfaces : none;
    auto names = [&](const char* key, const std::vector<std::string>& asked,
                     const std::vector<std::string>& running) {
      if (!asked.empty() && !same_names(asked, running))
        keys_.push_back({key, names_text(running), names_text(asked), KeyNeeds::restart});
    };
    names("external", wanted_.external, ours.external);
    names("internal", wanted_.internal, ours.internal);
    differs(differ_in_addresses(wanted_, then_), "external_addresses", KeyNeeds::restart,
            [](const Config& c) { return addresses_text(c.external_addresses); });
    const char* const ipv6_now = s.block_ipv6 ? "block" : "leave";
    if (wanted_.ipv6 != Ipv6Mode::automatic && std::string(ipv6_now) != ipv6_text(wanted_.ipv6))
      keys_.push_back({"ipv6", ipv6_now, ipv6_text(wanted_.ipv6), KeyNeeds::restart});
    differs(wanted_.take_over_streams != then_.take_over_streams, "take_over_streams",
            KeyNeeds::restart, [](const Config& c) { return switch_text(c.take_over_streams); });
    if (wanted_.datapath != "auto" && wanted_.datapath != datapath_.name())
      keys_.push_back({"datapath", datapath_.name(), wanted_.datapath, KeyNeeds::down});
    if (wanted_.flows_max != 0 && wanted_.flows_max != s.flows_max)
      keys_.push_back({"flows_max", std::to_string(s.flows_max), std::to_string(wanted_.flows_max),
                       KeyNeeds::down});
    differs(asks_for_other_ports(wanted_, s), "external_ports", KeyNeeds::down, ports_text);
    differs(asks_for_other_blocks(wanted_, s), "port_blocks", KeyNeeds::down, blocks_text);
  }

  void compare_live() {
    const Settings& s = datapath_.settings();
    differs(wanted_.filtering != then_.filtering, "filtering", KeyNeeds::live,
            [](const Config& c) { return kFilterings[c.filtering]; });
    differs(differ_in_filtering_for(wanted_, then_), "filtering_for", KeyNeeds::live,
            filterings_text);
    Settings limited = s;
    set_host_limits(limited, wanted_);
    for (const HostLimit& limit : kHostLimits)
      if (limited.*limit.used != s.*limit.used)
        keys_.push_back({limit.key, std::to_string(s.*limit.used),
                         std::to_string(limited.*limit.used), KeyNeeds::live});
    differs(wanted_.reset_replaced != (s.resets_replaced != 0), "dead_address", KeyNeeds::live,
            [](const Config& c) { return c.reset_replaced ? "reset" : "silent"; });
    differs(wanted_.udp_loose != s.udp_loose, "udp_loose", KeyNeeds::live,
            [](const Config& c) { return std::to_string(c.udp_loose); });
    differs(wanted_.mss_clamp != s.mss_clamp, "mss_clamp", KeyNeeds::live,
            [](const Config& c) { return mss_text(c.mss_clamp); });
    differs(wanted_.udp_refresh_inbound != (s.udp_refresh_inbound != 0), "udp_refresh_inbound",
            KeyNeeds::live, [](const Config& c) { return switch_text(c.udp_refresh_inbound); });
  }

  void compare_timers() {
    const Settings& s = datapath_.settings();
    const std::tuple<const char*, u32, Ticks> timers[] = {
        {"timeouts.tcp_established_s", wanted_.tcp_established_s, s.tcp_established},
        {"timeouts.tcp_opening_s", wanted_.tcp_opening_s, s.tcp_opening},
        {"timeouts.tcp_closing_s", wanted_.tcp_closing_s, s.tcp_closing},
        {"timeouts.udp_s", wanted_.udp_s, s.udp},
        {"timeouts.dns_s", wanted_.dns_s, s.dns},
        {"timeouts.icmp_s", wanted_.icmp_s, s.icmp}};
    for (const auto& [key, asked, is] : timers)
      if (ticks_from_s(asked) != is)
        keys_.push_back(
            {key, std::to_string(seconds_from_ticks(is)), std::to_string(asked), KeyNeeds::live});
  }

  const Config &wanted_, &then_;
  const AnyDatapath& datapath_;
  std::vector<KeyChange>& keys_;
};

// Which lines of `after` were there before, in order: the longest common sequence, as diff(1) has
// it. 0: not there; else one more than the place in `before`.
std::vector<std::size_t> kept_lines(const std::vector<std::string>& before,
                                    const std::vector<std::string>& after) {
  std::vector<std::size_t> from(after.size(), 0);
  std::size_t begin = 0, end_a = before.size(), end_b = after.size();
  for (; begin < end_a && begin < end_b && before[begin] == after[begin]; ++begin)
    from[begin] = begin + 1;
  for (; end_a > begin && end_b > begin && before[end_a - 1] == after[end_b - 1]; --end_a, --end_b)
    from[end_b - 1] = end_a;
  // What is between them: at most kRuleSlotsMax squared, 32 MB.
  const std::size_t rows = end_a - begin + 1, columns = end_b - begin + 1;
  std::vector<u16> longest(rows * columns, 0);
  for (std::size_t a = rows - 1; a-- > 0;)
    for (std::size_t b = columns - 1; b-- > 0;)
      longest[a * columns + b] =
          before[begin + a] == after[begin + b]
              ? static_cast<u16>(longest[(a + 1) * columns + b + 1] + 1)
              : std::max(longest[(a + 1) * columns + b], longest[a * columns + b + 1]);
  for (std::size_t a = 0, b = 0; a + 1 < rows && b + 1 < columns;) {
    if (before[begin + a] == after[begin + b]) {
      from[begin + b] = begin + a + 1;
      a += 1;
      b += 1;
    } else if (longest[(a + 1) * columns + b] >= longest[a * columns + b + 1]) {
      a += 1;
    } else {
      b += 1;
    }
  }
  return from;
}

std::vector<std::string> lines_of(const Chain& chain) {
  std::vector<std::string> lines;
  for (const Rule& rule : chain.rules) lines.push_back(words_of(rule));
  return lines;
}

// What has gone and what has come, each before what stays behind it.
void add_line_changes(const std::string& chain, const std::vector<std::string>& before,
                      const std::vector<std::string>& after, const std::vector<std::size_t>& from,
                      std::vector<LineChange>& changes) {
  std::size_t next = 0;
  for (std::size_t b = 0; b < after.size(); ++b) {
    if (from[b] == 0) {
      changes.push_back({chain, true, after[b]});
      continue;
    }
    for (; next + 1 < from[b]; ++next) changes.push_back({chain, false, before[next]});
    next = from[b];
  }
  for (; next < before.size(); ++next) changes.push_back({chain, false, before[next]});
}

std::string policy_line(const Chain& chain) {
  return fmt::format("policy = \"{}\"", policy_word(chain.policy));
}

// Rules that stay go on counting.
void compare_rules(const RuleSet& before, RuleSet& after, std::vector<LineChange>& changes) {
  for (const Chain& old : before.chains()) {
    if (after.find(old.name) != nullptr) continue;
    for (const Rule& rule : old.rules) changes.push_back({old.name, false, words_of(rule)});
    changes.push_back({old.name, false, "the chain itself"});
  }
  for (std::size_t place = 0; place < after.chains().size(); ++place) {
    const std::string name = after.chains()[place].name;
    const Chain* old = before.find(name);
    const std::vector<std::string> lines = lines_of(after.chains()[place]);
    if (old == nullptr) {
      changes.push_back({name, true, "the chain itself"});
      for (const std::string& line : lines) changes.push_back({name, true, line});
      continue;
    }
    if (old->policy != after.chains()[place].policy) {
      changes.push_back({name, false, policy_line(*old)});
      changes.push_back({name, true, policy_line(after.chains()[place])});
    }
    const std::vector<std::string> old_lines = lines_of(*old);
    const std::vector<std::size_t> from = kept_lines(old_lines, lines);
    add_line_changes(name, old_lines, lines, from, changes);
    for (std::size_t rule = 0; rule < lines.size(); ++rule)
      if (from[rule] != 0)
        after.count(place, rule, old->rules[from[rule] - 1].packets,
                    old->rules[from[rule] - 1].bytes);
    if (old->policy == after.chains()[place].policy)
      after.count(place, lines.size(), old->packets, old->bytes);
  }
}

void plan_rules(const Config& wanted, const KeptRules& rules, Plan& plan) {
  plan.wanted_rules = rules;
  const std::string text = rules_text(wanted);
  if (!wanted.rules && rules.configured.empty()) {
    if (!rules.rules.is_plain())
      plan.remarks.push_back(
          "The configuration has no rules; those in force were made by commands, and stay.");
    return;
  }
  RuleSet after = wanted.rules ? *wanted.rules : RuleSet::plain();
  compare_rules(rules.rules, after, plan.rules);
  // The same rules in another order of the chains are the same.
  if (!plan.rules.empty()) plan.wanted_rules.rules = std::move(after);
  plan.wanted_rules.configured = text;
}

Status plan_forwards(const Config& config, const Forwards& forwards, Plan& plan) {
  Result<Forwards> configured = configured_forwards(config);
  if (!configured) return configured.error();
  std::map<std::string, bool> wanted;  // and is it there?
  for (const Forward& each : configured->list) wanted[words_of(each)] = false;
  for (const Forward& each : forwards.list) {
    const auto at = wanted.find(words_of(each));
    if (each.maker != ForwardMaker::config || at != wanted.end()) {
      plan.wanted_forwards.list.push_back(each);
      if (each.maker == ForwardMaker::config) at->second = true;
      continue;
    }
    plan.forwards.push_back({"", false, words_of(each)});
    plan.forwards_gone.push_back(each.place);
  }
  for (const Forward& each : configured->list) {
    if (wanted[words_of(each)]) continue;
    plan.forwards.push_back({"", true, words_of(each)});
    if (Result<u16> place = add_forward(plan.wanted_forwards, each); !place)
      return error("The forward \"{}\" cannot be made: {}", words_of(each), place.error().sentence);
  }
  return check_forwards(plan.wanted_forwards);
}

}  // namespace

std::vector<std::string> Plan::keys_that_need(KeyNeeds needs) const {
  std::vector<std::string> found;
  for (const KeyChange& each : keys)
    if (each.needs == needs) found.push_back(each.key);
  return found;
}

void copy_live_settings(const Settings& from, Settings& to) {
  to.tcp_established = from.tcp_established;
  to.tcp_opening = from.tcp_opening;
  to.tcp_closing = from.tcp_closing;
  to.udp = from.udp;
  to.dns = from.dns;
  to.icmp = from.icmp;
  to.udp_refresh_inbound = from.udp_refresh_inbound;
  to.mss_clamp = from.mss_clamp;
  to.filtering = from.filtering;
  for (u32 i = 0; i < kFilterRulesMax; ++i) to.filters[i] = from.filters[i];
  to.udp_loose = from.udp_loose;
  // What a script has asked for stays.
  to.filters_open = static_cast<u8>((from.filters_open & kOpenAsConfigured) |
                                    (to.filters_open & ~kOpenAsConfigured));
  to.resets_replaced = from.resets_replaced;
}

Result<Plan> make_plan(const Config& wanted, const Config& then, const AnyDatapath& datapath,
                       const KeptRules& rules, const Forwards& forwards) {
  Plan plan;
  plan.config = with_what_stays(wanted, then);
  Comparison(wanted, then, datapath, plan.keys).compare();
  if (Status status = check_targets(wanted.rules ? *wanted.rules : RuleSet::plain()); !status)
    return status.error();
  plan_rules(wanted, rules, plan);
  if (Status status = plan_forwards(wanted, forwards, plan); !status) return status.error();
  Result<Settings> settings = settings_for(plan.config);
  if (!settings) return settings.error();
  plan.settings = *settings;
  return plan;
}

Result<AffectedFlows> affected_flows(const AnyDatapath& datapath, const Plan& plan) {
  AffectedFlows affected;
  if (plan.rules.empty() && plan.forwards_gone.empty()) return affected;
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  Result<std::unique_ptr<Questions>> questions = Questions::open(datapath, *network);
  if (!questions) return questions.error();
  Result<Snapshot> snapshot = Snapshot::take(datapath);
  if (!snapshot) return snapshot.error();
  const Tables& t = snapshot->tables();
  const Settings& s = datapath.settings();
  const u32 in_force = s.rules_generation;
  RuleHalf& after = t.rules->halves[(in_force + 1) & 1];
  memset(&after, 0, sizeof after);
  fill_half(compile_rules(plan.wanted_rules.rules, rule_interfaces(datapath)),
            plan.wanted_rules.forwards(), after);
  std::map<u32, u32> inner_bits;  // of each inner host
  const Ticks now = datapath.now();
  for (u32 index = 1; index < t.records_max; ++index) {
    const Record& r = t.records[index];
    if (r.state < State::udp || !masq::in_force(s, r, now)) continue;
    const u16 forward = static_cast<u16>(r.forward - 1);
    if (r.forward != 0 && std::count(plan.forwards_gone.begin(), plan.forwards_gone.end(), forward))
      affected.of_gone_forwards += 1;
    if (plan.rules.empty()) continue;
    const auto [bit, is_new] = inner_bits.try_emplace(r.internal_address.be, 0);
    if (is_new && !(r.flags & kFlagLocal))
      bit->second = rule_bit(s, (*questions)->route(r.internal_address, Ipv4{0}).ifindex);
    const FlowJudgement will = judge_known_flow(t, s, in_force + 1, index, bit->second);
    FlowJudgement is{Reason::none, Reason::none};
    if (in_force != 0) is = judge_known_flow(t, s, in_force, index, bit->second);
    const Reason reason = will.out != Reason::none ? will.out : will.in;
    if (reason == Reason::none || is.out != Reason::none || is.in != Reason::none) continue;
    affected.refused.push_back(
        {r.protocol, r.internal_address, r.remote_address, r.internal_port, r.remote_port, reason});
  }
  if (!(*questions)->failure().empty()) return Error{(*questions)->failure()};
  return affected;
}

std::string why_not_live(const Plan& plan) {
  const std::vector<std::string> down = plan.keys_that_need(KeyNeeds::down),
                                 restart = plan.keys_that_need(KeyNeeds::restart);
  std::string text;
  if (!down.empty())
    text = fmt::format("To change {}, `masq down` has to come first.", fmt::join(down, ", "));
  if (!restart.empty())
    text += fmt::format(
        "{}To change {}, end masqd (`masq status` has its process) and run `masq up --config` with "
        "this file: it goes on with all flows.",
        text.empty() ? "" : " ", fmt::join(restart, ", "));
  return text;
}

Config running_config() {
  const std::string kept = kept_config();
  return kept.empty() ? Config{} : load_config(kept).config;
}

Result<Plan> apply_config(const Config& wanted, AnyDatapath& datapath) {
  Result<RuleChange> rules = RuleChange::begin(&datapath);
  if (!rules) return rules.error();
  Result<ForwardChange> forwards = ForwardChange::begin(&datapath);
  if (!forwards) return forwards.error();
  const Config then = running_config();
  const KeptRules old_rules = rules->kept();
  const Forwards old_forwards = forwards->forwards();
  Result<Plan> plan = make_plan(wanted, then, datapath, old_rules, old_forwards);
  if (!plan) return plan.error();
  if (std::string why = why_not_live(*plan); !why.empty()) return Error{why};
  if (Status status = keep_config(plan->config); !status) return status.error();
  Status status = plan->forwards.empty() ? Status(Done{}) : forwards->store(plan->wanted_forwards);
  // Also where only the note of whose rules they are is another.
  const bool stores = !plan->rules.empty() || plan->wanted_rules.configured != old_rules.configured;
  if (status && stores) {
    status = rules->store(plan->wanted_rules);
    if (!status && !plan->forwards.empty()) (void)forwards->store(old_forwards);
  }
  if (!status) {
    if (Status undone = keep_config(then); !undone)
      return error("{} And {}", status.error().sentence, undone.error().sentence);
    return status.error();
  }
  copy_live_settings(plan->settings, datapath.settings());
  set_host_limits(datapath.settings(), plan->config);
  return plan;
}

}  // namespace masq
