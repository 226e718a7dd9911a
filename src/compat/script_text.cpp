// A small reader of shell: words, quotes, variables, and nothing else of the language.
#include "compat/script_text.h"

#include <algorithm>
#include <map>

namespace masq {
namespace {

constexpr char kAnything = '\x01';  // in a word: any characters
constexpr std::size_t kStepsMost = 20000;
constexpr std::size_t kWordBytesMost = 1000;  // compared by recursion, a character a step

// A word of the text. What cannot be known is kAnything; one that consists of that alone, and is
// not quoted, may be any number of words.
struct Word {
  std::string text;
  bool is_quoted = false;
};

struct Command {
  unsigned line = 0;
  std::vector<Word> words;
};

using Variables = std::map<std::string, std::string>;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

class Reader {
 public:
  Reader(const std::string& text, bool follows_variables)
      : text_(text), follows_variables_(follows_variables) {}

  std::vector<Command> commands() {
    while (at_ < text_.size()) step();
    end_command();
    return std::move(commands_);
  }

 private:
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void advance() {
    if (at_ < text_.size() && text_[at_++] == '\n') ++line_;
  }

  void step() {
    char c = peek();
    if (c == '\\' && peek(1) == '\n') {
      advance();
      advance();
    } else if (c == ' ' || c == '\t') {
      end_word();
      advance();
    } else if (c == '#' && !in_word_) {
      while (at_ < text_.size() && peek() != '\n') advance();
    } else if (c == '\n' || c == ';' || c == '&' || c == '|' || c == '(' || c == ')') {
      end_command();
      advance();
    } else if (c == '<' || c == '>') {
      // A redirection, with the number before it and the word behind it.
      if (in_word_ && word_.text.find_first_not_of("0123456789") == std::string::npos) drop_word();
      end_word();
      while (peek() == '<' || peek() == '>' || peek() == '&') advance();
      while (peek() == ' ' || peek() == '\t') advance();
      skips_word_ = true;
    } else {
      take_character();
    }
  }

  void take_character() {
    if (!in_word_ && command_.words.empty()) command_.line = line_;
    in_word_ = true;
    char c = peek();
    if (c == '\'') {
      word_.is_quoted = true;
      for (advance(); at_ < text_.size() && peek() != '\''; advance()) word_.text += peek();
      advance();
    } else if (c == '"') {
      word_.is_quoted = true;
      for (advance(); at_ < text_.size() && peek() != '"';) take_unquoted();
      advance();
    } else {
      take_unquoted();
    }
  }

  // Neither a quote nor a blank: a character, or what a `$` or a backquote leads to.
  void take_unquoted() {
    char c = peek();
    if (c == '\\') {
      advance();
      if (peek() != '\n') word_.text += peek();
      advance();
    } else if (c == '$') {
      take_variable();
    } else if (c == '`') {
      for (advance(); at_ < text_.size() && peek() != '`'; advance()) {
      }
      advance();
      word_.text += kAnything;
    } else {
      word_.text += c;
      advance();
    }
  }

  void take_variable() {
    advance();
    char open = peek();
    if (open == '(' || open == '{') {
      char close = open == '(' ? ')' : '}';
      std::string inside;
      int depth = 0;
      do {
        depth += peek() == open ? 1 : peek() == close ? -1 : 0;
        inside += peek();
        advance();
      } while (depth > 0 && at_ < text_.size());
      std::string name = inside.size() > 2 ? inside.substr(1, inside.size() - 2) : "";
      bool is_plain = open == '{' && std::all_of(name.begin(), name.end(), is_name);
      word_.text += is_plain ? value_of(name) : std::string(1, kAnything);
      return;
    }
    std::string name;
    while (is_name(peek())) {
      name += peek();
      advance();
    }
    if (name.empty()) advance();  // $? and its like
    word_.text += value_of(name);
  }

  std::string value_of(const std::string& name) const {
    auto found = variables_.find(name);
    return follows_variables_ && found != variables_.end() ? found->second
                                                           : std::string(1, kAnything);
  }

  void drop_word() {
    word_ = {};
    in_word_ = false;
  }

  void end_word() {
    if (!in_word_) return;
    if (skips_word_)
      skips_word_ = false;
    else if (word_.is_quoted || !is_assignment())
      add_word();
    drop_word();
  }

  // NAME=value before a command is remembered, and no word of it.
  bool is_assignment() {
    if (std::any_of(command_.words.begin(), command_.words.end(),
                    [](const Word& each) { return each.text != "export"; }))
      return false;
    std::size_t equals = word_.text.find('=');
    if (equals == std::string::npos || equals == 0 ||
        !std::all_of(word_.text.begin(), word_.text.begin() + static_cast<std::ptrdiff_t>(equals),
                     is_name))
      return false;
    variables_[word_.text.substr(0, equals)] = word_.text.substr(equals + 1);
    return true;
  }

  void add_word() {
    if (word_.is_quoted) {
      // NAME="a b": quoted, but an assignment all the same.
      if (!is_assignment()) command_.words.push_back(word_);
      return;
    }
    // A value with blanks in it is several words.
    for (std::size_t at = 0; at < word_.text.size();) {
      std::size_t begin = word_.text.find_first_not_of(" \t\n", at);
      if (begin == std::string::npos) break;
      std::size_t end = std::min(word_.text.find_first_of(" \t\n", begin), word_.text.size());
      command_.words.push_back({word_.text.substr(begin, end - begin), false});
      at = end;
    }
  }

  void end_command() {
    end_word();
    skips_word_ = false;
    if (!command_.words.empty()) commands_.push_back(std::move(command_));
    command_ = {};
  }

  const std::string& text_;
  bool follows_variables_;
  std::size_t at_ = 0;
  unsigned line_ = 1;
  Word word_;
  bool in_word_ = false, skips_word_ = false;
  Command command_;
  std::vector<Command> commands_;
  Variables variables_;
};

// Does a word with kAnything in it fit this one?
bool fits(std::string_view pattern, std::string_view word, std::size_t& steps) {
  if (++steps > kStepsMost) return false;
  if (pattern.empty()) return word.empty();
  if (pattern[0] != kAnything)
    return !word.empty() && pattern[0] == word[0] && fits(pattern.substr(1), word.substr(1), steps);
  for (std::size_t taken = 0; taken <= word.size(); ++taken)
    if (fits(pattern.substr(1), word.substr(taken), steps)) return true;
  return false;
}

bool fits(const std::vector<Word>& pattern, std::size_t at, const std::vector<std::string>& words,
          std::size_t from, std::size_t& steps) {
  if (++steps > kStepsMost) return false;
  if (at == pattern.size()) return from == words.size();
  const Word& word = pattern[at];
  bool many = !word.is_quoted && word.text == std::string(1, kAnything);
  for (std::size_t taken = 0; many && from + taken <= words.size(); ++taken)
    if (fits(pattern, at + 1, words, from + taken, steps)) return true;
  return !many && from < words.size() && fits(word.text, words[from], steps) &&
         fits(pattern, at + 1, words, from + 1, steps);
}

std::string_view last_part(std::string_view path) {
  return path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
}

bool stands_before_commands(const Word& word) {
  static const char* const kWords[] = {"if",    "then",  "else",    "elif",  "do",
                                       "while", "until", "!",       "{",     "}",
                                       "time",  "exec",  "command", "nohup", "nice"};
  return std::any_of(std::begin(kWords), std::end(kWords),
                     [&](const char* each) { return word.text == each; });
}

std::vector<unsigned> search(const std::string& text, const std::vector<std::string>& words,
                             bool follows_variables) {
  std::vector<unsigned> lines;
  for (const std::string& word : words)
    if (word.size() > kWordBytesMost) return lines;
  for (const Command& command : Reader(text, follows_variables).commands()) {
    std::size_t first = 0;
    while (first < command.words.size() && stands_before_commands(command.words[first])) ++first;
    if (first == command.words.size()) continue;
    std::size_t steps = 0;
    if (!fits(last_part(command.words[first].text), last_part(words[0]), steps)) continue;
    if (!fits(command.words, first + 1, words, 1, steps)) continue;
    if (lines.empty() || lines.back() != command.line) lines.push_back(command.line);
  }
  return lines;
}

}  // namespace

std::string without_carriage_returns(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::size_t behind = i;
    while (behind < text.size() && text[behind] == '\r') ++behind;
    if (behind > i && (behind == text.size() || text[behind] == '\n')) i = behind;
    if (i < text.size()) plain += text[i];
  }
  return plain;
}

std::string interpreter_of(std::string_view text) {
  if (!text.starts_with("#!")) return "";
  std::string_view line = text.substr(2, text.find('\n') - 2);
  std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(line.substr(begin, line.find_first_of(" \t", begin) - begin));
}

std::vector<unsigned> lines_of_command(const std::string& text,
                                       const std::vector<std::string>& words) {
  if (words.empty()) return {};
  std::vector<unsigned> lines = search(text, words, true);
  return lines.empty() ? search(text, words, false) : lines;
}

std::vector<unsigned> lines_with(const std::string& text, const std::string& word) {
  std::vector<unsigned> lines;
  unsigned line = 1;
  for (std::size_t at = 0; at < text.size(); ++line) {
    std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view here = std::string_view(text).substr(at, end - at);
    std::size_t first = here.find_first_not_of(" \t");
    bool is_comment = first != std::string_view::npos && here[first] == '#';
    if (!is_comment && here.find(word) != std::string_view::npos) lines.push_back(line);
    at = end + 1;
  }
  return lines;
}

std::string lines_in_words(const std::vector<unsigned>& lines) {
  if (lines.empty()) return "";
  std::string text = fmt::format("line {}", lines[0]);
  std::size_t named = std::min(lines.size(), kLinesNamedMost);
  for (std::size_t i = 1; i < named; ++i) {
    bool is_last = i + 1 == lines.size();
    text += fmt::format("{} {}", is_last ? " or" : ",", lines[i]);
  }
  return lines.size() > named ? text + " or another" : text;
}

std::string in_shell_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    bool is_plain = !word.empty() && std::all_of(word.begin(), word.end(), [](char c) {
      return is_name(c) || std::string_view("-+./:,=@%!^").find(c) != std::string_view::npos;
    });
    if (is_plain) {
      text += word;
      continue;
    }
    text += '\'';
    for (char c : word) {
      if (c == '\'')
        text += "'\\''";
      else
        text += static_cast<unsigned char>(c) < ' ' ? '?' : c;
    }
    text += '\'';
  }
  return text;
}

}  // namespace masq
