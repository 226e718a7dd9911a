// What docs/reasons.md says about a reason, out of the copy of that document inside the program.
#pragma once

#include <string>

namespace masq {

// The paragraphs behind the first one, as one line of plain text; empty if there are none.
std::string advice_for(const std::string& reason_name);

// `text` on lines of at most `columns`, each behind `indent` spaces.
std::string wrapped(const std::string& text, std::size_t indent, std::size_t columns);

}  // namespace masq
