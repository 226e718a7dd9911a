// A value, or the sentence that says why there is none. Control code returns it instead of
// throwing; std::expected's shape, for a standard library that lacks it in C++20.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>

namespace masq {

// One plain sentence for a person: what is wrong, and what to do about it where that can be said.
struct Error {
  std::string sentence;
};

template <class... Args>
Error error(fmt::format_string<Args...> format, Args&&... args) {
  return Error{fmt::format(format, std::forward<Args>(args)...)};
}

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}

  explicit operator bool() const { return std::holds_alternative<T>(state_); }
  T& operator*() { return std::get<T>(state_); }
  const T& operator*() const { return std::get<T>(state_); }
  T* operator->() { return &std::get<T>(state_); }
  const T* operator->() const { return &std::get<T>(state_); }
  const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Result<Done>;

}  // namespace masq
