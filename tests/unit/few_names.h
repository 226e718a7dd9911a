// The few names that the tests of the old commands know.
#pragma once

#include <map>

#include "compat/names.h"
#include "policy/forwards.h"

namespace masq::test {

class FewNames : public Names {
 public:
  std::vector<Ipv4> addresses_of(const std::string& name) const override {
    std::vector<Ipv4> addresses;
    for (const char* address : {"198.51.100.9", "198.51.100.10"})
      if (name == "server.example") addresses.push_back(*address_from(address));
    if (name == "gw.example") addresses.push_back(*address_from("192.0.2.1"));
    if (name == "loopnet") addresses.push_back(*address_from("127.0.0.0"));
    return addresses;
  }
  std::optional<u16> port_of(const std::string& service, u8) const override {
    const auto found = services().find(service);
    if (found == services().end()) return std::nullopt;
    return found->second;
  }
  std::optional<u8> protocol_of(const std::string& name) const override {
    if (name == "gre") return 47;
    return std::nullopt;
  }
  std::string host_of(Ipv4 address) const override {
    if (address_text(address) == "198.51.100.9") return "server.example";
    return address_text(address) == "192.0.2.1" ? "gw.example" : "";
  }
  std::string service_of(u16 port, u8) const override {
    for (const auto& [name, number] : services())
      if (number == port) return name;
    return "";
  }

 private:
  static const std::map<std::string, u16>& services() {
    static const std::map<std::string, u16> known = {
        {"www", 80}, {"ftp", 21}, {"domain", 53}, {"bootps", 67}, {"bootpc", 68}};
    return known;
  }
};

}  // namespace masq::test
