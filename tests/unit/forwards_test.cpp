// Forwards: what the core finds, against a plain reading of the list; turns, windows, networks of
// senders; the sentences about contradictions; the file.
#include "policy/forwards.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>

#include "random.h"
#include "wire/headers.h"

namespace masq {
namespace {

using test::Random;

Ipv4 ip(const std::string& text) {
  return address_from(text).value_or(Ipv4{0});
}

Forward plain(ForwardProtocol protocol, const std::string& external, u16 first, u16 last,
              std::vector<ForwardTo> targets) {
  Forward f;
  f.protocol = protocol;
  f.external = ip(external);
  f.first = first;
  f.last = last;
  f.targets = std::move(targets);
  return f;
}

Forward one_to_one(const std::string& external, const std::string& inner) {
  Forward f;
  f.kind = ForwardKind::one_to_one;
  f.external = ip(external);
  f.targets = {{ip(inner), 0, kPreferenceUsual}};
  return f;
}

Forward marked(u32 mark, std::vector<ForwardTo> targets) {
  Forward f;
  f.kind = ForwardKind::marked;
  f.mark = mark;
  f.targets = std::move(targets);
  return f;
}

Forward triggered(ForwardProtocol protocol, u16 first, u16 last, ForwardProtocol control,
                  u16 control_port) {
  Forward f;
  f.kind = ForwardKind::triggered;
  f.protocol = protocol;
  f.first = first;
  f.last = last;
  f.control_protocol = control;
  f.control_port = control_port;
  return f;
}

Forward keeps_port(ForwardProtocol protocol, u16 first, u16 last) {
  Forward f;
  f.kind = ForwardKind::keeps_port;
  f.protocol = protocol;
  f.first = first;
  f.last = last;
  return f;
}

const ForwardTo kFirst{Ipv4{0x0502a8c0}, 0, 10};   // 192.168.2.5
const ForwardTo kSecond{Ipv4{0x0602a8c0}, 0, 20};  // 192.168.2.6

std::unique_ptr<ForwardTable> compiled(const Forwards& forwards) {
  auto table = std::make_unique<ForwardTable>();
  Status status = compile_forwards(forwards, 1, *table);
  EXPECT_TRUE(status) << status.error().sentence;
  return table;
}

std::string why_not(Forwards forwards, const Forward& added) {
  const std::string before = forwards_to_json(forwards);
  Result<u16> place = add_forward(forwards, added);
  EXPECT_EQ(forwards_to_json(forwards) == before, !place);
  return place ? "" : place.error().sentence;
}

// --- the slow twin ---------------------------------------------------------------------------

bool is_of(ForwardProtocol said, u8 protocol) {
  return (said != ForwardProtocol::udp && protocol == kProtocolTcp) ||
         (said != ForwardProtocol::tcp && protocol == kProtocolUdp);
}

bool has_ports(const Forward& f) {
  return f.kind == ForwardKind::plain || f.kind == ForwardKind::triggered;
}

// Who has the endpoint: ports of that address, then all of them, then ports of any address.
u32 plainly(const Forwards& forwards, u8 protocol, Ipv4 external, u16 port) {
  for (const Forward& f : forwards.list)
    if (has_ports(f) && is_of(f.protocol, protocol) && same(f.external, external) &&
        f.first <= port && port <= f.last)
      return f.place;
  for (const Forward& f : forwards.list)
    if (f.kind == ForwardKind::one_to_one && same(f.external, external)) return f.place;
  for (const Forward& f : forwards.list)
    if (has_ports(f) && is_of(f.protocol, protocol) && same(f.external, kAnyExternal) &&
        f.first <= port && port <= f.last)
      return f.place;
  return kNoForward;
}

Forward some_forward(Random& random) {
  static const char* const externals[] = {"0.0.0.0", "192.0.2.1", "192.0.2.2", "192.0.2.3"};
  const std::string external = externals[random() % 4];
  const auto protocol = static_cast<ForwardProtocol>(random() % 3);
  const u16 first = static_cast<u16>(1 + random() % 120);
  const u16 last = static_cast<u16>(first + random() % 12 * (random() % 2));
  const ForwardTo to{ipv4_from_host(0xc0a80200 + 1 + random() % 40), 0, 10};
  switch (random() % 8) {
    case 0:
      return one_to_one(external, address_text(to.address));
    case 1:
      return marked(1 + random() % 20, {to});
    case 2:
      return triggered(protocol, first, last, static_cast<ForwardProtocol>(random() % 2),
                       static_cast<u16>(1 + random() % 30));
    case 3:
      return keeps_port(protocol, first, last);
    default:
      return plain(protocol, external, first, last, {to});
  }
}

void compare(const Forwards& forwards) {
  const auto table = compiled(forwards);
  for (const char* external : {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"})
    for (u8 protocol : {kProtocolTcp, kProtocolUdp, kProtocolIcmp, u8{47}})
      for (u32 port : {0u, 1u, 2u, 1000u, 65534u, 65535u})
        ASSERT_EQ(find_forward(*table, protocol, ip(external), static_cast<u16>(port)),
                  protocol == 47
                      ? kNoForward
                      : plainly(forwards, protocol, ip(external), static_cast<u16>(port)))
            << external << " " << +protocol << " " << port;
  for (const char* external : {"192.0.2.1", "192.0.2.2", "192.0.2.4"})
    for (u8 protocol : {kProtocolTcp, kProtocolUdp})
      for (u16 port = 0; port < 140; ++port)
        ASSERT_EQ(find_forward(*table, protocol, ip(external), port),
                  plainly(forwards, protocol, ip(external), port))
            << external << " " << +protocol << " " << port;
  for (u32 mark = 0; mark < 25; ++mark) {
    u32 expected = kNoForward;
    for (const Forward& f : forwards.list)
      if (f.kind == ForwardKind::marked && f.mark == mark) expected = f.place;
    ASSERT_EQ(find_marked(*table, mark), expected);
  }
  for (u16 port = 0; port < 140; ++port) {
    u32 expected = kNoForward;
    bool keeps = false;
    for (const Forward& f : forwards.list) {
      if (f.kind == ForwardKind::triggered && is_of(f.control_protocol, kProtocolUdp) &&
          f.control_port == port)
        expected = std::min<u32>(expected, f.place);
      keeps |= f.kind == ForwardKind::keeps_port && is_of(f.protocol, kProtocolUdp) &&
               f.first <= port && port <= f.last;
    }
    ASSERT_EQ(find_control(*table, kProtocolUdp, port), expected);
    ASSERT_EQ(keeps_source_port(*table, kProtocolUdp, port), keeps);
  }
}

TEST(Forwards, AreFoundAsAPlainReadingFindsThem) {
  Random random(1);
  u32 refused = 0;
  for (u32 round = 0; round < 60; ++round) {
    Forwards forwards;
    const u32 tries = 1 + random() % 60;
    for (u32 i = 0; i < tries; ++i) {
      const Forward f = some_forward(random);
      refused += add_forward(forwards, f, random() % 2 == 0) ? 0 : 1;
      if (random() % 8 != 0 || forwards.list.empty()) continue;
      const u16 place = forwards.list[random() % forwards.list.size()].place;
      ASSERT_TRUE(remove_forward(forwards, place));
    }
    compare(forwards);
  }
  EXPECT_GT(refused, 100u);  // contradictions were among them
}

// Two that would both have one endpoint are refused, and no others: tried one port at a time.
TEST(Forwards, ContradictOnlyWhereTheyMeet) {
  Random random(2);
  u32 met = 0, parted = 0;
  for (u32 i = 0; i < 30000; ++i) {
    Forwards forwards;
    Forward a = some_forward(random), b = some_forward(random);
    if (!has_ports(a) || !has_ports(b) || !add_forward(forwards, a)) continue;
    bool meet = false;
    for (u8 protocol : {kProtocolTcp, kProtocolUdp})
      for (u32 port = 0; port < 200; ++port)
        meet |= is_of(a.protocol, protocol) && is_of(b.protocol, protocol) && a.first <= port &&
                port <= a.last && b.first <= port && port <= b.last && same(a.external, b.external);
    ASSERT_EQ(static_cast<bool>(add_forward(forwards, b)), !meet) << to_text(a) << to_text(b);
    (meet ? met : parted) += 1;
  }
  EXPECT_GT(met, 80u);
  EXPECT_GT(parted, 500u);
}

TEST(Forwards, NothingIsFoundWhereThereIsNone) {
  const auto table = compiled({});
  EXPECT_EQ(table->ranges_used, 0u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("255.255.255.255"), 65535), kNoForward);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("0.0.0.0"), 0), kNoForward);
  EXPECT_EQ(find_marked(*table, ~0u), kNoForward);
}

TEST(Forwards, AFixedAddressComesFirst) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "0.0.0.0", 80, 80, {kFirst})));
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 80, 80, {kSecond})));
  const auto table = compiled(forwards);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 80), 1u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.9"), 80), 0u);
}

TEST(Forwards, AnAddressOfOnesOwnHasTheRest) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, one_to_one("192.0.2.1", "192.168.2.5")));
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 80, 90, {kSecond})));
  const auto table = compiled(forwards);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 79), 0u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 80), 1u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 90), 1u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 91), 0u);
  EXPECT_EQ(find_forward(*table, kProtocolTcp, ip("192.0.2.1"), 65535), 0u);
  EXPECT_EQ(find_forward(*table, kProtocolUdp, ip("192.0.2.1"), 80), 0u);
  EXPECT_EQ(find_forward(*table, kProtocolIcmp, ip("192.0.2.1"), 0), 0u);
  EXPECT_EQ(find_inner_host(*table, ip("192.168.2.5")), 0u);
  EXPECT_EQ(find_inner_host(*table, ip("192.168.2.6")), kNoForward);
  EXPECT_TRUE(same(table->entries[0].external, ip("192.0.2.1")));
}

TEST(Forwards, ARangeKeepsItsOffset) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::udp, "0.0.0.0", 6000, 6010,
                                          {{ip("192.168.2.5"), 7000, 10}, kSecond})));
  ASSERT_TRUE(add_forward(forwards, marked(5, {{ip("192.168.2.5"), 8080, 10}, kSecond})));
  const auto table = compiled(forwards);
  const ForwardEntry &range = table->entries[0], &mark = table->entries[1];
  EXPECT_EQ(target_port(range, table->targets[range.first_target], 6000), 7000);
  EXPECT_EQ(target_port(range, table->targets[range.first_target], 6010), 7010);
  EXPECT_EQ(target_port(range, table->targets[range.first_target + 1u], 6007), 6007);
  EXPECT_EQ(target_port(mark, table->targets[mark.first_target], 80), 8080);
  EXPECT_EQ(target_port(mark, table->targets[mark.first_target + 1u], 80), 80);
}

// --- turns -----------------------------------------------------------------------------------

// As a list whose first serves, and then goes to its end.
std::vector<Ipv4> turns_plainly(std::vector<ForwardTo> targets, u32 flows) {
  std::vector<Ipv4> served;
  u32 left = targets[0].preference;
  for (u32 i = 0; i < flows; ++i) {
    served.push_back(targets[0].address);
    if (targets[0].preference == 0 || --left != 0) continue;
    std::rotate(targets.begin(), targets.begin() + 1, targets.end());
    left = targets[0].preference;
  }
  return served;
}

TEST(Forwards, TargetsTakeTurnsByPreference) {
  Random random(3);
  for (u32 round = 0; round < 200; ++round) {
    Forward f = plain(ForwardProtocol::tcp, "0.0.0.0", 80, 80, {});
    const u32 targets = 1 + random() % 5;
    for (u32 i = 0; i < targets; ++i)
      f.targets.push_back({ipv4_from_host(0xc0a80201 + i), 0, static_cast<u16>(random() % 5)});
    Forwards forwards;
    ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "0.0.0.0", 1, 1, {kFirst})));
    ASSERT_TRUE(add_forward(forwards, f));
    const auto table = compiled(forwards);
    ForwardState state = state_of(forwards.list[1]);
    const std::vector<Ipv4> expected = turns_plainly(f.targets, 40);
    for (u32 i = 0; i < 40; ++i) {
      const u32 place = take_target(*table, table->entries[1], state);
      ASSERT_TRUE(same(table->targets[place].address, expected[i])) << round << " " << i;
    }
    EXPECT_EQ(state.flows, 40u);
  }
}

TEST(Forwards, TurnsGoOnAfterTheListWasRead) {
  Forward f = plain(ForwardProtocol::tcp, "0.0.0.0", 80, 80, {kFirst, kSecond});
  const std::vector<Ipv4> expected = turns_plainly(f.targets, 105);
  ForwardState state = state_of(f);
  for (u32 i = 0; i < 105; ++i) {
    Forwards forwards;
    ASSERT_TRUE(add_forward(forwards, f));
    const auto table = compiled(forwards);
    const u32 place = take_target(*table, table->entries[0], state);
    ASSERT_TRUE(same(table->targets[place].address, expected[i])) << i;
    fold_state(f, state);
    state = state_of(f);
  }
  EXPECT_EQ(f.flows, 105u);
  EXPECT_TRUE(
      same(f.targets[0].address, kSecond.address));  // three rounds of 30, 10, and 5 of its 20
  EXPECT_EQ(f.left, 15);
}

TEST(Forwards, AStateThatDoesNotFitBeginsAnew) {
  Forward f = plain(ForwardProtocol::tcp, "0.0.0.0", 80, 80, {kFirst, kSecond});
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, f));
  const auto table = compiled(forwards);
  ForwardState state{};
  state.turn = 7u << 16 | 3;
  fold_state(f, state);
  EXPECT_TRUE(same(f.targets[0].address, kFirst.address));
  EXPECT_EQ(f.left, 0);
  EXPECT_EQ(take_target(*table, table->entries[0], state), 0u);
  EXPECT_EQ(state.turn, 9u);
  state.turn = 0xffff;
  take_target(*table, table->entries[0], state);
  EXPECT_EQ(state.turn, 9u);
}

// --- senders and windows ---------------------------------------------------------------------

TEST(Forwards, AreForTheNamedSendersAlone) {
  Forward f = plain(ForwardProtocol::tcp, "0.0.0.0", 22, 22, {kFirst});
  Forwards everybody, some;
  ASSERT_TRUE(add_forward(everybody, f));
  f.from = {{ip("10.0.0.0"), 8}, {ip("172.16.0.0"), 12}, {ip("192.0.2.7"), 32}};
  ASSERT_TRUE(add_forward(some, f));
  const auto open = compiled(everybody), closed = compiled(some);
  for (const char* sender : {"10.0.0.0", "10.255.255.255", "172.31.0.1", "192.0.2.7"})
    EXPECT_TRUE(forward_admits(closed->entries[0], ip(sender))) << sender;
  for (const char* sender : {"11.0.0.0", "172.32.0.1", "192.0.2.6", "0.0.0.0", "0.0.0.1"}) {
    EXPECT_FALSE(forward_admits(closed->entries[0], ip(sender))) << sender;
    EXPECT_TRUE(forward_admits(open->entries[0], ip(sender))) << sender;
  }
}

TEST(Forwards, AControlPortOpensForTheHostThatUsedIt) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards,
                          triggered(ForwardProtocol::udp, 6970, 7170, ForwardProtocol::tcp, 7070)));
  ASSERT_TRUE(add_forward(forwards,
                          triggered(ForwardProtocol::tcp, 2300, 2400, ForwardProtocol::tcp, 7070)));
  const auto table = compiled(forwards);
  EXPECT_EQ(find_control(*table, kProtocolTcp, 7070), 0u);  // one place for both
  EXPECT_EQ(find_control(*table, kProtocolUdp, 7070), kNoForward);
  EXPECT_EQ(table->entries[1].control, 0);
  const ForwardEntry& e = table->entries[find_forward(*table, kProtocolUdp, ip("192.0.2.1"), 7000)];
  const Ipv4 host = ip("192.168.2.5"), server = ip("198.51.100.1"), other = ip("198.51.100.2");
  ForwardState state{};
  Ipv4 found{};
  const Ticks start = ~0u - 1000;  // the clock comes round in the midst of it
  EXPECT_FALSE(forward_asked(e, state, server, start, found));
  forward_ask(state, host, server, start);
  EXPECT_FALSE(forward_asked(e, state, other, start, found));
  ASSERT_TRUE(forward_asked(e, state, server, start, found));
  EXPECT_TRUE(same(found, host));
  const Ticks window = ticks_from_s(15);
  EXPECT_TRUE(forward_asked(e, state, server, start + window - 1, found));
  EXPECT_FALSE(forward_asked(e, state, server, start + window, found));
  EXPECT_FALSE(forward_asked(e, state, server, start + 0x80000000u, found));  // 26 days on
  EXPECT_TRUE(forward_asked(e, state, server, start - 3, found));  // a clock that is behind
  forward_ask(state, ip("192.168.2.6"), other, start + 5);
  EXPECT_FALSE(forward_asked(e, state, server, start + 5, found));
  ASSERT_TRUE(forward_asked(e, state, other, start + 5, found));
  EXPECT_TRUE(same(found, ip("192.168.2.6")));
}

// Windows that nobody has asked for since another forward had the control port's state.
TEST(Forwards, AWindowEndsWhereItsStateMoves) {
  const Forward f = triggered(ForwardProtocol::udp, 6970, 7170, ForwardProtocol::tcp, 7070);
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, f));
  const auto alone = compiled(forwards);
  Forward second = f;
  second.first = second.last = 2300;
  ASSERT_TRUE(add_forward(forwards, second));
  const auto both = compiled(forwards);
  ASSERT_TRUE(remove_forward(forwards, 0));
  const auto moved = compiled(forwards);
  second.place = 1;
  second.control_port = 7071;
  ASSERT_TRUE(change_forward(forwards, second));
  const auto other_port = compiled(forwards);
  const std::vector<u16> none, first = {0}, next = {1};
  EXPECT_EQ(windows_to_close(*compiled({}), *alone), first);
  EXPECT_EQ(windows_to_close(*alone, *both), none);
  EXPECT_EQ(windows_to_close(*both, *moved), next);
  EXPECT_EQ(windows_to_close(*moved, *other_port), next);
  EXPECT_EQ(windows_to_close(*moved, *compiled({})), none);
}

TEST(Forwards, AControlPortMayOpenForEverybodyAndForEver) {
  Forwards forwards;
  Forward f = triggered(ForwardProtocol::udp, 6970, 7170, ForwardProtocol::tcp, 7070);
  f.window_s = 0;
  f.any_outside = true;
  ASSERT_TRUE(add_forward(forwards, f));
  const auto table = compiled(forwards);
  ForwardState state{};
  Ipv4 found{};
  EXPECT_FALSE(forward_asked(table->entries[0], state, ip("198.51.100.9"), 0, found));
  forward_ask(state, ip("192.168.2.5"), ip("198.51.100.1"), 0);
  EXPECT_TRUE(forward_asked(table->entries[0], state, ip("198.51.100.9"), 0x90000000u, found));
}

// --- what is refused -------------------------------------------------------------------------

TEST(Forwards, SayWhatIsWrong) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::both, "192.0.2.1", 80, 90, {kFirst})));
  ASSERT_TRUE(add_forward(forwards, one_to_one("192.0.2.2", "192.168.2.7")));
  EXPECT_EQ(
      why_not(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 90, 95, {kSecond})),
      "Two forwards contradict each other: tcp and udp 192.0.2.1:80-90 -> 192.168.2.5 (0) and "
      "tcp 192.0.2.1:90-95 -> 192.168.2.6 (2); remove one of them.");
  EXPECT_EQ(why_not(forwards, one_to_one("192.0.2.2", "192.168.2.8")),
            "Two forwards contradict each other: 192.0.2.2 <-> 192.168.2.7 (1) and 192.0.2.2 <-> "
            "192.168.2.8 (2); remove one of them.");
  EXPECT_EQ(why_not(forwards, one_to_one("192.0.2.3", "192.168.2.7")),
            "Two forwards contradict each other: 192.0.2.2 <-> 192.168.2.7 (1) and 192.0.2.3 <-> "
            "192.168.2.7 (2); remove one of them.");
  EXPECT_EQ(why_not(forwards, one_to_one("0.0.0.0", "192.168.2.9")),
            "A forward of all ports needs an external address of its own.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 0, 5, {kFirst})),
            "0-5 is no range of ports; the first one is from 1 to the last one.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 6, 5, {kFirst})),
            "6-5 is no range of ports; the first one is from 1 to the last one.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {})),
            "tcp *:5-6 ->  leads to nobody; name an inner host.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {{Ipv4{0}, 0, 1}})),
            "0.0.0.0 is not the address of a host that something can be forwarded to.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {{kFirst.address, 65535, 1}})),
            "The ports 5-6 do not fit behind port 65535 of 192.168.2.5; the last one would be "
            "65536.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {kFirst, kFirst})),
            "tcp *:5-6 -> 192.168.2.5, 192.168.2.5 names a target twice; give it a higher "
            "preference instead.");
  EXPECT_EQ(
      why_not(forwards, plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {{ip("192.0.2.1"), 0, 1}})),
      "tcp *:5-6 -> 192.0.2.1 leads to 192.0.2.1, which is itself an external address of a "
      "forward.");
  EXPECT_EQ(why_not({}, plain(ForwardProtocol::tcp, "127.0.0.1", 5, 6, {kFirst})),
            "127.0.0.1 cannot be an external address.");
  EXPECT_EQ(why_not({}, marked(0, {kFirst})), "Mark 0 is that of every packet without a mark.");
  EXPECT_EQ(why_not({}, triggered(ForwardProtocol::udp, 1, 2, ForwardProtocol::both, 3)),
            "udp *:1-2 -> whoever uses tcp and udp port 3 needs a control port of tcp or of udp, "
            "from 1 to 65535.");
  Forward f = plain(ForwardProtocol::tcp, "0.0.0.0", 5, 6, {kFirst});
  f.from = {{ip("10.0.0.1"), 8}};
  EXPECT_EQ(why_not({}, f), "10.0.0.1/8 is no network: it has bits behind its prefix.");
  f = keeps_port(ForwardProtocol::tcp, 5, 6);
  f.targets = {kFirst};
  EXPECT_EQ(why_not({}, f),
            "source ports kept towards tcp 5-6 leads nowhere; it can name no host.");
  f = triggered(ForwardProtocol::udp, 1, 2, ForwardProtocol::tcp, 3);
  f.window_s = kWindowMax_s + 1;
  EXPECT_EQ(why_not({}, f), "A control port may open others for 3600 seconds at most.");
}

TEST(Forwards, HaveLimits) {
  Forwards forwards;
  for (u16 i = 0; i < kForwardsMax; ++i)
    ASSERT_TRUE(
        add_forward(forwards, plain(ForwardProtocol::both, "192.0.2.1", static_cast<u16>(2 * i + 1),
                                    static_cast<u16>(2 * i + 1), {kFirst})));
  EXPECT_EQ(why_not(forwards, plain(ForwardProtocol::tcp, "192.0.2.9", 1, 1, {kFirst})),
            "There may be 256 forwards; join ports that follow one another into one range.");
  compare(forwards);
  // 255 of both protocols, and one that has all that lies between them: one piece too many.
  ASSERT_TRUE(remove_forward(forwards, 7));
  EXPECT_EQ(why_not(forwards, one_to_one("192.0.2.1", "192.168.2.9")),
            "The forwards lie in 1024 pieces and may lie in 1023; join ports into ranges.");
  ASSERT_TRUE(remove_forward(forwards, 8));
  Result<u16> place = add_forward(forwards, one_to_one("192.0.2.1", "192.168.2.9"));
  ASSERT_TRUE(place);
  EXPECT_EQ(*place, 7);
  ASSERT_TRUE(add_forward(
      forwards, triggered(ForwardProtocol::both, 60000, 60001, ForwardProtocol::tcp, 7070)));
  EXPECT_EQ(compiled(forwards)->ranges_used, kForwardRangesMax);
  EXPECT_EQ(forwards.list.size(), kForwardsMax);
  compare(forwards);
}

TEST(Forwards, HaveTargetLimits) {
  Forward f = plain(ForwardProtocol::tcp, "192.0.2.1", 1, 1, {});
  for (u32 i = 0; i < kTargetsOfOneMax; ++i)
    f.targets.push_back({ipv4_from_host(0xc0a80201 + i), 0, 1});
  Forwards forwards;
  for (u32 i = 0; i < kForwardTargetsMax / kTargetsOfOneMax; ++i) {
    f.first = f.last = static_cast<u16>(i + 1);
    ASSERT_TRUE(add_forward(forwards, f));
  }
  EXPECT_EQ(why_not(forwards, plain(ForwardProtocol::tcp, "192.0.2.9", 1, 1, {kFirst})),
            "All forwards together may have 1024 targets, not 1025.");
  EXPECT_EQ(compiled(forwards)->targets[1023].address.be, f.targets.back().address.be);
  f.external = ip("192.0.2.8");
  f.targets.push_back(kFirst);
  EXPECT_NE(why_not({}, f).find("has 17 targets; one forward may have 16."), std::string::npos);
  f.targets = {kFirst};
  f.from.assign(kForwardSourcesMax + 1, {ip("10.0.0.0"), 8});
  EXPECT_NE(why_not({}, f).find("is for 5 networks; one forward may name 4."), std::string::npos);
  f.from.pop_back();
  EXPECT_EQ(why_not({}, f), "");
}

TEST(Forwards, ChangeWholeOrNotAtAll) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 80, 80, {kFirst})));
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 81, 81, {kFirst})));
  Forward f = forwards.list[1];
  f.first = 80;
  const std::string before = forwards_to_json(forwards);
  EXPECT_FALSE(change_forward(forwards, f));
  EXPECT_EQ(forwards_to_json(forwards), before);
  f.first = 81;
  f.last = 85;
  EXPECT_TRUE(change_forward(forwards, f));
  EXPECT_EQ(forwards.list[1].last, 85);
  f.place = 9;
  EXPECT_EQ(change_forward(forwards, f).error().sentence, "There is no forward with the number 9.");
  EXPECT_EQ(remove_forward(forwards, 9).error().sentence, "There is no forward with the number 9.");
}

// --- the file --------------------------------------------------------------------------------

TEST(Forwards, ComeBackFromTheirFile) {
  Random random(4);
  for (u32 round = 0; round < 50; ++round) {
    Forwards forwards;
    for (u32 i = 0; i < 30; ++i) {
      Forward f = some_forward(random);
      f.maker = static_cast<ForwardMaker>(random() % 4);
      f.flows = static_cast<u64>(random()) << 32 | random();
      f.refused = random();
      f.any_outside = random() % 2 == 0;
      if (!f.targets.empty()) {
        f.left = static_cast<u16>(random() % 11);
        if (f.kind != ForwardKind::one_to_one) f.from = {{ip("10.0.0.0"), 8}};
      }
      (void)add_forward(forwards, f);
    }
    const std::string text = forwards_to_json(forwards);
    Result<Forwards> read = forwards_from_json(text);
    ASSERT_TRUE(read) << read.error().sentence;
    ASSERT_EQ(read->list.size(), forwards.list.size());
    for (std::size_t i = 0; i < forwards.list.size(); ++i)
      ASSERT_TRUE(read->list[i].same_forward(forwards.list[i]));
    EXPECT_EQ(forwards_to_json(*read), text);
  }
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const auto at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

TEST(Forwards, RefuseADamagedFile) {
  Forwards forwards;
  ASSERT_TRUE(add_forward(forwards, plain(ForwardProtocol::tcp, "192.0.2.1", 80, 81, {kFirst})));
  const std::string good = forwards_to_json(forwards);
  const auto why = [](const std::string& text) {
    Result<Forwards> read = forwards_from_json(text);
    return read ? "" : read.error().sentence;
  };
  EXPECT_EQ(why(good), "");
  EXPECT_EQ(why(""), "The saved forwards are no JSON.");
  EXPECT_EQ(why("[]"), "The file of forwards is no object.");
  EXPECT_EQ(why("{}"), "The file of forwards has no `forwards`.");
  EXPECT_EQ(why("{\"forwards\": [5]}"), "Forward 1 of the file is no object.");
  EXPECT_EQ(why(replaced(good, "\"first_port\": 80", "\"first_port\": 65616")),
            "Forward 1 of the file has a `first_port` that is no number from 0 to 65535.");
  EXPECT_EQ(why(replaced(good, "\"first_port\": 80", "\"first_port\": 82")),
            "82-81 is no range of ports; the first one is from 1 to the last one.");
  EXPECT_EQ(why(replaced(good, "\"any_outside\": false", "\"any_outside\": 0")),
            "Forward 1 of the file has a `any_outside` that is neither true nor false.");
  EXPECT_EQ(why(replaced(good, "\"plain\"", "\"odd\"")),
            "Forward 1 of the file has a `kind` that is none.");
  EXPECT_EQ(why(replaced(good, "\"mark\"", "\"mask\"")), "Forward 1 of the file has no `mark`.");
  EXPECT_EQ(why(replaced(good, "\"mark\"", "\"x\": 1, \"mark\"")),
            "Forward 1 of the file has a key that is not known.");
  EXPECT_EQ(why(replaced(good, "192.168.2.5", "192.168.2")),
            "Forward 1 of the file, a target, has a `address` that is no IPv4 address.");
}

// Damage anywhere is refused with a sentence, or makes another valid set; never half of one.
TEST(Forwards, SurviveAnyDamageOfTheFile) {
  Random random(5);
  Forwards forwards;
  for (u32 i = 0; i < 8; ++i) (void)add_forward(forwards, some_forward(random));
  const std::string good = forwards_to_json(forwards);
  u32 refused = 0;
  for (u32 i = 0; i < 4000; ++i) {
    std::string bad = good;
    for (u32 k = 0; k < 1 + random() % 3; ++k)
      bad[random() % bad.size()] = static_cast<char>(random() % 256);
    Result<Forwards> read = forwards_from_json(bad);
    if (read)
      ASSERT_TRUE(check_forwards(*read));
    else
      ASSERT_FALSE(read.error().sentence.empty());
    refused += read ? 0 : 1;
  }
  EXPECT_GT(refused, 2000u);
}

}  // namespace
}  // namespace masq
