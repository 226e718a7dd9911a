// A file descriptor, and a mapping of memory, that know when they end.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace masq {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// To be called first of all. Who starts a program may have closed its standard streams, and then
// the next files that it opens would get their places.
inline void fill_standard_streams() {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

class Mapping {
 public:
  Mapping() = default;
  Mapping(void* at, std::size_t length) : at_(at), length_(length) {}
  Mapping(Mapping&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), length_(std::exchange(other.length_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      if (at_ != nullptr) munmap(at_, length_);
      at_ = std::exchange(other.at_, nullptr);
      length_ = std::exchange(other.length_, 0);
    }
    return *this;
  }
  ~Mapping() {
    if (at_ != nullptr) munmap(at_, length_);
  }

  void* get() const { return at_; }
  std::size_t length() const { return length_; }

 private:
  void* at_ = nullptr;
  std::size_t length_ = 0;
};

}  // namespace masq
