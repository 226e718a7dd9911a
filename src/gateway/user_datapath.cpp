// One thread: it waits for frames, passes a batch through the engine, sends what came out, and
// sweeps the table between two batches.
#include "gateway/user_datapath.h"

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "gateway/datapath.h"
#include "gateway/interfaces.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr u64 kMillisecond_ns = 1000000;
constexpr u64 kSweepTurn_ms = 4000;  // as the kernel's sweeper
constexpr u64 kSweepTick_ms = 100;
constexpr u32 kBatchesInARow = 4;  // of one port, before it is another's turn
constexpr int kEventsAtOnce = 64;
// Expiry stood still while no masqd was there: nothing is overdue for the check of what it left.
constexpr Ticks kNeverOverdue = 1u << 30;

// What an event is about, beside the interfaces' numbers.
constexpr u64 kNeighbourEvent = 1ull << 32;
constexpr u64 kWakeEvent = 2ull << 32;

// Bytes before the payload of a large segment. The kernel's own figure may be anything up
// to the whole.
u32 headers_of(const PortFrame& frame, u32 l3) {
  if (frame.length < l3 + sizeof(Ipv4Header)) return frame.length;
  u32 l4 = l3 + (frame.data[l3] & 15) * 4u;
  bool udp = frame.data[l3 + 9] == kProtocolUdp;
  if (udp || frame.length < l4 + sizeof(TcpHeader)) return std::min<u32>(l4 + 8, frame.length);
  return std::min<u32>(l4 + (frame.data[l4 + 12] >> 4) * 4u, frame.length);
}

}  // namespace

UserDatapath::UserDatapath(UserMemory memory, const Settings* fresh)
    : UserTables(std::move(memory)),
      engine_(fresh != nullptr
                  ? Engine(memory_.tables, memory_.header->records_max, *fresh, answers())
                  : Engine(memory_.tables, memory_.header->records_max, answers())),
      slow_path_(settings().secret[1], settings().secret[0],
                 [this](const u8* bytes, u32 length) { take_back(bytes, length); }),
      slow_buffer_(new u8[kFrameRoom]) {
  settings().slow_ifindex = kSlowWithin;
}

// Asked only by the thread, which begins when answers_ is there.
EngineAnswers UserDatapath::answers() {
  EngineAnswers a;
  a.route = [this](Ipv4 destination, Ipv4 source) {
    return answers_->route(destination, source, engine_.now(), settings().route_generation);
  };
  a.socket = [this](u8 protocol, Ipv4 address, Port port, Ipv4 remote, Port remote_port) {
    return answers_->port_has_socket(protocol, address, port, remote, remote_port);
  };
  return a;
}

Status UserDatapath::open_questions() {
  Result<KernelAnswers> answers = KernelAnswers::open();
  if (!answers) return answers.error();
  answers_ = std::move(*answers);
  Result<Neighbours> neighbours = Neighbours::open();
  if (!neighbours) return neighbours.error();
  neighbours_ = std::move(*neighbours);
  events_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!events_ || !wake_) return error("Frames cannot be waited for ({}).", strerror(errno));
  listen_to(neighbours_->fd(), kNeighbourEvent);
  listen_to(wake_.get(), kWakeEvent);
  return Done{};
}

Result<std::unique_ptr<UserDatapath>> UserDatapath::make(const Settings& settings) {
  Result<UserMemory> memory = make_user_tables(records_for(settings.flows_max));
  if (!memory) return memory.error();
  std::unique_ptr<UserDatapath> datapath(new UserDatapath(std::move(*memory), &settings));
  if (Status status = datapath->open_questions(); !status) return status.error();
  return datapath;
}

Result<std::unique_ptr<UserDatapath>> UserDatapath::take_over(const Settings& settings,
                                                              bool& damaged) {
  Result<UserMemory> memory = open_user_tables(true);
  if (!memory) return memory.error();
  std::unique_ptr<UserDatapath> datapath(new UserDatapath(std::move(*memory), nullptr));
  datapath->engine_.set_time(monotonic_ns());
  damaged = !datapath->engine_.verify(kNeverOverdue).empty();
  if (damaged) {
    datapath.reset();
    return make(settings);
  }
  if (Status status = datapath->open_questions(); !status) return status.error();
  return datapath;
}

UserDatapath::~UserDatapath() {
  stop_ = true;
  u64 one = 1;
  if (thread_.joinable() && write(wake_.get(), &one, sizeof one) == sizeof one) thread_.join();
}

UserDatapath::Turn::Turn(UserDatapath& datapath) : datapath_(datapath) {
  datapath_.waiting_ += 1;
  datapath_.mutex_.lock();
  datapath_.waiting_ -= 1;
}

UserDatapath::Turn::~Turn() {
  datapath_.mutex_.unlock();
}

void UserDatapath::listen_to(int fd, u64 what) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = what;
  epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event);
}

Status UserDatapath::carry(const Link& link) {
  Turn turn(*this);
  if (auto known = ports_.find(link.ifindex); known != ports_.end()) {
    if (known->second.is_bound()) return known->second.read_hardware_address(link.name);
    ports_.erase(known);
  }
  Result<PacketPort> port = PacketPort::open(
      link.name, link.ifindex, static_cast<u32>(link_header_length(link)), link.type != ARPHRD_PPP);
  if (!port) return port.error();
  listen_to(port->fd(), link.ifindex);
  ports_.emplace(link.ifindex, std::move(*port));
  return Done{};
}

void UserDatapath::keep_only(const std::set<u32>& ifindexes) {
  Turn turn(*this);
  // A closed socket leaves the set of events by itself.
  std::erase_if(ports_, [&](const auto& port) { return !ifindexes.contains(port.first); });
}

Status UserDatapath::set_own_addresses(const OwnAddresses& by_importance) {
  Turn turn(*this);
  engine_.clear_outer_addresses();
  for (const auto& [address, kind] : by_importance)
    if (kind == bpf::kOwnOuter) engine_.add_outer_address(Ipv4{address});
  return Done{};
}

Status UserDatapath::start_sweeper() {
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  return Done{};
}

void UserDatapath::work() {
  epoll_event events[kEventsAtOnce];
  std::vector<Neighbours::NextHop> ready;
  while (!stop_) {
    int count = epoll_wait(events_.get(), events, kEventsAtOnce, static_cast<int>(kSweepTick_ms));
    while (waiting_ != 0) usleep(20);
    std::lock_guard lock(mutex_);
    now_ns_ = monotonic_ns();
    engine_.set_time(now_ns_);
    engine_.slow_beat();
    for (int i = 0; i < count; ++i) {
      u64 what = events[i].data.u64;
      if (what == kNeighbourEvent) {
        neighbours_->read_changes(ready);
      } else if (auto port = ports_.find(static_cast<u32>(what));
                 what < kNeighbourEvent && port != ports_.end()) {
        take_batch(port->second);
      }
    }
    for (const Neighbours::NextHop& next_hop : ready) send_waiting(next_hop);
    ready.clear();
    sweep(now_ns_);
  }
}

void UserDatapath::take_batch(PacketPort& port) {
  PortFrame frames[kFramesAtOnce];
  bool more = true;
  for (u32 batch = 0; more && batch < kBatchesInARow; ++batch) {
    u32 count = port.receive(buffers_, frames, more);
    for (u32 i = 0; i < count; ++i) pass(port, frames[i]);
    flush();
  }
}

void UserDatapath::pass(PacketPort& port, PortFrame& frame) {
  const Interface* interface = find_interface(settings(), port.ifindex());
  if (interface == nullptr) return;
  Frame packet{frame.data, frame.length, kFrameRoom - kHeadroom - 2};
  if (frame.offload.flags & kNeedsChecksum) packet.checksum_start = frame.offload.checksum_start;
  if (frame.offload.segment_type != 0) {
    u32 headers = headers_of(frame, port.header_length()), size = frame.offload.segment_size;
    packet.segment_size = size;
    packet.segments = size == 0 ? 0 : (frame.length - headers + size - 1) / size;
    frame.offload.headers = static_cast<u16>(headers);
  }
  Outcome outcome = interface->zone == Zone::inside ? engine_.inside(packet, port.ifindex())
                                                    : engine_.outside(packet, port.ifindex());
  if (outcome.action == Action::slow || outcome.action == Action::stack_and_slow) {
    // Sends at once what comes of it.
    flush();
    slow_path_.take(packet.data, packet.length, now_ns_ / kMillisecond_ns);
    return;
  }
  // What is for the gateway's own stack is there already, or has been refused by own_rules.h.
  if (outcome.action != Action::forward && !is_answer(outcome.action)) return;
  frame.length = packet.length;
  if (is_answer(outcome.action)) frame.offload = {};
  send(port.header_length(), frame, outcome);
}

// From the slow path: looked at as if it had just come in where it first did.
void UserDatapath::take_back(const u8* bytes, u32 length) {
  PortFrame frame{slow_buffer_.get() + kHeadroom, length, {}};
  memcpy(frame.data, bytes, length);
  Frame packet{frame.data, length, kFrameRoom - kHeadroom};
  Outcome outcome = engine_.from_slow(packet);
  if (outcome.action != Action::forward && !is_answer(outcome.action)) return;
  frame.length = packet.length;
  send(sizeof(SlowHeader), frame, outcome);
  flush();  // the buffer is for one
}

// The frame begins where its new link header will begin, and is sent or kept until its next hop is
// known.
void UserDatapath::send(u32 header_length, PortFrame& frame, const Outcome& outcome) {
  auto to = ports_.find(outcome.ifindex);
  UserCounters& counters = memory_.header->counters;
  if (to == ports_.end()) {
    counters.frames_not_sent += 1;
    return;
  }
  int longer = static_cast<int>(to->second.header_length()) - static_cast<int>(header_length);
  frame.data -= longer;
  frame.length = static_cast<u32>(static_cast<int>(frame.length) + longer);
  auto shift = [&](u16& offset) { offset = static_cast<u16>(offset + longer); };
  if (frame.offload.flags & kNeedsChecksum) shift(frame.offload.checksum_start);
  if (frame.offload.headers != 0) shift(frame.offload.headers);
  // What we were told on the way in; on the way out it is for us to say nothing of it.
  frame.offload.flags &= kNeedsChecksum;
  const u8* hardware_address = nullptr;
  if (to->second.header_length() != 0) {
    hardware_address = neighbours_->find(outcome.ifindex, outcome.next_hop, now_ns_);
    if (hardware_address == nullptr) {
      bool kept = neighbours_->keep(outcome.ifindex, outcome.next_hop, frame, now_ns_);
      (kept ? counters.neighbour_waits : counters.neighbour_full) += 1;
      return;
    }
  }
  fill_link_header(to->second, frame, hardware_address);
  to->second.put(frame);
}

void UserDatapath::fill_link_header(PacketPort& to, PortFrame& frame, const u8* hardware_address) {
  if (hardware_address == nullptr) return;
  memcpy(frame.data, hardware_address, ETH_ALEN);
  memcpy(frame.data + ETH_ALEN, to.hardware_address(), ETH_ALEN);
  u16 type = kEtherTypeIpv4;
  memcpy(frame.data + 2 * ETH_ALEN, &type, sizeof type);
}

void UserDatapath::send_waiting(const Neighbours::NextHop& next_hop) {
  std::deque<WaitingFrame> frames = neighbours_->take_waiting(next_hop);
  auto to = ports_.find(next_hop.first);
  const u8* hardware_address = neighbours_->find(next_hop.first, Ipv4{next_hop.second}, now_ns_);
  if (to == ports_.end() || hardware_address == nullptr) {
    memory_.header->counters.neighbour_unknown += frames.size();
    return;
  }
  for (WaitingFrame& each : frames) {
    PortFrame frame{each.bytes.data(), static_cast<u32>(each.bytes.size()), each.offload};
    fill_link_header(to->second, frame, hardware_address);
    to->second.put(frame);
  }
  flush();
}

void UserDatapath::flush() {
  for (auto& [ifindex, port] : ports_) memory_.header->counters.frames_not_sent += port.flush();
}

void UserDatapath::sweep(u64 now_ns) {
  if (now_ns - swept_ns_ < kSweepTick_ms * kMillisecond_ns) return;
  swept_ns_ = now_ns;
  slow_path_.expire(now_ns / kMillisecond_ns);
  engine_.sweep(static_cast<u32>(tables().records_max / (kSweepTurn_ms / kSweepTick_ms)) + 1);
  memory_.header->counters.neighbour_unknown += neighbours_->give_up(now_ns);
  for (auto& [ifindex, port] : ports_) memory_.header->counters.frames_missed += port.missed();
}

}  // namespace masq
