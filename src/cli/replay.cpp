// Reading, passing, writing, counting.
#include "cli/replay.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "cli/capture_file.h"
#include "cli/report.h"
#include "engine/engine.h"
#include "gateway/datapath.h"
#include "wire/headers.h"

namespace masq {
namespace {

constexpr u32 kOutside = 1, kInside = 2;  // interfaces of the imagined gateway
constexpr u32 kRoom = 65536 + 128;
constexpr u32 kReplayFlows = 65535;  // one below a power of two, so that mappings fit as well
constexpr u64 kSecond_ns = 1000000000;
constexpr u64 kStart_ns = 1000 * kSecond_ns;  // any time that is not the beginning of the clock

bool read_address(const std::string& text, Ipv4& address) {
  return inet_pton(AF_INET, text.c_str(), &address.be) == 1;
}

bool read_network(const std::string& text, Replay::Network& network) {
  std::size_t slash = text.find('/');
  network.length = 32;
  if (slash != std::string::npos) {
    const char *from = text.data() + slash + 1, *end = text.data() + text.size();
    auto [last, failure] = std::from_chars(from, end, network.length);
    if (failure != std::errc{} || last != end || network.length > 32) return false;
  }
  return read_address(text.substr(0, slash), network.prefix) && network.length != 0;
}

bool lies_in(Ipv4 address, const Replay::Network& network) {
  u32 mask = ~0u << (32 - network.length);
  return (to_host(address) & mask) == (to_host(network.prefix) & mask);
}

const Replay::Network* network_of(const Replay& replay, Ipv4 address) {
  for (const Replay::Network& network : replay.inside)
    if (lies_in(address, network)) return &network;
  return nullptr;
}

Interface interface_of(u32 ifindex, Zone zone, Ipv4 address, u32 mtu) {
  Interface interface = {};
  interface.ifindex = ifindex;
  interface.zone = zone;
  interface.external = zone == Zone::outside ? 0 : kExternalsMax;
  interface.address = address;
  interface.mtu = mtu;
  return interface;
}

void set_up(Engine& engine, const Replay& replay) {
  Settings& s = engine.settings();
  s.externals[0] = {replay.address, kOutside, kExternalLive, 1};
  engine.set_interface(interface_of(kOutside, Zone::outside, replay.address, replay.mtu));
  engine.set_interface(interface_of(kInside, Zone::inside, replay.inner_address, replay.mtu));
  engine.add_outer_address(replay.address);
  engine.add_route({Ipv4{0}, 0, RouteKind::forward, kOutside, Ipv4{0}});
  for (const Replay::Network& network : replay.inside)
    engine.add_route({network.prefix, network.length, RouteKind::forward, kInside, Ipv4{0}});
  for (Ipv4 own : {replay.address, replay.inner_address})
    engine.add_route({own, 32, RouteKind::local, 0, Ipv4{0}});
}

struct Counts {
  u64 read = 0, from_inside = 0, from_outside = 0, within_inside = 0, not_ipv4 = 0, written = 0;
};

class Run {
 public:
  Run(const Replay& replay, Engine& engine, CaptureWriter& writer)
      : replay_(replay), engine_(engine), writer_(writer), room_(kRoom) {}

  const Counts& counts() const { return counts_; }

  void pass(const CapturedPacket& packet) {
    ++counts_.read;
    move_clock(packet.time_ns);
    if (!packet.is_ipv4 || packet.bytes.size() < sizeof(Ipv4Header)) {
      ++counts_.not_ipv4;
      return;
    }
    Ipv4 source, destination;
    memcpy(&source, &packet.bytes[12], sizeof source);
    memcpy(&destination, &packet.bytes[16], sizeof destination);
    const Replay::Network* from = network_of(replay_, source);
    if (from != nullptr && lies_in(destination, *from) &&
        !same(destination, replay_.inner_address)) {
      ++counts_.within_inside;
      return;
    }
    ++(from != nullptr ? counts_.from_inside : counts_.from_outside);
    // What the capture left out is taken for zeros: the lengths in the headers must be right.
    u32 captured = std::min(static_cast<u32>(packet.bytes.size()), kRoom - 128);
    u32 length = std::clamp(packet.length, captured, kRoom - 128);
    std::copy_n(packet.bytes.begin(), captured, room_.begin());
    std::fill(room_.begin() + captured, room_.begin() + length, u8{0});
    Frame frame{room_.data(), length, kRoom};
    Outcome outcome =
        from != nullptr ? engine_.inside(frame, kInside) : engine_.outside(frame, kOutside);
    if (outcome.action != Action::forward && !is_answer(outcome.action)) return;
    u32 shown = is_answer(outcome.action) ? frame.length : captured;
    writer_.write(packet.time_ns, room_.data(), shown, frame.length);
    ++counts_.written;
  }

 private:
  // Captures of several processors are not quite in order; the clock never goes back.
  void move_clock(u64 time_ns) {
    if (counts_.read == 1) first_ns_ = latest_ns_ = swept_ns_ = time_ns;
    latest_ns_ = std::max(latest_ns_, time_ns);
    engine_.set_time(kStart_ns + latest_ns_ - first_ns_);
    if (latest_ns_ - swept_ns_ < kSecond_ns) return;
    swept_ns_ = latest_ns_;
    engine_.sweep_all();
  }

  const Replay& replay_;
  Engine& engine_;
  CaptureWriter& writer_;
  std::vector<u8> room_;
  Counts counts_;
  u64 first_ns_ = 0, latest_ns_ = 0, swept_ns_ = 0;
};

}  // namespace

Result<Replay> check_replay(const ReplayOptions& options) {
  Replay replay{};
  replay.in = options.in;
  replay.out = options.out;
  replay.mtu = options.mtu;
  replay.seed = options.seed;
  if (!read_address(options.address, replay.address) || !is_plain_unicast(replay.address))
    return error("`{}` is not an external address; one like 192.0.2.1 is.", options.address);
  std::vector<std::string> networks = options.inside;
  if (networks.empty())
    networks = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"};
  for (const std::string& text : networks) {
    Replay::Network network{};
    if (!read_network(text, network))
      return error("`{}` is not a network; one like 192.168.2.0/24 is.", text);
    replay.inside.push_back(network);
  }
  if (network_of(replay, replay.address) != nullptr)
    return error("The external address {} lies inside; name the networks with --inside.",
                 options.address);
  replay.inner_address = ipv4_from_host(to_host(replay.inside.front().prefix) + 1);
  if (!options.inner_address.empty() && !read_address(options.inner_address, replay.inner_address))
    return error("`{}` is not an address; one like 192.168.2.1 is.", options.inner_address);
  std::error_code failure;
  if (replay.in == replay.out || std::filesystem::equivalent(replay.in, replay.out, failure))
    return error("{} cannot be read and written at once; name another file for the result.",
                 replay.in);
  return replay;
}

Result<nlohmann::json> run_replay(const Replay& replay, const Config& config) {
  Config decided = config;
  if (decided.flows_max == 0) decided.flows_max = kReplayFlows;
  Result<Settings> settings = settings_for(decided);
  if (!settings) return settings.error();
  settings->secret[0] = replay.seed * 0x9e3779b97f4a7c15ull;
  settings->secret[1] = ~replay.seed;
  Result<CaptureReader> reader = CaptureReader::open(replay.in);
  if (!reader) return reader.error();
  Result<CaptureWriter> writer = CaptureWriter::open(replay.out);
  if (!writer) return writer.error();
  Engine engine(records_for(settings->flows_max), *settings);
  set_up(engine, replay);
  Run run(replay, engine, *writer);
  CapturedPacket packet;
  for (;;) {
    Result<bool> more = reader->next(packet);
    if (!more) return more.error();
    if (!*more) break;
    run.pass(packet);
  }
  if (Status status = writer->finish(); !status) return status.error();
  const EngineCounters totals = engine.counters();
  const Counts& counts = run.counts();
  nlohmann::json out;
  out["traffic"] = traffic_json({totals.reasons, totals.traffic});
  out["dropped"] = dropped_json({totals.reasons, totals.traffic});
  out["read"] = counts.read;
  out["from_inside"] = counts.from_inside;
  out["from_outside"] = counts.from_outside;
  out["within_inside"] = counts.within_inside;
  out["not_ipv4"] = counts.not_ipv4;
  out["written"] = counts.written;
  out["flows"] = engine.tables().shared->flows;
  out["mappings"] = engine.tables().shared->mappings;
  return out;
}

std::string replay_text(const nlohmann::json& replayed) {
  auto figure = [&](const char* name) { return replayed[name].get<u64>(); };
  std::string text = fmt::format("{} packets read: {} from inside, {} from outside", figure("read"),
                                 figure("from_inside"), figure("from_outside"));
  if (figure("within_inside") != 0)
    text += fmt::format(", {} between hosts of one inner network", figure("within_inside"));
  if (figure("not_ipv4") != 0) text += fmt::format(", {} not IPv4", figure("not_ipv4"));
  text +=
      fmt::format(".\n{} packets written: {} translated out, {} translated in, {} ICMP errors.\n",
                  figure("written"), replayed["traffic"]["translated_out"].get<u64>(),
                  replayed["traffic"]["translated_in"].get<u64>(),
                  replayed["traffic"]["icmp_errors_sent"].get<u64>());
  if (u64 local = replayed["traffic"]["local"]; local != 0)
    text += fmt::format("{} packets were for the gateway itself.\n", local);
  text += fmt::format("At the end there were {} flows and {} mappings.\n", figure("flows"),
                      figure("mappings"));
  return text + refused_text(replayed["dropped"]);
}

}  // namespace masq
