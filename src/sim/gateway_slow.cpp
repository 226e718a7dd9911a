// The slow path in the simulated gateway: the same class as in the process masq-slow, without the
// process. What goes there, and what comes back.
//
// It may be killed, with all that it holds, or hang, and then finds what came meanwhile. What needs
// it is lost for a second, and refused from then on; nothing else may be hurt.
#include <cstring>

#include "engine/engine.h"
#include "sim/gateway.h"
#include "slow/slow_path.h"

namespace masq::sim {

namespace {

std::vector<u32> datagram_of(const Datagram& d) {
  return {d.source, d.destination, d.id, d.protocol};
}

}  // namespace

void GatewayNode::start_slow() {
  waiting_.clear();
  firsts_seen_.clear();
  slow_ = std::make_unique<SlowPath>(settings().secret[0], 1, [this](const u8* frame, u32 length) {
    back_from_slow(Data(frame, frame + length));
  });
}

void GatewayNode::set_slow(Slow state) {
  if (slow_state_ == Slow::none) return;
  if (state == Slow::dead || slow_state_ == Slow::dead) start_slow();
  if (state == Slow::dead) queued_.clear();
  slow_state_ = state;
  slow_since_ = now_;
  if (state != Slow::serves) return;
  engine_->slow_beat();
  const auto queued = std::move(queued_);
  queued_.clear();
  for (const Queued& each : queued) take_slow(each);
}

// What waits, and for how long.
void GatewayNode::look_after_slow() {
  if (slow_state_ != Slow::serves) return;
  engine_->slow_beat();
  if (waiting_.empty()) return;
  slow_->expire(now_ / kMillisecond);
  for (const auto& [datagram, since] : waiting_)
    require(since + kHold_ms * kMillisecond + kMillisecond > now_, Invariant::fragments_are_ordered,
            [&] { return std::string("a fragment is held for too long"); });
}

// A packet has gone on without the slow path. If it is a first fragment, none may wait for it
// there.
void GatewayNode::check_overtaking(const Data& packet, const Passage& p) const {
  Datagram d;
  bool ignored = false;
  if (p.action != Action::forward || slow_state_ != Slow::serves || waiting_.empty()) return;
  if (!decode(packet, d, ignored) || !d.more || d.offset != 0) return;
  const auto waits = waiting_.find(datagram_of(d));
  require(waits == waiting_.end() || slow_since_ + 2 * kHold_ms * kMillisecond > now_ ||
              waits->second + (kHold_ms - 2) * kMillisecond < now_,
          Invariant::fragments_are_ordered,
          [&] { return std::string("overtakes the others: " + text_of(packet)); });
}

// `p` is on its way there: does it have to go?
void GatewayNode::to_slow(const Data& packet, const Note& note) {
  Datagram d;
  bool ignored = false;
  const bool sound = decode(packet, d, ignored);
  const u8* mtu_at = slow_frame_.data() + offsetof(SlowHeader, mtu);
  u16 mtu = 0;
  std::memcpy(&mtu, mtu_at, sizeof(mtu));
  require(sound && (d.more || d.offset != 0 || (mtu != 0 && !d.dont_fragment)),
          Invariant::slow_for_cause, [&] { return std::string(text_of(packet)); });
  require(mtu == 0 || (d.dont_fragment ? d.more || d.offset != 0 : packet.size() > mtu),
          Invariant::slow_for_cause, [&] { return std::string("to be cut: " + text_of(packet)); });
  const Queued one{slow_frame_, packet, note, mtu};
  if (slow_state_ == Slow::serves) return take_slow(one);
  require(slow_since_ + kSecond + 3 * kMillisecond > now_, Invariant::slow_for_cause,
          [&] { return std::string("it has not been there for more than a second"); });
  if (slow_state_ == Slow::hangs && queued_.size() < kSlowQueue) queued_.push_back(one);
}

void GatewayNode::take_slow(const Queued& one) {
  Datagram d;
  bool ignored = false;
  decode(one.packet, d, ignored);
  const std::vector<u32> datagram = datagram_of(d);
  const bool hold = one.frame[offsetof(SlowHeader, hold)] != 0;
  slow_notes_[datagram] = one.note;
  const bool holds = hold && d.offset != 0;
  if (d.more && d.offset == 0) firsts_seen_[datagram] = now_;
  if (holds && waiting_.count(datagram) == 0) held_since_[datagram] = now_;
  if (holds) waiting_.emplace(datagram, now_);
  came_back_.clear();
  first_is_back_ = false;
  slow_->take(one.frame.data(), static_cast<u32>(one.frame.size()), now_ / kMillisecond);
  if (holds) return;
  // The datagram itself, or its pieces, is the first that comes back; then what has waited for it.
  const std::vector<Data> wanted =
      one.mtu == 0 ? std::vector<Data>{one.packet} : cut(one.packet, one.mtu);
  require(came_back_.size() >= wanted.size() &&
              std::equal(wanted.begin(), wanted.end(), came_back_.begin(),
                         [](const Data& a, const Data& b) {
                           return std::equal(a.begin(), a.end(), b.begin(), b.end());
                         }),
          Invariant::pieces_are_the_whole, [&] { return std::string(text_of(one.packet)); });
  require(d.offset != 0 || !d.more || waiting_.count(datagram) == 0,
          Invariant::fragments_are_ordered,
          [&] { return std::string("some still wait for what has come: " + text_of(one.packet)); });
}

void GatewayNode::back_from_slow(const Data& frame) {
  SlowHeader h;
  std::memcpy(&h, frame.data(), sizeof(h));
  const Data packet(frame.begin() + sizeof(h), frame.end());
  came_back_.push_back(packet);
  Datagram d;
  bool ignored = false;
  decode(packet, d, ignored);
  const auto note = slow_notes_.find(datagram_of(d));
  const auto waits = waiting_.find(datagram_of(d));
  // Pieces of a fragment that waited are one that waits no more.
  const bool waited = waits != waiting_.end() && d.offset != 0;
  const bool early =
      waited && held_since_[waits->first] + kHold_ms * kMillisecond > now_ + kMillisecond;
  require(!early || h.kind != kSlowAsked || firsts_seen_.count(datagram_of(d)) != 0,
          Invariant::fragments_are_ordered,
          [&] { return std::string("has not waited: " + text_of(packet)); });
  if (waited) waiting_.erase(waits);
  first_is_back_ |= d.offset == 0;
  require(h.kind != kSlowOrdered || first_is_back_, Invariant::fragments_are_ordered,
          [&] { return std::string("before its first one: " + text_of(packet)); });
  if (arriving) arriving("slow", packet);
  const Passage p = pass(frame, sizeof(h), packet, [&](Frame& f) { return engine_->from_slow(f); });
  const Note its = note == slow_notes_.end() ? Note{} : note->second;
  if (h.inside)
    ledger_.judge_outward(now_, h.ifindex, packet, its, p);
  else
    ledger_.judge_inward(now_, h.ifindex, packet, its, p);
  if (leaving_slow) leaving_slow(h.inside != 0, p);
}

}  // namespace masq::sim
