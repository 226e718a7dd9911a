// Reads interfaces by getifaddrs(3) and /proc/net/dev, and prints them as net-tools did.
#include "compat/old_ifconfig.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "gateway/fd.h"

namespace masq {
namespace {

// The order in which they were printed, RUNNING behind NOTRAILERS as it is in the kernel's list.
constexpr std::pair<u32, const char*> kFlags[] = {
    {IFF_UP, "UP"},
    {IFF_BROADCAST, "BROADCAST"},
    {IFF_DEBUG, "DEBUG"},
    {IFF_LOOPBACK, "LOOPBACK"},
    {IFF_POINTOPOINT, "POINTOPOINT"},
    {IFF_NOTRAILERS, "NOTRAILERS"},
    {IFF_RUNNING, "RUNNING"},
    {IFF_NOARP, "NOARP"},
    {IFF_PROMISC, "PROMISC"},
    {IFF_ALLMULTI, "ALLMULTI"},
    {IFF_SLAVE, "SLAVE"},
    {IFF_MASTER, "MASTER"},
    {IFF_MULTICAST, "MULTICAST"},
};

const char* link_words(u16 type) {
  switch (type) {
    case ARPHRD_ETHER:
      return "Ethernet";
    case ARPHRD_LOOPBACK:
      return "Local Loopback";
    case ARPHRD_PPP:
      return "Point-to-Point Protocol";
    case ARPHRD_SLIP:
      return "Serial Line IP";
    case ARPHRD_TUNNEL:
      return "IPIP Tunnel";
    default:
      return "UNSPEC";
  }
}

std::string text_of(const sockaddr* address) {
  char text[INET_ADDRSTRLEN] = "";
  if (address == nullptr || address->sa_family != AF_INET) return text;
  sockaddr_in ipv4;
  memcpy(&ipv4, address, sizeof ipv4);
  inet_ntop(AF_INET, &ipv4.sin_addr, text, sizeof text);
  return text;
}

std::string hardware_text(const sockaddr_ll& link) {
  std::string text;
  for (unsigned i = 0; i < std::min<unsigned>(link.sll_halen, 6); ++i)
    text += fmt::format("{}{:02X}", i > 0 ? ":" : "", link.sll_addr[i]);
  return text;
}

u32 ask(int socket, const std::string& name, unsigned long question) {
  ifreq request{};
  strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  if (ioctl(socket, question, &request) != 0) return 0;
  return static_cast<u32>(request.ifr_mtu);  // one union: ifr_qlen lies there too
}

void read_counters(std::vector<OldInterface>& interfaces) {
  std::ifstream file("/proc/net/dev");
  for (std::string line; std::getline(file, line);) {
    std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::size_t begin = line.find_first_not_of(' ');
    std::string name = line.substr(begin, colon - begin);
    std::istringstream numbers(line.substr(colon + 1));
    std::array<u64, 16> column{};
    for (u64& each : column) numbers >> each;
    for (OldInterface& interface : interfaces) {
      if (interface.name != name) continue;
      interface.received = {column[0], column[1], column[2], column[3], column[4], column[5], 0, 0};
      interface.sent = {column[8],  column[9], column[10], column[11],
                        column[12], 0,         column[14], column[13]};
    }
  }
}

void take_address(const ifaddrs& entry, OldInterface& interface) {
  if (!interface.address.empty()) return;  // the first one, as it was
  interface.address = text_of(entry.ifa_addr);
  interface.mask = text_of(entry.ifa_netmask);
  if ((entry.ifa_flags & IFF_POINTOPOINT) != 0) interface.peer = text_of(entry.ifa_dstaddr);
  if ((entry.ifa_flags & IFF_BROADCAST) != 0) interface.broadcast = text_of(entry.ifa_broadaddr);
}

std::string counters_text(const OldInterface& interface) {
  const OldCounters& in = interface.received;
  const OldCounters& out = interface.sent;
  std::string text =
      fmt::format("          RX packets:{} errors:{} dropped:{} overruns:{} frame:{}\n", in.packets,
                  in.errors, in.dropped, in.overruns, in.frame);
  text += fmt::format("          TX packets:{} errors:{} dropped:{} overruns:{} carrier:{}\n",
                      out.packets, out.errors, out.dropped, out.overruns, out.carrier);
  text += fmt::format("          collisions:{} txqueuelen:{} \n", out.collisions,
                      interface.queue_length);
  return text;
}

CommandResult refused(const std::string& sentence, int exit_code = 1) {
  return {exit_code, "", "ifconfig: " + sentence + "\n"};
}

}  // namespace

std::string old_ifconfig_text(const OldInterface& interface) {
  std::string text =
      fmt::format("{:<9} Link encap:{}  ", interface.name, link_words(interface.link_type));
  if (!interface.hardware_address.empty())
    text += fmt::format("HWaddr {}  ", interface.hardware_address);
  text += '\n';
  if (!interface.address.empty()) {
    text += fmt::format("          inet addr:{}", interface.address);
    if (!interface.peer.empty()) text += fmt::format("  P-t-P:{}", interface.peer);
    if (!interface.broadcast.empty()) text += fmt::format("  Bcast:{}", interface.broadcast);
    text += fmt::format("  Mask:{}\n", interface.mask);
  }
  text += "          ";
  for (auto [flag, word] : kFlags)
    if ((interface.flags & flag) != 0) text += fmt::format("{} ", word);
  if (interface.flags == 0) text += "[NO FLAGS] ";
  text += fmt::format(" MTU:{}  Metric:1\n", interface.mtu);
  if (!interface.is_alias) text += counters_text(interface);
  return text + "\n";
}

std::vector<OldInterface> interfaces_of_this_machine() {
  std::vector<OldInterface> interfaces;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return interfaces;
  auto named = [&](const char* name) -> OldInterface& {
    for (OldInterface& each : interfaces)
      if (each.name == name) return each;
    interfaces.emplace_back().name = name;
    return interfaces.back();
  };
  // The interfaces come first, then the addresses, each under its label.
  for (const ifaddrs* entry = all; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    if (entry->ifa_addr->sa_family == AF_PACKET) {
      OldInterface& interface = named(entry->ifa_name);
      sockaddr_ll link;
      memcpy(&link, entry->ifa_addr, sizeof link);
      interface.link_type = link.sll_hatype;
      interface.flags = entry->ifa_flags;
      if (link.sll_hatype == ARPHRD_ETHER) interface.hardware_address = hardware_text(link);
    } else if (entry->ifa_addr->sa_family == AF_INET) {
      OldInterface& interface = named(entry->ifa_name);
      take_address(*entry, interface);
      interface.flags = entry->ifa_flags;
    }
  }
  freeifaddrs(all);
  Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (OldInterface& interface : interfaces) {
    std::string carrier = interface.name.substr(0, interface.name.find(':'));
    interface.is_alias = carrier != interface.name;
    for (const OldInterface& other : interfaces)
      if (interface.is_alias && other.name == carrier) {
        interface.link_type = other.link_type;
        interface.hardware_address = other.hardware_address;
      }
    interface.mtu = ask(socket.get(), carrier, SIOCGIFMTU);
    interface.queue_length = ask(socket.get(), carrier, SIOCGIFTXQLEN);
  }
  read_counters(interfaces);
  return interfaces;
}

CommandResult run_ifconfig(const std::vector<std::string>& argv,
                           const std::vector<OldInterface>& interfaces) {
  bool all = false;
  std::vector<std::string> words;
  for (std::size_t i = 1; i < argv.size(); ++i) {
    if (argv[i] == "-a")
      all = true;
    else if (argv[i] == "-V" || argv[i] == "--version")
      return {0, "ifconfig of masq " MASQ_VERSION "\n", ""};
    else if (argv[i].starts_with("-") && argv[i] != "-v")
      return refused(fmt::format("masq's stand-in has no option {}.", argv[i]), 2);
    else if (argv[i] != "-v")
      words.push_back(argv[i]);
  }
  if (words.size() > 1 && !(words.size() == 2 && words[1] == "inet"))
    return refused(
        fmt::format("in a script that masq runs it only shows; `{}` of {} is for the "
                    "machine's own configuration.",
                    words[1], words[0]));
  CommandResult said;
  for (const OldInterface& interface : interfaces)
    if (words.empty() ? all || (interface.flags & IFF_UP) != 0 : interface.name == words[0])
      said.out += old_ifconfig_text(interface);
  if (!words.empty() && said.out.empty())
    return refused(
        fmt::format("{}: error fetching interface information: Device not found", words[0]));
  return said;
}

}  // namespace masq
