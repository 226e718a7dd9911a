// A machine for the commands of ipchains: rules in memory, a few names, nothing of the real one.
#pragma once

#include <map>
#include <sstream>

#include "compat/ipchains.h"
#include "unit/test_world.h"

namespace masq::test {

class NamesOfChains : public Names {
 public:
  std::vector<Ipv4> addresses_of(const std::string& name) const override {
    if (name == "s2") return {ip(192, 168, 1, 12)};
    if (name == "localnet") return {ip(192, 168, 2, 0)};
    if (name == "many") return {ip(10, 0, 0, 1), ip(10, 0, 0, 2), ip(10, 0, 0, 1)};
    return {};
  }
  std::optional<u16> port_of(const std::string& service, u8 protocol) const override {
    if (service == "www") return u16{80};
    if (service == "domain") return u16{53};
    if (service == "ftp-data" && protocol == kProtocolTcp) return u16{20};
    return {};
  }
  std::optional<u8> protocol_of(const std::string& name) const override {
    if (name == "gre") return u8{47};
    return {};
  }
  std::string host_of(Ipv4 address) const override {
    if (same(address, ip(192, 168, 1, 12))) return "s2";
    return same(address, ip(192, 168, 2, 0)) ? "localnet" : "";
  }
  std::string service_of(u16 port, u8 protocol) const override {
    if (port == 80) return "www";
    if (port == 53) return "domain";
    return port == 20 && protocol == kProtocolTcp ? "ftp-data" : "";
  }
};

class FakeWorld : public ChainsWorld {
 public:
  const Names& names() const override { return names_; }
  Result<RuleSet> load() override {
    if (!readable) return error("Permission denied (you must be root)");
    return rules;
  }
  Status store(const RuleSet& set) override {
    if (!writable) return error("Permission denied (you must be root)");
    rules = set;
    ++stores;
    return Done{};
  }
  Result<std::vector<MasqueradeEntry>> entries() override {
    if (!readable) return error("masq is not running");
    return masqueraded;
  }
  Status set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) override {
    if (!writable) return error("Permission denied (you must be root)");
    timeouts = {tcp_s, tcp_fin_s, udp_s};
    return Done{};
  }
  bool forwards() const override { return forwarding; }
  bool is_terminal() const override { return terminal; }
  std::string input() override { return text; }
  bool asks_to_flush(const std::string& question) override {
    questions += question;
    return answers_flush;
  }

  RuleSet rules = RuleSet::empty();
  std::vector<MasqueradeEntry> masqueraded;
  std::vector<u32> timeouts;
  bool readable = true, writable = true, forwarding = true, terminal = false;
  bool answers_flush = false;
  std::string text, questions;
  u32 stores = 0;

 private:
  NamesOfChains names_;
};

inline std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

}  // namespace masq::test
