// The rules of the belt, in the language of nft.
#include "gateway/belt.h"

namespace masq {

Status put_on_belt(const Belt& belt) {
  std::vector<std::string> open = belt.inside.names;
  open.insert(open.end(), belt.others.begin(), belt.others.end());
  std::string commands =
      "add table inet masq_belt\ndelete table inet masq_belt\nadd table inet masq_belt\n"
      "add chain inet masq_belt forward { type filter hook forward priority -300; }\n";
  auto drop = [&](const std::string& what) {
    commands += fmt::format("add rule inet masq_belt forward meta nfproto {} {} counter drop\n",
                            belt.block_ipv6 ? "{ ipv4, ipv6 }" : "ipv4", what);
  };
  for (const char* way : {"i", "o"}) {
    drop(fmt::format("{}ifname {}", way, set_of(belt.closed.names)));
    drop(fmt::format("{}if {}", way, set_of(belt.closed.indexes)));
    const std::string back = *way == 'i' ? "o" : "i";
    drop(fmt::format("{}ifname {} {}ifname != {}", way, set_of(belt.inside.names), back,
                     set_of(open)));
    drop(fmt::format("{}if {} {}ifname != {}", way, set_of(belt.inside.indexes), back,
                     set_of(open)));
  }
  Nftables nft;
  if (Status status = nft.run(commands); !status)
    return error(
        "The nftables table masq_belt, by which the kernel's forwarding keeps inside and outside "
        "apart, cannot be made ({}).",
        status.error().sentence);
  return Done{};
}

std::string shown_belt() {
  return Nftables().list("table inet masq_belt");
}

void take_off_belt() {
  (void)Nftables().run("delete table inet masq_belt");
}

}  // namespace masq
