// How much of the kernel verifier's patience each program takes, and of the stack, and that both
// stay in the budget; and how long the verifier walked. Loads every program for the smallest and
// for the largest table, since loops over the table's hints are walked turn by turn. Needs root,
// and 700 MB for a moment.
//
//   verifier_budget [BUDGET]    BUDGET for a kernel whose verifier walks more ways than this one's
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "gateway/datapath.h"

extern "C" {
extern const char masq_kernel_object_begin[];
extern const char masq_kernel_object_end[];
extern const char masq_ask_object_begin[];
extern const char masq_ask_object_end[];
}

namespace {

constexpr unsigned kInstructionsMax = 450000;  // of the million that the kernel allows
constexpr unsigned kStackMax_bytes = 512;      // of a chain of calls: the kernel's own limit,
constexpr unsigned kStackStep_bytes = 32;      // as Linux 6.1 counts; later ones round up to 16
constexpr unsigned kLogStatistics = 4;

int refuse(const char* why) {
  std::fprintf(stderr, "The programs cannot be loaded for measuring: %s.\n", why);
  return 1;
}

// The kernel's own words about the program that it has refused.
void show_refusal(const std::vector<std::vector<char>>& logs) {
  for (const std::vector<char>& log : logs)
    if (log[0] != '\0' && std::strncmp(log.data(), "processed", 9) != 0)
      std::fprintf(stderr, "%s\n", log.data());
}

// What the program's functions call, so that the deepest chain of them can be found: the kernel
// says only what each takes for itself.
struct Calls {
  const bpf_insn* code;
  std::vector<std::size_t> begins;    // of each function, ascending, and the end of the last one
  std::vector<unsigned> own_bytes;    // of each function
  std::vector<unsigned> chain_bytes;  // of it and what it calls; 0: not known yet
};

// Calls a function of the program, or gives it to a helper that does. A timer's function counts
// too, though it begins with an empty stack: a little more than it is.
bool calls_function(const bpf_insn& at) {
  return (at.code == (BPF_JMP | BPF_CALL) && at.src_reg == BPF_PSEUDO_CALL) ||
         (at.code == (BPF_LD | BPF_IMM | BPF_DW) && at.src_reg == BPF_PSEUDO_FUNC);
}

std::size_t called(const Calls& calls, std::size_t at) {
  return at + 1 + static_cast<std::size_t>(calls.code[at].imm);
}

// In the order of the program's code, in which the kernel tells them too.
Calls calls_of(const bpf_program* program, std::vector<unsigned> own_bytes) {
  const std::size_t count = bpf_program__insn_cnt(program);
  Calls calls{bpf_program__insns(program), {0, count}, std::move(own_bytes), {}};
  for (std::size_t at = 0; at < count; ++at)
    if (calls_function(calls.code[at])) calls.begins.push_back(called(calls, at));
  std::sort(calls.begins.begin(), calls.begins.end());
  calls.begins.erase(std::unique(calls.begins.begin(), calls.begins.end()), calls.begins.end());
  calls.chain_bytes.resize(calls.begins.size() - 1);
  return calls;
}

unsigned deepest_chain(Calls& calls, std::size_t function) {
  unsigned& chain = calls.chain_bytes[function];
  if (chain != 0) return chain;
  unsigned below = 0;
  for (std::size_t at = calls.begins[function]; at < calls.begins[function + 1]; ++at) {
    if (!calls_function(calls.code[at])) continue;
    auto found = std::lower_bound(calls.begins.begin(), calls.begins.end(), called(calls, at));
    auto next = static_cast<std::size_t>(found - calls.begins.begin());
    below = std::max(below, deepest_chain(calls, next));
  }
  const unsigned own = std::max(calls.own_bytes[function], 1U);
  chain = (own + kStackStep_bytes - 1) / kStackStep_bytes * kStackStep_bytes + below;
  return chain;
}

struct Cost {
  unsigned instructions = 0, stack_bytes = 0, time_us = 0;
};

// What the kernel has said of the program; false if it has not.
bool read_cost(const bpf_program* program, const char* log, Cost& cost) {
  const char* time = std::strstr(log, "verification time ");
  const char* stack = std::strstr(log, "stack depth ");
  const char* processed = std::strstr(log, "processed ");
  if (time == nullptr || stack == nullptr || processed == nullptr ||
      std::sscanf(time, "verification time %u", &cost.time_us) != 1 ||
      std::sscanf(processed, "processed %u", &cost.instructions) != 1)
    return false;
  std::vector<unsigned> own_bytes;
  const char* at = stack + std::strlen("stack depth");
  do {
    char* end = nullptr;
    own_bytes.push_back(static_cast<unsigned>(std::strtoul(at + 1, &end, 10)));
    at = end;
  } while (*at == '+');
  Calls calls = calls_of(program, std::move(own_bytes));
  if (calls.own_bytes.size() != calls.chain_bytes.size()) return false;
  cost.stack_bytes = deepest_chain(calls, 0);
  return true;
}

bpf_object* open_object(const char* begin, const char* end, const char* name) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name);
  return bpf_object__open_mem(begin, static_cast<std::size_t>(end - begin), &options);
}

void size_tables(bpf_object* object, masq::u32 records_max) {
  const masq::TableSizes sizes = masq::table_sizes(records_max);
  const std::pair<const char*, masq::u32> sized[] = {
      {"mq_records", sizes.records}, {"mq_inner", sizes.slots}, {"mq_outer", sizes.slots},
      {"mq_used", sizes.used},       {"mq_full", sizes.full},   {"mq_hosts", sizes.hosts}};
  for (auto [name, bytes] : sized)
    bpf_map__set_value_size(bpf_object__find_map_by_name(object, name), bytes);
  const masq::bpf::Constants constants{masq::bpf::kLayoutVersion, records_max, 1};
  bpf_map__set_initial_value(bpf_object__find_map_by_name(object, ".rodata.masq"), &constants,
                             sizeof(constants));
}

// Adds the number of programs over the budget to `over`.
int measure(bpf_object* object, unsigned budget, unsigned& over) {
  std::vector<std::vector<char>> logs;
  logs.reserve(64);
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    logs.emplace_back(65536);
    bpf_program__set_log_level(program, kLogStatistics);
    bpf_program__set_log_buf(program, logs.back().data(), logs.back().size());
  }
  if (int error = bpf_object__load(object); error != 0) {
    show_refusal(logs);
    return refuse(error == -EPERM ? "this needs root" : std::strerror(-error));
  }

  std::size_t i = 0;
  bpf_object__for_each_program(program, object) {
    Cost cost;
    if (!read_cost(program, logs[i++].data(), cost)) return refuse("the kernel tells no figures");
    const bool fits = cost.instructions <= budget && cost.stack_bytes <= kStackMax_bytes;
    over += !fits;
    std::printf("%-18s %7u instructions processed, %3u bytes of stack, %7u us%s\n",
                bpf_program__name(program), cost.instructions, cost.stack_bytes, cost.time_us,
                fits ? "" : ": OVER THE BUDGET");
  }
  bpf_object__close(object);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  const unsigned budget =
      count > 1 ? static_cast<unsigned>(std::strtoul(arguments[1], nullptr, 10)) : kInstructionsMax;
  unsigned over = 0;
  for (const masq::u32 records_max : {masq::kRecordsMin, masq::kRecordsMax}) {
    std::printf("table of %u records\n", records_max);
    bpf_object* packets = open_object(masq_kernel_object_begin, masq_kernel_object_end, "masq");
    bpf_object* asks = open_object(masq_ask_object_begin, masq_ask_object_end, "masq_ask");
    if (packets == nullptr || asks == nullptr) return refuse(std::strerror(errno));
    size_tables(packets, records_max);
    if (measure(packets, budget, over) != 0 || measure(asks, budget, over) != 0) return 1;
  }
  std::printf("budget %u instructions and %u bytes of stack a program, %u over it\n", budget,
              kStackMax_bytes, over);
  return over == 0 ? 0 : 1;
}
