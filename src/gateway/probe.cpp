// A packet socket for ARP, a UDP socket for DNS.
#include "gateway/probe.h"

#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <iterator>

#include "gateway/fd.h"

namespace masq {
namespace {

constexpr u16 kDnsPort = 53;

struct ArpMessage {
  u16 hardware_type, protocol_type;
  u8 hardware_length, protocol_length;
  u16 operation;
  u8 sender_hardware[ETH_ALEN];
  u8 sender[4];
  u8 target_hardware[ETH_ALEN];
  u8 target[4];
};
static_assert(sizeof(ArpMessage) == 28);

u64 now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1000 + static_cast<u64>(now.tv_nsec) / 1000000;
}

bool has_come(const Fd& fd, u64 until_ms) {
  for (;;) {
    const u64 now = now_ms();
    pollfd wait{fd.get(), POLLIN, 0};
    const int found = poll(&wait, 1, now < until_ms ? static_cast<int>(until_ms - now) : 0);
    if (found >= 0 || errno != EINTR) return found > 0;
  }
}

Status send_question(const Fd& fd, const Link& link, Ipv4 target) {
  ArpMessage question{};
  question.hardware_type = htons(ARPHRD_ETHER);
  question.protocol_type = htons(ETH_P_IP);
  question.hardware_length = ETH_ALEN;
  question.protocol_length = 4;
  question.operation = htons(ARPOP_REQUEST);
  unsigned own[ETH_ALEN] = {};
  sscanf(link.hardware_address.c_str(), "%x:%x:%x:%x:%x:%x", &own[0], &own[1], &own[2], &own[3],
         &own[4], &own[5]);
  std::transform(std::begin(own), std::end(own), question.sender_hardware,
                 [](unsigned byte) { return static_cast<u8>(byte); });
  memcpy(question.target, &target.be, sizeof question.target);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_ARP);
  to.sll_ifindex = static_cast<int>(link.ifindex);
  to.sll_halen = ETH_ALEN;
  std::fill(to.sll_addr, to.sll_addr + ETH_ALEN, static_cast<u8>(0xff));
  if (sendto(fd.get(), &question, sizeof question, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) <
      0)
    return error("{} cannot be asked by ARP on {} ({})", to_text(target), link.name,
                 strerror(errno));
  return Done{};
}

void take_answer(const Fd& fd, ArpAnswers& answers) {
  ArpMessage message{};
  sockaddr_ll from{};
  socklen_t size = sizeof from;
  const ssize_t length = recvfrom(fd.get(), &message, sizeof message, MSG_DONTWAIT,
                                  reinterpret_cast<sockaddr*>(&from), &size);
  if (length != sizeof message || from.sll_pkttype == PACKET_OUTGOING) return;
  if (message.operation != htons(ARPOP_REPLY)) return;
  u32 sender = 0;
  memcpy(&sender, message.sender, sizeof sender);
  const auto at = answers.find(sender);
  const u8* a = message.sender_hardware;
  if (at != answers.end())
    at->second.insert(fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", a[0], a[1], a[2],
                                  a[3], a[4], a[5]));
}

bool all_have_answered(const ArpAnswers& answers) {
  return std::none_of(answers.begin(), answers.end(),
                      [](const auto& each) { return each.second.empty(); });
}

// Header, the root's name, NS, IN; recursion is desired.
std::array<u8, 17> dns_question(u16 number) {
  return {static_cast<u8>(number >> 8),
          static_cast<u8>(number),
          1,
          0,
          0,
          1,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          2,
          0,
          1};
}

}  // namespace

Result<ArpAnswers> ask_arp(const Link& link, const std::vector<Ipv4>& targets, bool for_twins) {
  Fd fd(socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // Before any program on the link has seen it: what masq itself makes of ARP is another question.
  // The kind of frame is looked at in the kernel, or all that passes would come here.
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, static_cast<u32>(SKF_AD_OFF + SKF_AD_PROTOCOL)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, ~0u),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  sock_fprog filter{std::size(code), code};
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(link.ifindex);
  if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) != 0 ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) != 0)
    return error("nobody can be asked by ARP on {} ({})", link.name, strerror(errno));
  ArpAnswers answers;
  for (const Ipv4 target : targets)
    if (answers.size() < kArpTargetsMost) answers[target.be];
  for (int i = 0; i < kProbeTries && (for_twins || !all_have_answered(answers)); ++i) {
    for (const auto& [target, heard] : answers)
      if (for_twins || heard.empty())
        if (Status status = send_question(fd, link, Ipv4{target}); !status) return status.error();
    const u64 until_ms = now_ms() + (for_twins ? kTwinPatience_ms : kArpPatience_ms);
    while ((for_twins || !all_have_answered(answers)) && has_come(fd, until_ms))
      take_answer(fd, answers);
  }
  return answers;
}

NameserverAnswer ask_nameserver(Ipv4 server) {
  const Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(kDnsPort);
  to.sin_addr.s_addr = server.be;
  if (!fd || connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) != 0)
    return NameserverAnswer::unreachable;
  u16 number = 0;
  if (getrandom(&number, sizeof number, 0) != sizeof number) number = 1;
  const auto question = dns_question(number);
  for (int i = 0; i < kProbeTries; ++i) {
    if (send(fd.get(), question.data(), question.size(), 0) < 0)
      return NameserverAnswer::unreachable;
    const u64 until_ms = now_ms() + kDnsPatience_ms;
    while (has_come(fd, until_ms)) {
      u8 answer[512];
      const ssize_t length = recv(fd.get(), answer, sizeof answer, MSG_DONTWAIT);
      if (length < 0) return NameserverAnswer::unreachable;
      const bool is_ours = length >= 12 && answer[0] == question[0] && answer[1] == question[1] &&
                           (answer[2] & 0x80) != 0;
      if (!is_ours) continue;
      const u8 code = answer[3] & 15;
      return code == 2 || code == 5 ? NameserverAnswer::refuses : NameserverAnswer::answers;
    }
  }
  return NameserverAnswer::silent;
}

}  // namespace masq
