// From the ring to lines.
#include "gateway/packet_logger.h"

#include <net/if.h>

#include <algorithm>

#include "policy/packet_log.h"

namespace masq {
namespace {

constexpr u64 kSay_ms = 1000;

std::string name_of(const AnyDatapath& datapath, u32 bit) {
  for (const Interface& each : datapath.interfaces()) {
    char name[IF_NAMESIZE] = {};
    if (each.rule_bit != 0 && 1u << (each.rule_bit - 1) == bit &&
        if_indextoname(each.ifindex, name) != nullptr)
      return name;
  }
  return "";
}

}  // namespace

bool rules_log(const AnyDatapath& datapath) {
  const u32 generation = datapath.settings().rules_generation;
  return generation != 0 && datapath.tables().rules->halves[generation & 1].logs != 0;
}

void PacketLogger::take_one(const AnyDatapath& datapath, PacketLog& log, u32 number,
                            std::vector<std::string>& lines) {
  const LoggedPacket packet = log.packets[number & (kLoggedMax - 1)];
  // The half of a rule set is that of the one after the next, too.
  const u32 generation = datapath.settings().rules_generation;
  if (packet.number != number || generation - packet.generation > 1) {
    log.lost += 1;
  } else if (lines_left_ == 0) {
    log.left_out += 1;
  } else {
    lines_left_ -= 1;
    lines.push_back(packet_log_line(packet, datapath.tables().rules->halves[packet.generation & 1],
                                    name_of(datapath, packet.interface)));
  }
}

std::string PacketLogger::say_what_is_missing(const PacketLog& log, u64 now_ms) {
  const u32 missing = log.lost + log.left_out;
  if (missing == said_ || now_ms - said_ms_ < kSay_ms) return "";
  const u32 fresh = missing - said_;
  said_ = missing;
  said_ms_ = now_ms;
  return fmt::format("Packet log: {} packets for rules with -l are not written down here.", fresh);
}

std::vector<std::string> PacketLogger::take(AnyDatapath& datapath, u64 now_ms) {
  PacketLog& log = datapath.tables().rules->log;
  std::vector<std::string> lines;
  if (!began_) {
    began_ = true;
    earned_ms_ = now_ms;
    said_ = log.lost + log.left_out;
  }
  const u64 earned = (now_ms - earned_ms_) * kLogLinesPerS / 1000;
  if (earned != 0) {
    lines_left_ = static_cast<u32>(std::min<u64>(lines_left_ + earned, kLogLinesAtOnce));
    earned_ms_ = now_ms;
  }
  const u32 written = __atomic_load_n(&log.written, __ATOMIC_ACQUIRE);
  if (written - log.taken > kLoggedMax) {
    log.lost += written - log.taken - kLoggedMax;
    log.taken = written - kLoggedMax;
  }
  while (log.taken != written) {
    const u32 number = log.taken + 1;
    // Still being written: at the next look, unless the ring has gone on by then.
    const u32 there =
        __atomic_load_n(&log.packets[number & (kLoggedMax - 1)].number, __ATOMIC_ACQUIRE);
    if (there != number && written - number < kLoggedMax / 2) break;
    take_one(datapath, log, number, lines);
    log.taken = number;
  }
  if (std::string said = say_what_is_missing(log, now_ms); !said.empty()) lines.push_back(said);
  return lines;
}

}  // namespace masq
