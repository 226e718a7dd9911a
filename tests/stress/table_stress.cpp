// Both processors make colliding flows in the kernel's table while the sweeper takes
// expired ones away; a checker looks at the whole table again and again.
//
//   table_stress [SECONDS]      (default 10)
//
// Few internal endpoints and few remote ones, so that both processors keep meeting on the same
// flow, the same mapping, the same port and the same index slots; a pool smaller than the demand,
// so that the last port is fought for; a table that fills up; timeouts of a tenth of a second, so
// that what was made is expired, swept and made again. Every round the makers pause, and verify()
// walks the table: no half flow, no port twice, no mapping twice, every count exact.
//
// The makers run masq_inside under BPF_PROG_TEST_RUN in a network namespace of this process's own.
#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "engine/verify.h"
#include "gateway/datapath.h"
#include "wire/checksum.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr u32 kHosts = 8;
constexpr u32 kPortsEach = 64;  // 512 internal endpoints a protocol
constexpr u32 kRemotes = 16;
constexpr u32 kPoolPorts = 400;  // fewer than endpoints
constexpr u32 kFlowsMax = 5000;  // fewer than the 24576 flows that are asked for
constexpr u32 kRound_ms = 500;
constexpr u32 kTimeout_ms = 100;

struct __attribute__((packed)) Packet60 {
  EthernetHeader ethernet;
  Ipv4Header ip;
  TcpHeader tcp;  // a UDP datagram or an ICMP echo request lies in its first bytes
  u8 rest[6];
};
static_assert(sizeof(Packet60) == 60);

[[noreturn]] void give_up(const std::string& why) {
  fprintf(stderr, "table_stress: %s\n", why.c_str());
  exit(1);
}

void run(const char* command) {
  if (std::system(command) != 0) give_up(std::string("this failed: ") + command);
}

Packet60 make_packet(std::mt19937_64& random) {
  Packet60 p{};
  u64 r = random();
  const u8 here[] = {2, 0, 0, 0, 0, 1};
  memcpy(p.ethernet.destination, here, sizeof here);
  p.ethernet.type = kEtherTypeIpv4;
  p.ip.version_ihl = 0x45;
  p.ip.total_length = swap16(46);
  p.ip.ttl = 64;
  const u8 protocols[] = {kProtocolTcp, kProtocolUdp, kProtocolIcmp};
  p.ip.protocol = protocols[r % 3];
  p.ip.source = ipv4_from_host(0xc0a80204 + static_cast<u32>((r >> 8) % kHosts));
  p.ip.destination = ipv4_from_host(0xc6336400 + static_cast<u32>((r >> 16) % kRemotes) + 1);
  Port port = port_from_host(static_cast<u16>(2000 + (r >> 24) % kPortsEach));
  if (p.ip.protocol == kProtocolIcmp) {
    auto* icmp = reinterpret_cast<IcmpHeader*>(&p.tcp);
    icmp->type = kIcmpEcho;
    icmp->id = port;
  } else {
    p.tcp.source = port;
    p.tcp.destination = port_from_host(80);
    if (p.ip.protocol == kProtocolTcp) {
      p.tcp.data_offset = 5 << 4;
      p.tcp.flags = kTcpSyn;
    } else {
      reinterpret_cast<UdpHeader*>(&p.tcp)->length = swap16(26);
      reinterpret_cast<UdpHeader*>(&p.tcp)->checksum = 0;
    }
  }
  u64 sum = 0;
  u16 words[10];
  memcpy(words, &p.ip, sizeof words);
  for (u16 word : words) sum += word;
  p.ip.checksum = static_cast<u16>(~checksum_fold(sum));
  return p;
}

void make_network() {
  if (geteuid() != 0 || unshare(CLONE_NEWNET) != 0)
    give_up("this test needs root and a network namespace of its own.");
  for (const char* command :
       {"ip link set lo up", "sysctl -qw net.ipv4.conf.lo.forwarding=1",
        "ip link add lan address 02:00:00:00:00:01 type veth peer name lan-peer",
        "ip link add wan type veth peer name wan-peer",
        "ip link set lan up && ip link set lan-peer up && ip link set wan up && ip link set "
        "wan-peer up",
        "ip addr add 192.168.2.1/24 dev lan && ip addr add 203.0.113.2/24 dev wan",
        "ip route add default via 203.0.113.1"})
    run(command);
}

Settings make_settings() {
  Settings s{};
  s.secret[0] = std::random_device{}();
  s.secret[1] = std::random_device{}();
  s.passed = 1;
  s.tcp_established = s.tcp_opening = s.tcp_closing = s.udp = s.dns = s.icmp =
      ticks_from_ns(kTimeout_ms * 1000000ull);
  s.flows_max = kFlowsMax;
  s.pool[0] = {1024, 1024 + kPoolPorts - 1};
  for (u32 i = 1; i < kPoolRangesMax; ++i) s.pool[i] = {1, 0};
  s.externals[0] = {ipv4_from_host(0xcb007102), if_nametoindex("wan"), kExternalLive, 1};
  return s;
}

void enter(Datapath& datapath, const char* name, Zone zone, u32 external, Ipv4 address) {
  Interface interface = {};
  interface.ifindex = if_nametoindex(name);
  interface.zone = zone;
  interface.link_header_length = 14;
  interface.external = external;
  interface.address = address;
  interface.mtu = 1500;
  if (Status status = datapath.set_interface(interface); !status) give_up(status.error().sentence);
}

void make_flows(const Datapath& datapath, u32 cpu, std::atomic<bool>& pause, u64& made) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
  std::mt19937_64 random(std::random_device{}());
  __sk_buff context{};
  context.ifindex = if_nametoindex("lan");
  context.ingress_ifindex = context.ifindex;
  while (!pause.load(std::memory_order_relaxed)) {
    Packet60 packet = make_packet(random), out{};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &packet, .data_out = &out,
                .data_size_in = sizeof packet, .data_size_out = sizeof out, .ctx_in = &context,
                .ctx_size_in = sizeof context, .repeat = 1);
    bpf_prog_test_run_opts(datapath.program_fd(Program::inside), &options);
    if (options.retval == 7) ++made;
  }
}

// The sweeper, oftener than the timer would run it: a whole pass every 20 ms.
void sweep_on(const Datapath& datapath, std::atomic<bool>& pause) {
  while (!pause.load(std::memory_order_relaxed)) {
    char frame[64] = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof frame,
                .repeat = 1);
    bpf_prog_test_run_opts(datapath.program_fd(Program::sweep_all), &options);
    usleep(20000);
  }
}

}  // namespace

int stress(u32 seconds) {
  make_network();
  Result<Datapath> datapath = Datapath::load(make_settings());
  if (!datapath) give_up(datapath.error().sentence);
  enter(*datapath, "lan", Zone::inside, kExternalsMax, ipv4_from_host(0xc0a80201));
  enter(*datapath, "wan", Zone::outside, 0, ipv4_from_host(0xcb007102));

  u64 passed[2] = {0, 0};
  u32 most_flows = 0, rounds = 0;
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    std::atomic<bool> pause{false};
    std::thread makers[2] = {std::thread([&] { make_flows(*datapath, 0, pause, passed[0]); }),
                             std::thread([&] { make_flows(*datapath, 1, pause, passed[1]); })};
    std::thread sweeper([&] { sweep_on(*datapath, pause); });
    usleep(kRound_ms * 1000);
    most_flows = std::max(most_flows, datapath->tables().shared->flows);
    pause = true;
    for (std::thread& maker : makers) maker.join();
    sweeper.join();
    std::vector<Violation> violations =
        verify(datapath->tables(), datapath->settings(), datapath->now(), ticks_from_s(60));
    if (!violations.empty()) give_up("the table is not sound:\n" + describe(violations));
    ++rounds;
  }
  CounterTotals totals = datapath->counters();
  auto refused = [&](Reason reason) { return totals.reasons[static_cast<u32>(reason)]; };
  printf(
      "%u rounds, %llu packets passed by one processor and %llu by the other, at most %u flows;\n"
      "refused: %llu no port, %llu table full, %llu contention, %llu internal error\n",
      rounds, passed[0], passed[1], most_flows, refused(Reason::ports_exhausted),
      refused(Reason::flow_table_full), refused(Reason::contention),
      refused(Reason::internal_error));
  if (passed[0] == 0 || passed[1] == 0 || refused(Reason::internal_error) != 0) return 1;
  // Both limits must have been reached, or the test has tested less than it says.
  return refused(Reason::ports_exhausted) != 0 && refused(Reason::flow_table_full) != 0 ? 0 : 1;
}

}  // namespace masq

int main(int argc, char** argv) {
  return masq::stress(argc > 1 ? static_cast<masq::u32>(atoi(argv[1])) : 10);
}
