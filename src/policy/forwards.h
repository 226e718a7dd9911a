// Forwards as the administrator speaks of them. Every command language (ipmasqadm portfw, autofw
// and mfw, ipportfw, masq forward, masq.toml) changes one Forwards; compile_forwards makes of it
// what the core looks up (core/forwards.h).
//
//   plain        external ports lead to inner hosts, a range keeps its offset
//   one_to_one   every port of an external address, and ICMP queries, lead to one inner host, which
//                also leaves by that address; other forwards of the address come first
//   marked       what the rules have marked leads to inner hosts
//   triggered    external ports lead to the inner host that last used a control port
//   keeps_port   what goes to these remote ports keeps its source port, if that is free
//
// The external address is a fixed one or kAnyExternal, whatever the external interface has at that
// moment. A fixed one comes first. No two forwards may lay hold of the same endpoint, mark or inner
// host; to whom it leads under which circumstances is said by one forward.
//
// Each forward keeps its number (`place`) as long as it is there, by which its state in the core is
// found. Whoever reads the state folds it in first (fold_state): then the target that serves is the
// first one, as the listings have it. A target's count begins anew when it comes to the front.
//
// A change either succeeds whole, or says in one sentence what is wrong and changes nothing.
//
// Limits: core/forwards.h, and kTargetsOfOneMax targets for each; preferences to kPreferenceMax.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/forwards.h"
#include "policy/result.h"

namespace masq {

inline constexpr std::size_t kTargetsOfOneMax = 16;  // nobody has balanced more by hand
inline constexpr u32 kPreferenceMax = 0xffff;        // half of ForwardState::turn
inline constexpr u16 kPreferenceUsual = 10;
inline constexpr u16 kWindowUsual_s = 15;
inline constexpr u32 kWindowMax_s = 3600;

enum class ForwardProtocol : u8 { tcp, udp, both };

// Who made it; each of the old commands lists and removes its own alone, and the configuration
// replaces its own.
enum class ForwardMaker : u8 { masq, portfw, autofw, mfw, config };

struct ForwardTo {
  Ipv4 address{};
  u16 port = 0;  // for the first external port; 0: as outside
  u16 preference = kPreferenceUsual;
  friend bool operator==(const ForwardTo& a, const ForwardTo& b) {
    return same(a.address, b.address) && a.port == b.port && a.preference == b.preference;
  }
};

struct ForwardFrom {
  Ipv4 network{};
  u32 length = 0;
  friend bool operator==(const ForwardFrom& a, const ForwardFrom& b) {
    return same(a.network, b.network) && a.length == b.length;
  }
};

struct Forward {
  u16 place = kNoForward;  // given when it is added
  ForwardMaker maker = ForwardMaker::masq;
  ForwardKind kind = ForwardKind::plain;
  ForwardProtocol protocol = ForwardProtocol::tcp;  // not of one_to_one and marked
  Ipv4 external = kAnyExternal;                     // plain, one_to_one, triggered
  u16 first = 0, last = 0;  // external ports; keeps_port: remote ones; else none
  u32 mark = 0;
  std::vector<ForwardTo> targets;  // the first serves
  u16 left = 0;                    // new flows that it still serves; 0: all of its preference
  std::vector<ForwardFrom> from;   // empty: everybody
  ForwardProtocol control_protocol = ForwardProtocol::tcp;  // of triggered: never both
  u16 control_port = 0;
  u16 window_s = kWindowUsual_s;  // 0: until another inner host uses the control port
  bool any_outside = false;
  u64 flows = 0, refused = 0;

  // Everything but what is counted.
  bool same_forward(const Forward& other) const;
};

struct Forwards {
  std::vector<Forward> list;
};

// What is wrong with them as a whole; the first thing found.
Status check_forwards(const Forwards& forwards);

// Gives it the lowest free number, and returns that.
Result<u16> add_forward(Forwards& forwards, Forward forward, bool in_front = false);
// Puts another in the place of the one with its number.
Status change_forward(Forwards& forwards, const Forward& forward);
Status remove_forward(Forwards& forwards, u16 place);

// One line for people: "tcp 192.0.2.1:80 -> 192.168.2.5:8080".
std::string to_text(const Forward& forward);

// What the core looks up; nothing is written where something is wrong.
Status compile_forwards(const Forwards& forwards, u32 generation, ForwardTable& table);

// The state in which a forward begins, and back: the target that serves comes to the front.
ForwardState state_of(const Forward& forward);
void fold_state(Forward& forward, const ForwardState& state);

// Where the state of a control port lies with one table and did not with the one before: who asked
// there long ago may not be taken for who asks now, so `asked` becomes 0 before the table is in
// force.
std::vector<u16> windows_to_close(const ForwardTable& before, const ForwardTable& after);

// As files keep it: whole, with counters. What cannot be read is one sentence.
std::string forwards_to_json(const Forwards& forwards);
Result<Forwards> forwards_from_json(const std::string& text);

std::string address_text(Ipv4 address);
std::optional<Ipv4> address_from(const std::string& text);

}  // namespace masq
