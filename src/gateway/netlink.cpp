// rtnetlink through libmnl: three dumps, and a multicast socket for the changes.
#include "gateway/netlink.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <ctime>
#include <iterator>
#include <memory>

namespace masq {
namespace {

struct SocketCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Socket = std::unique_ptr<mnl_socket, SocketCloser>;

Error netlink_error(const char* what) {
  return error("The kernel does not tell its {} ({}).", what, strerror(errno));
}

// Calls `f` with each attribute (libmnl's own loops are C only).
template <class F>
void each_attribute(const nlmsghdr* header, std::size_t header_size, F f) {
  auto call = [](const nlattr* attribute, void* data) {
    (*static_cast<F*>(data))(attribute);
    return static_cast<int>(MNL_CB_OK);
  };
  mnl_attr_parse(header, static_cast<u32>(header_size), call, &f);
}

std::string link_kind(const nlattr* info) {
  std::string kind;
  auto call = [](const nlattr* attribute, void* data) {
    if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND)
      *static_cast<std::string*>(data) = mnl_attr_get_str(attribute);
    return static_cast<int>(MNL_CB_OK);
  };
  mnl_attr_parse_nested(info, call, &kind);
  return kind;
}

std::string hardware_address(const nlattr* attribute) {
  if (mnl_attr_get_payload_len(attribute) != ETH_ALEN) return "";
  const u8* a = static_cast<const u8*>(mnl_attr_get_payload(attribute));
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2], a[3], a[4],
                     a[5]);
}

int on_link(const nlmsghdr* header, void* out) {
  const auto* message = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  Link link;
  link.ifindex = static_cast<u32>(message->ifi_index);
  link.type = message->ifi_type;
  link.up = message->ifi_flags & IFF_UP;
  link.running = link.up && (message->ifi_flags & IFF_RUNNING);
  link.loopback = message->ifi_flags & IFF_LOOPBACK;
  each_attribute(header, sizeof(ifinfomsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case IFLA_IFNAME:
        link.name = mnl_attr_get_str(attribute);
        break;
      case IFLA_MTU:
        link.mtu = mnl_attr_get_u32(attribute);
        break;
      case IFLA_MASTER:
        link.master = mnl_attr_get_u32(attribute);
        break;
      case IFLA_ADDRESS:
        link.hardware_address = hardware_address(attribute);
        break;
      case IFLA_LINKINFO:
        link.kind = link_kind(attribute);
        break;
      default:
        break;
    }
  });
  static_cast<NetworkState*>(out)->links.push_back(std::move(link));
  return MNL_CB_OK;
}

int on_address(const nlmsghdr* header, void* out) {
  const auto* message = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
  if (message->ifa_family != AF_INET) return MNL_CB_OK;
  Address address;
  address.ifindex = message->ifa_index;
  address.prefix_length = message->ifa_prefixlen;
  bool local = false;
  each_attribute(header, sizeof(ifaddrmsg), [&](const nlattr* attribute) {
    u16 type = mnl_attr_get_type(attribute);
    // On a point-to-point link IFA_ADDRESS is the other end; IFA_LOCAL is always ours.
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && !local))
      address.address = Ipv4{mnl_attr_get_u32(attribute)};
    if (type == IFA_LOCAL) local = true;
    if (type == IFA_BROADCAST) address.broadcast = Ipv4{mnl_attr_get_u32(attribute)};
  });
  static_cast<NetworkState*>(out)->addresses.push_back(address);
  return MNL_CB_OK;
}

void on_way_out(const nlmsghdr* header, NetworkState& state) {
  WayOut way;
  bool by_next_hop = false;
  each_attribute(header, sizeof(rtmsg), [&](const nlattr* attribute) {
    u16 type = mnl_attr_get_type(attribute);
    if (type == RTA_OIF) way.ifindex = mnl_attr_get_u32(attribute);
    if (type == RTA_DST) way.destination = Ipv4{mnl_attr_get_u32(attribute)};
    if (type == RTA_GATEWAY) by_next_hop = true;
  });
  if (by_next_hop && way.ifindex != 0) state.ways_out.push_back(way);
}

// Each way of a route with several.
void on_multipath(const nlattr* attribute, const DefaultRoute& route, NetworkState& state) {
  const auto* hop = static_cast<const rtnexthop*>(mnl_attr_get_payload(attribute));
  int left = mnl_attr_get_payload_len(attribute);
  for (; RTNH_OK(hop, left);
       left -= static_cast<int>(RTNH_ALIGN(hop->rtnh_len)), hop = RTNH_NEXT(hop)) {
    DefaultRoute way{static_cast<u32>(hop->rtnh_ifindex), route.metric, {}};
    auto call = [](const nlattr* each, void* data) {
      if (mnl_attr_get_type(each) == RTA_GATEWAY && mnl_attr_get_payload_len(each) == 4)
        static_cast<DefaultRoute*>(data)->next_hop = Ipv4{mnl_attr_get_u32(each)};
      return static_cast<int>(MNL_CB_OK);
    };
    mnl_attr_parse_payload(RTNH_DATA(hop), hop->rtnh_len - sizeof *hop, call, &way);
    state.default_routes.push_back(way);
  }
}

int on_route(const nlmsghdr* header, void* out) {
  const auto* message = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(header));
  if (message->rtm_family != AF_INET || message->rtm_table != RT_TABLE_MAIN ||
      message->rtm_type != RTN_UNICAST)
    return MNL_CB_OK;
  if (message->rtm_dst_len != 0) {
    on_way_out(header, *static_cast<NetworkState*>(out));
    return MNL_CB_OK;
  }
  DefaultRoute route;
  auto* state = static_cast<NetworkState*>(out);
  each_attribute(header, sizeof(rtmsg), [&](const nlattr* attribute) {
    u16 type = mnl_attr_get_type(attribute);
    if (type == RTA_OIF) route.ifindex = mnl_attr_get_u32(attribute);
    if (type == RTA_PRIORITY) route.metric = mnl_attr_get_u32(attribute);
    if (type == RTA_GATEWAY) route.next_hop = Ipv4{mnl_attr_get_u32(attribute)};
    if (type == RTA_MULTIPATH) on_multipath(attribute, route, *state);
  });
  if (route.ifindex != 0) state->default_routes.push_back(route);
  return MNL_CB_OK;
}

Status dump(u16 type, u8 family, std::size_t header_size, mnl_cb_t callback, NetworkState& out,
            const char* what) {
  Socket socket(mnl_socket_open(NETLINK_ROUTE));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return netlink_error(what);
  std::vector<char> buffer(64 * 1024);
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = static_cast<u32>(time(nullptr));
  u32 sequence = request->nlmsg_seq;
  // The family is the first byte of every rtnetlink header.
  *static_cast<u8*>(mnl_nlmsg_put_extra_header(request, header_size)) = family;
  if (mnl_socket_sendto(socket.get(), request, request->nlmsg_len) < 0) return netlink_error(what);
  for (;;) {
    ssize_t length = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (length < 0) return netlink_error(what);
    int result = mnl_cb_run(buffer.data(), static_cast<std::size_t>(length), sequence,
                            mnl_socket_get_portid(socket.get()), callback, &out);
    if (result < 0) return netlink_error(what);
    if (result == MNL_CB_STOP) return Done{};
  }
}

}  // namespace

const Link* NetworkState::link_named(const std::string& name) const {
  for (const Link& link : links)
    if (link.name == name) return &link;
  return nullptr;
}

const Link* NetworkState::link_at(u32 ifindex) const {
  for (const Link& link : links)
    if (link.ifindex == ifindex) return &link;
  return nullptr;
}

bool NetworkState::is_uplink(u32 ifindex) const {
  for (const DefaultRoute& route : default_routes)
    if (route.ifindex == ifindex) return true;
  return false;
}

namespace {

Result<NetworkState> dump_network() {
  NetworkState state;
  Status status = dump(RTM_GETLINK, AF_UNSPEC, sizeof(ifinfomsg), on_link, state, "interfaces");
  if (!status) return status.error();
  status = dump(RTM_GETADDR, AF_INET, sizeof(ifaddrmsg), on_address, state, "addresses");
  if (!status) return status.error();
  status = dump(RTM_GETROUTE, AF_INET, sizeof(rtmsg), on_route, state, "routes");
  if (!status) return status.error();
  return state;
}

}  // namespace

Result<NetworkState> read_network() {
  // A dump that a change has interrupted is begun anew.
  for (int tries = 0;; ++tries) {
    Result<NetworkState> state = dump_network();
    if (state || errno != EINTR || tries == 10) return state;
  }
}

namespace {

Fd open_monitor(u32 groups) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  bool bound = fd && bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  return bound ? std::move(fd) : Fd();
}

// The kernel itself leaves out the routes that lead somewhere else than everywhere: so many may
// come that others would be lost. It tells of each route in a message of its own, and loads from it
// are big-endian.
bool leave_out_far_routes(const Fd& fd) {
  constexpr u32 kType = offsetof(nlmsghdr, nlmsg_type);
  constexpr u32 kLength = NLMSG_HDRLEN + offsetof(rtmsg, rtm_dst_len);
  constexpr u32 kAll = ~0u;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, kType),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 3),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, kLength),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, kAll),
  };
  sock_fprog program{std::size(code), code};
  return setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

}  // namespace

Result<Fd> open_route_monitor() {
  Fd fd = open_monitor(RTMGRP_IPV4_ROUTE);
  if (!fd) return error("Changes of routes cannot be followed ({}).", strerror(errno));
  return fd;
}

Result<Fd> open_network_monitor() {
  Fd fd = open_monitor(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE);
  if (!fd || !leave_out_far_routes(fd))
    return error("Changes of interfaces and addresses cannot be followed ({}).", strerror(errno));
  // Somebody switching forwarding on is news too.
  for (int group : {RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF})
    setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
  return fd;
}

void drain_network_monitor(const Fd& monitor) {
  char buffer[16 * 1024];
  // ENOBUFS only says that some were lost; whatever they were, everything is read anew.
  while (recv(monitor.get(), buffer, sizeof buffer, 0) > 0 || errno == ENOBUFS) errno = 0;
}

std::string to_text(Ipv4 address) {
  u32 host = to_host(address);
  return fmt::format("{}.{}.{}.{}", host >> 24, host >> 16 & 255, host >> 8 & 255, host & 255);
}

std::string to_text(Ipv4 address, Port port) {
  return fmt::format("{}:{}", to_text(address), to_host(port));
}

}  // namespace masq
