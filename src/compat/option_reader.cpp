// Options as getopt(3) reads them.
#include "compat/option_reader.h"

#include <fmt/format.h>

#include <charconv>

namespace masq {

char OptionReader::next() {
  value_.clear();
  if (!problem_.empty() || at_ >= words_.size()) return 0;
  const std::string& word = words_[at_];
  if (letter_ == 0) {
    if (word == "--" && at_ + 1 == words_.size()) {
      at_ += 1;
      return 0;
    }
    if (word.size() < 2 || word[0] != '-') {
      refuse(fmt::format("`{}' belongs to no option", word));
      return 0;
    }
    letter_ = 1;
  }
  const char letter = word[letter_++];
  const std::size_t found = letter == ':' ? std::string::npos : letters_.find(letter);
  if (found == std::string::npos) {
    refuse(fmt::format("there is no option `-{}'", letter));
    return 0;
  }
  const bool is_last = letter_ == word.size();
  if (letters_.compare(found + 1, 1, ":") != 0) {
    if (is_last) at_ += 1;
    if (is_last) letter_ = 0;
    return letter;
  }
  if (!is_last) value_ = word.substr(letter_);
  at_ += 1;
  letter_ = 0;
  if (!is_last) return letter;
  std::optional<std::string> value = another(true);
  if (value) value_ = *value;
  if (!value) refuse(fmt::format("`-{}' needs a value", letter));
  return value ? letter : '\0';
}

std::optional<std::string> OptionReader::another(bool or_option) {
  if (letter_ != 0 || at_ >= words_.size()) return std::nullopt;
  if (!or_option && words_[at_].starts_with('-')) return std::nullopt;
  return words_[at_++];
}

void OptionReader::refuse(std::string problem) {
  if (problem_.empty()) problem_ = std::move(problem);
}

std::optional<u32> number_from(const std::string& text, u32 most) {
  const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
  u32 value = 0;
  const char *begin = text.data() + (is_hex ? 2 : 0), *end = text.data() + text.size();
  const auto [stopped, problem] = std::from_chars(begin, end, value, is_hex ? 16 : 10);
  if (problem != std::errc{} || stopped != end || value > most) return std::nullopt;
  return value;
}

}  // namespace masq
