// Options as getopt(3) reads them, for the old commands: `-P tcp`, `-Ptcp`, several flags in one
// word, values that are taken whatever they look like, `--` for the end. Words between options are
// the options' own business: some take a second and a third one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "wire/types.h"

namespace masq {

class OptionReader {
 public:
  // `letters` as getopt has them: a colon behind one that takes a value.
  OptionReader(const std::vector<std::string>& words, std::string letters)
      : words_(words), letters_(std::move(letters)) {}

  // The next option; 0 at the end, or when something is wrong.
  char next();
  // What came with it.
  const std::string& value() const { return value_; }
  // The next word, if it is there and no option (`or_option`: whatever it is).
  std::optional<std::string> another(bool or_option = false);
  // Remembers the first thing that is wrong, and stops.
  void refuse(std::string problem);
  // One sentence; empty while nothing is wrong.
  const std::string& problem() const { return problem_; }

 private:
  const std::vector<std::string>& words_;
  std::string letters_, value_, problem_;
  std::size_t at_ = 0;      // the word
  std::size_t letter_ = 0;  // in it; 0: at its beginning
};

// Digits, or 0x and hexadecimal ones, and nothing else; not more than `most`.
std::optional<u32> number_from(const std::string& text, u32 most);

}  // namespace masq
