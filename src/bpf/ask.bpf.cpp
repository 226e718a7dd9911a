// The program that `masq explain` runs to put the core's questions to the kernel. It has no maps,
// is attached nowhere and changes nothing: the question comes in a test packet and leaves in it
// answered.
// License: Apache-2.0 or GPL-2.0, at your choice; the kernel wants to be told the latter.
#include "bpf/questions.h"
#include "wire/cursor.h"

namespace masq::bpf {

extern "C" {

SEC("tc") int masq_ask(__sk_buff* skb) {
  unsigned long begin = skb->data, end = skb->data_end;
  Bytes bytes{reinterpret_cast<u8*>(begin), reinterpret_cast<u8*>(end)};
  Question* q = header_at<Question>(bytes, kEthernetHeaderLength);
  if (q == nullptr) return 1;
  Question copy = *q;
  if (copy.about_socket) {
    bpf_sock_tuple tuple;
    copy.answer = ask_socket(skb, tuple, copy.protocol, copy.destination, copy.destination_port,
                             copy.source, copy.source_port);
  } else {
    bpf_fib_lookup params;
    copy.answer = static_cast<u32>(
        ask_fib(skb, params, copy.loopback_ifindex, copy.destination, copy.source));
    copy.ifindex = params.ifindex;
    copy.next_hop = Ipv4{params.ipv4_dst};
  }
  *q = copy;
  return 0;
}

char masq_ask_license[] SEC("license") = "GPL";

}  // extern "C"

}  // namespace masq::bpf
