// The reading of option_words.h: one pass over the words from the left to the right.
#include "compat/option_words.h"

#include <algorithm>

namespace masq {
namespace {

class Reader {
 public:
  Reader(const std::vector<std::string>& words, const OptionGrammar& grammar)
      : words_(words), grammar_(grammar) {}

  Result<std::vector<GivenOption>> read() {
    while (at_ < words_.size()) {
      const std::string& word = words_[at_++];
      Status status = Done{};
      if (word == "!")
        status = invert();
      else if (word.size() > 2 && word[0] == '-' && word[1] == '-')
        status = read_long(word);
      else if (word.size() > 1 && word[0] == '-' && word != "--")
        status = read_short(word);
      else
        status = error("unexpected word `{}'", word);
      if (!status) return status.error();
    }
    if (inverted_) return error("`!' must stand before something");
    return given_;
  }

 private:
  Status invert() {
    if (inverted_) return error("`!' must not stand twice");
    inverted_ = true;
    return Done{};
  }

  const OptionTakes* takes(int code) const {
    for (const auto& [known, what] : grammar_.takes)
      if (known == code) return &what;
    return nullptr;
  }

  Status read_short(const std::string& word) {
    for (std::size_t i = 1; i < word.size(); ++i) {
      const int code = static_cast<unsigned char>(word[i]);
      const OptionTakes* what = code > ' ' && code < 0x7f ? takes(code) : nullptr;
      if (what == nullptr) return error("unknown option `-{}'", word[i]);
      const std::string spelt = fmt::format("-{}", word[i]);
      if (*what == OptionTakes::nothing) {
        add(code, spelt);
        continue;
      }
      const std::string rest = word.substr(i + 1);
      return take(code, spelt, *what, rest.empty() ? nullptr : &rest);
    }
    return Done{};
  }

  Status read_long(const std::string& word) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const LongOption* found = nullptr;
    for (const LongOption& each : grammar_.longs) {
      const std::string known = each.name;
      if (known.compare(0, name.size(), name) != 0) continue;
      if (known == name) {
        found = &each;
        break;
      }
      if (found != nullptr && found->code != each.code)
        return error("option `--{}' is ambiguous: it can be --{} or --{}", name, found->name,
                     each.name);
      found = &each;
    }
    if (found == nullptr || name.empty()) return error("unknown option `--{}'", name);
    const std::string spelt = fmt::format("--{}", found->name);
    const OptionTakes what = *takes(found->code);
    if (what == OptionTakes::nothing) {
      if (equals != std::string::npos) return error("option `{}' takes no value", spelt);
      add(found->code, spelt);
      return Done{};
    }
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    return take(found->code, spelt, what, equals == std::string::npos ? nullptr : &value);
  }

  void add(int code, const std::string& spelt) {
    given_.push_back({code, spelt, inverted_, {}, {}});
    inverted_ = false;
  }

  // `attached` is the value if it stands in the same word.
  Status take(int code, const std::string& spelt, OptionTakes what, const std::string* attached) {
    add(code, spelt);
    GivenOption& option = given_.back();
    const bool must = what == OptionTakes::value || what == OptionTakes::value_and_more;
    if (attached != nullptr) {
      option.words.push_back(*attached);
      option.inverted_words.push_back(false);
    } else if (must) {
      if (at_ < words_.size() && words_[at_] == "!") {
        if (option.inverted) return error("`!' must not stand twice before `{}'", spelt);
        option.inverted = true;
        ++at_;
      }
      if (at_ >= words_.size()) return error("option `{}' needs a value", spelt);
      option.words.push_back(words_[at_++]);
      option.inverted_words.push_back(false);
    }
    if (what == OptionTakes::value) return Done{};
    while (at_ < words_.size() && take_further(option)) {
    }
    return Done{};
  }

  static bool is_plain(const std::string& word) {
    return word.empty() || (word[0] != '-' && word[0] != '!');
  }

  bool take_further(GivenOption& option) {
    bool inverted = false;
    std::size_t at = at_;
    if (words_[at] == "!") {
      inverted = true;
      if (++at >= words_.size()) return false;
    }
    if (!is_plain(words_[at])) return false;
    option.words.push_back(words_[at]);
    option.inverted_words.push_back(inverted);
    at_ = at + 1;
    return true;
  }

  const std::vector<std::string>& words_;
  const OptionGrammar& grammar_;
  std::size_t at_ = 0;
  bool inverted_ = false;
  std::vector<GivenOption> given_;
};

}  // namespace

Result<std::vector<GivenOption>> read_options(const std::vector<std::string>& words,
                                              const OptionGrammar& grammar) {
  return Reader(words, grammar).read();
}

}  // namespace masq
