// Finding a section in docs/reasons.md, and making plain text of its Markdown.
#include "cli/advice.h"

#include <sstream>
#include <string_view>

extern "C" {
extern const char masq_reasons_document_begin[];
extern const char masq_reasons_document_end[];
}

namespace masq {

std::string advice_for(const std::string& reason_name) {
  std::string_view document(
      masq_reasons_document_begin,
      static_cast<std::size_t>(masq_reasons_document_end - masq_reasons_document_begin));
  std::size_t title = document.find("\n## " + reason_name + "\n");
  if (title == std::string_view::npos) return "";
  std::string_view section = document.substr(title + 1);
  section = section.substr(0, section.find("\n## "));
  // The title, the sentence with the name of its counter, and then the advice.
  for (int i = 0; i < 2; ++i) {
    std::size_t end = section.find("\n\n");
    if (end == std::string_view::npos) return "";
    section.remove_prefix(end + 2);
  }
  std::string text;
  for (std::size_t i = 0; i < section.size(); ++i) {
    char c = section[i];
    if (c == '\n') c = ' ';
    if (c == '[') continue;
    if (c == ']' && i + 1 < section.size() && section[i + 1] == '(') {
      i = section.find(')', i);  // where the link leads is what its words say
      continue;
    }
    if (c != ' ' || (!text.empty() && text.back() != ' ')) text += c;
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns) {
  std::istringstream words(text);
  std::string lines, line;
  for (std::string word; words >> word;) {
    if (!line.empty() && indent + line.size() + 1 + word.size() > columns) {
      lines += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return line.empty() ? lines : lines + std::string(indent, ' ') + line + "\n";
}

}  // namespace masq
