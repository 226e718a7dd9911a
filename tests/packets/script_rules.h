// The rules of a packet script: lines of ipchains, put into a gateway's tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "packets/gateway.h"
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

}  // namespace masq::test
