// The command line of ipfwadm: what it asks for. See ipfwadm.h.
#pragma once

#include "compat/ipfwadm.h"
#include "compat/match_words.h"

namespace masq {

enum class AdmCategory : u8 { none, input, forward, output, accounting, masquerading };

struct AdmRequest {
  AdmCategory category = AdmCategory::none;
  char command = 0;                          // a, i, d, l, z, f, p, s, c or h
  bool zeroes = false;                       // -l with -z
  bool counts_in = true, counts_out = true;  // -A in, out, both
  RuleTarget policy = RuleTarget::none;
  u32 timeouts_s[3] = {0, 0, 0};

  Rule rule;  // all but addresses and ports
  AddressWord sources, destinations;
  std::vector<PortMatch> source_ports, destination_ports;  // empty: all
  bool splits_tcp = false;  // -k or -y with every protocol; rule.syn is for the TCP half
  bool both_ways = false;
  bool extended = false, numeric = false, verbose = false, exact = false;
};

// What is wrong is a sentence without capital and full stop.
Result<AdmRequest> read_adm_request(const std::vector<std::string>& words, FirewallWorld& world);

std::string adm_help();

}  // namespace masq
