// The kernel's programs, run on single packets (BPF_PROG_TEST_RUN) in a network namespace that has
// the interfaces, addresses and routes of the packet scripts.
//
// The clock is the kernel's own plus an offset that is set before each packet, right after a step
// of the coarse clock, so that the packet sees exactly the time that the script names.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>

#include "gateway/datapath.h"
#include "packets/gateway.h"

namespace masq::test {

namespace {

constexpr u32 kLinkHeader = kEthernetHeaderLength;
// Of every interface; what comes for another is not the gateway's.
constexpr u8 kHere[] = {2, 0, 0, 0, 0, 1};

u64 coarse_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return static_cast<u64>(t.tv_sec) * 1000000000ull + static_cast<u64>(t.tv_nsec);
}

void run(const std::string& command) {
  if (std::system((command + " >/dev/null 2>&1").c_str()) != 0)
    throw CannotRun{"The test network cannot be made: `" + command + "` failed."};
}

class KernelGateway : public Gateway {
 public:
  KernelGateway(Datapath datapath, const Plan& plan) : datapath_(std::move(datapath)), plan_(plan) {
    for (const PortPlan& port : plan_) {
      const u32 host = to_host(address_of(port.address));
      if (port.zone == Zone::outside) continue;  // the script says which of those are there
      own_[ipv4_from_host(host).be] = bpf::kOwnOther;
      own_[ipv4_from_host(host | 0xff).be] = bpf::kOwnOther;
    }
    check(datapath_.set_own_addresses({own_.begin(), own_.end()}));
  }
  ~KernelGateway() override {
    for (int fd : sockets_) close(fd);
    for (const std::string& address : added_) run("ip addr del " + address);
  }

  Passed pass(Hook hook, u32 ifindex, u32 from, u16 ether_type, const Data& packet,
              u32 segment_size, u32 segments, SlowKind back) override {
    static constexpr Program kPrograms[] = {Program::inside, Program::outside, Program::leaving,
                                            Program::entering, Program::from_slow};
    Data in(kLinkHeader);
    if (hook == Hook::from_slow) {
      const SlowHeader h{kSlowMark, back, 0, 0, 0, kSlowMark, 0, ifindex, kEtherTypeIpv4};
      std::memcpy(in.data(), &h, sizeof(h));
      ifindex = settings().slow_ifindex;
    } else {
      std::memcpy(in.data(), kHere, sizeof(kHere));
      in[12] = static_cast<u8>(ether_type >> 8);
      in[13] = static_cast<u8>(ether_type);
    }
    in.insert(in.end(), packet.begin(), packet.end());
    Data out(in.size() + 256);
    __sk_buff context{};
    context.ifindex = ifindex;
    context.ingress_ifindex = from;
    context.gso_size = segment_size;
    context.gso_segs = segments;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in.data(), .data_out = out.data(),
                .data_size_in = static_cast<u32>(in.size()),
                .data_size_out = static_cast<u32>(out.size()), .ctx_in = &context,
                .ctx_size_in = sizeof(context), .repeat = 1);
    const u64 started = begin();
    if (bpf_prog_test_run_opts(datapath_.program_fd(kPrograms[static_cast<u32>(hook)]), &options))
      throw CannotRun{std::string("The kernel does not run the program on a test packet: ") +
                      std::strerror(errno) + "."};
    end(started);
    out.resize(options.data_size_out);
    const Fate fate = options.retval == 7   ? Fate::forward
                      : options.retval == 0 ? Fate::stack
                                            : Fate::drop;
    Passed passed{fate, Data(out.begin() + kLinkHeader, out.end())};
    // The link header of a packet that is sent is still that with which it came.
    if (!std::equal(in.begin(), in.begin() + kLinkHeader, out.begin()) && fate == Fate::forward &&
        out[0] == kSlowMark && out[1] == kSlowAsked) {
      passed.fate = Fate::slow;
      std::memcpy(&passed.slow, out.data(), sizeof(passed.slow));
    }
    return passed;
  }

  void slow_beat() override {
    pass(Hook::from_slow, settings().slow_ifindex, 0, 0, Data(64), 0, 0, kSlowBeat);
  }
  void set_time(u64 ns) override { time_ns_ = ns; }

  void sweep() override {
    u8 frame[64] = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame),
                .repeat = 1);
    const u64 started = begin();
    if (bpf_prog_test_run_opts(datapath_.program_fd(Program::sweep_all), &options))
      throw CannotRun{"The kernel does not run the sweeper."};
    end(started);
  }

  Settings& settings() override { return datapath_.settings(); }
  void set_interface(const Interface& interface) override {
    check(datapath_.set_interface(interface));
  }
  void add_outer_address(Ipv4 address) override {
    own_[address.be] = bpf::kOwnOuter;
    check(datapath_.set_own_addresses({own_.begin(), own_.end()}));
    for (const PortPlan& port : plan_)
      if (same(address_of(port.address), address)) return;
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address, text, sizeof(text));
    added_.push_back(std::string(text) + "/32 dev wan");
    run("ip addr add " + added_.back());
    datapath_.routes_changed();
  }

  void open_socket(u8 protocol, Ipv4 address, u16 port) override {
    const bool tcp = protocol == kProtocolTcp;
    const int fd = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    sockets_.push_back(fd);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = address.be;
    to.sin_port = port_from_host(port).be;
    if (bind(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0 || (tcp && listen(fd, 1) != 0))
      throw CannotRun{"A test socket cannot be opened."};
  }

  const Tables& tables() const override { return datapath_.tables(); }
  const Drops& drops() const override { return datapath_.drops(); }
  Totals totals() const override {
    const CounterTotals c = datapath_.counters();
    return {c.reasons, c.traffic};
  }

 private:
  static void check(const Status& status) {
    if (!status) throw CannotRun{status.error().sentence};
  }

  // The count of jiffies, which is the programs' clock.
  u64 jiffies() {
    u8 frame[64] = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame),
                .repeat = 1);
    if (bpf_prog_test_run_opts(datapath_.program_fd(Program::clock), &options))
      throw CannotRun{"The kernel does not tell its clock."};
    return datapath_.tables().shared->jiffies;
  }

  u64 begin() {
    const u64 before = coarse_ns();
    while (coarse_ns() == before) {
    }
    const u64 now = jiffies();
    settings().time_offset_ns = time_ns_ - (now * settings().jiffy_ns + settings().clock_base_ns);
    return now;
  }
  void end(u64 started) {
    if (jiffies() != started) throw Slipped{};
  }

  Datapath datapath_;
  const Plan& plan_;
  u64 time_ns_ = 0;
  std::vector<int> sockets_;
  std::vector<std::string> added_;
  std::map<u32, bpf::OwnAddress> own_;
};

}  // namespace

void make_namespace(Plan& plan) {
  if (geteuid() != 0) throw CannotRun{"This test needs root: it makes a network namespace."};
  if (unshare(CLONE_NEWNET) != 0)
    throw CannotRun{"This test needs a network namespace of its own, and the kernel refuses one."};
  cpu_set_t one;  // the tokens for ICMP errors are counted per processor
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  sched_setaffinity(0, sizeof(one), &one);
  run("ip link set lo up");
  run("sysctl -w net.ipv4.conf.lo.forwarding=1");
  for (PortPlan& port : plan) {
    const std::string name = port.name;
    run("ip link add " + name + " address 02:00:00:00:00:01 type veth peer name " + name + "-peer");
    run("ip link set " + name + "-peer up");
    run("ip addr add " + std::string(port.address) + "/24 brd + dev " + name);
    run("ip link set " + name + " up");
    port.ifindex = if_nametoindex(port.name);
  }
  run("ip route add default via 203.0.113.1");
  run("ip route add 100.64.0.0/16 via 192.0.2.1");
  run("ip route add unreachable 100.65.0.0/16");
}

std::unique_ptr<Gateway> make_kernel(const Settings& settings, const Plan& plan) {
  Result<Datapath> datapath = Datapath::load(settings);
  if (!datapath) throw CannotRun{datapath.error().sentence};
  return std::make_unique<KernelGateway>(std::move(*datapath), plan);
}

}  // namespace masq::test
