// Rules in the language of nft, for what does not pass through the engine: with the datapath in
// user space the kernel hands the gateway's own packets to its own stack and sends them by itself,
// and masqd sees copies of what comes in, at most. So the chains input and output are translated
// for these packets, and the kernel walks them (gateway/own_rules.h puts them in force).
//
//   prerouting   before the kernel puts fragments together, as the programs at tc see what comes in
//                (-451: before the guard, which lets pass what is redirected)
//   input, forward   the same for what comes in by bridges: it must not be stopped before masqd has
//                its copy (gateway/guard.cpp says why)
//   postrouting  behind the kernel's own translation of sources (200)
//
// A chain of the administrator's becomes one chain of nftables for each way to it that matters: nft
// knows no circles, so a rule that leads back to a chain that is under way drops, as the walk of
// core/rules.h refuses, and whether it does depends on the chains that are under way. Input and
// output have chains of their own, since an interface is one where a packet came in or one where it
// goes out.
//
// What differs from core/rules.h. What the gateway sends is judged before it is cut into fragments,
// and what comes by bridges after it was put together. Changes of a mark by addition (-m +N) are
// not made. Chains can be kNftDepthMax deep, and a packet that would pass more than kRuleStepsMax
// rules if it fitted all of them is not refused: such a rule set is, whole.
//
// REDIRECT is translated for every datapath, and the kernel's own translation does it: connections
// that have the mark of core/rules.h (kRedirectMark) go to the port that it names, and lose it.
// The mark is the programs' at tc; in user space it is the chain prerouting's.
//
// Rules for output count, and carry in their comment which rule they are (`place_of`). What comes
// in is counted by the engine, from its copy.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/rules.h"

namespace masq {

// The kernel's limit (NFT_JUMP_STACK_SIZE) is 16 chains with the one that the packet comes to.
inline constexpr std::size_t kNftDepthMax = 15;
// Chains of the administrator's, each as often as it is needed. Circles of a few chains need few.
inline constexpr std::size_t kNftChainsMax = 2 * kRuleSlotsMax;

// An interface of ours.
struct NftInterface {
  std::string name;
  u32 ifindex = 0;
  bool by_name = true;  // the name can stand in a rule
  bool outside = false;
  bool bridge = false;
};

// The commands that make the table `ip masq_own`, which must not be there, with an empty chain
// whose name says the generation. Nothing if neither input nor output keeps or changes anything.
Result<std::string> rules_to_nftables(const RuleSet& rules,
                                      const std::vector<NftInterface>& interfaces, u32 generation);

// Likewise where programs at tc judge the gateway's own packets: what is left for nftables to do.
// Nothing if no rule redirects.
std::string redirects_to_nftables(const RuleSet& rules, u32 generation);

// The name of that chain.
std::string nft_generation(u32 generation);

// Which rule has this comment; see SlotOrigin.
std::optional<SlotOrigin> place_of(const std::string& comment);

}  // namespace masq
