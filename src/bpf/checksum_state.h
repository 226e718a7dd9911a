// What the kernel knows of a packet's transport checksum. The program context does not show it.
#pragma once

#include "bpf/helpers.h"

namespace masq::bpf {
extern "C" void* bpf_cast_to_kern_ctx(void*) __attribute__((section(".ksyms"), weak));
}

// The one field that is looked at. Found by its name in the running kernel.
struct sk_buff {
  unsigned char ip_summed : 2;
};

namespace masq::bpf {

// Says whether the kernel keeps account of a checksum of this packet: one that is still to be
// completed (kPartial) or one of all bytes (kComplete). Unknown where neither way of asking is
// there.
enum class Checksum : u32 { none = 0, unnecessary, complete, partial, unknown };

MASQ_INLINE Checksum checksum_state(__sk_buff* skb) {
  sk_buff* kernel = reinterpret_cast<sk_buff*>(skb);
  if (__builtin_preserve_field_info(kernel->ip_summed, 1) != 1) return Checksum::unknown;
  u32 offset = __builtin_preserve_field_info(kernel->ip_summed, 0);
  u32 left = __builtin_preserve_field_info(kernel->ip_summed, 4);
  u32 right = __builtin_preserve_field_info(kernel->ip_summed, 5);
  u8 byte = 0;
  if (bpf_cast_to_kern_ctx != nullptr) {
    byte = *(static_cast<const u8*>(bpf_cast_to_kern_ctx(skb)) + offset);
  } else if (probe_read_kernel(&byte, 1, reinterpret_cast<const u8*>(skb) + offset)) {
    // Before Linux 6.2 the context of a program at tc is the kernel's packet as well, but may only
    // be looked at from afar.
    return Checksum::unknown;
  }
  return static_cast<Checksum>(static_cast<u64>(byte) << left >> right);
}

}  // namespace masq::bpf
