// rtnetlink's neighbour messages.
#include "gateway/neighbours.h"

#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace masq {
namespace {

constexpr u64 kSecond_ns = 1000000000;
constexpr u64 kPatience_ns = kSecond_ns;  // of a waiting frame
// How often the kernel is asked for the same next hop, or reminded that it is in use: without that
// it would not notice that a host has changed its hardware address.
constexpr u64 kAskAgain_ns = kSecond_ns;

constexpr u16 kUsable =
    NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
constexpr u16 kFresh = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE;

struct Attributes {
  const nlattr* destination = nullptr;
  const nlattr* hardware = nullptr;
};

int on_attribute(const nlattr* attribute, void* data) {
  auto* found = static_cast<Attributes*>(data);
  if (mnl_attr_get_type(attribute) == NDA_DST) found->destination = attribute;
  if (mnl_attr_get_type(attribute) == NDA_LLADDR) found->hardware = attribute;
  return MNL_CB_OK;
}

}  // namespace

Result<Neighbours> Neighbours::open() {
  Neighbours neighbours;
  for (Fd* each : {&neighbours.monitor_, &neighbours.questions_}) {
    *each = Fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = each == &neighbours.monitor_ ? RTMGRP_NEIGH : 0;
    if (!*each || bind(each->get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      return error("The kernel's neighbours cannot be followed ({}).", strerror(errno));
  }
  neighbours.read_all();
  return neighbours;
}

// Asks for the whole table; the answer comes like news.
void Neighbours::read_all() {
  known_.clear();
  alignas(nlmsghdr) char buffer[256];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETNEIGH;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto* message = static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ndmsg)));
  message->ndm_family = AF_INET;
  // Not sent: a dump is under way, or memory is short; then each is asked for when it is needed.
  if (send(monitor_.get(), request, request->nlmsg_len, 0) < 0) return;
}

void Neighbours::ask(const NextHop& next_hop) {
  alignas(nlmsghdr) char buffer[256];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_NEWNEIGH;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
  auto* message = static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ndmsg)));
  message->ndm_family = AF_INET;
  message->ndm_ifindex = static_cast<int>(next_hop.first);
  message->ndm_flags = NTF_USE;
  mnl_attr_put_u32(request, NDA_DST, next_hop.second);
  if (send(questions_.get(), request, request->nlmsg_len, 0) < 0) return;  // again in a second
  char refusal[1024];
  while (recv(questions_.get(), refusal, sizeof refusal, 0) > 0) continue;
}

void Neighbours::take_one(const void* payload, std::vector<NextHop>& ready) {
  const auto* header = static_cast<const nlmsghdr*>(payload);
  const auto* message = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(header));
  if (message->ndm_family != AF_INET) return;
  Attributes found;
  mnl_attr_parse(header, sizeof(ndmsg), on_attribute, &found);
  if (found.destination == nullptr || mnl_attr_get_payload_len(found.destination) != 4) return;
  NextHop next_hop{static_cast<u32>(message->ndm_ifindex), mnl_attr_get_u32(found.destination)};
  bool has_address = found.hardware != nullptr && mnl_attr_get_payload_len(found.hardware) == 6;
  bool usable = header->nlmsg_type == RTM_NEWNEIGH && (message->ndm_state & kUsable) && has_address;
  auto place = known_.find(next_hop);
  if (place == known_.end()) {
    if (!usable) return;
    place = known_.emplace(next_hop, Known{}).first;
  }
  Known& known = place->second;
  known.usable = usable;
  known.fresh = usable && (message->ndm_state & kFresh);
  if (!usable) return;
  memcpy(known.address, mnl_attr_get_payload(found.hardware), sizeof known.address);
  if (waiting_.contains(next_hop)) ready.push_back(next_hop);
}

void Neighbours::take_message(const char* buffer, std::size_t length, std::vector<NextHop>& ready) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(buffer);
  int left = static_cast<int>(length);
  while (mnl_nlmsg_ok(header, left)) {
    if (header->nlmsg_type == RTM_NEWNEIGH || header->nlmsg_type == RTM_DELNEIGH)
      take_one(header, ready);
    header = mnl_nlmsg_next(header, &left);
  }
}

void Neighbours::read_changes(std::vector<NextHop>& ready) {
  alignas(nlmsghdr) char buffer[32 * 1024];
  for (;;) {
    ssize_t length = recv(monitor_.get(), buffer, sizeof buffer, 0);
    if (length > 0) {
      take_message(buffer, static_cast<std::size_t>(length), ready);
    } else if (length < 0 && errno == ENOBUFS) {
      read_all();  // some news were lost
    } else {
      return;
    }
  }
}

const u8* Neighbours::find(u32 ifindex, Ipv4 next_hop, u64 now_ns) {
  NextHop key{ifindex, next_hop.be};
  auto place = known_.find(key);
  if (place == known_.end()) {
    if (known_.size() >= kNextHopsMax) read_all();
    place = known_.emplace(key, Known{}).first;
  }
  Known& known = place->second;
  if (!known.fresh && now_ns - known.asked_ns >= kAskAgain_ns) {
    known.asked_ns = now_ns;
    ask(key);
  }
  return known.usable ? known.address : nullptr;
}

bool Neighbours::keep(u32 ifindex, Ipv4 next_hop, const PortFrame& frame, u64 now_ns) {
  NextHop key{ifindex, next_hop.be};
  if (waiting_count_ >= kWaitingInAll) return false;
  std::deque<WaitingFrame>& queue = waiting_[key];
  if (queue.size() >= kWaitingForOne) return false;
  queue.push_back({{frame.data, frame.data + frame.length}, frame.offload, now_ns});
  ++waiting_count_;
  return true;
}

std::deque<WaitingFrame> Neighbours::take_waiting(const NextHop& next_hop) {
  auto place = waiting_.find(next_hop);
  if (place == waiting_.end()) return {};
  std::deque<WaitingFrame> frames = std::move(place->second);
  waiting_.erase(place);
  waiting_count_ -= static_cast<u32>(frames.size());
  return frames;
}

u64 Neighbours::give_up(u64 now_ns) {
  u64 lost = 0;
  for (auto each = waiting_.begin(); each != waiting_.end();) {
    std::deque<WaitingFrame>& queue = each->second;
    while (!queue.empty() && now_ns - queue.front().since_ns >= kPatience_ns) {
      queue.pop_front();
      ++lost;
    }
    each = queue.empty() ? waiting_.erase(each) : std::next(each);
  }
  waiting_count_ -= static_cast<u32>(lost);
  return lost;
}

}  // namespace masq
