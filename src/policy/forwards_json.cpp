// Forwards as files keep them. Reading is strict: what is not known, missing, out of range or
// contradicts the rest refuses the whole, since half a set of forwards is none.
#include <nlohmann/json.hpp>

#include "policy/forwards.h"

namespace masq {
namespace {

using nlohmann::json;

constexpr const char* kKinds[] = {"none",   "plain",     "one_to_one",
                                  "marked", "triggered", "keeps_port"};
constexpr const char* kMakers[] = {"masq", "portfw", "autofw", "mfw", "config"};
constexpr const char* kProtocols[] = {"tcp", "udp", "both"};

json to_json(const Forward& f) {
  json targets = json::array(), from = json::array();
  for (const ForwardTo& to : f.targets)
    targets.push_back(
        {{"address", address_text(to.address)}, {"port", to.port}, {"preference", to.preference}});
  for (const ForwardFrom& network : f.from)
    from.push_back({{"network", address_text(network.network)}, {"length", network.length}});
  return {{"number", f.place},
          {"made_by", kMakers[static_cast<u8>(f.maker)]},
          {"kind", kKinds[static_cast<u8>(f.kind)]},
          {"protocol", kProtocols[static_cast<u8>(f.protocol)]},
          {"external", address_text(f.external)},
          {"first_port", f.first},
          {"last_port", f.last},
          {"mark", f.mark},
          {"targets", targets},
          {"left", f.left},
          {"from", from},
          {"control_protocol", kProtocols[static_cast<u8>(f.control_protocol)]},
          {"control_port", f.control_port},
          {"window_s", f.window_s},
          {"any_outside", f.any_outside},
          {"flows", f.flows},
          {"refused", f.refused}};
}

// Takes the fields of one object, one after another, and remembers the first thing that is wrong.
class Reader {
 public:
  Reader(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) wrong("is no object");
  }

  u64 number(const char* key, u64 most) {
    const json* found = find(key);
    if (found == nullptr) return 0;
    if (found->is_number_unsigned() && found->get<u64>() <= most) return found->get<u64>();
    wrong(fmt::format("has a `{}` that is no number from 0 to {}", key, most));
    return 0;
  }

  bool yes_or_no(const char* key) {
    const json* found = find(key);
    if (found == nullptr || found->is_boolean()) return found != nullptr && found->get<bool>();
    wrong(fmt::format("has a `{}` that is neither true nor false", key));
    return false;
  }

  std::string word(const char* key) {
    const json* found = find(key);
    if (found == nullptr || found->is_string())
      return found == nullptr ? "" : found->get<std::string>();
    wrong(fmt::format("has a `{}` that is no text", key));
    return "";
  }

  template <std::size_t n>
  u8 one_of(const char* key, const char* const (&names)[n]) {
    const std::string said = word(key);
    for (std::size_t i = 0; i < n; ++i)
      if (said == names[i]) return static_cast<u8>(i);
    wrong(fmt::format("has a `{}` that is none", key));
    return 0;
  }

  Ipv4 address(const char* key) {
    if (std::optional<Ipv4> found = address_from(word(key))) return *found;
    wrong(fmt::format("has a `{}` that is no IPv4 address", key));
    return {};
  }

  const json& list(const char* key) {
    static const json empty = json::array();
    const json* found = find(key);
    if (found != nullptr && found->is_array()) return *found;
    wrong(fmt::format("has a `{}` that is no list", key));
    return empty;
  }

  // What is wrong, also that there is more than was asked for.
  Status end() {
    if (problem_.empty() && object_.size() != taken_) wrong("has a key that is not known");
    if (problem_.empty()) return Done{};
    return Error{problem_};
  }

 private:
  void wrong(const std::string& what) {
    if (problem_.empty()) problem_ = fmt::format("{} {}.", where_, what);
  }

  const json* find(const char* key) {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(key);
    if (found != object_.end()) {
      taken_ += 1;
      return &*found;
    }
    wrong(fmt::format("has no `{}`", key));
    return nullptr;
  }

  const json& object_;
  std::string where_, problem_;
  std::size_t taken_ = 0;
};

Status read_hosts(Forward& f, const json& targets, const json& from, const std::string& where) {
  for (const json& each : targets) {
    Reader reader(each, where + ", a target,");
    ForwardTo to;
    to.address = reader.address("address");
    to.port = static_cast<u16>(reader.number("port", 0xffff));
    to.preference = static_cast<u16>(reader.number("preference", kPreferenceMax));
    if (Status status = reader.end(); !status) return status;
    f.targets.push_back(to);
  }
  for (const json& each : from) {
    Reader reader(each, where + ", a network,");
    ForwardFrom network;
    network.network = reader.address("network");
    network.length = static_cast<u32>(reader.number("length", 32));
    if (Status status = reader.end(); !status) return status;
    f.from.push_back(network);
  }
  return Done{};
}

Result<Forward> forward_from(const json& saved, std::size_t number) {
  const std::string where = fmt::format("Forward {} of the file", number);
  Reader reader(saved, where);
  Forward f;
  f.place = static_cast<u16>(reader.number("number", kForwardsMax - 1));
  f.maker = static_cast<ForwardMaker>(reader.one_of("made_by", kMakers));
  f.kind = static_cast<ForwardKind>(reader.one_of("kind", kKinds));
  f.protocol = static_cast<ForwardProtocol>(reader.one_of("protocol", kProtocols));
  f.external = reader.address("external");
  f.first = static_cast<u16>(reader.number("first_port", 0xffff));
  f.last = static_cast<u16>(reader.number("last_port", 0xffff));
  f.mark = static_cast<u32>(reader.number("mark", ~0u));
  const json& targets = reader.list("targets");
  f.left = static_cast<u16>(reader.number("left", kPreferenceMax));
  const json& from = reader.list("from");
  f.control_protocol = static_cast<ForwardProtocol>(reader.one_of("control_protocol", kProtocols));
  f.control_port = static_cast<u16>(reader.number("control_port", 0xffff));
  f.window_s = static_cast<u16>(reader.number("window_s", kWindowMax_s));
  f.any_outside = reader.yes_or_no("any_outside");
  f.flows = reader.number("flows", ~0ull);
  f.refused = reader.number("refused", ~0ull);
  if (Status status = reader.end(); !status) return status.error();
  if (Status status = read_hosts(f, targets, from, where); !status) return status.error();
  return f;
}

}  // namespace

std::string forwards_to_json(const Forwards& forwards) {
  json list = json::array();
  for (const Forward& f : forwards.list) list.push_back(to_json(f));
  return json{{"forwards", list}}.dump(2) + "\n";
}

Result<Forwards> forwards_from_json(const std::string& text) {
  const json saved = json::parse(text, nullptr, false);
  if (saved.is_discarded()) return error("The saved forwards are no JSON.");
  Reader reader(saved, "The file of forwards");
  const json& list = reader.list("forwards");
  if (Status status = reader.end(); !status) return status.error();
  Forwards forwards;
  for (const json& each : list) {
    Result<Forward> forward = forward_from(each, forwards.list.size() + 1);
    if (!forward) return forward.error();
    forwards.list.push_back(std::move(*forward));
  }
  if (Status status = check_forwards(forwards); !status) return status.error();
  return forwards;
}

}  // namespace masq
