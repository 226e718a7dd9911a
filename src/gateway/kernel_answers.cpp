// Netlink by hand where a question is three numbers; libmnl reads the answers.
#include "gateway/kernel_answers.h"

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace masq {
namespace {

constexpr u32 kCachedRoutes = 4096;
constexpr Ticks kRouteLife = ticks_from_ns(250000000);
constexpr int kNoAnswer = -EIO;
constexpr timeval kPatience{0, 200000};  // the kernel answers at once, or is in great trouble

Result<Fd> open_netlink(int family, const char* what) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return error("The kernel cannot be asked about its {} ({}).", what, strerror(errno));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  return fd;
}

// Sends the request and returns the answer's message, or null with `code` set.
const nlmsghdr* ask(const Fd& fd, nlmsghdr* request, char* buffer, std::size_t size, int& code) {
  code = kNoAnswer;
  if (send(fd.get(), request, request->nlmsg_len, 0) < 0) return nullptr;
  // What is left of a question that was given up has another number.
  for (int tries = 0; tries < 8; ++tries) {
    ssize_t length = recv(fd.get(), buffer, size, 0);
    if (length < static_cast<ssize_t>(sizeof(nlmsghdr))) return nullptr;
    const auto* answer = reinterpret_cast<const nlmsghdr*>(buffer);
    if (answer->nlmsg_seq != request->nlmsg_seq || !mnl_nlmsg_ok(answer, static_cast<int>(length)))
      continue;
    if (answer->nlmsg_type == NLMSG_ERROR) {
      code = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(answer))->error;
      return nullptr;
    }
    code = 0;
    return answer;
  }
  return nullptr;
}

int on_route_attribute(const nlattr* attribute, void* data) {
  auto* route = static_cast<EngineRoute*>(data);
  switch (mnl_attr_get_type(attribute)) {
    case RTA_OIF:
      route->ifindex = mnl_attr_get_u32(attribute);
      break;
    case RTA_GATEWAY:
      route->next_hop = Ipv4{mnl_attr_get_u32(attribute)};
      break;
    case RTA_VIA:  // an IPv6 next hop (RFC 8950) is none that we can use
      route->kind = RouteKind::none;
      break;
    default:
      break;
  }
  return MNL_CB_OK;
}

}  // namespace

Result<KernelAnswers> KernelAnswers::open(SocketTrial trial) {
  KernelAnswers answers;
  Result<Fd> routes = open_netlink(NETLINK_ROUTE, "routes");
  if (!routes) return routes.error();
  Result<Fd> sockets = open_netlink(NETLINK_SOCK_DIAG, "sockets");
  if (!sockets) return sockets.error();
  answers.routes_ = std::move(*routes);
  answers.sockets_ = std::move(*sockets);
  answers.loopback_ = if_nametoindex("lo");
  answers.cache_.resize(kCachedRoutes);
  if (trial == SocketTrial::made && !answers.finds_sockets())
    return error(
        "The kernel does not tell which ports the gateway's own programs have (INET_DIAG, "
        "INET_UDP_DIAG), so inner hosts could be given the same ones.");
  return answers;
}

bool KernelAnswers::finds_sockets() {
  for (u8 protocol : {kProtocolTcp, kProtocolUdp}) {
    bool tcp = protocol == kProtocolTcp;
    Fd fd(socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* at = reinterpret_cast<sockaddr*>(&address);
    // Nothing can be tried where the loopback interface is down; then there is no doubt either.
    if (!fd || bind(fd.get(), at, length) != 0 || (tcp && listen(fd.get(), 1) != 0) ||
        getsockname(fd.get(), at, &length) != 0)
      continue;
    if (!port_has_socket(protocol, Ipv4{address.sin_addr.s_addr}, Port{address.sin_port}, Ipv4{0},
                         Port{0}))
      return false;
  }
  return true;
}

int KernelAnswers::ask_route(Ipv4 destination, Ipv4 source, bool as_forwarded, EngineRoute& route) {
  alignas(nlmsghdr) char buffer[4096];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETROUTE;
  request->nlmsg_flags = NLM_F_REQUEST;
  request->nlmsg_seq = ++sequence_;
  auto* message = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtmsg)));
  message->rtm_family = AF_INET;
  message->rtm_dst_len = 32;
  mnl_attr_put_u32(request, RTA_DST, destination.be);
  if (as_forwarded) {
    message->rtm_src_len = 32;
    mnl_attr_put_u32(request, RTA_SRC, source.be);
    mnl_attr_put_u32(request, RTA_IIF, loopback_);
  }
  int code = 0;
  const nlmsghdr* answer = ask(routes_, request, buffer, sizeof buffer, code);
  if (answer == nullptr) return code;
  const auto* found = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(answer));
  switch (found->rtm_type) {
    case RTN_UNICAST:
      route.kind = RouteKind::forward;
      break;
    case RTN_LOCAL:
    case RTN_BROADCAST:
    case RTN_MULTICAST:
      route.kind = RouteKind::local;
      break;
    default:
      route.kind = RouteKind::none;
      break;
  }
  mnl_attr_parse(answer, sizeof(rtmsg), on_route_attribute, &route);
  return 0;
}

EngineRoute KernelAnswers::route(Ipv4 destination, Ipv4 source, Ticks now, u32 generation) {
  u32 place = (destination.be * 0x9e3779b1u ^ source.be * 0x85ebca6bu) >> 20 & (kCachedRoutes - 1);
  Cached& cached = cache_[place];
  if (cached.filled && same(cached.destination, destination) && same(cached.source, source) &&
      cached.generation == generation && !elapsed(now, cached.asked, kRouteLife))
    return cached.route;
  EngineRoute route{};
  int code = ask_route(destination, source, true, route);
  if (code != 0 && code != -ENETUNREACH) {
    // The gateway's own source, a strict check of sources (rp_filter), or forwarding is off on the
    // loopback interface as well.
    route = {};
    code = ask_route(destination, source, false, route);
  }
  if (code == kNoAnswer) answers_all_ = false;
  if (code != 0) route = {};
  cached = {destination, source, now, generation, true, route};
  return route;
}

bool KernelAnswers::port_has_socket(u8 protocol, Ipv4 address, Port port, Ipv4 remote,
                                    Port remote_port) {
  alignas(nlmsghdr) char buffer[4096];
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request->nlmsg_flags = NLM_F_REQUEST;
  request->nlmsg_seq = ++sequence_;
  auto* message =
      static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(request, sizeof(inet_diag_req_v2)));
  message->sdiag_family = AF_INET;
  message->sdiag_protocol = protocol;
  message->idiag_states = ~0u;
  inet_diag_sockid& id = message->id;
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  // For UDP the kernel takes source and destination as they stand in a packet that it receives; for
  // TCP as the socket sees them.
  bool swapped = protocol == kProtocolUdp;
  id.idiag_src[0] = swapped ? remote.be : address.be;
  id.idiag_sport = swapped ? remote_port.be : port.be;
  id.idiag_dst[0] = swapped ? address.be : remote.be;
  id.idiag_dport = swapped ? port.be : remote_port.be;
  int code = 0;
  const bool found = ask(sockets_, request, buffer, sizeof buffer, code) != nullptr;
  if (code == kNoAnswer) answers_all_ = false;
  return found;
}

}  // namespace masq
