// What nftables does with a packet by the table that is made of a rule set, against the plain
// reading of the manual (chain_twin.h): random rule sets, random packets, in the running kernel.
//
// In a network namespace of its own with TUN devices: what is written to one comes in by it, and
// what goes out by it can be read. Behind the table stands another one, which keeps the
// identification and the mark of each packet that has come so far. Needs root; leaves nothing
// behind, since the namespace ends with the process.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gateway/fd.h"
#include "gateway/nftables.h"
#include "policy/rules_nftables.h"
#include "unit/random_rules.h"
#include "wire/checksum.h"
#include "wire/headers.h"

namespace masq::test {
namespace {

constexpr u32 kSets = 1000;
constexpr u32 kPacketsOfEach = 32;  // in each direction
constexpr const char* kOurs[] = {"eth0", "eth1", "ppp0", "ppp11", "eth0.5"};
constexpr const char* kNotOurs = "other";
constexpr u32 kLocal[] = {0x0a000001, 0xc0a80107};
constexpr u32 kRemote[] = {0x0a000102, 0xc0a80206, 0xffffffff};
constexpr u8 kCongestion = 3;  // the bits that stay

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

void run(const std::string& command) {
  if (std::system(command.c_str()) != 0) give_up(command + " has failed");
}

Fd make_tun(const char* name) {
  Fd fd(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  ifreq request{};
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (!fd || ioctl(fd.get(), TUNSETIFF, &request) != 0)
    give_up("A TUN device cannot be made (this test needs root and /dev/net/tun).");
  run(std::string("ip link set ") + name + " up");
  return fd;
}

struct Seen {
  bool passed = false;
  u32 mark = 0;
  u8 tos = 0;
};

class Kernel {
 public:
  Kernel() {
    run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 && ip link set lo up");
    for (u32 address : kLocal)
      run(fmt::format("ip addr add {}.{}.{}.{}/32 dev lo", address >> 24, address >> 16 & 255,
                      address >> 8 & 255, address & 255));
    for (const char* name : kOurs) {
      devices_[name] = make_tun(name);
      interfaces_.push_back({name, index_of(name), true, name[0] == 'p', false});
    }
    devices_[kNotOurs] = make_tun(kNotOurs);
    raw_ = Fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
    const int one = 1;
    setsockopt(raw_.get(), SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    must(
        "add table ip behind\n"
        "add set ip behind in { typeof ip id . meta mark; size 65535; flags dynamic; }\n"
        "add set ip behind out { typeof ip id . meta mark; size 65535; flags dynamic; }\n"
        "add chain ip behind in { type filter hook prerouting priority -448; }\n"
        "add rule ip behind in update @in { ip id . meta mark }\n"
        "add chain ip behind out { type filter hook postrouting priority 201; }\n"
        "add rule ip behind out update @out { ip id . meta mark }\n");
  }

  const std::vector<NftInterface>& interfaces() const { return interfaces_; }

  void put(const std::string& table) {
    must("add table ip masq_own\ndelete table ip masq_own\n" + table);
  }

  void come_in(const std::string& interface, const std::string& packet) {
    if (write(devices_.at(interface).get(), packet.data(), packet.size()) !=
        static_cast<ssize_t>(packet.size()))
      give_up("A packet could not come in.");
  }

  // The type of service that it went out with, if it did.
  Seen send(const std::string& interface, const std::string& packet) {
    setsockopt(raw_.get(), SOL_SOCKET, SO_BINDTODEVICE, interface.data(),
               static_cast<socklen_t>(interface.size()));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    std::memcpy(&to.sin_addr, packet.data() + 16, 4);
    (void)sendto(raw_.get(), packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to),
                 sizeof to);
    Seen seen;
    u8 bytes[2048];
    for (auto& [name, device] : devices_)
      while (read(device.get(), bytes, sizeof bytes) > 0) {
        if (std::memcmp(bytes + 4, packet.data() + 4, 2) != 0) continue;
        if (name != interface || checksum_fold(checksum_sum(bytes, 20)) != 0xffff)
          give_up("A packet went out otherwise than it should.");
        seen.passed = true;
        seen.tos = bytes[1];
      }
    return seen;
  }

  // The marks of those that came so far, by identification. What is broadcast comes back by itself.
  std::map<u32, u32> take_seen(bool out) {
    std::map<u32, u32> marks;
    const auto listing =
        nlohmann::json::parse(nft_.list(out ? "set ip behind out" : "set ip behind in", true));
    for (const auto& item : listing["nftables"])
      if (item.contains("set") && item["set"].contains("elem"))
        for (const auto& each : item["set"]["elem"])
          marks[each["concat"][0].get<u32>()] = each["concat"][1].get<u32>();
    must("flush set ip behind in\nflush set ip behind out\n");
    return marks;
  }

 private:
  u32 index_of(const char* name) {
    ifreq request{};
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    Fd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (ioctl(any.get(), SIOCGIFINDEX, &request) != 0) give_up("A device has no index.");
    return static_cast<u32>(request.ifr_ifindex);
  }

  void must(const std::string& commands) {
    if (Status status = nft_.run(commands); !status)
      give_up("nftables refuses: " + status.error().sentence + "\n" + commands);
  }

  Nftables nft_;
  std::map<std::string, Fd> devices_;
  std::vector<NftInterface> interfaces_;
  Fd raw_;
};

std::string bytes_of(const TwinPacket& p, u16 id, bool more_fragments) {
  std::string bytes(20 + 24, '\0');
  auto put8 = [&](u32 at, u32 value) { bytes[at] = static_cast<char>(value); };
  auto put16 = [&](u32 at, u32 value) { put8(at, value >> 8), put8(at + 1, value & 255); };
  auto put32 = [&](u32 at, u32 value) { put16(at, value >> 16), put16(at + 2, value & 0xffff); };
  put8(0, 0x45);
  put8(1, p.tos);
  put16(2, static_cast<u32>(bytes.size()));
  put16(4, id);
  put16(6, (p.later_fragment ? 3u : 0u) | (more_fragments ? 0x2000u : 0u));
  put8(8, 64);
  put8(9, p.protocol);
  put32(12, p.source);
  put32(16, p.destination);
  const u16 sum =
      static_cast<u16>(~checksum_fold(checksum_sum(reinterpret_cast<const u8*>(bytes.data()), 20)));
  std::memcpy(bytes.data() + 10, &sum, 2);
  if (p.protocol == kProtocolIcmp) {
    put8(20, p.from_port);
    put8(21, p.to_port);
  } else {
    put16(20, p.from_port);
    put16(22, p.to_port);
  }
  if (p.protocol == kProtocolTcp) {
    put8(32, 0x50);
    put8(33, (p.syn ? 2u : 0u) | (p.ack ? 16u : 0u) | (p.rst ? 4u : 0u));
  }
  if (p.protocol == kProtocolUdp) put16(24, 24);
  return bytes;
}

bool adds_marks(const RuleSet& set) {
  for (const Chain& chain : set.chains())
    for (const Rule& rule : chain.rules)
      if (rule.mark_change == MarkChange::add) return true;
  return false;
}

// Without the chain that translates: with it the kernel follows connections, and for that it puts
// together the fragments that these packets pretend to be.
std::string without_connections(const std::string& table) {
  std::istringstream lines(table);
  std::string kept;
  for (std::string line; std::getline(lines, line);)
    if (line.find("masq_own redirecting ") == std::string::npos) kept += line + "\n";
  return kept;
}

struct Tally {
  u32 passed = 0, refused = 0, loops = 0, fragments = 0, changed = 0, marked = 0, redirected = 0,
      too_many = 0;
};

class Comparison {
 public:
  void set(u32 seed) {
    RandomRules make(seed);
    const RuleSet rules = make.rules();
    Result<std::string> table = rules_to_nftables(rules, kernel_.interfaces(), 1);
    if (!table) {
      tally_.too_many += 1;
      return;
    }
    kernel_.put(without_connections(*table));
    text_ = rules_to_json(rules) + *table;
    for (const char* chain : {"input", "output"}) {
      std::map<u16, Seen> seen;
      std::vector<TwinPacket> packets;
      for (u16 n = 0; n < kPacketsOfEach; ++n) {
        TwinPacket p = make.packet();
        if (p.interface == "lo") p.interface = "";
        if (p.protocol == kProtocolIcmp) p.from_port &= 255, p.to_port &= 255;
        if (*chain == 'o') {
          p.source = kLocal[p.source % 2];
          p.destination = kRemote[p.destination % 3];
        }
        packets.push_back(p);
        const u16 id = static_cast<u16>(n + 1);
        const std::string name = p.interface.empty() ? kNotOurs : p.interface;
        const std::string bytes = bytes_of(p, id, n % 3 == 0);
        if (*chain == 'i')
          kernel_.come_in(name, bytes);
        else
          seen[id] = kernel_.send(name, bytes);
      }
      for (const auto& [id, mark] : kernel_.take_seen(*chain == 'o')) {
        if (*chain == 'o' && !seen[static_cast<u16>(id)].passed)
          give_up("A packet passed all tables and did not go out.");
        seen[static_cast<u16>(id)].passed = true;
        seen[static_cast<u16>(id)].mark = mark;
      }
      for (u16 n = 0; n < kPacketsOfEach; ++n)
        compare(rules, chain, packets[n], seen[static_cast<u16>(n + 1)],
                fmt::format("seed {}, {} of {}", seed, chain, n));
    }
  }

  int result() const {
    std::printf(
        "%u passed, %u refused, %u in circles, %u later fragments, %u with another type of "
        "service, %u marked, %u redirected; %u sets not to be had\n",
        tally_.passed, tally_.refused, tally_.loops, tally_.fragments, tally_.changed,
        tally_.marked, tally_.redirected, tally_.too_many);
    const bool enough = tally_.passed > 9000 && tally_.refused > 9000 && tally_.loops > 200 &&
                        tally_.fragments > 500 && tally_.changed > 200 && tally_.marked > 50 &&
                        tally_.redirected > 30 && tally_.too_many < kSets / 4;
    if (!enough) std::printf("Something hardly occurs in it any more.\n");
    return enough ? 0 : 1;
  }

 private:
  void compare(const RuleSet& rules, const std::string& chain, const TwinPacket& p,
               const Seen& seen, const std::string& which) {
    ChainTwin twin(rules);
    TwinOutcome expected = twin.of(chain, p);
    const bool judged = !p.interface.empty();
    if (!judged) {
      expected = TwinOutcome{};
      expected.verdict = RuleTarget::accept;
      expected.tos = p.tos;
    }
    const bool redirected = chain == "input" && expected.verdict == RuleTarget::redirect;
    const bool passes = expected.verdict == RuleTarget::accept || redirected;
    if (passes != seen.passed)
      give_up(fmt::format("{}: {}, but the rules say {}\n{}", which,
                          seen.passed ? "it passed" : "it did not pass",
                          static_cast<u32>(expected.verdict), text_));
    (passes ? tally_.passed : tally_.refused) += 1;
    tally_.loops += expected.verdict == RuleTarget::loop;
    tally_.fragments += p.later_fragment;
    if (!passes) return;
    if (redirected) expected.mark = kRedirectMark | expected.redirect_port;
    tally_.redirected += redirected;
    const u8 tos = static_cast<u8>((expected.tos & ~kCongestion) | (p.tos & kCongestion));
    if (chain == "output" && seen.tos != tos)
      give_up(
          fmt::format("{}: it went out with {:#x}, not {:#x}\n{}", which, seen.tos, tos, text_));
    if ((redirected || !adds_marks(rules)) && seen.mark != expected.mark)
      give_up(fmt::format("{}: marked {}, not {}\n{}", which, seen.mark, expected.mark, text_));
    tally_.changed += chain == "output" && tos != p.tos;
    tally_.marked += !adds_marks(rules) && expected.mark != 0;
  }

  Kernel kernel_;
  Tally tally_;
  std::string text_;
};

}  // namespace
}  // namespace masq::test

int main() {
  // Before anything is opened that would belong to the namespace where this was started.
  if (unshare(CLONE_NEWNET) != 0)
    masq::test::give_up("This test needs root: it makes a network namespace.");
  masq::test::Comparison comparison;
  for (masq::u32 seed = 0; seed < masq::test::kSets; ++seed) comparison.set(seed);
  return comparison.result();
}
