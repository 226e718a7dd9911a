// What `ipfwadm -l` prints. See ipfwadm.h.
#pragma once

#include "compat/names.h"
#include "policy/rules.h"

namespace masq {

struct AdmListStyle {
  const Names* names = nullptr;  // null: numbers
  bool extended = false;         // counters, flags and the interface
  bool exact = false;            // counters in full
};

// The rules that lead into a chain of accounting are not shown.
std::string adm_list_chain(const Chain& chain, const AdmListStyle& style);
std::string adm_list_accounting(const RuleSet& rules, bool in, bool out, const AdmListStyle& style);

// Does the rule lead from input or output into a chain of accounting?
bool is_accounting_hook(const Rule& rule);

}  // namespace masq
