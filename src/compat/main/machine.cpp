// Names from the system, rules and timers of the running gateway.
#include "compat/main/machine.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "gateway/gateway.h"
#include "gateway/netlink.h"
#include "gateway/rights.h"
#include "gateway/running.h"
#include "gateway/timeouts.h"

namespace masq {
namespace {

const char* name_of(u8 protocol) {
  return protocol == kProtocolUdp ? "udp" : "tcp";
}

MasqueradeState state_of(State state) {
  switch (state) {
    case State::udp:
      return MasqueradeState::UDP;
    case State::icmp:
      return MasqueradeState::ICMP;
    case State::tcp_opening:
      return MasqueradeState::SYN_SENT;
    case State::tcp_established:
      return MasqueradeState::ESTABLISHED;
    case State::tcp_fin_out:
      return MasqueradeState::FIN_WAIT;
    case State::tcp_fin_in:
      return MasqueradeState::CLOSE_WAIT;
    case State::tcp_closing:
      return MasqueradeState::TIME_WAIT;
    default:
      return MasqueradeState::CLOSE;
  }
}

// Of a flow; ICMP as masquerade_text.h wants it.
MasqueradeEntry entry_of(const Settings& s, const Record& r, Ticks now) {
  MasqueradeEntry entry;
  entry.protocol = r.protocol;
  entry.inner = r.internal_address;
  entry.remote = r.remote_address;
  entry.external = s.externals[r.external % kExternalsMax].address;
  entry.inner_port = to_host(r.internal_port);
  entry.external_port = to_host(r.external_port);
  entry.remote_port = r.protocol == kProtocolIcmp ? kIcmpEcho : to_host(r.remote_port);
  const Ticks passed = now - r.last_seen, limit = timeout_of(s, r);
  const u64 left = passed < limit ? limit - passed : 0;
  entry.expires_hundredths = static_cast<u32>(left * 100 / ticks_from_s(1));
  entry.state = state_of(r.state);
  return entry;
}

}  // namespace

std::vector<Ipv4> SystemNames::addresses_of(const std::string& name) const {
  std::vector<Ipv4> found;
  if (netent* network = getnetbyname(name.c_str()); network != nullptr)
    return {ipv4_from_host(network->n_net)};
  addrinfo hints{}, *list = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(name.c_str(), nullptr, &hints, &list) != 0) return found;
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next)
    found.push_back(Ipv4{reinterpret_cast<const sockaddr_in*>(each->ai_addr)->sin_addr.s_addr});
  freeaddrinfo(list);
  return found;
}

std::optional<u16> SystemNames::port_of(const std::string& service, u8 protocol) const {
  const servent* found = getservbyname(service.c_str(), name_of(protocol));
  if (found == nullptr) return std::nullopt;
  return swap16(static_cast<u16>(found->s_port));
}

std::optional<u8> SystemNames::protocol_of(const std::string& name) const {
  const protoent* found = getprotobyname(name.c_str());
  if (found == nullptr || found->p_proto < 0 || found->p_proto > 255) return std::nullopt;
  return static_cast<u8>(found->p_proto);
}

std::string SystemNames::host_of(Ipv4 address) const {
  sockaddr_in socket{};
  socket.sin_family = AF_INET;
  socket.sin_addr.s_addr = address.be;
  char name[NI_MAXHOST];
  const bool found = getnameinfo(reinterpret_cast<const sockaddr*>(&socket), sizeof socket, name,
                                 sizeof name, nullptr, 0, NI_NAMEREQD) == 0;
  return found ? name : "";
}

std::string SystemNames::service_of(u16 port, u8 protocol) const {
  const servent* found = getservbyport(swap16(port), name_of(protocol));
  return found == nullptr ? "" : found->s_name;
}

Result<AnyDatapath*> Machine::gateway() {
  if (gateway_ != nullptr) return gateway_.get();
  if (Status status = check_rights("change rules"); !status) return status.error();
  Result<NetworkState> network = read_network();
  if (!network) return network.error();
  if (!gateway_is_there(*network)) return static_cast<AnyDatapath*>(nullptr);
  Result<std::unique_ptr<AnyDatapath>> running = running_gateway(true);
  if (!running) return running.error();
  gateway_ = std::move(*running);
  return gateway_.get();
}

// Others wait until this program has ended.
Result<RuleSet> Machine::load() {
  if (change_) return change_->rules();
  Result<AnyDatapath*> at = gateway();
  if (!at) return at.error();
  Result<RuleChange> change = RuleChange::begin(*at);
  if (!change) return change.error();
  change_.emplace(std::move(*change));
  return change_->rules();
}

Status Machine::store(const RuleSet& rules) {
  if (!change_)
    if (Result<RuleSet> loaded = load(); !loaded) return loaded.error();
  return change_->store(rules);
}

Result<std::vector<MasqueradeEntry>> Machine::entries() {
  Result<AnyDatapath*> at = gateway();
  if (!at) return at.error();
  std::vector<MasqueradeEntry> found;
  if (*at == nullptr) return found;
  const Tables& t = (*at)->tables();
  const Settings& s = (*at)->settings();
  const Ticks now = (*at)->now();
  for (u32 i = 1; i < t.records_max; ++i)
    if (t.records[i].state >= State::udp && !(t.records[i].flags & kFlagLocal) &&
        in_force(s, t.records[i], now))
      found.push_back(entry_of(s, t.records[i], now));
  return found;
}

// In force at once, and in the configuration that a later masqd goes on with.
Status Machine::set_timeouts(u32 tcp_s, u32 tcp_fin_s, u32 udp_s) {
  Result<AnyDatapath*> at = gateway();
  if (!at) return at.error();
  if (*at == nullptr) return error("masq is not running here; `masq up` starts it.");
  Result<TimeoutChange> change = TimeoutChange::prepare(tcp_s, tcp_fin_s, udp_s);
  if (!change) return change.error();
  change->commit(**at);
  return Done{};
}

Result<Forwards> Machine::load_forwards() {
  if (forward_change_) return forward_change_->forwards();
  Result<AnyDatapath*> at = gateway();
  if (!at) return at.error();
  Result<ForwardChange> change = ForwardChange::begin(*at);
  if (!change) return change.error();
  forward_change_.emplace(std::move(*change));
  return forward_change_->forwards();
}

Status Machine::store_forwards(const Forwards& forwards) {
  if (!forward_change_)
    if (Result<Forwards> loaded = load_forwards(); !loaded) return loaded.error();
  return forward_change_->store(forwards);
}

Result<MasqueradeEntry> Machine::find_entry(const MasqueradeEntry& key) {
  Result<std::vector<MasqueradeEntry>> all = entries();
  if (!all) return all.error();
  const auto fits = [](auto wanted, auto is, auto nothing) {
    return wanted == nothing || wanted == is;
  };
  for (const MasqueradeEntry& each : *all)
    if (fits(key.protocol, each.protocol, u8{0}) && fits(key.inner.be, each.inner.be, 0u) &&
        fits(key.remote.be, each.remote.be, 0u) && fits(key.external.be, each.external.be, 0u) &&
        fits(key.inner_port, each.inner_port, u16{0}) &&
        fits(key.external_port, each.external_port, u16{0}) &&
        fits(key.remote_port, each.remote_port, u16{0}))
      return each;
  return error("There is no such connection.");
}

namespace {

Error no_single_connections() {
  return error("Single connections cannot be made or changed by hand yet.");
}

}  // namespace

Status Machine::make_entry(const MasqueradeEntry& /*entry*/) {
  return no_single_connections();
}

Status Machine::remove_entry(const MasqueradeEntry& /*key*/) {
  return no_single_connections();
}

Status Machine::set_entry_timeout(const MasqueradeEntry& /*key*/, u32 /*timeout_s*/) {
  return no_single_connections();
}

// What the kernel does by itself does not matter.
bool Machine::forwards() const {
  Result<KeptRules> kept = load_rules(nullptr);
  return !kept || kept->forwards();
}

bool Machine::is_terminal() const {
  return isatty(STDIN_FILENO) != 0;
}

std::string Machine::input() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

bool Machine::asks_to_flush(const std::string& question) {
  std::ifstream terminal("/dev/tty");
  if (!terminal) return false;
  std::cout << question << std::flush;
  std::string answer;
  std::getline(terminal, answer);
  return answer == "f" || answer == "F";
}

std::string Machine::interface_of(Ipv4 address) {
  Result<NetworkState> network = read_network();
  if (!network) return "";
  for (const Address& each : network->addresses)
    if (same(each.address, address))
      if (const Link* link = network->link_at(each.ifindex); link != nullptr) return link->name;
  return "";
}

}  // namespace masq
