// What the chains of ipchains(8) say of a packet, read off the manual: by names, rule after rule,
// with recursion and a set of the chains that are under way. It shares nothing with core/rules.h
// but the limits, and is slow.
//
// From the manual and the ipchains-HOWTO: a rule that fits counts, is logged, changes the type of
// service, marks, copies, and only then does its target count. RETURN in a built-in chain is its
// policy. A chain that is entered while it is under way refuses the packet. A later fragment fits
// no rule that asks for ports, an ICMP type or a SYN, not even an inverted one.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "policy/rules.h"

namespace masq::test {

struct TwinPacket {
  u32 source = 0, destination = 0;  // host order
  u8 protocol = 0;
  bool has_header = false;  // of TCP, UDP or ICMP
  u32 from_port = 0, to_port = 0;
  bool syn = false, ack = false, rst = false;
  bool later_fragment = false;
  std::string interface;  // empty: one that no rule can name
  u8 tos = 0;
};

struct TwinOutcome {
  RuleTarget verdict = RuleTarget::none;
  u32 redirect_port = 0;
  u8 tos = 0;
  u32 mark = 0;
  bool logged = false, copied = false, policy = false;
  std::vector<std::string> hits;  // "chain number", or "chain end"
};

class ChainTwin {
 public:
  explicit ChainTwin(const RuleSet& rules) : rules_(rules) {}

  TwinOutcome of(const std::string& chain, const TwinPacket& packet) {
    out_ = TwinOutcome{};
    out_.tos = packet.tos;
    under_way_.clear();
    looked_at_ = 0;
    if (enter(chain, packet) == Came::back) end_of_built_in(chain);
    return out_;
  }

 private:
  enum class Came { back, to_a_verdict };

  void end_of_built_in(const std::string& chain) {
    if (!look()) return;
    out_.hits.push_back(chain + " end");
    out_.verdict = rules_.find(chain)->policy;
    out_.policy = true;
  }

  // One more rule, or end of a chain, is looked at.
  bool look() {
    if (++looked_at_ <= kRuleStepsMax) return true;
    out_.verdict = RuleTarget::loop;
    return false;
  }

  Came enter(const std::string& chain, const TwinPacket& packet) {
    const bool too_deep = under_way_.size() > kRuleDepthMax;  // the built-in one is among them
    if (too_deep || under_way_.count(chain) != 0) {
      out_.verdict = RuleTarget::loop;
      return Came::to_a_verdict;
    }
    under_way_.insert(chain);
    const Came came = go_through(chain, packet);
    under_way_.erase(chain);
    return came;
  }

  Came go_through(const std::string& chain, const TwinPacket& packet) {
    const bool is_built_in = under_way_.size() == 1;
    u32 number = 0;
    for (const Rule& rule : rules_.find(chain)->rules) {
      ++number;
      if (!look()) return Came::to_a_verdict;
      if (!fits(rule, packet)) continue;
      out_.hits.push_back(chain + " " + std::to_string(number));
      do_what_it_says(rule);
      if (rule.target == RuleTarget::none) continue;
      if (rule.target == RuleTarget::go_back) return Came::back;
      if (rule.target == RuleTarget::chain) {
        if (enter(rule.chain, packet) == Came::to_a_verdict) return Came::to_a_verdict;
        continue;
      }
      out_.verdict = rule.target;
      if (rule.target == RuleTarget::redirect) out_.redirect_port = rule.redirect_port;
      return Came::to_a_verdict;
    }
    if (is_built_in) return Came::back;
    if (!look()) return Came::to_a_verdict;
    out_.hits.push_back(chain + " end");
    return Came::back;
  }

  void do_what_it_says(const Rule& rule) {
    if (rule.log) out_.logged = true;
    out_.tos = static_cast<u8>((out_.tos & rule.tos_and) ^ rule.tos_xor);
    if (rule.mark_change == MarkChange::set) out_.mark = rule.mark;
    if (rule.mark_change == MarkChange::add) out_.mark += rule.mark;
    if (rule.copies) out_.copied = true;
  }

  static bool fits(const Rule& rule, const TwinPacket& packet) {
    return address_fits(rule.source, packet.source) &&
           address_fits(rule.destination, packet.destination) && interface_fits(rule, packet) &&
           protocol_fits(rule, packet) && fragment_fits(rule, packet) && syn_fits(rule, packet) &&
           ports_fit(rule, packet);
  }

  static bool address_fits(const AddressMatch& match, u32 address) {
    bool equal = true;
    for (u32 bit = 0; bit < 32; ++bit) {
      const u32 one = 1u << bit;
      if ((to_host(match.mask) & one) && (to_host(match.address) & one) != (address & one))
        equal = false;
    }
    return match.inverted ? !equal : equal;
  }

  static bool interface_fits(const Rule& rule, const TwinPacket& packet) {
    if (rule.interface.empty()) return true;
    bool named;
    if (packet.interface.empty())
      named = false;
    else if (rule.any_suffix)
      named = packet.interface.substr(0, rule.interface.size()) == rule.interface;
    else
      named = packet.interface == rule.interface;
    return rule.interface_inverted ? !named : named;
  }

  static bool protocol_fits(const Rule& rule, const TwinPacket& packet) {
    if (rule.protocol == 0) return true;
    if (rule.protocol_inverted) return packet.protocol != rule.protocol;
    return packet.protocol == rule.protocol;
  }

  static bool fragment_fits(const Rule& rule, const TwinPacket& packet) {
    if (rule.later_fragment == Asked::yes) return packet.later_fragment;
    if (rule.later_fragment == Asked::no) return !packet.later_fragment;
    return true;
  }

  static bool syn_fits(const Rule& rule, const TwinPacket& packet) {
    if (rule.syn == Asked::either) return true;
    if (packet.protocol != kProtocolTcp || !packet.has_header) return false;
    const bool opens = packet.syn && !packet.ack && !packet.rst;
    return rule.syn == Asked::yes ? opens : !opens;
  }

  static bool port_fits(const PortMatch& match, u32 port) {
    const bool inside = match.first <= port && port <= match.last;
    return match.inverted ? !inside : inside;
  }

  static bool ports_fit(const Rule& rule, const TwinPacket& packet) {
    if (rule.source_ports.is_any() && rule.destination_ports.is_any()) return true;
    if (!packet.has_header) return false;
    return port_fits(rule.source_ports, packet.from_port) &&
           port_fits(rule.destination_ports, packet.to_port);
  }

  const RuleSet& rules_;
  TwinOutcome out_;
  std::set<std::string> under_way_;
  u32 looked_at_ = 0;
};

}  // namespace masq::test
