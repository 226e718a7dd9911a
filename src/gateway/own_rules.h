// What nftables has to do with the rules: redirecting (REDIRECT) with every datapath; and the rules
// for the gateway's own packets where the kernel carries these by itself, with the datapath in user
// space. The table `ip masq_own` (policy/rules_nftables.h) is put in force and looked after by
// whoever installs rules (gateway/rule_keeper.h), who holds rules.lock.
//
//   own_rules   in the run folder: see kept_table.h
//
// It stays in force when masqd dies, and does then what it did before. What can go wrong: nftables
// refuses the table; then nothing has changed. What is redirected while somebody else has deleted
// the table is for nobody, and the kernel drops it, until masqd has made the table again. Where
// there is nothing to do for it there is no table.
#pragma once

#include "gateway/any_datapath.h"
#include "policy/rules.h"

namespace masq {

// Makes the table what these rules ask for, at one stroke.
Status put_own_rules(const AnyDatapath& datapath, const RuleSet& rules, u32 generation);

// Is it as that has left it, and would that leave it so now?
bool own_rules_stand(const AnyDatapath& datapath, const RuleSet& rules, u32 generation);

// Adds what these rules, installed as `generation`, have counted of what the gateway sends.
void add_own_counts(const AnyDatapath& datapath, RuleSet& rules, u32 generation);

void take_off_own_rules();

}  // namespace masq
