// The audit of a table: named invariants, checked one by one over everything there is.
//
//   pair    every live record is led to by exactly one inner and one outer slot, where its key is
//           looked for; no slot leads anywhere else; no key occurs twice; a flow agrees with its
//           mapping
//   port    a bit in a port pool is set iff the port is excluded or exactly one mapping holds it; a
//           flow without a mapping is one of TCP, and its external port is one that may be shared
//   count   a mapping's count is the number of flows that point to it; the shared counts are exact;
//           a mapping that nobody holds does not exist
//   place   the bit of a place is set iff its record is not free; no record is left half linked
//   hint    a hint says "full" only of a full word
//   host    each host's entry counts its flows, mappings and opening connections, lies where it is
//           looked for, and is there while it has flows; a flow leads to its host's entry
//   time    nothing stands past its timer for longer than `overdue_max`, and nothing was last seen
//           in the future
//
// Works on views, so it reads the engine's memory and the kernel's maps alike. It takes no lock: on
// a table that is being changed it reports what it happened to see; look twice before believing it.
// Time and memory are linear in the size of the table.
#pragma once

#include <string>
#include <vector>

#include "core/settings.h"
#include "core/table.h"

namespace masq {

struct Violation {
  const char* invariant;
  std::string what;
};

inline constexpr u32 kViolationsMax = 100;  // reported at most; one is as bad as a hundred

// Empty if all is well.
std::vector<Violation> verify(const Tables& tables, const Settings& settings, Ticks now,
                              Ticks overdue_max);

// The violations as text, one a line.
std::string describe(const std::vector<Violation>& violations);

}  // namespace masq
