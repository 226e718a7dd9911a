// Looks at the table with the core's own functions, before and after the core has done its work.
#include "engine/predict.h"

#include <array>

#include "core/flows.h"
#include "core/fragments.h"
#include "core/step.h"

namespace masq {

namespace {

// As much of core/world.h as looking for a fragment needs.
struct Looking {
  Tables tables;
  const Settings& settings;
  Ticks now;
  SlowSide slow{};
  FragmentFound fragment{};

  bool lock(u32) { return true; }
  void unlock() {}
};

std::optional<Known> known(const Engine& engine, u32 index) {
  const Record* r = index == kNoRecord ? nullptr : record_at(engine.tables(), index);
  if (r == nullptr || r->state < State::mapping) return std::nullopt;
  return Known{index, *r, in_force(engine.settings(), *r, engine.now())};
}

bool is_outbound(DropSide side) {
  return side == DropSide::inside || side == DropSide::leaving;
}

std::optional<Known> find_flow(const Engine& engine, const Packet& p, Reason parsed, bool out) {
  const Settings& s = engine.settings();
  if (parsed != Reason::none || p.kind == Kind::other) return std::nullopt;
  if (p.kind == Kind::fragment) {
    Looking world{engine.tables(), s, engine.now()};
    return known(engine, fragment_find(world, p, out ? kOut : kIn));
  }
  if (p.kind == (out ? Kind::icmp_reply : Kind::icmp_query)) return std::nullopt;
  const Key key = out ? outgoing_key(p) : incoming_key(p);
  if (key.remote_address.be == 0) return std::nullopt;
  const u32 index = out ? find_inner(engine.tables(), key, key_hash(s, key, kOut))
                        : find_outer(engine.tables(), s, key, key_hash(s, key, kIn));
  return known(engine, index);
}

// The mappings in force that it could belong to: of what goes out one for each external address, of
// what comes in the one that is addressed, in the first place.
using Mappings = std::array<std::optional<Known>, kExternalsMax>;

Mappings find_mappings(const Engine& engine, const Packet& p, Reason parsed, bool out) {
  Mappings found;
  const Settings& s = engine.settings();
  if (parsed != Reason::none || p.kind == Kind::other || p.kind == Kind::fragment) return found;
  if (p.kind == (out ? Kind::icmp_reply : Kind::icmp_query)) return found;
  const Key key = mapping_key(out ? outgoing_key(p) : incoming_key(p));
  const u64 hash = key_hash(s, key, out ? kOut : kIn);
  for (u32 i = 0; i < (out ? kExternalsMax : 1); ++i) {
    const u32 index = out ? find_mapping(engine.tables(), key, hash, i)
                          : find_outer(engine.tables(), s, key, hash);
    found[i] = known(engine, index);
    if (found[i] && !found[i]->in_force) found[i].reset();
  }
  return found;
}

// The one of the flow, or any where there is no flow.
std::optional<Known> mapping_of(const Mappings& mappings, bool out,
                                const std::optional<Known>& flow) {
  if (!out) return mappings[0];
  if (flow) return mappings[flow->record.external % kExternalsMax];
  for (const std::optional<Known>& each : mappings)
    if (each) return each;
  return std::nullopt;
}

std::optional<Host> find_host(const Engine& engine, const Packet& p) {
  const u32 place = host_find(engine.tables(), p.source, host_hash(engine.settings(), p.source));
  const Host* h = host_at(engine.tables(), place);
  return h == nullptr ? Host{} : *h;
}

void become_icmp_error(Prediction& it, const Frame& frame, Reason reason) {
  const IcmpHeader* icmp =
      header_at<IcmpHeader>(Bytes{frame.data, frame.data + frame.length}, it.sent.l4);
  it.outcome.action = it.outcome.verdict.action = Action::icmp_error;
  it.outcome.reason = it.outcome.verdict.reason = reason;
  it.outcome.translated = false;
  if (icmp == nullptr) return;
  it.outcome.verdict.icmp_type = icmp->type;
  it.outcome.verdict.icmp_code = icmp->code;
  it.outcome.verdict.icmp_mtu = swap16(icmp->tail);
  it.outcome.verdict.icmp_source = it.sent.source;
}

Outcome pass(Engine& engine, Frame& frame, DropSide side, u32 ifindex, u32 from) {
  switch (side) {
    case DropSide::inside:
      return engine.inside(frame, ifindex);
    case DropSide::outside:
      return engine.outside(frame, ifindex);
    case DropSide::leaving:
      return engine.leaving(frame, ifindex, from);
    default:
      return engine.entering(frame, ifindex, from);
  }
}

}  // namespace

Prediction predict(Engine& engine, Frame& frame, DropSide side, u32 ifindex, u32 from) {
  Prediction it{};
  it.side = side;
  it.ifindex = ifindex;
  it.from = from;
  const Interface* interface = find_interface(engine.settings(), ifindex);
  const u32 l3 = interface == nullptr ? 0 : interface->link_header_length;
  it.ether_type = ether_type_of(frame, l3);
  const bool out = is_outbound(side);
  Packet& p = it.packet;
  it.parsed = Reason::malformed;
  if (it.ether_type == kEtherTypeIpv4) it.parsed = read_packet(frame, l3, p);
  it.flow_before = find_flow(engine, p, it.parsed, out);
  const Mappings mappings = find_mappings(engine, p, it.parsed, out);
  it.flows = engine.tables().shared->flows;
  if (side == DropSide::inside && it.parsed == Reason::none) it.host = find_host(engine, p);
  if (it.ether_type != kEtherTypeIpv4) {
    it.outcome = pass(engine, frame, side, ifindex, from);
    return it;
  }
  Ipv4 towards = p.destination;
  if (!out && it.flow_before && it.flow_before->in_force)
    towards = it.flow_before->record.internal_address;
  engine.route(towards, p.source, it.route);
  if (p.kind == Kind::tcp || p.kind == Kind::udp)
    it.socket =
        engine.has_socket(p.protocol, p.destination, p.destination_port, p.source, p.source_port);

  const EngineCounters before = engine.counters();
  it.outcome = pass(engine, frame, side, ifindex, from);
  const EngineCounters after = engine.counters();

  it.flow_after = find_flow(engine, p, it.parsed, out);
  const std::optional<Known>& flow = it.flow_after ? it.flow_after : it.flow_before;
  it.mapping_before = mapping_of(mappings, out, flow);
  it.mapping_after = mapping_of(find_mappings(engine, p, it.parsed, out), out, flow);
  if (it.outcome.action == Action::forward || it.outcome.translated)
    read_packet(frame, l3, it.sent);
  const u32 out_again = static_cast<u32>(Traffic::translated_out);
  it.hairpin = side == DropSide::inside && it.route.kind == RouteKind::local &&
               after.traffic[out_again] != before.traffic[out_again];
  // What was refused in the second half of a hairpin, and answered: the answer is what is sent.
  for (u32 i = 1; i < kReasonCount; ++i)
    if (it.outcome.action == Action::forward && after.reasons[i] != before.reasons[i])
      become_icmp_error(it, frame, static_cast<Reason>(i));
  return it;
}

}  // namespace masq
