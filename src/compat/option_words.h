// Options as getopt_long(3) reads them, with the two things that ipchains(8) adds: `!' is a word of
// its own that inverts what follows, and some options take one more word if that is none of theirs.
//
// Short options may stand together (-nvL); what takes a value has it in the rest of the word or in
// the next one, whatever that looks like. Of long ones the beginning is enough, as long as no other
// option begins so. Whatever is found is given back in order, with no opinion about it.
#pragma once

#include <string>
#include <vector>

#include "policy/result.h"

namespace masq {

enum class OptionTakes : unsigned char {
  nothing,
  value,           // and `!` may stand before it
  value_and_more,  // and further words, that begin neither with `-' nor with `!'
  more,            // only such words, or the rest of this one
};

struct LongOption {
  const char* name;
  int code;  // a short option's character, or another number
};

struct OptionGrammar {
  // Of the short options, each with what it takes; also for the numbers of long ones.
  std::vector<std::pair<int, OptionTakes>> takes;
  std::vector<LongOption> longs;
};

struct GivenOption {
  int code;
  std::string spelt;               // as it stands there, for messages
  bool inverted = false;           // a `!` before it, or before its value
  std::vector<std::string> words;  // the value, and what follows it
  // Of each word but the first, whether a `!` stood before it.
  std::vector<bool> inverted_words;
};

Result<std::vector<GivenOption>> read_options(const std::vector<std::string>& words,
                                              const OptionGrammar& grammar);

}  // namespace masq
