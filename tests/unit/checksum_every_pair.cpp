// All 2^32 pairs of a word and its replacement: the incremental update of the checksum (RFC 1624)
// equals summing up anew. Some seconds, with optimisation; a program of its own for that reason.
#include <cstdio>

#include "wire/checksum.h"

namespace {

using masq::u16;
using masq::u32;

// The checksum of a message of two words, by the schoolbook (RFC 1071).
u16 recomputed(u32 word) {
  u32 sum = word + 0x4500;
  if (sum > 0xffff) sum = (sum & 0xffff) + 1;
  return static_cast<u16>(~sum);
}

}  // namespace

int main() {
  u32 wrong = 0;
  for (u32 from = 0; from <= 0xffff; ++from) {
    const u16 before = recomputed(from);
    for (u32 to = 0; to <= 0xffff; ++to) {
      const u16 delta = masq::checksum_difference(static_cast<u16>(from), static_cast<u16>(to));
      wrong += masq::checksum_update(before, delta) != recomputed(to);
    }
  }
  std::printf("%u of 4294967296 pairs are wrong\n", wrong);
  return wrong != 0;
}
