// A shell script as a text: what is changed in it before it runs, what its first line asks for, and
// in which line a command that failed may stand.
//
// A shell does not tell its commands where in the script they stand. So the line is found by
// reading: each command in the text is compared with the words that the failed one was called with.
// Assignments in the text are followed; what a `$` leads to that cannot be known fits everything.
// That finds the line, or a few lines that could be the one, or nothing where a script is too
// clever
// (`eval`, or another file that it reads). It never decides anything.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/result.h"

namespace masq {

inline constexpr std::size_t kScriptBytesMost = 4u << 20;
inline constexpr std::size_t kLinesNamedMost = 3;

// Carriage returns at the ends of lines are what other systems leave there.
std::string without_carriage_returns(std::string_view text);

// The interpreter that `#!` names, without its argument; empty where no such line is.
std::string interpreter_of(std::string_view text);

// The lines, from 1, in which a command called with these words may stand.
std::vector<unsigned> lines_of_command(const std::string& text,
                                       const std::vector<std::string>& words);

// The lines in which a word occurs, such as the path of a switch.
std::vector<unsigned> lines_with(const std::string& text, const std::string& word);

// "line 12", "line 12 or 40", "line 12, 40 or another"; empty where none is known.
std::string lines_in_words(const std::vector<unsigned>& lines);

// Words as a shell would have to be given them.
std::string in_shell_words(const std::vector<std::string>& words);

}  // namespace masq
