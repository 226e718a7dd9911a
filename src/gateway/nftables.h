// nftables, spoken to through libnftables in the language of the nft command.
#pragma once

#include <nftables/libnftables.h>

#include <memory>
#include <string>
#include <vector>

#include "gateway/fd.h"
#include "policy/result.h"
#include "wire/types.h"

namespace masq {

class Nftables {
 public:
  Nftables();

  // All of it or nothing. Not done: why, in a few words.
  Status run(const std::string& commands);
  // What a command that lists something says, without counters, or as JSON, with them. Empty if
  // there is no such thing.
  std::string list(const std::string& what, bool as_json = false);

 private:
  struct Closer {
    void operator()(nft_ctx* context) const { nft_ctx_free(context); }
  };
  std::unique_ptr<nft_ctx, Closer> context_;
};

// Interfaces as rules know them: by their names, for those that are made anew, and by their
// indexes, for those that get another name. Names that mean something in a rule are left out.
struct LinkNames {
  std::vector<std::string> names;
  std::vector<u32> indexes;

  bool empty() const { return names.empty() && indexes.empty(); }
  bool operator==(const LinkNames&) const = default;
};

// The words of a set, which stands for nothing if nothing is in it.
std::string set_of(const std::vector<std::string>& names);
std::string set_of(const std::vector<u32>& indexes);

// A socket that becomes readable when anybody changes nftables; for drain_network_monitor.
Result<Fd> open_filter_monitor();

}  // namespace masq
