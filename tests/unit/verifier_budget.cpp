// How much of the kernel verifier's patience each program takes, and that it stays in the budget.
// Loads every program for the smallest and for the largest table, since loops over the table's
// hints are walked turn by turn. Needs root, and 700 MB for a moment.
//
//   verifier_budget [BUDGET]    BUDGET for a kernel whose verifier walks more ways than this one's
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gateway/datapath.h"

extern "C" {
extern const char masq_kernel_object_begin[];
extern const char masq_kernel_object_end[];
}

namespace {

constexpr unsigned kInstructionsMax = 400000;  // of the million that the kernel allows
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

// Adds the number of programs over the budget to `over`.
int measure(masq::u32 records_max, unsigned budget, unsigned& over) {
  const std::size_t size =
      static_cast<std::size_t>(masq_kernel_object_end - masq_kernel_object_begin);
  bpf_object* object = bpf_object__open_mem(masq_kernel_object_begin, size, nullptr);
  if (object == nullptr) return refuse(std::strerror(errno));

  const masq::TableSizes sizes = masq::table_sizes(records_max);
  const std::pair<const char*, masq::u32> sized[] = {
      {"mq_records", sizes.records}, {"mq_inner", sizes.slots}, {"mq_outer", sizes.slots},
      {"mq_used", sizes.used},       {"mq_full", sizes.full},   {"mq_hosts", sizes.hosts}};
  for (auto [name, bytes] : sized)
    bpf_map__set_value_size(bpf_object__find_map_by_name(object, name), bytes);
  const masq::bpf::Constants constants{masq::bpf::kLayoutVersion, records_max, 1};
  bpf_map__set_initial_value(bpf_object__find_map_by_name(object, ".rodata.masq"), &constants,
                             sizeof(constants));

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
    unsigned processed = 0;
    const char* at = std::strstr(logs[i++].data(), "processed ");
    if (at == nullptr || std::sscanf(at, "processed %u", &processed) != 1)
      return refuse("the kernel tells no figures");
    const bool fits = processed <= budget;
    over += !fits;
    std::printf("%-18s %7u instructions processed%s\n", bpf_program__name(program), processed,
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
    if (measure(records_max, budget, over) != 0) return 1;
  }
  std::printf("budget %u a program, %u over it\n", budget, over);
  return over == 0 ? 0 : 1;
}
