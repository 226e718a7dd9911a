// Files of /proc and one dump of rtnetlink.
#include "gateway/machine.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "gateway/fd.h"
#include "gateway/state.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr u16 kAnswered =
    NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
// States in the kernel's lists of sockets (include/net/tcp_states.h).
constexpr const char* kTcpListens = "0A";
constexpr const char* kUdpUnconnected = "07";

int on_attribute(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) == NDA_DST && mnl_attr_get_payload_len(attribute) == 4)
    static_cast<NeighbourSeen*>(data)->address = Ipv4{mnl_attr_get_u32(attribute)};
  return MNL_CB_OK;
}

int on_neighbour(const nlmsghdr* header, void* data) {
  auto& all = *static_cast<std::vector<NeighbourSeen>*>(data);
  const auto* message = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(header));
  if (message->ndm_family != AF_INET || all.size() >= kNeighboursMost) return MNL_CB_OK;
  NeighbourSeen seen;
  seen.ifindex = static_cast<u32>(message->ndm_ifindex);
  seen.has_answered = (message->ndm_state & kAnswered) != 0;
  seen.is_silent = (message->ndm_state & NUD_FAILED) != 0;
  mnl_attr_parse(header, sizeof(ndmsg), on_attribute, &seen);
  all.push_back(seen);
  return MNL_CB_OK;
}

// One line of /proc/net/{tcp,udp}{,6}: "  0: 0100007F:0035 00000000:0000 0A ...".
bool read_listener(const std::string& line, const char* state, Listener& listener) {
  std::istringstream words(line);
  std::string number, local, remote, is;
  if (!(words >> number >> local >> remote >> is) || is != state) return false;
  const std::size_t colon = local.find(':');
  if (colon != 8 && colon != 32) return false;
  const std::string address = local.substr(0, colon);
  // A socket of IPv6 that is bound to no address takes IPv4 too, unless it was told not to; one
  // with an IPv4 address in it has that at its end.
  const bool any = address.find_first_not_of('0') == std::string::npos;
  if (colon == 32 && !any && !address.starts_with("0000000000000000FFFF0000")) return false;
  listener.address.be = static_cast<u32>(std::stoul(address.substr(colon - 8), nullptr, 16));
  listener.port = static_cast<u16>(std::stoul(local.substr(colon + 1), nullptr, 16));
  return true;
}

}  // namespace

Result<std::vector<NeighbourSeen>> read_neighbours() {
  const Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  alignas(nlmsghdr) char buffer[64 * 1024] = {};
  nlmsghdr* request = mnl_nlmsg_put_header(buffer);
  request->nlmsg_type = RTM_GETNEIGH;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ndmsg)))->ndm_family = AF_INET;
  std::vector<NeighbourSeen> all;
  bool done = fd && send(fd.get(), request, request->nlmsg_len, 0) >= 0;
  for (int result = MNL_CB_OK; done && result == MNL_CB_OK;) {
    const ssize_t length = recv(fd.get(), buffer, sizeof buffer, 0);
    result = length <= 0
                 ? MNL_CB_ERROR
                 : mnl_cb_run(buffer, static_cast<std::size_t>(length), 0, 0, on_neighbour, &all);
    done = result >= MNL_CB_STOP;
  }
  if (!done) return error("The kernel does not tell its neighbours ({}).", strerror(errno));
  return all;
}

std::vector<Listener> read_listeners() {
  std::vector<Listener> all;
  for (const char* name : {"tcp", "tcp6", "udp", "udp6"}) {
    const bool is_tcp = name[0] == 't';
    std::ifstream file(fmt::format("/proc/net/{}", name));
    for (std::string line; std::getline(file, line) && all.size() < kListenersMost;) {
      Listener listener;
      listener.protocol = is_tcp ? kProtocolTcp : kProtocolUdp;
      if (read_listener(line, is_tcp ? kTcpListens : kUdpUnconnected, listener))
        all.push_back(listener);
    }
  }
  return all;
}

Nameservers read_nameservers() {
  Nameservers found;
  std::ifstream file("/etc/resolv.conf");
  found.readable = file.good();
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string key, server;
    if (!(words >> key >> server) || key != "nameserver") continue;
    if (found.servers.size() + found.of_ipv6 >= kNameserversMost) break;
    in_addr address{};
    if (inet_pton(AF_INET, server.c_str(), &address) == 1)
      found.servers.push_back(Ipv4{address.s_addr});
    else
      found.of_ipv6 += 1;
  }
  return found;
}

// A UDP socket that is connected sends nothing by that.
u32 path_mtu_to(Ipv4 destination) {
  const Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);  // discard
  to.sin_addr.s_addr = destination.be;
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (!fd || connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0 ||
      getsockopt(fd.get(), IPPROTO_IP, IP_MTU, &mtu, &size) != 0)
    return 0;
  return static_cast<u32>(mtu);
}

std::vector<int> processes_here(const std::string& name) {
  std::vector<int> found;
  struct stat here {
  }, there{};
  if (stat("/proc/self/ns/net", &here) != 0) return found;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    const std::string number = entry.path().filename();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "comm");
    std::string is;
    if (!std::getline(file, is) || is != name) continue;
    if (stat((entry.path() / "ns/net").c_str(), &there) == 0 && there.st_ino == here.st_ino)
      found.push_back(std::stoi(number));
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool sweeps(const AnyDatapath& datapath) {
  constexpr int kTurn_ms = 20;
  const volatile Shared& shared = *datapath.tables().shared;
  const u32 cursor = shared.sweep_cursor, turns = shared.sweep_turns;
  for (int waited_ms = 0; waited_ms < kSweepPatience_ms; waited_ms += kTurn_ms) {
    if (shared.sweep_cursor != cursor || shared.sweep_turns != turns) return true;
    usleep(kTurn_ms * 1000);
  }
  return false;
}

bool netfilter_sees_bridges() {
  return read_sysctl("net/bridge/bridge-nf-call-iptables") == "1";
}

}  // namespace masq
