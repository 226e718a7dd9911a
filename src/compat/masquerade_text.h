// The table of masqueraded connections as Linux 2.2 showed it: /proc/net/ip_masquerade,
// /proc/net/ip_masq/tcp, udp, icmp and app, and what `ipchains -M -L` and `ipfwadm -M -l` print.
// Pure functions of a list of entries.
//
// What the gateway hands in for each flow: the endpoints, how long it has to live, and the state by
// the name that Linux 2.2 had for it. An ICMP query has its identifier as inner and external port,
// and its type and code as remote port, type in the low byte, as those kernels showed it on the
// machines of their time. A flow without a helper has no sequence numbers moved: three zeros.
//
// Lines of /proc have a fixed length, filled with blanks, since programs seek in them. Which row
// and column of a hash table an entry has (HRow, HCol) says nothing here: they count the rows.
#pragma once

#include <string>
#include <vector>

#include "compat/names.h"
#include "wire/types.h"

namespace masq {

// As /proc/net/ip_masq/tcp names them.
#define MASQ_MASQUERADE_STATES(X) \
  X(NONE)                         \
  X(ESTABLISHED)                  \
  X(SYN_SENT)                     \
  X(SYN_RECV) X(FIN_WAIT) X(TIME_WAIT) X(CLOSE) X(CLOSE_WAIT) X(LAST_ACK) X(LISTEN) X(UDP) X(ICMP)

enum class MasqueradeState : u8 {
#define X(name) name,
  MASQ_MASQUERADE_STATES(X)
#undef X
};

struct MasqueradeEntry {
  u8 protocol = 0;
  Ipv4 inner{}, remote{}, external{};
  u16 inner_port = 0, remote_port = 0, external_port = 0;  // host order
  u32 expires_hundredths = 0;                              // of a second
  MasqueradeState state = MasqueradeState::NONE;
  u32 initial_sequence = 0;
  i32 delta = 0, previous_delta = 0;
  u32 flags = 0;
  i32 references = 0;
  i32 control = 0;  // how many entries it leads to, or -1 if another leads to it
};

// How many more there may be.
struct MasqueradeFree {
  u32 udp = 0, tcp = 0, icmp = 0;
};

std::string proc_ip_masquerade(const std::vector<MasqueradeEntry>& entries,
                               const MasqueradeFree& free);
// /proc/net/ip_masq/tcp, udp or icmp: the entries of that protocol.
std::string proc_ip_masq(const std::vector<MasqueradeEntry>& entries, u8 protocol,
                         const MasqueradeFree& free);

// /proc/net/ip_masq/app: the helpers for protocols that carry addresses.
struct MasqueradeHelper {
  u8 protocol = 0;
  u16 port = 0;
  u32 attached = 0;  // flows that it looks at
  std::string name;
};
std::string proc_ip_masq_app(const std::vector<MasqueradeHelper>& helpers);

// `names` null: as -n. `with_sequences`: as -v.
std::string masquerade_listing(const std::vector<MasqueradeEntry>& entries, const Names* names,
                               bool with_sequences);

// A line of /proc: `text` and blanks, `length` characters with the end of the line.
std::string proc_line(std::string text, std::size_t length);

}  // namespace masq
