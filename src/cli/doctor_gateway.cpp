// The rungs that are about masq itself: its processes, rules, forwards, tables and counts.
//
// Limits: whether a forward's target serves its port is not tried, for that would be a connection
// to somebody's service; it is asked by ARP whether the host is there. Counts are those since the
// gateway was started, so what they tell may be over.
#include <algorithm>
#include <iterator>
#include <set>

#include "cli/advice.h"
#include "cli/doctor_rungs.h"
#include "cli/report.h"
#include "core/hosts.h"
#include "core/slow.h"
#include "gateway/machine.h"
#include "gateway/probe.h"
#include "policy/forward_words.h"

namespace masq {
namespace {

constexpr u32 kFullNote_percent = 90;

// What strangers cause, or programs of inner hosts that are as they are, says nothing of the
// gateway; these do.
constexpr Reason kTelling[] = {
    Reason::slow_path_down,
    Reason::slow_path_busy,
    Reason::slow_path_full,
    Reason::no_route,
    Reason::other_interface,
    Reason::wrong_zone,
    Reason::too_big,
    Reason::no_external_address,
    Reason::forwarding_off,
    Reason::rules_deny,
    Reason::rules_not_masqueraded,
    Reason::rules_misplaced,
    Reason::rules_loop,
    Reason::flow_table_full,
    Reason::ports_exhausted,
    Reason::host_flows,
    Reason::host_ports,
    Reason::host_opening,
    Reason::host_rate,
    Reason::hosts_full,
    Reason::fragment_table_full,
    Reason::hairpin,
    Reason::egress_guard,
    Reason::contention,
    Reason::spoofed_source,
    Reason::internal_error,
};

std::string first_sentence(const std::string& text) {
  const std::size_t end = text.find(". ");
  return end == std::string::npos ? text : text.substr(0, end + 1);
}

void look_for_other_daemons(const Seen& seen, Findings& findings) {
  for (const int process : processes_here("masqd")) {
    if (process == seen.daemon) continue;
    findings.push_back(
        {"gateway", Health::wrong,
         fmt::format("Another masqd runs in this network namespace, as process {}.", process),
         "`masq down` ends the one that has the gateway; if the other one stays, end it by its "
         "number."});
  }
}

}  // namespace

void look_at_gateway(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"gateway", health, what, advice});
  };
  look_for_other_daemons(seen, findings);
  if (!seen.may_not_look.empty()) return say(Health::unseen, seen.may_not_look, "");
  if (seen.datapath == nullptr)
    return say(Health::wrong, "masq is not running in this network namespace.",
               "`masq up` starts it.");
  const AnyDatapath& datapath = *seen.datapath;
  const bool in_kernel = datapath.outlives_daemon();
  if (seen.daemon < 0)
    say(Health::note, "Another command changes the gateway at this moment.", "Ask again.");
  else if (seen.daemon == 0)
    say(Health::wrong,
        in_kernel ? "masqd is not running: traffic goes on, but nobody follows interfaces and "
                    "addresses."
                  : "masqd, which carries the packets, is not running: nothing passes.",
        "`masq up` starts it, with the flows.");
  else
    say(Health::ok,
        fmt::format("masqd is process {}; {} carries the packets.", seen.daemon,
                    in_kernel ? "the kernel" : "masqd"),
        "");
  // Without masqd nobody sweeps in user space, which has just been said.
  if ((in_kernel || seen.daemon > 0) && !sweeps(datapath))
    say(Health::wrong, "The sweeper stands still: flows that have ended keep their ports.",
        "`masq up` sets it going; if masqd runs, `masq down` and `masq up`.");
  const u32 now = datapath.now();
  if (datapath.settings().slow_ifindex == 0 ||
      elapsed(now, datapath.tables().shared->slow_beat, kSlowFresh))
    say(Health::note,
        "The slow path is not there: fragments out of order, and what must be cut, are refused.",
        "It needs /dev/net/tun; masqd starts its process anew every second.");
}

namespace {

bool leads_to_masquerade(const RuleSet& rules, const std::string& chain,
                         std::set<std::string>& been) {
  const Chain* at = rules.find(chain);
  if (at == nullptr || !been.insert(chain).second) return false;
  if (at->policy == RuleTarget::masquerade) return true;
  return std::any_of(at->rules.begin(), at->rules.end(), [&](const Rule& rule) {
    return rule.target == RuleTarget::masquerade ||
           (rule.target == RuleTarget::chain && leads_to_masquerade(rules, rule.chain, been));
  });
}

bool names_link(const Rule& rule, const std::string& link) {
  return rule.any_suffix ? link.starts_with(rule.interface) : link == rule.interface;
}

bool is_one_host(const AddressMatch& match) {
  return match.mask.be == ~0u && !match.inverted && to_host(match.address) >> 28 != 14 &&
         match.address.be != ~0u;
}

// The address of the gateway that a rule of `input` or `output` asks for, and that it has not: on
// the external side nothing else can be behind those.
std::optional<Ipv4> stale_address(const Seen& seen, const Chain& chain, const Rule& rule) {
  if (rule.interface.empty() || rule.interface_inverted) return std::nullopt;
  const auto outside = seen.links(seen.ours.external);
  if (std::none_of(outside.begin(), outside.end(),
                   [&](const Link* each) { return names_link(rule, each->name); }))
    return std::nullopt;
  const AddressMatch* match = chain.name == "input"    ? &rule.destination
                              : chain.name == "output" ? &rule.source
                                                       : nullptr;
  if (match == nullptr || !is_one_host(*match) || seen.is_own(match->address)) return std::nullopt;
  return match->address;
}

void look_at_rule(const Seen& seen, const Chain& chain, std::size_t number, const Rule& rule,
                  Findings& findings) {
  if (const auto stale = stale_address(seen, chain, rule))
    findings.push_back(
        {"rules", Health::wrong,
         fmt::format("Rule {} of {} is about {}, which the gateway has not.", number, chain.name,
                     to_text(*stale)),
         "Has the external address changed? Run the script again, or leave the address out."});
  const auto& links = seen.network.links;
  if (!rule.interface.empty() && !rule.interface_inverted &&
      std::none_of(links.begin(), links.end(),
                   [&](const Link& each) { return names_link(rule, each.name); }))
    findings.push_back({"rules", Health::note,
                        fmt::format("Rule {} of {} is about the interface {}, which is not there.",
                                    number, chain.name, rule.interface),
                        rule.interface.find(':') == std::string::npos
                            ? "Is the name right?"
                            : "An alias is no interface; name the interface, and the address."});
}

}  // namespace

void look_at_rules(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"rules", health, what, advice});
  };
  if (!seen.no_rules.empty())
    return say(seen.is_root ? Health::wrong : Health::unseen, seen.no_rules, "");
  if (!seen.may_not_look.empty())
    return say(Health::unseen, "The rules of a running gateway were not looked at.", "");
  const std::size_t before = findings.size();
  if (!seen.rules.forwards())
    say(Health::wrong, "The switch ip_forward of the gateway is 0: nothing passes.",
        "The script lacks `echo 1 > /proc/sys/net/ipv4/ip_forward`; add it, and run it again by "
        "`masq run-script`.");
  const RuleSet& rules = seen.rules.rules;
  std::set<std::string> been;
  if (!leads_to_masquerade(rules, "forward", been))
    say(Health::wrong,
        "No rule of the chain forward leads to MASQ: nothing of the inside gets out.",
        fmt::format("`ipchains -A forward -i {} -s NETWORK -j MASQ` lets the hosts of that network "
                    "out.",
                    seen.ours.external.empty() ? "IF" : seen.ours.external.front()));
  for (const Chain& chain : rules.chains())
    for (std::size_t i = 0; i < chain.rules.size(); ++i)
      look_at_rule(seen, chain, i + 1, chain.rules[i], findings);
  if (findings.size() != before) return;
  say(Health::ok,
      rules.is_plain() ? "There are none; all that the inside sends is masqueraded."
                       : "They let the inside out.",
      "");
}

namespace {

// Every target once, by the inner link that it is on; and what there is to say of the others.
std::map<const Link*, std::vector<Ipv4>> targets_by_link(const Seen& seen, Findings& findings) {
  std::map<const Link*, std::vector<Ipv4>> by_link;
  std::set<u32> been;
  for (const Forward& forward : seen.forwards.list)
    for (const ForwardTo& to : forward.targets) {
      if (to.address.be == 0 || !been.insert(to.address.be).second) continue;
      if (const Link* link = seen.inner_link_of(to.address))
        by_link[link].push_back(to.address);
      else
        findings.push_back(
            {"forwards", Health::note,
             fmt::format("{}, where \"{}\" leads, is on none of the inner networks.",
                         to_text(to.address), words_of(forward)),
             "Is the address right? A route by an inner interface must lead there."});
    }
  return by_link;
}

void look_for_silent_targets(const Seen& seen, Findings& findings) {
  std::size_t left_out = 0;
  for (const auto& [link, targets] : targets_by_link(seen, findings)) {
    if (!link->running) continue;  // said before
    if (targets.size() > kArpTargetsMost) left_out += targets.size() - kArpTargetsMost;
    Result<ArpAnswers> answers = ask_arp(*link, targets, false);
    if (!answers) {
      findings.push_back({"forwards", Health::unseen, answers.error().sentence + ".", ""});
      continue;
    }
    for (const auto& [address, heard] : *answers)
      if (heard.empty())
        findings.push_back({"forwards", Health::wrong,
                            fmt::format("{} on {}, where a forward leads, does not answer to ARP.",
                                        to_text(Ipv4{address}), link->name),
                            "Is that host on, and is its address right?"});
  }
  if (left_out != 0)
    findings.push_back({"forwards", Health::unseen,
                        fmt::format("{} more targets were not asked; {} on an interface are.",
                                    left_out, kArpTargetsMost),
                        ""});
}

bool is_of(ForwardProtocol protocol, u8 number) {
  return protocol == ForwardProtocol::both ||
         number == (protocol == ForwardProtocol::tcp ? kProtocolTcp : kProtocolUdp);
}

void look_for_hidden_services(const Seen& seen, Findings& findings) {
  const std::vector<Listener> listeners = read_listeners();
  for (const Forward& forward : seen.forwards.list) {
    if (forward.kind != ForwardKind::plain) continue;
    for (const Listener& each : listeners) {
      const bool same_address = each.address.be == 0 || forward.external.be == 0
                                    ? true
                                    : same(each.address, forward.external);
      // What is bound to the loopback or an inner address, the outside never reached.
      const bool inner = each.address.be != 0 &&
                         (to_host(each.address) >> 24 == 127 || seen.inner_link_of(each.address));
      if (!same_address || inner || !is_of(forward.protocol, each.protocol) ||
          each.port < forward.first || each.port > forward.last)
        continue;
      findings.push_back(
          {"forwards", Health::note,
           fmt::format(
               "A program of the gateway listens at {} port {}, which \"{}\" takes from it.",
               each.protocol == kProtocolTcp ? "tcp" : "udp", each.port, words_of(forward)),
           "From outside only the inner host is reached there."});
    }
  }
}

}  // namespace

void look_at_forwards(const Seen& seen, Findings& findings) {
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"forwards", health, what, advice});
  };
  if (!seen.no_forwards.empty())
    return say(seen.is_root ? Health::wrong : Health::unseen, seen.no_forwards, "");
  if (!seen.may_not_look.empty())
    return say(Health::unseen, "The forwards of a running gateway were not looked at.", "");
  if (seen.forwards.list.empty()) return say(Health::ok, "There are none.", "");
  const std::size_t before = findings.size();
  for (const Forward& forward : seen.forwards.list)
    if (forward.external.be != 0 && !seen.is_own(forward.external))
      say(Health::wrong,
          fmt::format("\"{}\" is at {}, which the gateway has not.", words_of(forward),
                      to_text(forward.external)),
          "Without `--at` a forward follows the external address.");
  look_for_silent_targets(seen, findings);
  look_for_hidden_services(seen, findings);
  if (findings.size() == before)
    say(Health::ok,
        fmt::format("{}; the hosts to which they lead answer.", seen.forwards.list.size()), "");
}

void look_at_tables(const Seen& seen, Findings& findings) {
  if (seen.datapath == nullptr) return;
  auto say = [&](Health health, const std::string& what, const std::string& advice) {
    findings.push_back({"tables", health, what, advice});
  };
  const u64 flows = seen.datapath->tables().shared->flows;
  const u64 most = seen.datapath->settings().flows_max;
  const std::string how = fmt::format("{} of {} flows are in use", flows, most);
  if (flows >= most)
    say(Health::wrong, how + ": no host can begin another.",
        "`masq hosts` says who has them; --flows-max allows more.");
  else if (flows * 100 >= most * kFullNote_percent)
    say(Health::note, how + ".", "`masq hosts` says who has them; --flows-max allows more.");
  else
    say(Health::ok, how + ".", "");
  const nlohmann::json hosts = hosts_json(*seen.datapath);
  const nlohmann::json* worst = nullptr;
  for (const nlohmann::json& each : hosts)
    if (each["refused"] != 0 && (worst == nullptr || each["refused"] > (*worst)["refused"]))
      worst = &each;
  if (worst != nullptr)
    say(Health::note,
        fmt::format("{} has been refused {} flows beyond the limits of one host.",
                    (*worst)["host"].get<std::string>(), (*worst)["refused"].get<u64>()),
        "What does it do? `masq flows` shows it; --host-flows and its like raise the limits.");
}

void look_at_refusals(const Seen& seen, Findings& findings) {
  if (seen.datapath == nullptr) return;
  const CounterTotals totals = seen.datapath->counters();
  const std::size_t before = findings.size();
  for (const Reason reason : kTelling) {
    const u64 count = totals.reasons[static_cast<u32>(reason)];
    if (count == 0) continue;
    findings.push_back(
        {"refused", Health::note,
         fmt::format("{} packets ({}): {}.", count, reason_name(reason), reason_sentence(reason)),
         first_sentence(advice_for(reason_name(reason)))});
  }
  if (findings.size() == before)
    findings.push_back({"refused", Health::ok, "Nothing that tells of a fault.", ""});
}

}  // namespace masq
