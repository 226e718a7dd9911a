// The process masq-slow and the TAP device between it and the kernel programs.
//
// The device has no addresses, and a program at its ingress lets nothing through to the stack; it
// is there to carry frames to the process, with checksums completed and large segments cut by the
// kernel, and back. The process is a new program (this binary once more), so it has none of the
// memory of masqd; it has the descriptor of the device and nothing else, and runs slow/slow_path.h.
//
// It says that it is there by a frame every quarter of a second; if it has gone or says nothing for
// kSlowHung_ms, masqd starts another one. It outlives masqd. docs/design/slow-path.md says why all
// this is so.
#pragma once

#include <string>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

inline constexpr const char* kSlowName = "masq-slow";  // of the device and of the process
inline constexpr u64 kSlowHung_ms = 3000;
// The largest that a TAP device has; a frame of 65535 bytes.
inline constexpr u32 kSlowMtu = 65521;

struct SlowDevice {
  Fd fd;
  u32 ifindex = 0;
};

// Opens the device, and makes it if it is not there. Fails while a process has it open.
Result<SlowDevice> open_slow_device();
// Its size and queue, and that it is up: also when somebody has changed that.
Status configure_slow_device();
void remove_slow_device();

// Starts the process on the device; returns its number when it stands.
Result<int> start_slow_process(const Fd& device);
bool slow_process_lives(int process);
int find_slow_process();
void end_slow_processes();

// What the process does; begins with `program` of these arguments if it is one.
bool is_slow_process(int argc, char** argv);
int run_slow_process();

}  // namespace masq
