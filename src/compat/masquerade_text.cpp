// The table of masqueraded connections as Linux 2.2 showed it. Columns and their widths are those
// that programs of that time read; see masquerade_text.h for what is in them.
#include "compat/masquerade_text.h"

#include <fmt/format.h>

#include "compat/naming.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr std::size_t kConnectionLine = 128, kHelperLine = 40;

constexpr const char* kStates[] = {
#define X(name) #name,
    MASQ_MASQUERADE_STATES(X)
#undef X
};

std::string protocol_text(u8 protocol) {
  switch (protocol) {
    case kProtocolTcp:
      return "TCP";
    case kProtocolUdp:
      return "UDP";
    case kProtocolIcmp:
      return "ICMP";
    default:
      return std::to_string(protocol);
  }
}

std::string free_text(const MasqueradeFree& free) {
  return fmt::format("(free={},{},{})", free.udp, free.tcp, free.icmp);
}

// Minutes have two digits, or more where they must.
std::string expiry_text(u32 hundredths) {
  return fmt::format("{:02}:{:02}.{:02}", hundredths / 6000, hundredths / 100 % 60,
                     hundredths % 100);
}

}  // namespace

std::string proc_line(std::string text, std::size_t length) {
  text.resize(length - 1, ' ');
  return text + "\n";
}

std::string proc_ip_masquerade(const std::vector<MasqueradeEntry>& entries,
                               const MasqueradeFree& free) {
  std::string text = proc_line(
      "Prc FromIP   FPrt ToIP     TPrt Masq Init-seq  Delta PDelta Expires " + free_text(free),
      kConnectionLine);
  for (const MasqueradeEntry& e : entries)
    text +=
        proc_line(fmt::format("{} {:08X}:{:04X} {:08X}:{:04X} {:04X} {:08X} {:6} {:6} {:7}",
                              protocol_text(e.protocol), to_host(e.inner), e.inner_port,
                              to_host(e.remote), e.remote_port, e.external_port, e.initial_sequence,
                              e.delta, e.previous_delta, e.expires_hundredths),
                  kConnectionLine);
  return text;
}

std::string proc_ip_masq(const std::vector<MasqueradeEntry>& entries, u8 protocol,
                         const MasqueradeFree& free) {
  std::string text = proc_line(
      "Prot SrcIP    SPrt DstIP    DPrt MAddr    MPrt State        Flgs Ref Ctl Expires "
      "HRow HCol " +
          free_text(free),
      kConnectionLine);
  u32 row = 0;
  for (const MasqueradeEntry& e : entries) {
    if (e.protocol != protocol) continue;
    text += proc_line(
        fmt::format("{:<4} {:08X}:{:04X} {:08X}:{:04X} {:08X}:{:04X} {:<12} {:4X} {:3} {:3} {:7} "
                    "{:4} {:4}",
                    protocol_text(e.protocol), to_host(e.inner), e.inner_port, to_host(e.remote),
                    e.remote_port, to_host(e.external), e.external_port,
                    kStates[static_cast<u8>(e.state)], e.flags, e.references, e.control,
                    e.expires_hundredths / 100, row, 0),
        kConnectionLine);
    row += 1;
  }
  return text;
}

std::string proc_ip_masq_app(const std::vector<MasqueradeHelper>& helpers) {
  std::string text = proc_line("prot port    n_attach name", kHelperLine);
  for (const MasqueradeHelper& helper : helpers)
    text += proc_line(fmt::format("{:<4} {:<7} {:<8} {}", protocol_text(helper.protocol),
                                  helper.port, helper.attached, helper.name),
                      kHelperLine);
  return text;
}

std::string masquerade_listing(const std::vector<MasqueradeEntry>& entries, const Names* names,
                               bool with_sequences) {
  std::string text = "IP masquerading entries\n";
  if (entries.empty()) return text;
  text += fmt::format("prot expire   {}{:<20} {:<20} ports\n",
                      with_sequences ? "initseq    delta prevd " : "", "source", "destination");
  for (const MasqueradeEntry& e : entries) {
    text += fmt::format("{:<5}{} ", protocol_text(e.protocol), expiry_text(e.expires_hundredths));
    if (with_sequences)
      text += fmt::format("{:<10} {:5} {:5} ", e.initial_sequence, e.delta, e.previous_delta);
    text += fmt::format("{:<20} {:<20} {} ({}) -> {}\n", host_text(e.inner, names),
                        host_text(e.remote, names), service_text(e.inner_port, e.protocol, names),
                        service_text(e.external_port, e.protocol, names),
                        service_text(e.remote_port, e.protocol, names));
  }
  return text;
}

}  // namespace masq
