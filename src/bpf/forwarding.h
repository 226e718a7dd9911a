// The parts of core/forwarded.h as functions that the verifier walks once each.
#pragma once

#include "bpf/kernel_world.h"

namespace masq::bpf {

extern "C" {

__attribute__((noinline)) u32 masq_find_range(u64 wanted) {
  const Settings* settings = first_of<Settings>(mq_settings);
  auto* memory = first_of<ForwardMemory>(mq_forwards);
  if (settings == nullptr || memory == nullptr) return kNoForward;
  return find_range(memory->halves[settings->forwards_generation % kForwardHalves], wanted);
}

__attribute__((noinline)) u32 masq_choose_target(u32 hook, u32 place) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  choose_target(w, scratch->packet, place, scratch->forward_choice);
  return 0;
}

__attribute__((noinline)) u32 masq_forward_of(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return kNoForward;
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  return forward_of(w, scratch->packet);
}

__attribute__((noinline)) u32 masq_marks_arrival(__sk_buff* skb, u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(skb, *settings, *scratch, hook, seen_on(skb, *scratch));
  return marks_arrival(w, scratch->packet);
}

__attribute__((noinline)) u32 masq_judge_forwarded(__sk_buff* skb, u32 hook, u32 inner_ifindex) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(skb, *settings, *scratch, hook, seen_on(skb, *scratch));
  return static_cast<u32>(judge_forwarded(w, scratch->packet, inner_ifindex));
}

__attribute__((noinline)) u32 masq_make_forwarded(__sk_buff* skb, u32 hook, u32 external) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return static_cast<u32>(Reason::internal_error);
  KernelWorld w = world_of(skb, *settings, *scratch, hook);
  if (!open_tables<kRecords | kOuterSlots>(w.tables))
    return static_cast<u32>(Reason::internal_error);
  return static_cast<u32>(make_forwarded(w, scratch->packet, external));
}

__attribute__((noinline)) u32 masq_note_control(u32 hook) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  note_control(w, scratch->packet);
  return 0;
}

__attribute__((noinline)) u32 masq_take_off_flow(u32 hook, u32 index) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (open_tables(w.tables)) take_off_flow(w, index);
  return 0;
}

__attribute__((noinline)) u32 masq_take_off_waiting(u32 hook, u32 index) {
  Scratch* scratch = scratch_of(hook);
  const Settings* settings = first_of<Settings>(mq_settings);
  if (scratch == nullptr || settings == nullptr) return 0;
  KernelWorld w = world_of(nullptr, *settings, *scratch, hook);
  if (open_tables(w.tables)) take_off_waiting(w, index);
  return 0;
}

}  // extern "C"

}  // namespace masq::bpf
