// The little of a World that judge_side asks for.
#include "engine/judge_flows.h"

namespace masq {
namespace {

struct JudgingWorld {
  const Tables& tables;
  const Settings& settings;
  u32 half;
  RuleScratch judging{};

  RuleScratch& rules() { return judging; }
  u32 rule_bit(u32 ifindex) const { return masq::rule_bit(settings, ifindex); }
  void walk_chain(u32 chain) {
    const RuleHalf& rules = tables.rules->halves[half & 1];
    enter_chain(rules, judging, chain);
    rules_walk(rules.slots, kRuleSlotsMax, judging.walk);
  }
};

constexpr u16 kEchoRequest = 8, kEchoReply = 0;

}  // namespace

FlowJudgement judge_known_flow(const Tables& tables, const Settings& settings, u32 half, u32 index,
                               u32 inner_bit) {
  FlowJudgement judgement{Reason::none, Reason::none};
  const Record* r = record_at(tables, index);
  if (r == nullptr) return judgement;
  JudgingWorld world{tables, settings, half};
  for (u32 direction = kOut; direction <= kIn; ++direction) {
    rules_clear(settings, world.judging, 0);
    RuleView& view = world.judging.walk.view;
    view = view_of(settings, *r, direction);
    if (r->protocol == kProtocolIcmp) {
      // What a forward has let in is asked from outside.
      const bool asks = (direction == kOut) == (r->forward == 0);
      view.source_port = asks ? kEchoRequest : kEchoReply;
      view.destination_port = 0;
    }
    judge_side(world, index, direction, inner_bit, false);
    (direction == kOut ? judgement.out : judgement.in) = world.judging.said.reason;
  }
  return judgement;
}

}  // namespace masq
