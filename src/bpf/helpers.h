// The kernel's BPF interface, in C++: the distribution's helper header is C only.
// Numbers are those of the kernel's stable helper list (include/uapi/linux/bpf.h).
#pragma once

#include <linux/bpf.h>

#include "wire/types.h"

#define SEC(name) __attribute__((section(name), used))

namespace masq::bpf {

// A helper is a call to a small number.
#define MASQ_HELPER(number, result, name, ...) \
  static result (*const name)(__VA_ARGS__) = reinterpret_cast<result (*)(__VA_ARGS__)>(number)

MASQ_HELPER(1, void*, map_lookup, void* map, const void* key);
MASQ_HELPER(10, long, l3_checksum_replace, __sk_buff* skb, u32 offset, u64 from, u64 to, u64 size);
MASQ_HELPER(11, long, l4_checksum_replace, __sk_buff* skb, u32 offset, u64 from, u64 to, u64 flags);
MASQ_HELPER(9, long, store_bytes, __sk_buff* skb, u32 offset, const void* from, u32 len, u64 flags);
MASQ_HELPER(12, long, tail_call, void* ctx, void* programs, u32 index);
MASQ_HELPER(13, long, clone_redirect, __sk_buff* skb, u32 ifindex, u64 flags);
MASQ_HELPER(19, long, vlan_pop, __sk_buff* skb);
MASQ_HELPER(23, long, redirect, u32 ifindex, u64 flags);
MASQ_HELPER(38, long, change_tail, __sk_buff* skb, u32 len, u64 flags);
MASQ_HELPER(39, long, pull_data, __sk_buff* skb, u32 len);
MASQ_HELPER(43, long, change_head, __sk_buff* skb, u32 head_room, u64 flags);
MASQ_HELPER(50, long, adjust_room, __sk_buff* skb, i32 len_diff, u32 mode, u64 flags);
MASQ_HELPER(69, long, fib_lookup, void* ctx, bpf_fib_lookup* params, int size, u32 flags);
MASQ_HELPER(85, bpf_sock*, sk_lookup_udp, void* ctx, bpf_sock_tuple* t, u32 size, u64 netns,
            u64 flags);
MASQ_HELPER(86, long, sk_release, void* sock);
MASQ_HELPER(93, long, spin_lock, bpf_spin_lock* lock);
MASQ_HELPER(94, long, spin_unlock, bpf_spin_lock* lock);
MASQ_HELPER(99, bpf_sock*, skc_lookup_tcp, void* ctx, bpf_sock_tuple* t, u32 size, u64 netns,
            u64 flags);
MASQ_HELPER(113, long, probe_read_kernel, void* to, u32 size, const void* from);
MASQ_HELPER(118, u64, jiffies64);
MASQ_HELPER(152, long, redirect_neigh, u32 ifindex, bpf_redir_neigh* params, int size, u64 flags);
MASQ_HELPER(169, long, timer_init, bpf_timer* timer, void* map, u64 flags);
MASQ_HELPER(170, long, timer_set_callback, bpf_timer* timer, void* callback);
MASQ_HELPER(171, long, timer_start, bpf_timer* timer, u64 ns, u64 flags);
MASQ_HELPER(181, long, loop, u32 turns, void* callback, void* context, u64 flags);

#undef MASQ_HELPER

inline constexpr u32 kTcOk = 0;
inline constexpr u32 kTcShot = 2;

}  // namespace masq::bpf
