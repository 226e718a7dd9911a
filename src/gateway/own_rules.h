// The rules for the gateway's own packets where the kernel carries these by itself: with the
// datapath in user space. The nftables table `ip masq_own` (policy/rules_nftables.h) is put in
// force and looked after by whoever installs rules (gateway/rule_keeper.h), who holds rules.lock.
//
//   own_rules   in the run folder: what was asked for, and how nftables showed it then. If either
//               is another now, the table is made anew.
//
// It stays in force when masqd dies, and refuses then what it refused before. What can go wrong:
// nftables refuses the table; then nothing has changed. With rules that neither keep nor change
// anything in input and output there is no table.
#pragma once

#include "gateway/any_datapath.h"
#include "policy/rules.h"

namespace masq {

// Makes the table what these rules ask for, at one stroke. For other datapaths nothing.
Status put_own_rules(const AnyDatapath& datapath, const RuleSet& rules, u32 generation);

// Is it as that has left it, and would that leave it so now?
bool own_rules_stand(const AnyDatapath& datapath, const RuleSet& rules, u32 generation);

// Adds what these rules, installed as `generation`, have counted of what the gateway sends.
void add_own_counts(const AnyDatapath& datapath, RuleSet& rules, u32 generation);

void take_off_own_rules();

}  // namespace masq
