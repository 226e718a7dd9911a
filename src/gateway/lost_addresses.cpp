// Marks what has gone and what is replaced; sends RSTs by a raw socket. See lost_addresses.h.
#include "gateway/lost_addresses.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "core/rewrite.h"
#include "gateway/netlink.h"

namespace masq {
namespace {

struct __attribute__((packed)) Reset {
  Ipv4Header ip;
  TcpHeader tcp;
};

// Is it an open connection of an inner host by this external address, whose numbers are known?
bool is_to_end(const Record& r, u32 place) {
  return r.state >= State::tcp_opening && r.protocol == kProtocolTcp && r.external == place &&
         (r.flags & kFlagSeenIn) && !(r.flags & kFlagLocal);
}

bool send_reset(const Fd& socket, const Record& r) {
  Packet answered{};  // what the host would send
  answered.source = r.internal_address;
  answered.destination = r.remote_address;
  answered.source_port = r.internal_port;
  answered.destination_port = r.remote_port;
  answered.acknowledgment = r.sequence_end[kIn];
  Reset reset{};
  fill_reset(reset.ip, reset.tcp, answered, true);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = r.internal_address.be;
  return sendto(socket.get(), &reset, sizeof reset, MSG_DONTWAIT | MSG_NOSIGNAL,
                reinterpret_cast<const sockaddr*>(&to), sizeof to) == sizeof reset;
}

void set_since(AnyDatapath& datapath, u32 place, ExternalState state, Ticks since) {
  Settings& s = datapath.settings();
  s.gone_at[place] = since;
  __atomic_store_n(&s.externals[place].state, static_cast<u32>(state), __ATOMIC_SEQ_CST);
}

}  // namespace

bool external_is_in_use(const AnyDatapath& datapath, u32 external) {
  const Tables& t = datapath.tables();
  for (u32 i = 1; i < t.records_max; ++i)
    if (t.records[i].state != State::free && t.records[i].external == external) return true;
  return false;
}

u32 take_external(AnyDatapath& datapath, Ipv4 address, u32 ifindex) {
  Settings& s = datapath.settings();
  for (u32 i = 0; i < kExternalsMax; ++i)
    if (s.externals[i].state != kExternalFree && same(s.externals[i].address, address)) {
      s.externals[i].ifindex = ifindex;
      s.externals[i].state = kExternalLive;
      return i;
    }
  for (u32 i = 0; i < kExternalsMax; ++i) {
    if (s.externals[i].state == kExternalLive || external_is_in_use(datapath, i)) continue;
    s.externals[i].address = address;
    s.externals[i].ifindex = ifindex;
    s.externals[i].serves = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    s.externals[i].state = kExternalLive;
    return i;
  }
  return kExternalsMax;
}

void LostAddresses::note_gone(AnyDatapath& datapath, u32 place) {
  set_since(datapath, place, kExternalGone, datapath.now());
}

void LostAddresses::note_replaced(AnyDatapath& datapath,
                                  const std::function<bool(u32 ifindex)>& has_link) {
  const Settings& s = datapath.settings();
  for (u32 i = 0; i < kExternalsMax; ++i) {
    const External& lost = s.externals[i];
    if (lost.state != kExternalGone) continue;
    bool here = false, elsewhere = false;
    for (const External& e : s.externals) {
      if (e.state != kExternalLive || !e.serves) continue;
      (e.ifindex == lost.ifindex ? here : elsewhere) = true;
    }
    const bool for_good =
        !has_link(lost.ifindex) || elapsed(datapath.now(), s.gone_at[i], kAwaited);
    if (!here && !(elsewhere && for_good)) continue;
    set_since(datapath, i, kExternalReplaced, datapath.now());
    if (s.resets_replaced) to_end_.push_back({i, lost.address, 1, 0});
  }
}

bool LostAddresses::give_up_oldest(AnyDatapath& datapath) {
  const Settings& s = datapath.settings();
  u32 oldest = kExternalsMax;
  for (u32 i = 0; i < kExternalsMax; ++i) {
    const u32 state = s.externals[i].state;
    if (state != kExternalGone && state != kExternalReplaced) continue;
    if (oldest == kExternalsMax || elapsed(s.gone_at[oldest], s.gone_at[i], 0)) oldest = i;
  }
  if (oldest == kExternalsMax) return false;
  set_since(datapath, oldest, kExternalReplaced, datapath.now() - kReplacedStay);
  return true;
}

std::string LostAddresses::end_some(AnyDatapath& datapath) {
  if (to_end_.empty()) return "";
  Work& work = to_end_.front();
  if (!socket_) socket_ = Fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  const External& external = datapath.settings().externals[work.place];
  const Tables& t = datapath.tables();
  // Back by now, or the place is another's: then there is nothing to end.
  const bool lost = external.state == kExternalReplaced && same(external.address, work.address);
  if (!socket_ || !lost) work.next = t.records_max;
  const u32 last = std::min(t.records_max, work.next + kRecordsPerTurn);
  u32 sent = 0;
  for (; work.next < last && sent < kResetsPerTurn; ++work.next) {
    const Record r = t.records[work.next];
    if (!is_to_end(r, work.place)) continue;
    sent += 1;
    work.ended += send_reset(socket_, r);
  }
  if (work.next < t.records_max) return "";
  const Work done = work;
  to_end_.pop_front();
  if (to_end_.empty()) socket_ = Fd();
  if (done.ended == 0) return "";
  return fmt::format("The external address {} has been replaced: {} TCP connection{} ended.",
                     to_text(done.address), done.ended, done.ended == 1 ? " was" : "s were");
}

}  // namespace masq
