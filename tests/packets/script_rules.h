// The rules and forwards of a packet script: lines of ipchains and of masq forward, put into a
// gateway's tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "packets/gateway.h"
#include "policy/forward_words.h"
#include "policy/rules.h"
#include "unit/ipchains_world.h"

namespace masq::test {

class ScriptRules {
 public:
  ScriptRules() { world_.rules = RuleSet::plain(); }
  // The words behind "ipchains"; throws TextError.
  void change(const std::vector<std::string>& words);
  // The switch ip_forward.
  void set_forwarding(bool on);
  // Puts them in force, as of the next packet.
  void install(Gateway& gateway, const std::vector<RuleInterface>& interfaces) const;

 private:
  FakeWorld world_;
  u32 generation_ = 0;
  bool closed_ = false;
};

class ScriptForwards {
 public:
  // The words behind "forward": add and what `masq forward add` takes, or remove and a number.
  void change(const std::vector<std::string>& words);
  void change_by_ipmasqadm(const std::vector<std::string>& words);
  void install(Gateway& gateway) const;

 private:
  Forwards forwards_;
  u32 generation_ = 0;
};

}  // namespace masq::test
