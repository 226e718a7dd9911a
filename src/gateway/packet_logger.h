// Takes what the datapath has noted for rules with -l (core/packet_log.h) and makes lines of it,
// for masqd's log. What is too much for the log, or was written over before masqd came, is counted
// and said once a second.
//
// Without masqd nobody takes: packets pass or fall as ever. The next one writes down the last
// kLoggedMax of them, and counts the rest as lost.
//
// Limit: a packet that was judged just before a change of the rules may be lost, or be named after
// a rule of the next but one, if masqd comes to it in the milliseconds while that is being written.
#pragma once

#include <string>
#include <vector>

#include "gateway/any_datapath.h"

namespace masq {

// The log has room for some 8000 lines before it begins anew, and whoever floods the gateway must
// not push out at once what was written before.
inline constexpr u32 kLogLinesPerS = 50;
inline constexpr u32 kLogLinesAtOnce = 200;

class PacketLogger {
 public:
  // What is new, as lines.
  std::vector<std::string> take(AnyDatapath& datapath, u64 now_ms);

 private:
  void take_one(const AnyDatapath& datapath, PacketLog& log, u32 number,
                std::vector<std::string>& lines);
  std::string say_what_is_missing(const PacketLog& log, u64 now_ms);

  u64 earned_ms_ = 0;  // since when lines have been earned
  u32 lines_left_ = kLogLinesAtOnce;
  u64 said_ms_ = 0;
  u32 said_ = 0;  // of lost and left_out together
  bool began_ = false;
};

// Do the rules that are in force log anything?
bool rules_log(const AnyDatapath& datapath);

}  // namespace masq
