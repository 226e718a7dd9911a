// The rules in the kernel: chains are walked by bpf_loop, since there may be thousands of slots.
#pragma once

#include "bpf/sending.h"
#include "core/rewrite.h"

namespace masq::bpf {

// On the stack, so that a slot which does not fit costs no look-up in a map.
struct SlotSearch {
  RuleView view;
  u32 at;
  u32 half;
  u32 hook;
};

static long look_at_slot([[maybe_unused]] u32 turn, void* context) {
  auto* search = static_cast<SlotSearch*>(context);
  auto* rules = first_of<RuleTable>(mq_rules);
  if (rules == nullptr) return 1;
  u32 at = opaque(search->at) & (kRuleSlotsMax - 1);
  const RuleSlot& slot = rules->halves[search->half & 1].slots[at];
  search->at = at + 1;
  if (!rule_fits(slot, search->view)) return 0;
  Scratch* scratch = scratch_of(search->hook);
  if (scratch == nullptr || !rules_take(slot, at, scratch->rules.walk)) return 1;
  search->at = scratch->rules.walk.at;
  return 0;
}

extern "C" {

__attribute__((noinline)) u32 masq_walk_chain(u32 hook, u32 chain) {
  Scratch* scratch = scratch_of(hook);
  auto* rules = first_of<RuleTable>(mq_rules);
  if (scratch == nullptr || rules == nullptr || chain >= kBuiltInChains) return 0;
  RuleWalk& walk = scratch->rules.walk;
  u32 half = scratch->rules.generation & 1u;
  enter_chain(rules->halves[half], scratch->rules, chain);
  SlotSearch search{walk.view, walk.at, half, hook};
  loop(kRuleStepsMax, reinterpret_cast<void*>(look_at_slot), &search, 0);
  if (walk.target == RuleTarget::none) walk.target = RuleTarget::loop;
  return 0;
}

__attribute__((noinline)) u32 masq_log_slot(u32 hook, u32 i, u32 tos) {
  Scratch* scratch = scratch_of(hook);
  auto* rules = first_of<RuleTable>(mq_rules);
  if (scratch != nullptr && rules != nullptr)
    log_slot(*rules, scratch->rules, scratch->packet, i, static_cast<u8>(tos));
  return 0;
}

// At the end of the packet's way, since there is no room on the stack where it is judged.
__attribute__((noinline)) u32 masq_log_slots(u32 hook) {
  struct {
    u32 hook;
    MASQ_INLINE void log_slot(u32 i, u8 tos) { masq_log_slot(hook, i, tos); }
  } world{hook};
  Scratch* scratch = scratch_of(hook);
  auto* rules = first_of<RuleTable>(mq_rules);
  if (scratch != nullptr && rules != nullptr)
    log_slots(world, *rules, scratch->rules, scratch->packet);
  return 0;
}

// Of what the walk has gathered.
__attribute__((noinline)) u32 masq_count_slots(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  if (scratch == nullptr) return 0;
  const RuleWalk& walk = scratch->rules.walk;
  scratch->rules.to_log = (walk.does & kRuleLogs) != 0;
  RuleCount one = rule_count_of(scratch->packet);
  u32 half = (scratch->rules.generation & 1u) * kRuleSlotsMax;
#pragma clang loop unroll(disable)
  for (u32 i = 0; i < kRuleTraceMost; ++i) {
    if (i >= walk.fitted) break;
    u32 at = half + (walk.trace[i] & (kRuleSlotsMax - 1));
    auto* count = static_cast<RuleCount*>(map_lookup(&mq_slot_counts, &at));
    if (count == nullptr) break;
    count->packets += one.packets;
    count->bytes += one.bytes;
  }
  return 0;
}

__attribute__((noinline)) u32 masq_rule_bit(u32 ifindex) {
  const Settings* settings = first_of<Settings>(mq_settings);
  return settings == nullptr ? 0 : rule_bit(*settings, ifindex);
}

__attribute__((noinline)) u32 masq_take_down(u32 hook, u32 direction) {
  Scratch* scratch = scratch_of(hook);
  if (scratch != nullptr) take_down(scratch->rules, direction & 1);
  return 0;
}

__attribute__((noinline)) u32 masq_remember_path(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return open_tables<kRules>(w.tables) ? remember_path(w) : 0;
}

__attribute__((noinline)) u32 masq_judge_side(u32 hook, u32 index, u32 direction, u32 inner,
                                              u32 about_error) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  scratch->rules.said.reason = Reason::internal_error;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (open_tables<kRecords>(w.tables)) judge_side(w, index, direction & 1, inner, about_error != 0);
  return 0;
}

__attribute__((noinline)) u32 masq_judge_alone(u32 hook, u32 chain) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return static_cast<u32>(judge_alone(w, scratch->packet, chain));
}

__attribute__((noinline)) u32 masq_judge_between(u32 hook, u32 to_ifindex) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return static_cast<u32>(judge_between(w, scratch->packet, to_ifindex));
}

__attribute__((noinline)) u32 masq_judge_new(u32 hook, u32 external) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  return static_cast<u32>(judge_new(w, scratch->packet, external));
}

__attribute__((noinline)) u32 masq_judge_flow(u32 hook, u32 index, u32 direction,
                                              u32 inner_ifindex) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (!open_tables<kRecords | kRules>(w.tables)) return static_cast<u32>(Reason::internal_error);
  return static_cast<u32>(judge_flow(w, scratch->packet, index, direction & 1, inner_ifindex));
}

__attribute__((noinline)) u32 masq_judge_and_follow(u32 hook, u32 index, u32 direction,
                                                    u32 inner_ifindex) {
  Scratch* scratch = scratch_of(hook);
  u32 reason = 0;
  if (scratch != nullptr && scratch->rules.generation != 0)
    reason = masq_judge_flow(hook, index, direction, inner_ifindex);
  return reason != 0 ? reason : masq_follow(hook, index, direction);
}

// What the rules change in a packet that may pass.
__attribute__((noinline)) u32 masq_do_as_said(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  if (scratch == nullptr) return 0;
  u32 mark;
  if (marks(scratch->rules.said, mark)) skb->mark = mark;
  change_service(bytes_of(skb), scratch->packet, scratch->rules.said.tos_and,
                 scratch->rules.said.tos_xor);
  return 0;
}

}  // extern "C"

}  // namespace masq::bpf
