// The device by ioctl; the process by running this binary anew under another name.
#include "gateway/slow_process.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>

#include "gateway/powerless.h"
#include "slow/slow_path.h"

namespace masq {
namespace {

// Descriptors of the process.
constexpr int kDevice = 3;
constexpr int kReport = 4;
constexpr int kFramesInARow = 256;  // before it looks at the clock
constexpr int kWait_ms = 50;        // so late may fragments be given back
// Eight times what it may hold, with what malloc needs beside it.
constexpr rlim_t kMemory_bytes = 64 << 20;

void write_sysctl(const std::string& path, const char* value) {
  std::ofstream file("/proc/sys/" + path);
  file << value;  // where there is no IPv6 there is no such file
}

Error fails(const char* what) {
  return error("The device of the slow path {} ({}).", what, strerror(errno));
}

ifreq request_for_device() {
  ifreq request = {};
  strncpy(request.ifr_name, kSlowName, IFNAMSIZ - 1);
  return request;
}

Result<Fd> attach_to_device() {
  Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return error("/dev/net/tun cannot be opened ({}).", strerror(errno));
  ifreq request = request_for_device();
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(fd.get(), TUNSETIFF, &request) != 0)
    return error("The device {} cannot be made ({}).", kSlowName, strerror(errno));
  return fd;
}

u64 now_ms() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * 1000 + static_cast<u64>(time.tv_nsec) / 1000000;
}

void send_frame(const void* frame, std::size_t length) {
  // What the kernel does not take is lost, as on any link.
  if (write(kDevice, frame, length) < 0) return;
}

void beat() {
  u8 frame[64] = {};  // Ethernet's least
  SlowHeader h{};
  h.mark = h.mark2 = kSlowMark;
  h.kind = kSlowBeat;
  memcpy(frame, &h, sizeof h);
  send_frame(frame, sizeof frame);
}

}  // namespace

Result<SlowDevice> open_slow_device() {
  Result<Fd> fd = attach_to_device();
  if (!fd) return fd.error();
  if (ioctl(fd->get(), TUNSETPERSIST, 1) != 0) return fails("cannot be kept");
  if (Status status = configure_slow_device(); !status) return status.error();
  return SlowDevice{std::move(*fd), if_nametoindex(kSlowName)};
}

Status configure_slow_device() {
  Fd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket_fd) return fails("cannot be set up");
  write_sysctl(fmt::format("net/ipv6/conf/{}/disable_ipv6", kSlowName), "1");
  write_sysctl(fmt::format("net/ipv4/conf/{}/forwarding", kSlowName), "0");
  ifreq request = request_for_device();
  request.ifr_mtu = kSlowMtu;
  if (ioctl(socket_fd.get(), SIOCSIFMTU, &request) != 0) return fails("does not take its size");
  request.ifr_qlen = kSlowQueue;
  if (ioctl(socket_fd.get(), SIOCSIFTXQLEN, &request) != 0) return fails("does not take its queue");
  request.ifr_flags = IFF_UP | IFF_NOARP;
  if (ioctl(socket_fd.get(), SIOCSIFFLAGS, &request) != 0) return fails("cannot be switched on");
  return Done{};
}

void remove_slow_device() {
  if (if_nametoindex(kSlowName) == 0) return;
  // A process that has just been ended may still have it open.
  for (int tries = 0; tries < 100; ++tries) {
    if (Result<Fd> fd = attach_to_device()) {
      ioctl(fd->get(), TUNSETPERSIST, 0);
      return;
    }
    usleep(5000);
  }
}

Result<int> start_slow_process(const Fd& device) {
  return start_orphan("The process of the slow path", [&](int report) {
    // Above the places where they are to be.
    int from = fcntl(device.get(), F_DUPFD, 10), to = fcntl(report, F_DUPFD, 10);
    if (dup2(from, kDevice) != kDevice || dup2(to, kReport) != kReport) _exit(1);
    execl("/proc/self/exe", kSlowName, nullptr);
    _exit(1);
  });
}

bool slow_process_lives(int process) {
  return powerless_lives(kSlowName, process);
}

int find_slow_process() {
  return find_powerless(kSlowName);
}

void end_slow_processes() {
  end_powerless(kSlowName);
}

bool is_slow_process(int argc, char** argv) {
  return argc == 1 && strcmp(argv[0], kSlowName) == 0;
}

int run_slow_process() {
  u64 secret[2];
  pid_t self = getpid();
  keep_only_fds(kSlowName, {kDevice, kReport});
  rlimit memory{kMemory_bytes, kMemory_bytes};
  if (getrandom(secret, sizeof secret, 0) != sizeof secret ||
      setrlimit(RLIMIT_DATA, &memory) != 0 || write(kReport, &self, sizeof self) != sizeof self)
    return 1;
  SlowPath path(secret[0], secret[1], send_frame);
  std::vector<u8> frame(kSlowFrameMax);
  close(kReport);
  // Memory comes and goes with the fragments that wait; nothing can be opened any more.
  if (!become_powerless({__NR_read, __NR_write, __NR_ppoll, __NR_clock_gettime, __NR_brk, __NR_mmap,
                         __NR_munmap, __NR_mremap, __NR_madvise, __NR_exit_group,
                         __NR_rt_sigreturn}))
    return 1;
  u64 beaten = 0;
  for (;;) {
    const u64 now = now_ms();
    if (now - beaten >= kSlowBeat_ms) {
      beat();
      beaten = now;
    }
    path.expire(now);
    int frames = 0;
    for (; frames < kFramesInARow; ++frames) {
      const ssize_t length = read(kDevice, frame.data(), frame.size());
      if (length < 0) {
        if (errno != EAGAIN && errno != EINTR) return 1;  // the device has gone
        break;
      }
      path.take(frame.data(), static_cast<u32>(length), now);
    }
    if (frames == kFramesInARow) continue;
    pollfd readable{kDevice, POLLIN, 0};
    const timespec wait{0, kWait_ms * 1000000};
    ppoll(&readable, 1, &wait, nullptr);
    if (readable.revents & (POLLERR | POLLNVAL)) return 1;
  }
}

}  // namespace masq
