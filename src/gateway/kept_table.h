// A table of nftables that must stay as it was made. A file of the run folder knows what was asked
// for, and how nftables showed it then; if either is another now, the table is to be made anew. It
// stays in force when masqd dies.
#pragma once

#include <string>
#include <vector>

#include "gateway/any_datapath.h"
#include "policy/rules_nftables.h"

namespace masq {

struct KeptTable {
  const char* name;  // with its family: "ip masq_own"
  const char* note;  // the file
};

// Makes the table by these commands, at one stroke. None take it off.
Status make_table(const KeptTable& table, const std::string& commands);
// Is it as these commands have left it?
bool table_stands(const KeptTable& table, const std::string& commands);
// Is there one of this name, whoever has made it?
bool table_is_there(const KeptTable& table);
void take_off_table(const KeptTable& table);

// The datapath's interfaces, as rules name them.
Result<std::vector<NftInterface>> interfaces_for_nft(const AnyDatapath& datapath);

}  // namespace masq
