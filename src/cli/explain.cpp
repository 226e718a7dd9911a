// `masq explain`: what the live gateway would do with a packet, by running the core over a copy of
// its tables, with the kernel's own answers about routes and sockets. Nothing is changed.
//
// Packets of a capture are passed one after the other over the same copy, so an answer finds the
// flow that the question before it would have made.
#include "cli/explain.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <optional>

#include "cli/explanation.h"
#include "cli/packet_words.h"
#include "cli/pcap.h"
#include "cli/report.h"
#include "engine/predict.h"
#include "gateway/live.h"
#include "gateway/state.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr const char* kSaid = "as you said";
constexpr const char* kByTheKernel =
    " The kernel refuses it, by masq's nftables rules, and masq does not count it.";
constexpr u32 kRoomForIcmpError = 64;  // behind a frame; it may become an ICMP error

int fail(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return kFailed;
}

int misuse(const std::string& sentence) {
  fmt::print(stderr, "masq: {}\n", sentence);
  return kUsage;
}

std::string as_text(const json& out) {
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// The source and destination of a packet, from whatever stands where they are.
struct Ends {
  Ipv4 source{}, destination{};
};

Ends ends_of(const std::vector<u8>& bytes, u16 ether_type) {
  Ends ends;
  std::size_t at = ether_type == kEtherTypeArp ? 14 : 12;
  std::size_t second = ether_type == kEtherTypeArp ? 24 : 16;
  if (ether_type == kEtherTypeIpv6 || bytes.size() < second + 4) return ends;
  memcpy(&ends.source.be, bytes.data() + at, 4);
  memcpy(&ends.destination.be, bytes.data() + second, 4);
  return ends;
}

// The live gateway, ready to be asked.
class Session {
 public:
  Session(const AnyDatapath& datapath, NetworkState network, const Snapshot& snapshot,
          Questions& questions)
      : datapath_(datapath),
        network_(std::move(network)),
        questions_(questions),
        engine_(snapshot.tables(), datapath.settings(), questions.answers()) {
    // The engine's clock adds the offset that the settings have.
    engine_.set_time((static_cast<u64>(datapath.now()) << kTickShift) -
                     datapath.settings().time_offset_ns);
  }

  // Why the kernel has not answered a question; empty if it has answered all.
  const std::string& failure() const { return questions_.failure(); }

  Result<Place> place(const std::string& said, const Ends& ends, u16 ether_type) {
    if (said == "gateway" || said == "masq") return from_gateway(ends);
    if (said == "inside") return inside(ends, kSaid);
    if (said == "outside") return outside(ends, kSaid);
    if (!said.empty()) return on_interface(said);
    if (ether_type == kEtherTypeArp) return outside(ends, "");
    if (ether_type != kEtherTypeIpv4) return inside(ends, "");
    if (questions_.own_address(ends.source)) return from_gateway(ends);
    Route back;
    engine_.route(ends.source, ends.destination, back);
    if (back.kind == RouteKind::forward && back.zone == Zone::inside)
      return Place{DropSide::inside, back.ifindex, 0,
                   fmt::format("by which {} is reached", to_text(ends.source))};
    if (back.kind == RouteKind::forward && back.zone == Zone::other)
      return from_other(ends, back.ifindex);
    return outside(ends, "");
  }

  json explain(const std::vector<u8>& packet, u16 ether_type, u32 segment_size,
               const Place& place) {
    const Interface* interface = find_interface(datapath_.settings(), place.ifindex);
    const u32 l3 = interface == nullptr ? 0 : interface->link_header_length;
    std::vector<u8> bytes(l3);
    if (l3 >= 2) memcpy(bytes.data() + l3 - 2, &ether_type, 2);
    bytes.insert(bytes.end(), packet.begin(), packet.end());
    const u32 length = static_cast<u32>(bytes.size());
    bytes.resize(length + kRoomForIcmpError);
    Frame frame{bytes.data(), length, length + kRoomForIcmpError};
    frame.segment_size = segment_size;
    if (segment_size != 0)
      frame.segments = (static_cast<u32>(packet.size()) + segment_size - 1) / segment_size;
    questions_.set_interface(place.ifindex);
    Prediction it = predict(engine_, frame, place.side, place.ifindex, place.from);
    if (ether_type == kEtherTypeIpv6) it = ipv6(frame, it, place);
    json out = explanation_json(it, place, engine_, network_);
    if (in_user_space() && ether_type != kEtherTypeIpv4 && it.outcome.action == Action::drop)
      out["sentence"] = out["sentence"].get<std::string>() + kByTheKernel;
    return out;
  }

 private:
  // IPv6 passes where it comes in, and is stopped where it would leave.
  Prediction ipv6(Frame& frame, const Prediction& came_in, const Place& place) {
    bool outwards = place.side == DropSide::inside;
    const Interface* other = first_of(outwards ? Zone::outside : Zone::inside);
    if (other == nullptr) return came_in;
    Prediction it = predict(engine_, frame, outwards ? DropSide::leaving : DropSide::entering,
                            other->ifindex, place.ifindex);
    it.side = came_in.side;
    it.ifindex = came_in.ifindex;
    return it;
  }

  // Frames that are not IPv4, and the gateway's own packets, then go past masq.
  bool in_user_space() const { return !datapath_.outlives_daemon(); }

  const Interface* first_of(Zone zone) const {
    for (const Interface& each : datapath_.settings().interfaces)
      if (each.ifindex != 0 && each.zone == zone) return &each;
    return nullptr;
  }

  Result<Place> inside(const Ends& ends, const std::string& why) {
    Route back;
    engine_.route(ends.source, ends.destination, back);
    const Interface* first = first_of(Zone::inside);
    if (first == nullptr) return error("The gateway has no inner interface at the moment.");
    bool reached = back.kind == RouteKind::forward && back.zone == Zone::inside;
    return Place{DropSide::inside, reached ? back.ifindex : first->ifindex, 0, why};
  }

  // The external interface that has the address, or by which the sender is reached.
  Result<Place> outside(const Ends& ends, const std::string& why) {
    const Settings& s = datapath_.settings();
    for (const External& each : s.externals)
      if (each.state == kExternalLive && same(each.address, ends.destination))
        return Place{DropSide::outside, each.ifindex, 0, why};
    Route back;
    engine_.route(ends.source, ends.destination, back);
    if (back.kind == RouteKind::forward && back.zone == Zone::outside)
      return Place{DropSide::outside, back.ifindex, 0, why};
    const Interface* first = first_of(Zone::outside);
    if (first == nullptr) return error("The gateway has no external interface at the moment.");
    return Place{DropSide::outside, first->ifindex, 0, why};
  }

  Result<Place> from_gateway(const Ends& ends) { return on_own_path(ends, 0); }
  Result<Place> from_other(const Ends& ends, u32 from) { return on_own_path(ends, from); }

  // Sent by the gateway itself, or come in on an interface that is not masq's.
  Result<Place> on_own_path(const Ends& ends, u32 from) {
    Route route;
    engine_.route(ends.destination, ends.source, route);
    if (route.kind != RouteKind::forward || route.zone == Zone::other)
      return error(
          "masq does not see that packet: it neither comes in on an interface of masq's nor leaves "
          "by one.");
    if (in_user_space())
      return error(
          "masq does not see that packet: with the data path user, what does not come in on an "
          "interface of masq's goes the kernel's own way and is not translated.");
    return Place{route.zone == Zone::outside ? DropSide::leaving : DropSide::entering,
                 route.ifindex, from,
                 from == 0 ? fmt::format("{} is its own address", to_text(ends.source)) : ""};
  }

  Result<Place> on_interface(const std::string& name) {
    const Link* link = network_.link_named(name);
    const Interface* interface =
        link == nullptr ? nullptr : find_interface(datapath_.settings(), link->ifindex);
    if (interface != nullptr)
      return Place{interface->zone == Zone::inside ? DropSide::inside : DropSide::outside,
                   interface->ifindex, 0, kSaid};
    std::string ours;
    for (const Interface& each : datapath_.interfaces())
      if (const Link* known = network_.link_at(each.ifindex))
        ours += (ours.empty() ? "" : ", ") + known->name;
    return error("\"{}\" is no interface of masq's; its interfaces are {}.", name.substr(0, 40),
                 ours.empty() ? "none" : ours);
  }

  const AnyDatapath& datapath_;
  NetworkState network_;
  Questions& questions_;
  Engine engine_;
};

int explain_words(Session& session, const ExplainOptions& o) {
  Result<WordedPacket> packet = packet_from_words(o.words);
  if (!packet) return misuse(packet.error().sentence);
  const std::string& said = o.interface.empty() ? packet->came_in_on : o.interface;
  Result<Place> place =
      session.place(said, ends_of(packet->bytes, packet->ether_type), packet->ether_type);
  if (!place) return fail(place.error().sentence);
  json out = session.explain(packet->bytes, packet->ether_type, packet->segment_size, *place);
  if (!session.failure().empty()) return fail(session.failure());
  fmt::print("{}", o.as_json ? as_text(out) : explanation_text(out, true));
  return 0;
}

int explain_capture(Session& session, const ExplainOptions& o, const Capture& capture) {
  json all = json::array();
  std::vector<std::string> reasons;
  u32 number = 0;
  for (const StrippedPacket& packet : capture.packets) {
    ++number;
    std::vector<u8> bytes = packet.bytes;
    bytes.resize(packet.length);  // zeros for what was not captured
    Result<Place> place =
        session.place(o.interface, ends_of(bytes, packet.ether_type), packet.ether_type);
    json out;
    if (place) {
      out = session.explain(bytes, packet.ether_type, 0, *place);
    } else if (!o.interface.empty()) {
      return fail(place.error().sentence);
    } else {
      out = {{"packet", "a packet that masq does not see"}, {"sentence", place.error().sentence}};
    }
    if (!session.failure().empty()) return fail(session.failure());
    out["number"] = number;
    if (out.contains("reason") && out["reason"].is_string()) reasons.push_back(out["reason"]);
    if (o.as_json) {
      all.push_back(std::move(out));
    } else {
      fmt::print("{}{}. {}", number == 1 ? "" : "\n", number,
                 place ? explanation_text(out, false) : out["sentence"].get<std::string>() + "\n");
    }
  }
  fmt::print("{}", o.as_json ? as_text(all) : advice_text(reasons));
  if (!capture.damage.empty()) return fail(capture.damage);
  return 0;
}

int explain_last(const AnyDatapath& datapath, const NetworkState& network,
                 const ExplainOptions& o) {
  Ipv4 host{};
  if (!o.words.empty()) {
    in_addr address{};
    if (o.words.size() > 1 || inet_pton(AF_INET, o.words[0].c_str(), &address) != 1)
      return misuse("Behind --last stands one IPv4 address, or nothing.");
    host.be = address.s_addr;
  }
  json out = last_json(datapath, network, host);
  fmt::print("{}", o.as_json ? as_text(out) : last_text(out));
  return 0;
}

// What is wrong with the way it was asked, or nothing.
std::string wrong_usage(const ExplainOptions& o) {
  if (o.last && !o.capture.empty()) return "Either --last or --pcap, not both.";
  if (o.last) return "";
  if (o.capture.empty() && o.words.empty())
    return "The packet is missing; say for example `masq explain udp 192.168.2.4:5000 "
           "198.51.100.1:53`.";
  if (!o.capture.empty() && !o.words.empty())
    return "Either a packet in words or a capture, not both.";
  return "";
}

}  // namespace

void add_explain_options(CLI::App& command, ExplainOptions& o) {
  command.add_option("packet", o.words, "The packet in words; with --last, a host");
  command.add_option("--pcap", o.capture, "Explain each packet of a capture")->type_name("FILE");
  command.add_option("--interface", o.interface, "Where the packet comes in")->type_name("IF");
  command.add_flag("--last", o.last, "Why the last packets (of one host) were refused");
  command.add_flag("--json", o.as_json, "For programs");
}

int explain(const ExplainOptions& o) {
  if (std::string mistake = wrong_usage(o); !mistake.empty()) return misuse(mistake);
  // Mistakes in what is asked are said also where no gateway runs.
  std::optional<Capture> capture;
  if (!o.capture.empty()) {
    Result<Capture> read = read_capture(o.capture);
    if (!read) return fail(read.error().sentence);
    capture = std::move(*read);
  } else if (!o.last) {
    if (Result<WordedPacket> packet = packet_from_words(o.words); !packet)
      return misuse(packet.error().sentence);
  }
  Result<std::unique_ptr<AnyDatapath>> running = running_gateway();
  if (!running) return fail(running.error().sentence);
  Result<NetworkState> network = read_network();
  if (!network) return fail(network.error().sentence);
  if (o.last) return explain_last(**running, *network, o);
  const AnyDatapath& datapath = **running;
  if (!datapath.outlives_daemon() && daemon_process() <= 0)
    return fail(
        "No packet passes: the daemon, which carries them, is not running; `masq up` "
        "starts it, with the flows.");
  Result<Snapshot> snapshot = Snapshot::take(datapath);
  if (!snapshot) return fail(snapshot.error().sentence);
  Result<std::unique_ptr<Questions>> questions = Questions::open(datapath, *network);
  if (!questions) return fail(questions.error().sentence);
  Session session(datapath, std::move(*network), *snapshot, **questions);
  return capture ? explain_capture(session, o, *capture) : explain_words(session, o);
}

}  // namespace masq
