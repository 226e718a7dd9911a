// small_packets: sends small UDP packets through the gateway namespace it is started in and prints
// what one costs, as one JSON object.
//
//   small_packets --sink-netns NS --sink-if IF --in-if IF --packets N --flows N
//                 --source A.B.C.D --hosts N --destination A.B.C.D [--expect A.B.C.D]
//
// Started in the gateway's namespace. Generator and whole path run on one processor, to which the
// process is pinned. Time is that of the whole run divided by the packets; the caller subtracts
// nothing and compares only runs of one session, interleaved (bench/run).
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <CLI/CLI.hpp>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

extern "C" {
extern const char masq_bench_object_begin[];
extern const char masq_bench_object_end[];
}

namespace {

struct Plan {
  unsigned flows, first_source, hosts, destination, expected_source;
  unsigned char to[6], from[6];
};
struct Count {
  unsigned long long generated, arrived, wrong_source;
};

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "small_packets: {} ({})\n", what, strerror(errno));
  exit(1);
}

unsigned host_order(const std::string& text) {
  in_addr address{};
  if (text.empty()) return 0;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) give_up(text + " is not an address");
  return ntohl(address.s_addr);
}

void read_hardware_address(const std::string& name, unsigned char (&out)[6]) {
  std::ifstream file("/sys/class/net/" + name + "/address");
  std::string text;
  unsigned parts[6];
  if (!(file >> text) || sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2],
                                &parts[3], &parts[4], &parts[5]) != 6)
    give_up("no hardware address of " + name);
  for (int i = 0; i < 6; ++i) out[i] = static_cast<unsigned char>(parts[i]);
}

Count read_count(int fd) {
  std::vector<Count> each(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  unsigned zero = 0;
  if (bpf_map_lookup_elem(fd, &zero, each.data()) != 0) give_up("no counters");
  Count sum{};
  for (const Count& c : each) {
    sum.generated += c.generated;
    sum.arrived += c.arrived;
    sum.wrong_source += c.wrong_source;
  }
  return sum;
}

// Puts the program on the interface of another namespace; -1 takes it off again.
void attach_sink(const std::string& netns, const std::string& name, int program) {
  int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  int there = open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC);
  if (there < 0 || setns(there, CLONE_NEWNET) != 0) give_up("no namespace " + netns);
  if (bpf_xdp_attach(static_cast<int>(if_nametoindex(name.c_str())), program, 0, nullptr) != 0)
    give_up("the sink cannot be attached");
  if (setns(own, CLONE_NEWNET) != 0) give_up("no way back");
  close(own);
  close(there);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"What one small packet costs through the gateway"};
  std::string sink_netns, sink_if, in_if, source, destination, expect;
  unsigned packets = 0, flows = 64, hosts = 1;
  app.add_option("--sink-netns", sink_netns)->required();
  app.add_option("--sink-if", sink_if)->required();
  app.add_option("--in-if", in_if)->required();
  app.add_option("--packets", packets)->required()->check(CLI::Range(1000u, 64000000u));
  app.add_option("--flows", flows)->check(CLI::Range(1u, 1u << 20));
  app.add_option("--source", source)->required();
  app.add_option("--hosts", hosts)->check(CLI::Range(1u, 250u));
  app.add_option("--destination", destination)->required();
  app.add_option("--expect", expect);
  CLI11_PARSE(app, argc, argv);
  if ((flows & (flows - 1)) != 0 || flows / hosts > 60000) give_up("flows must be a power of two");

  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  sched_setaffinity(0, sizeof one, &one);
  auto size = static_cast<std::size_t>(masq_bench_object_end - masq_bench_object_begin);
  bpf_object* object = bpf_object__open_mem(masq_bench_object_begin, size, nullptr);
  if (object == nullptr || bpf_object__load(object) != 0) give_up("the programs do not load");
  int generate = bpf_program__fd(bpf_object__find_program_by_name(object, "bench_generate"));
  int sink = bpf_program__fd(bpf_object__find_program_by_name(object, "bench_sink"));
  int plan_fd = bpf_object__find_map_fd_by_name(object, "bench_plan");
  int count_fd = bpf_object__find_map_fd_by_name(object, "bench_count");

  Plan plan{flows, host_order(source), hosts, host_order(destination), host_order(expect), {}, {}};
  read_hardware_address(in_if, plan.to);
  memcpy(plan.from, plan.to, 6);
  plan.from[5] ^= 1;
  unsigned zero = 0;
  if (bpf_map_update_elem(plan_fd, &zero, &plan, 0) != 0) give_up("no plan");
  attach_sink(sink_netns, sink_if, sink);

  char frame[60] = {};
  xdp_md context{};
  context.data_end = sizeof frame;
  context.ingress_ifindex = if_nametoindex(in_if.c_str());
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = frame;
  options.data_size_in = sizeof frame;
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  options.batch_size = 64;
  options.repeat = static_cast<int>(flows * 2 > 100000 ? flows * 2 : 100000);
  if (bpf_prog_test_run_opts(generate, &options) != 0) give_up("the generator does not run");
  usleep(100000);
  Count before = read_count(count_fd);
  options.repeat = static_cast<int>(packets);
  auto start = std::chrono::steady_clock::now();
  if (bpf_prog_test_run_opts(generate, &options) != 0) give_up("the generator does not run");
  auto elapsed = std::chrono::steady_clock::now() - start;
  usleep(200000);
  Count after = read_count(count_fd);
  double ns = std::chrono::duration<double, std::nano>(elapsed).count();
  fmt::print(
      "{{\"ns_per_packet\": {:.1f}, \"sent\": {}, \"arrived\": {}, \"wrong_source\": {}, "
      "\"flows\": {}}}\n",
      ns / packets, after.generated - before.generated, after.arrived - before.arrived,
      after.wrong_source - before.wrong_source, flows);
  // A native XDP program left on a veth takes segmentation offload from all that follows.
  attach_sink(sink_netns, sink_if, -1);
  bpf_object__close(object);
  return 0;
}
