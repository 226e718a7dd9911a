// Two processors at one table, in every order of their atomic operations. What the kernel does
// under a spin lock is one step for others that want the same lock, and visible step by step to
// those who do not.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "core/forwards.h"
#include "interleave/scheduler.h"
#include "unit/test_world.h"

namespace masq {
namespace {

using test::Exploration;
using test::explore;
using test::key_of;

void report(const char* what, const Exploration& e) {
  std::printf("%s: every order, %llu runs of up to %u operations", what, e.runs, e.steps_max);
  if (e.states != 0) std::printf(" through %llu states", e.states);
  std::printf("%s\n", e.complete ? "" : ", STOPPED EARLY");
}

// --- the hints of the bit pool -------------------------------------------------------------------

struct Pool {
  u64 used[2];
  u64 full[1];

  // What bit_pool.h promises when nobody is at it: no hint hides room.
  bool room_is_visible() const {
    for (u32 word = 0; word < 2; ++word)
      if ((full[0] >> word & 1) && used[word] != ~0ull) return false;
    return true;
  }
  // The other lie, which the next to be misled sets right.
  bool fullness_is_hidden() const {
    for (u32 word = 0; word < 2; ++word)
      if (!(full[0] >> word & 1) && used[word] == ~0ull) return true;
    return false;
  }
};

struct PoolCase {
  const char* name;
  u64 used;  // of word 0
  std::vector<std::function<void(Pool&)>> fibers;
};

void check_pool(const PoolCase& c) {
  Pool pool{};
  std::vector<std::function<void()>> fibers;
  for (const auto& f : c.fibers) fibers.push_back([&pool, &f] { f(pool); });
  u64 hidden = 0;
  const Exploration e = explore(
      fibers, 20000000,
      [&] {
        pool = Pool{};
        pool.used[0] = c.used;
        pool.full[0] = c.used == ~0ull;
      },
      [&] {
        EXPECT_TRUE(pool.room_is_visible())
            << c.name << ": used " << std::hex << pool.used[0] << " full " << pool.full[0];
        if (pool.fullness_is_hidden()) {
          ++hidden;
          pool_note_full(pool.used, pool.full, 0);
          EXPECT_FALSE(pool.fullness_is_hidden());
        }
        return !testing::Test::HasFailure();
      });
  report(c.name, e);
  if (hidden != 0) std::printf("  of these left a full word without its hint: %llu\n", hidden);
  EXPECT_TRUE(e.complete);
}

const auto take = [](u32 n) { return [n](Pool& p) { pool_take(p.used, p.full, n); }; };
const auto note = [](Pool& p) { pool_note_full(p.used, p.full, 0); };
const auto give = [](u32 n) { return [n](Pool& p) { pool_give(p.used, p.full, n); }; };

TEST(BitPoolOrders, TakerAndGiver) {
  check_pool({"the last place is taken while another is given back", ~2ull, {take(1), give(5)}});
}
TEST(BitPoolOrders, TwoTakers) {
  check_pool({"two take the last two places", ~6ull, {take(1), take(2)}});
  check_pool({"two take the same last place", ~2ull, {take(1), take(1)}});
}
TEST(BitPoolOrders, TwoGivers) {
  check_pool({"two give back into a full word", ~0ull, {give(1), give(2)}});
}
TEST(BitPoolOrders, TwoTakersAndAGiver) {
  check_pool({"two take, one gives", ~6ull, {take(1), take(2), give(5)}});
  check_pool({"one takes what another gives", ~0ull, {give(5), take(5)}});
  check_pool({"a searcher is misled meanwhile", ~2ull, {take(1), give(5), note}});
}
TEST(BitPoolOrders, TakeAndGiveAgain) {
  const auto both = [](u32 n) {
    return [n](Pool& p) {
      if (pool_take(p.used, p.full, n)) pool_give(p.used, p.full, n);
    };
  };
  check_pool({"two take and give back the last places", ~6ull, {both(1), both(2)}});
  check_pool({"one gives, one takes it and gives it back", ~0ull, {give(1), both(1)}});
}

// --- flows ---------------------------------------------------------------------------------------

// A table that can be put back quickly to where a run begins.
class Table {
 public:
  explicit Table(const Settings& settings) : settings_(settings), memory_(kRecordsMin) {
    memory_.exclude_ports(settings_);
  }
  const Tables& tables() const { return memory_.tables(); }

  void remember() { copy(true); }
  void restore() {
    copy(false);
    std::memset(locks, 0, sizeof(locks));
  }
  // Of what differs from where a run begins: few of many lines.
  u64 fingerprint() {
    constexpr std::size_t kLine = 512;
    u64 hash = test::hash_of(locks, sizeof(locks), 1);
    std::size_t offset = 0;
    each_part([&](auto* part, std::size_t count) {
      const char* at = reinterpret_cast<const char*>(part);
      const char* end = at + sizeof(*part) * count;
      for (; at < end; at += kLine, offset += kLine) {
        const std::size_t bytes = std::min(kLine, static_cast<std::size_t>(end - at));
        if (std::memcmp(at, copy_.data() + offset, bytes) != 0)
          hash = test::hash_of(at, bytes, hash + offset);
        if (bytes < kLine) offset -= kLine - bytes;
      }
    });
    return hash;
  }

  u32 locks[kStripes] = {};

 private:
  // Only the pools of the first external address are used here.
  template <class Function>
  void each_part(Function f) {
    const Tables& t = memory_.tables();
    f(t.records, std::size_t{t.records_max});
    f(t.inner_slots, std::size_t{t.records_max} * 2);
    f(t.outer_slots, std::size_t{t.records_max} * 2);
    f(t.record_used, std::size_t{t.records_max} / 64);
    f(t.record_full, std::size_t{t.records_max} / 4096);
    f(t.ports, std::size_t{kPoolProtocols});
    f(t.hosts, std::size_t{hosts_max(t.records_max)});
    f(t.shared, std::size_t{1});
  }
  void copy(bool out) {
    std::size_t offset = 0;
    each_part([&](auto* at, std::size_t count) {
      const std::size_t bytes = sizeof(*at) * count;
      if (copy_.size() < offset + bytes) copy_.resize(offset + bytes);
      std::memcpy(out ? copy_.data() + offset : static_cast<void*>(at),
                  out ? static_cast<void*>(at) : copy_.data() + offset, bytes);
      offset += bytes;
    });
  }

  const Settings& settings_;
  TableMemory memory_;
  std::vector<char> copy_;
};

// One processor.
struct Processor : test::TestWorld {
  Table& table;
  u32 held = 0;
  Reason reason = Reason::none;
  u32 index = kNoRecord;

  Processor(Table& t, const Settings& s) : test::TestWorld{t.tables(), s}, table(t) {}
  void begin() {
    new_flow = NewFlow{};
    making = Making{};
    held = 0;
    reason = Reason::none;
    index = kNoRecord;
  }
  u64 fingerprint(u64 seed) const {
    seed = test::hash_of(&new_flow, sizeof(new_flow), seed);
    seed = test::hash_of(&making, sizeof(making), seed);
    const u32 rest[] = {held, static_cast<u32>(reason), index};
    return test::hash_of(rest, sizeof(rest), seed);
  }
  bool lock(u32 stripe) {
    test::fiber_lock(&table.locks[stripe]);
    held = stripe;
    return true;
  }
  void unlock() { test::fiber_unlock(&table.locks[held]); }
  Reason hold_host() { return masq::hold_host(*this); }
  void settle_host(Reason so_far) { masq::settle_host(*this, so_far); }
  Reason prepare_flow() { return masq::prepare_flow(*this); }
  void find_port_words() { masq::find_port_words(*this); }
  u32 choose_port(u32 i) { return masq::choose_port(*this, i); }
  u32 take_chosen(u32 i, u32 chosen) { return masq::take_chosen(*this, i, chosen); }
  u32 choose_shared_port(u32 i) { return masq::choose_shared_port(*this, i); }
  bool is_taken_outside(u32 port) { return masq::is_taken_outside(*this, port); }
  Reason link_flow() { return masq::link_flow(*this); }

  void make(const Key& key) {
    const State state = key.protocol == kProtocolTcp ? State::tcp_opening : State::udp;
    new_flow = NewFlow{};
    new_flow.inner = key;
    new_flow.state = state;
    making.hash = key_hash(settings, key, kOut);
    index = find_inner(tables, key, making.hash);
    if (index != kNoRecord && in_force(settings, tables.records[index], now)) {
      reason = Reason::none;
      return;
    }
    reason = make_flow(*this);
    index = making.flow;
  }
};

class FlowOrders : public testing::Test {
 protected:
  Settings settings = test::plain_settings();

  void set_pool(u16 first, u16 last) {
    for (PortRange& range : settings.pool) range = {1, 0};
    settings.pool[0] = {first, last};
  }

  // `prepare` makes what is there before; `check` looks at the two processors afterwards.
  void run(const char* name, const std::function<void(Processor&)>& prepare,
           const std::function<void(Processor&)>& first,
           const std::function<void(Processor&)>& second, Ticks later,
           const std::function<void(Processor&, Processor&)>& check) {
    Table table(settings);
    Processor a(table, settings), b(table, settings);
    const std::vector<std::function<void()>> preparing{[&] { prepare(a); }};
    explore(
        preparing, 1, [] {}, [] { return true; });
    a.now = b.now = a.now + later;
    table.remember();
    u64 runs = 0;
    const Exploration e = explore(
        {[&] { first(a); }, [&] { second(b); }}, 3000000,
        [&] {
          table.restore();
          a.begin();
          b.begin();
        },
        [&] {
          check(a, b);
          // The whole audit walks all pools: the first runs get it, and one in 4096 after.
          if (++runs < 100 || runs % 4096 == 0) {
            const auto v = verify(table.tables(), settings, a.now, ticks_from_s(kTimeoutMax_s));
            EXPECT_TRUE(v.empty()) << name << "\n" << describe(v);
          }
          check_quickly(table.tables());
          return !testing::Test::HasFailure();
        },
        [&] { return b.fingerprint(a.fingerprint(table.fingerprint())); });
    report(name, e);
    EXPECT_TRUE(e.complete);
  }

  // After every run: counts and places by number.
  void check_quickly(const Tables& t) {
    u32 live = 0, flows = 0, mappings = 0, used = 0, inner = 0, outer = 0;
    u32 taken = 0;
    for (u32 word = 0; word < t.records_max / 64; ++word)
      for (u64 bits = t.record_used[word]; bits != 0; bits &= bits - 1) {
        const State s = t.records[word * 64 + static_cast<u32>(__builtin_ctzll(bits))].state;
        live += is_live_kind(s);
        flows += s >= State::udp;
        mappings += s == State::mapping;
        used += s != State::free;
        ++taken;
      }
    for (u32 i = 0; i < t.records_max * 2; ++i) {
      inner += t.inner_slots[i] != 0;
      outer += t.outer_slots[i] != 0;
    }
    EXPECT_EQ(taken, used + 1);
    EXPECT_EQ(inner, live);
    EXPECT_EQ(outer, live);
    EXPECT_EQ(t.shared->flows, flows);
    EXPECT_EQ(t.shared->mappings, mappings);
    u32 host_flows = 0, host_mappings = 0;
    for (u32 place = 0; place < hosts_max(t.records_max); ++place) {
      host_flows += host_count(t.hosts[place].flows);
      host_mappings += t.hosts[place].mappings;
      EXPECT_EQ(t.hosts[place].flows == 0, host_count(t.hosts[place].flows) == 0);
    }
    EXPECT_EQ(host_flows, flows);
    EXPECT_EQ(host_mappings, mappings);
  }

  // How many entries an inner host has, and how many flows they count together.
  static std::pair<u32, u32> entries(const Tables& t, const Key& key) {
    u32 found = 0, flows = 0;
    for (u32 place = 0; place < hosts_max(t.records_max); ++place)
      if (static_cast<u32>(t.hosts[place].flows) == key.near_address.be) {
        ++found;
        flows += host_count(t.hosts[place].flows);
      }
    return {found, flows};
  }
};

TEST_F(FlowOrders, TwoMakersOfTheSameFlow) {
  const Key key = key_of(1, 5000, 1, 9);
  run(
      "two make the same flow", [](Processor&) {}, [&](Processor& p) { p.make(key); },
      [&](Processor& p) { p.make(key); }, 0,
      [](Processor& a, Processor& b) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(b.reason, Reason::none);
        EXPECT_EQ(a.index, b.index);
        EXPECT_EQ(a.tables.shared->flows, 1u);
      });
}

TEST_F(FlowOrders, TwoMakersOfOneEndpoint) {
  run(
      "two make flows of one endpoint", [](Processor&) {},
      [&](Processor& p) { p.make(key_of(1, 5000, 1, 9)); },
      [&](Processor& p) { p.make(key_of(1, 5000, 2, 9)); }, 0,
      [](Processor& a, Processor& b) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(b.reason, Reason::none);
        EXPECT_EQ(a.tables.shared->flows, 2u);
        EXPECT_EQ(a.tables.shared->mappings, 1u);
        EXPECT_TRUE(same(a.record(a.index).external_port, b.record(b.index).external_port));
      });
}

TEST_F(FlowOrders, MakerAndSweeper) {
  const Key key = key_of(1, 5000, 1, 9);
  u32 old = kNoRecord;
  run(
      "one makes a flow again that another sweeps",
      [&](Processor& p) {
        p.make(key);
        old = p.index;
      },
      [&](Processor& p) { p.make(key); }, [&](Processor& p) { sweep_record(p, old); }, settings.udp,
      [&](Processor& a, Processor&) {
        // The mapping may go between the look and the lock; the second try then makes a new one.
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(a.tables.shared->flows, 1u);
        EXPECT_EQ(a.tables.shared->mappings, a.tables.shared->flows);
      });
}

TEST_F(FlowOrders, MakerOfAnotherFlowAndSweeper) {
  u32 old = kNoRecord;
  run(
      "one makes a flow of a mapping whose last flow another sweeps",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        old = p.index;
      },
      [&](Processor& p) { p.make(key_of(1, 5000, 2, 9)); },
      [&](Processor& p) { sweep_record(p, old); }, settings.udp,
      [&](Processor& a, Processor&) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(a.tables.shared->mappings, 1u);
      });
}

TEST_F(FlowOrders, TwoMakersAndTheLastPort) {
  set_pool(40000, 40000);
  run(
      "two endpoints want the last port", [](Processor&) {},
      [&](Processor& p) { p.make(key_of(1, 5000, 1, 9)); },
      [&](Processor& p) { p.make(key_of(2, 5000, 1, 9)); }, 0,
      [](Processor& a, Processor& b) {
        const u32 served = (a.reason == Reason::none) + (b.reason == Reason::none);
        EXPECT_EQ(served, 1u);
        EXPECT_EQ(a.tables.shared->mappings, 1u);
        EXPECT_EQ(b.reason == Reason::none ? a.reason : b.reason, Reason::ports_exhausted);
      });
}

TEST_F(FlowOrders, TwoMakersAndTheLastPlace) {
  settings.flows_max = 1;
  run(
      "two endpoints want the last place for a flow", [](Processor&) {},
      [&](Processor& p) { p.make(key_of(1, 5000, 1, 9)); },
      [&](Processor& p) { p.make(key_of(2, 5000, 1, 9)); }, 0,
      [](Processor& a, Processor& b) {
        EXPECT_EQ((a.reason == Reason::none) + (b.reason == Reason::none), 1);
        EXPECT_EQ(a.tables.shared->flows, 1u);
        EXPECT_EQ(b.reason == Reason::none ? a.reason : b.reason, Reason::flow_table_full);
      });
}

// With address-dependent filtering: flow, permission and mapping go together.
TEST_F(FlowOrders, MakerAndSweeperOfAPermission) {
  settings.filtering = kFilterAddress;
  settings.filters_open = 1;
  u32 old = kNoRecord;
  run(
      "one makes a flow of a permission whose last flow another sweeps",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        old = p.index;
      },
      [&](Processor& p) { p.make(key_of(1, 5000, 1, 10)); },
      [&](Processor& p) { sweep_record(p, old); }, settings.udp,
      [](Processor& a, Processor&) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(a.tables.shared->flows, 1u);
        EXPECT_EQ(a.tables.shared->mappings, 1u);
      });
}

// --- sharing -------------------------------------------------------------------------------------

Key tcp_to(u32 host, u32 remote) {
  return key_of(host, 5000, remote, 80, kProtocolTcp);
}

// What one port is towards one remote endpoint: never two flows'.
void check_no_twins(const Tables& t, const Settings& s) {
  for (u32 i = 1; i < 64; ++i) {
    const Record& r = t.records[i];
    if (r.state < State::udp) continue;
    const Key key = outer_key(s, r);
    EXPECT_FALSE(has_twin(t, s, key, key_hash(s, key, kIn), i)) << "record " << i;
  }
}

TEST_F(FlowOrders, TwoSharersOfTheSameTuple) {
  set_pool(40000, 40000);
  u64 both_refused = 0;
  run(
      "two share the only port towards the same remote endpoint",
      [&](Processor& p) { p.make(tcp_to(1, 1)); }, [&](Processor& p) { p.make(tcp_to(2, 2)); },
      [&](Processor& p) { p.make(tcp_to(3, 2)); }, 0,
      [&](Processor& a, Processor& b) {
        const u32 served = (a.reason == Reason::none) + (b.reason == Reason::none);
        EXPECT_LE(served, 1u);
        both_refused += served == 0;
        EXPECT_EQ(a.tables.shared->flows, 1 + served);
        check_no_twins(a.tables, a.settings);
      });
  std::printf("  both were refused: %llu times\n", both_refused);
}

TEST_F(FlowOrders, TwoSharersOfTwoTuples) {
  set_pool(40000, 40001);
  u64 refused = 0;
  run(
      "two share two ports towards the same remote endpoint",
      [&](Processor& p) {
        p.make(tcp_to(1, 1));
        p.make(tcp_to(4, 1));
      },
      [&](Processor& p) { p.make(tcp_to(2, 2)); }, [&](Processor& p) { p.make(tcp_to(3, 2)); }, 0,
      [&](Processor& a, Processor& b) {
        // In the worst order each try of one falls into a claim of the other.
        refused += (a.reason != Reason::none) + (b.reason != Reason::none);
        check_no_twins(a.tables, a.settings);
      });
  std::printf("  refused: %llu times\n", refused);
}

TEST_F(FlowOrders, SharerAndTheOwnerOfThePort) {
  set_pool(40000, 40000);
  run(
      "one shares the port with which its owner goes there too",
      [&](Processor& p) { p.make(tcp_to(1, 1)); }, [&](Processor& p) { p.make(tcp_to(1, 2)); },
      [&](Processor& p) { p.make(tcp_to(2, 2)); }, 0,
      [&](Processor& a, Processor& b) {
        EXPECT_LE((a.reason == Reason::none) + (b.reason == Reason::none), 1);
        check_no_twins(a.tables, a.settings);
      });
}

// What claims a tuple that another one has is never taken for the flow that has it.
TEST_F(FlowOrders, LookUpBesideAClaim) {
  set_pool(40000, 40000);
  u32 guest = kNoRecord;
  run(
      "an answer comes while another one claims the tuple in vain",
      [&](Processor& p) {
        p.make(tcp_to(1, 1));
        // Its first slot is taken while the guest comes, and free when the claim does: so the claim
        // lies before the guest.
        const Key key{p.settings.externals[0].address, tcp_to(2, 2).remote_address,
                      port_from_host(40000), port_from_host(80), kProtocolTcp};
        const u64 hash = key_hash(p.settings, key, kIn);
        slots_insert(p.tables.outer_slots, hash, kRecordsMin - 1, p.tables.records_max);
        p.make(tcp_to(2, 2));
        slots_remove(p.tables.outer_slots, hash, kRecordsMin - 1, p.tables.records_max);
        guest = p.index;
      },
      [&](Processor& p) { p.make(tcp_to(1, 2)); },
      [&](Processor& p) {
        const Key key = outer_key(p.settings, p.record(guest));
        p.index = find_outer(p.tables, p.settings, key, key_hash(p.settings, key, kIn));
      },
      0,
      [&](Processor& a, Processor& b) {
        EXPECT_EQ(a.reason, Reason::ports_exhausted);
        EXPECT_EQ(b.index, guest) << "delivered to another host";
      });
}

// A full pool costs no long search: counted are all atomic operations of one that is refused.
TEST_F(FlowOrders, AFullPoolIsFoundFullAtOnce) {
  settings.flows_max = 40000;
  Table table(settings);
  Processor p(table, settings);
  for (const u8 protocol : {kProtocolUdp, kProtocolTcp})
    for (u32 port = 0; port < 65536; ++port)
      port_take(pool_of(p.tables, 0, protocol), static_cast<u16>(port));
  const auto operations = [&](const Key& key, Reason expected) {
    const Exploration e = explore(
        {[&] { p.make(key); }}, 1, [] {}, [] { return true; });
    EXPECT_EQ(p.reason, expected);
    std::printf("  port %u: %u operations\n", to_host(key.near_port), e.steps_max);
    return e.steps_max;
  };
  // A search reads kPortThrows words of ports and kPortFullWords of hints, once for each parity; a
  // low port asks in both halves. Besides: a mapping and a flow are looked for, 32 slots each, and
  // the flows are counted.
  const u32 search = 2 * (kPortThrows + kPortFullWords), beside = 2 * 32 + 1;
  EXPECT_LE(operations(key_of(1, 5000, 1, 9), Reason::ports_exhausted), search + beside);
  EXPECT_LE(operations(key_of(1, 500, 1, 9), Reason::ports_exhausted), 2 * search + beside);
  // The last port of all is found as soon, and taken.
  PortPool& pool = pool_of(p.tables, 0, kProtocolUdp);
  port_give(pool, 40001);
  operations(key_of(1, 5000, 1, 9), Reason::none);
  EXPECT_EQ(to_host(p.record(p.index).external_port), 40001);
}

TEST_F(FlowOrders, TwoSweepers) {
  u32 old = kNoRecord;
  run(
      "two sweep the same flow",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        old = p.index;
      },
      [&](Processor& p) { sweep_record(p, old); }, [&](Processor& p) { sweep_record(p, old); },
      settings.udp,
      [](Processor& a, Processor&) {
        EXPECT_EQ(a.tables.shared->flows, 0u);
        EXPECT_EQ(a.tables.shared->mappings, 0u);
      });
}

// A look-up that found an expired flow must not see it revived while it is being unlinked.
TEST_F(FlowOrders, LookUpAndSweeper) {
  const Key key = key_of(1, 5000, 1, 9);
  u32 old = kNoRecord;
  run(
      "one looks at an expired flow that another sweeps",
      [&](Processor& p) {
        p.make(key);
        old = p.index;
      },
      [&](Processor& p) {
        const u32 found = find_inner(p.tables, key, key_hash(p.settings, key, kOut));
        interleave_here();  // any time may pass between the index and the record
        p.index = kNoRecord;
        if (found != kNoRecord && in_force(p.settings, p.tables.records[found], p.now))
          p.index = found;
      },
      [&](Processor& p) { sweep_record(p, old); }, settings.udp,
      [](Processor& a, Processor&) { EXPECT_EQ(a.index, kNoRecord) << "an expired flow revived"; });
}

TEST_F(FlowOrders, TwoMakersOfOneHost) {
  run(
      "two make the first flows of one host", [](Processor&) {},
      [&](Processor& p) { p.make(key_of(1, 5000, 1, 9)); },
      [&](Processor& p) { p.make(key_of(1, 5001, 1, 9)); }, 0,
      [](Processor& a, Processor& b) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(b.reason, Reason::none);
        EXPECT_EQ(entries(a.tables, key_of(1, 0, 0, 0)), std::pair(1u, 2u));
      });
}

TEST_F(FlowOrders, TwoMakersAndTheLastFlowOfAHost) {
  settings.host_flows = 2;
  run(
      "two of one host want the last flow that it may have",
      [](Processor& p) { p.make(key_of(1, 5000, 1, 9)); },
      [&](Processor& p) { p.make(key_of(1, 5001, 1, 9)); },
      [&](Processor& p) { p.make(key_of(1, 5002, 1, 9)); }, 0,
      [](Processor& a, Processor& b) {
        EXPECT_EQ((a.reason == Reason::none) + (b.reason == Reason::none), 1);
        EXPECT_EQ(b.reason == Reason::none ? a.reason : b.reason, Reason::host_flows);
        EXPECT_EQ(entries(a.tables, key_of(1, 0, 0, 0)), std::pair(1u, 2u));
      });
}

TEST_F(FlowOrders, LastFlowOfAHostAndANewOne) {
  u32 old = kNoRecord;
  run(
      "the last flow of a host is swept while it begins another",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        old = p.index;
      },
      [&](Processor& p) { p.make(key_of(1, 5001, 1, 9)); },
      [&](Processor& p) { sweep_record(p, old); }, settings.udp,
      [](Processor& a, Processor&) {
        EXPECT_EQ(a.reason, Reason::none);
        EXPECT_EQ(entries(a.tables, key_of(1, 0, 0, 0)), std::pair(1u, 1u));
      });
}

TEST_F(FlowOrders, TwoLastFlowsOfAHost) {
  u32 first = kNoRecord, second = kNoRecord;
  run(
      "the last two flows of a host are swept at once",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        first = p.index;
        p.make(key_of(1, 5001, 1, 9));
        second = p.index;
      },
      [&](Processor& p) { sweep_record(p, first); }, [&](Processor& p) { sweep_record(p, second); },
      settings.udp,
      [](Processor& a, Processor&) {
        EXPECT_EQ(entries(a.tables, key_of(1, 0, 0, 0)), std::pair(0u, 0u));
      });
}

// Packets change the state of a connection without a lock: whoever comes last, the count is right.
TEST_F(FlowOrders, TwoPacketsOfAnOpeningConnection) {
  u32 index = kNoRecord;
  const auto becomes = [&](Processor& p, State state) {
    Record& r = p.tables.records[index];
    const State before = r.state;
    set_state(r, state);
    host_follow(p.tables, r, before);
  };
  run(
      "one packet opens a connection, another begins it anew",
      [&](Processor& p) {
        p.make(key_of(1, 5000, 1, 9));
        index = p.index;
        becomes(p, State::tcp_transitory);
      },
      [&](Processor& p) {
        becomes(p, State::tcp_opening);
        becomes(p, State::tcp_established);
      },
      [&](Processor& p) { becomes(p, State::tcp_opening); }, 0,
      [&](Processor& a, Processor&) {
        const Record& r = a.tables.records[index];
        const bool opening = r.state == State::tcp_opening;
        EXPECT_EQ((r.host & kHostOpening) != 0, opening);
        EXPECT_EQ(host_at(a.tables, r.host)->opening, opening ? 1u : 0u);
      });
}

// --- forwards ------------------------------------------------------------------------------------

// What two processors do with the state of one forward, in every order.
void check_forward(const char* name, ForwardState& state, const ForwardState& start,
                   const std::vector<std::function<void()>>& fibers,
                   const std::function<void()>& reset, const std::function<void()>& check) {
  const Exploration e = explore(
      fibers, 1000000,
      [&] {
        state = start;
        reset();
      },
      [&] {
        check();
        return !testing::Test::HasFailure();
      });
  report(name, e);
  EXPECT_TRUE(e.complete);
}

TEST(ForwardOrders, TwoTakersNeverTakeTheSameTurn) {
  static ForwardTable table;
  table.entries[0].targets = 2;
  table.targets[0].preference = 1;
  table.targets[1].preference = 2;
  ForwardState state{};
  u32 served[2] = {0, 0};
  const auto take_two = [&] {
    for (u32 i = 0; i < 2; ++i) {
      const u32 place = take_target(table, table.entries[0], state);
      served[place & 1] += 1;
    }
  };
  check_forward(
      "two processors take two turns each", state, ForwardState{}, {take_two, take_two},
      [&] { served[0] = served[1] = 0; },
      [&] {
        EXPECT_EQ(served[0], 2u);  // the first, twice the second, the first
        EXPECT_EQ(served[1], 2u);
        EXPECT_EQ(state.turn, 1u << 16);
        EXPECT_EQ(state.flows, 4u);
      });
}

TEST(ForwardOrders, AWindowBelongsToTheHostThatAsked) {
  const Ipv4 hosts[2] = {{0x0102a8c0}, {0x0202a8c0}}, remotes[2] = {{0x010200c0}, {0x020200c0}};
  const ForwardEntry entry{};
  ForwardState state{}, start{};
  forward_ask(start, hosts[0], remotes[0], 5);
  Ipv4 found[2];
  bool may[2];
  check_forward(
      "one host asks while another's window is used", state, start,
      {[&] { forward_ask(state, hosts[1], remotes[1], 6); },
       [&] {
         for (u32 i = 0; i < 2; ++i) may[i] = forward_asked(entry, state, remotes[i], 6, found[i]);
       }},
      [&] { may[0] = may[1] = false; },
      [&] {
        for (u32 i = 0; i < 2; ++i) EXPECT_TRUE(!may[i] || same(found[i], hosts[i])) << i;
      });
}

}  // namespace
}  // namespace masq
