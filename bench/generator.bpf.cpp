// The kernel's half of the small-packet benchmark: a generator and a sink, both XDP.
//
// bench_generate runs under BPF_PROG_TEST_RUN with live frames on the gateway's inner interface:
// each frame is written whole (the pages come back used) as a 60-byte UDP datagram of one of
// `flows` flows and passed up, so that the gateway's own path begins where a network card would
// leave it. bench_sink counts what arrives at the far end, checks that the source is the expected
// one, and drops.
#include "bpf/helpers.h"
#include "wire/checksum.h"
#include "wire/headers.h"

namespace masq::bench {

struct Plan {
  u32 flows;            // how many different source ports and hosts are used in turn
  u32 first_source;     // host order
  u32 hosts;            // inner hosts that the flows are spread over
  u32 destination;      // host order
  u32 expected_source;  // host order; 0: any
  u8 to[6];             // the gateway's inner hardware address
  u8 from[6];
};

struct Count {
  u64 generated;
  u64 arrived;
  u64 wrong_source;
};

}  // namespace masq::bench

extern "C" {

using masq::u32;

struct PlanMap {
  int (*type)[BPF_MAP_TYPE_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::bench::Plan)];
  int (*max_entries)[1];
};
PlanMap bench_plan SEC(".maps");

struct CountMap {
  int (*type)[BPF_MAP_TYPE_PERCPU_ARRAY];
  int (*key_size)[4];
  int (*value_size)[sizeof(masq::bench::Count)];
  int (*max_entries)[1];
};
CountMap bench_count SEC(".maps");

char bench_license[] SEC("license") = "GPL";

}  // extern "C"

namespace masq::bench {

struct __attribute__((packed)) Frame {
  EthernetHeader ethernet;
  Ipv4Header ip;
  UdpHeader udp;
  u8 payload[18];
};
static_assert(sizeof(Frame) == 60);

extern "C" {

SEC("xdp") int bench_generate(xdp_md* ctx) {
  u32 zero = 0;
  Plan* plan = static_cast<Plan*>(bpf::map_lookup(&bench_plan, &zero));
  Count* count = static_cast<Count*>(bpf::map_lookup(&bench_count, &zero));
  u8* begin = reinterpret_cast<u8*>(static_cast<unsigned long>(ctx->data));
  u8* end = reinterpret_cast<u8*>(static_cast<unsigned long>(ctx->data_end));
  if (plan == nullptr || count == nullptr || begin + sizeof(Frame) > end) return XDP_ABORTED;
  u64 serial = count->generated;
  count->generated += 1;
  // Flows come in an order without locality, as at a busy gateway: a full cycle of a linear
  // congruence over a power of two.
  u32 flow = static_cast<u32>(serial * 2654435761u) & (plan->flows - 1);
  Frame& f = *reinterpret_cast<Frame*>(begin);
  __builtin_memcpy(f.ethernet.destination, plan->to, 6);
  __builtin_memcpy(f.ethernet.source, plan->from, 6);
  f.ethernet.type = kEtherTypeIpv4;
  f.ip.version_ihl = 0x45;
  f.ip.tos = 0;
  f.ip.total_length = swap16(46);
  f.ip.id = 0;
  f.ip.fragment = kFragmentDont;
  f.ip.ttl = 64;
  f.ip.protocol = kProtocolUdp;
  f.ip.source = ipv4_from_host(plan->first_source + flow % plan->hosts);
  f.ip.destination = ipv4_from_host(plan->destination);
  u64 sum = static_cast<u64>(0x45) + swap16(46) + kFragmentDont + (64 | kProtocolUdp << 8) +
            f.ip.source.be + f.ip.destination.be;
  f.ip.checksum = static_cast<u16>(~checksum_fold(sum));
  f.udp.source = port_from_host(static_cast<u16>(1024 + flow / plan->hosts));
  f.udp.destination = port_from_host(9);
  f.udp.length = swap16(26);
  f.udp.checksum = 0;
  return XDP_PASS;
}

SEC("xdp") int bench_sink(xdp_md* ctx) {
  u32 zero = 0;
  Plan* plan = static_cast<Plan*>(bpf::map_lookup(&bench_plan, &zero));
  Count* count = static_cast<Count*>(bpf::map_lookup(&bench_count, &zero));
  u8* begin = reinterpret_cast<u8*>(static_cast<unsigned long>(ctx->data));
  u8* end = reinterpret_cast<u8*>(static_cast<unsigned long>(ctx->data_end));
  if (plan == nullptr || count == nullptr || begin + sizeof(Frame) > end) return XDP_PASS;
  Frame& f = *reinterpret_cast<Frame*>(begin);
  if (f.ethernet.type != kEtherTypeIpv4 || f.ip.protocol != kProtocolUdp) return XDP_PASS;
  if (to_host(f.udp.destination) != 9) return XDP_PASS;
  count->arrived += 1;
  if (plan->expected_source != 0 && to_host(f.ip.source) != plan->expected_source)
    count->wrong_source += 1;
  return XDP_DROP;
}

}  // extern "C"

}  // namespace masq::bench
