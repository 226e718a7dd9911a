// Copying the tables page by page, and asking the kernel: by BPF_PROG_TEST_RUN where the programs
// carry the packets, else as masqd asks it (kernel_answers.h).
#include "gateway/live.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "core/fragments.h"
#include "gateway/datapath.h"
#include "gateway/kernel_answers.h"
#include "wire/headers.h"

extern "C" {
extern const char masq_ask_object_begin[];
extern const char masq_ask_object_end[];
}

namespace masq {
namespace {

constexpr std::size_t kPage = 4096;

// Copies what is not zero, so that an empty part of the copy costs no memory.
void copy_used(char* to, const void* source, std::size_t length) {
  static constexpr char kZeros[kPage] = {};
  const char* from = static_cast<const char*>(source);
  for (std::size_t at = 0; at < length; at += kPage) {
    std::size_t n = std::min(kPage, length - at);
    if (memcmp(from + at, kZeros, n) != 0) memcpy(to + at, from + at, n);
  }
}

}  // namespace

Result<Snapshot> Snapshot::take(const AnyDatapath& datapath) {
  const Tables& live = datapath.tables();
  const TableSizes sizes = table_sizes(live.records_max);
  // The indexes come first: what they lead to is then there, or known not to be.
  const std::pair<const void*, std::size_t> parts[] = {
      {live.inner_slots, sizes.slots},
      {live.outer_slots, sizes.slots},
      {live.records, sizes.records},
      {live.record_used, sizes.used},
      {live.record_full, sizes.full},
      {live.ports, sizeof(PortPool) * kExternalsMax * kPoolProtocols},
      {live.fragments, sizeof(Fragment) * kFragmentsMax},
      {live.hosts, sizes.hosts},
      {live.shared, sizeof(Shared)},
      {live.rules, sizeof(RuleTable)},
      {live.paths, sizeof(RulePaths)}};
  std::size_t total = 0;
  for (const auto& [from, length] : parts) total += (length + kPage - 1) / kPage * kPage;
  void* memory = mmap(nullptr, total, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    return error("There is not enough memory for a copy of the tables ({}).", strerror(errno));
  Snapshot snapshot;
  snapshot.memory_ = Mapping(memory, total);
  char* at = static_cast<char*>(memory);
  char* copies[std::size(parts)];
  for (std::size_t i = 0; i < std::size(parts); ++i) {
    copies[i] = at;
    copy_used(at, parts[i].first, parts[i].second);
    at += (parts[i].second + kPage - 1) / kPage * kPage;
  }
  Tables& t = snapshot.tables_;
  t.inner_slots = reinterpret_cast<u32*>(copies[0]);
  t.outer_slots = reinterpret_cast<u32*>(copies[1]);
  t.records = reinterpret_cast<Record*>(copies[2]);
  t.record_used = reinterpret_cast<u64*>(copies[3]);
  t.record_full = reinterpret_cast<u64*>(copies[4]);
  t.ports = reinterpret_cast<PortPool*>(copies[5]);
  t.fragments = reinterpret_cast<Fragment*>(copies[6]);
  t.hosts = reinterpret_cast<Host*>(copies[7]);
  t.shared = reinterpret_cast<Shared*>(copies[8]);
  t.rules = reinterpret_cast<RuleTable*>(copies[9]);
  t.paths = reinterpret_cast<RulePaths*>(copies[10]);
  t.records_max = live.records_max;
  return snapshot;
}

namespace {

constexpr const char* kNotSaid = "The kernel did not say what it knows of routes and sockets ({}).";

class ProgramQuestions final : public Questions {
 public:
  static Result<std::unique_ptr<Questions>> open(const Datapath& datapath);

  void set_interface(u32 ifindex) override { ifindex_ = ifindex; }
  EngineRoute route(Ipv4 destination, Ipv4 source) override;
  bool has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) override;
  std::optional<bpf::OwnAddress> own_address(Ipv4 address) const override {
    return datapath_->own_address(address);
  }

 private:
  explicit ProgramQuestions(const Datapath& datapath) : datapath_(&datapath) {}
  bool ask(bpf::Question& question);

  const Datapath* datapath_;
  Fd program_;
  u32 loopback_ifindex_ = 1;
  u32 ifindex_ = 0;
};

Result<std::unique_ptr<Questions>> ProgramQuestions::open(const Datapath& datapath) {
  std::unique_ptr<ProgramQuestions> questions(new ProgramQuestions(datapath));
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "masq_ask");
  std::size_t size = static_cast<std::size_t>(masq_ask_object_end - masq_ask_object_begin);
  bpf_object* object = bpf_object__open_mem(masq_ask_object_begin, size, &options);
  if (object == nullptr)
    return error("The program that asks the kernel cannot be read ({}).", strerror(errno));
  if (int code = bpf_object__load(object); code != 0) {
    bpf_object__close(object);
    return error("The kernel refused the program that asks it for routes ({}).", strerror(-code));
  }
  questions->program_ = Fd(dup(bpf_program__fd(bpf_object__next_program(object, nullptr))));
  bpf_object__close(object);
  questions->loopback_ifindex_ = if_nametoindex("lo");
  return std::unique_ptr<Questions>(std::move(questions));
}

bool ProgramQuestions::ask(bpf::Question& question) {
  u8 frame[kEthernetHeaderLength + sizeof(bpf::Question) + 16] = {};
  u8 answered[sizeof frame] = {};
  question.loopback_ifindex = loopback_ifindex_;
  memcpy(frame + kEthernetHeaderLength, &question, sizeof question);
  __sk_buff context{};
  context.ifindex = ifindex_;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_out = answered,
              .data_size_in = sizeof frame, .data_size_out = sizeof answered,
              .ctx_in = ifindex_ != 0 ? &context : nullptr,
              .ctx_size_in = ifindex_ != 0 ? static_cast<u32>(sizeof context) : 0, .repeat = 1);
  if (bpf_prog_test_run_opts(program_.get(), &options) != 0 || options.retval != 0) {
    failure_ = fmt::format(kNotSaid, strerror(errno));
    return false;
  }
  memcpy(&question, answered + kEthernetHeaderLength, sizeof question);
  return true;
}

EngineRoute ProgramQuestions::route(Ipv4 destination, Ipv4 source) {
  EngineRoute route{destination, 32, RouteKind::none, 0, Ipv4{0}};
  bpf::Question q{};
  q.destination = destination;
  q.source = source;
  if (!ask(q)) return route;
  switch (static_cast<bpf::FibAnswer>(q.answer)) {
    case bpf::FibAnswer::forward:
      route.kind = RouteKind::forward;
      route.ifindex = q.ifindex;
      route.next_hop = q.next_hop;
      break;
    case bpf::FibAnswer::not_forwarded:
      if (datapath_->own_address(destination)) route.kind = RouteKind::local;
      break;
    default:
      break;
  }
  return route;
}

bool ProgramQuestions::has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote,
                                  Port remote_port) {
  bpf::Question q{};
  q.about_socket = 1;
  q.protocol = protocol;
  q.destination = address;
  q.destination_port = port;
  q.source = remote;
  q.source_port = remote_port;
  return ask(q) && q.answer != 0;
}

// The gateway's addresses are those that its interfaces have at this moment: masqd alone knows
// which ones it has entered, and it enters those.
class NetlinkQuestions final : public Questions {
 public:
  NetlinkQuestions(const AnyDatapath& datapath, const NetworkState& network, KernelAnswers kernel)
      : datapath_(&datapath), kernel_(std::move(kernel)) {
    for (const Address& each : network.addresses) {
      const Interface* interface = find_interface(datapath.settings(), each.ifindex);
      const bool outer = interface != nullptr && interface->zone == Zone::outside;
      for (Ipv4 address : {each.address, each.broadcast})
        if (address.be != 0 && (outer || !own_.contains(address.be)))
          own_[address.be] = outer ? bpf::kOwnOuter : bpf::kOwnOther;
    }
  }

  EngineRoute route(Ipv4 destination, Ipv4 source) override {
    EngineRoute route = kernel_.route(destination, source, datapath_->now(),
                                      datapath_->settings().route_generation);
    note_silence();
    return route;
  }
  bool has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) override {
    const bool found = kernel_.port_has_socket(protocol, address, port, remote, remote_port);
    note_silence();
    return found;
  }
  std::optional<bpf::OwnAddress> own_address(Ipv4 address) const override {
    auto found = own_.find(address.be);
    return found == own_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  void note_silence() {
    if (!kernel_.answers_all()) failure_ = fmt::format(kNotSaid, "no answer by netlink");
  }

  const AnyDatapath* datapath_;
  KernelAnswers kernel_;
  std::map<u32, bpf::OwnAddress> own_;
};

}  // namespace

Result<std::unique_ptr<Questions>> Questions::open(const AnyDatapath& datapath,
                                                   const NetworkState& network) {
  if (const auto* programs = dynamic_cast<const Datapath*>(&datapath))
    return ProgramQuestions::open(*programs);
  // masqd has made sure that the kernel tells of sockets, or it would not run.
  Result<KernelAnswers> kernel = KernelAnswers::open(SocketTrial::left_out);
  if (!kernel) return kernel.error();
  return std::unique_ptr<Questions>(
      std::make_unique<NetlinkQuestions>(datapath, network, std::move(*kernel)));
}

EngineAnswers Questions::answers() {
  EngineAnswers a;
  a.route = [this](Ipv4 destination, Ipv4 source) { return route(destination, source); };
  a.socket = [this](u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) {
    return has_socket(protocol, address, port, remote, remote_port);
  };
  a.is_outer_address = [this](Ipv4 address) { return own_address(address) == bpf::kOwnOuter; };
  return a;
}

}  // namespace masq
