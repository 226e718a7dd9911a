// tc through libbpf's netlink calls: one filter with a handle of its own, first in line.
#include "gateway/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>

namespace masq {
namespace {

constexpr u32 kHandle = 0x6d617371;  // "masq"
constexpr u32 kPriority = 1;

bpf_tc_attach_point point_of(TcHook hook) {
  return hook == TcHook::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
}

}  // namespace

u32 program_id(int program_fd) {
  bpf_prog_info info{};
  u32 length = sizeof info;
  return bpf_obj_get_info_by_fd(program_fd, &info, &length) == 0 ? info.id : 0;
}

std::optional<u32> attached_program(u32 ifindex, TcHook hook) {
  LIBBPF_OPTS(bpf_tc_hook, where, .ifindex = static_cast<int>(ifindex),
              .attach_point = point_of(hook));
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = kHandle, .priority = kPriority);
  if (bpf_tc_query(&where, &options) != 0) return std::nullopt;
  return options.prog_id;
}

Status attach_program(u32 ifindex, TcHook hook, int program_fd, bool& made_qdisc) {
  LIBBPF_OPTS(bpf_tc_hook, where, .ifindex = static_cast<int>(ifindex),
              .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  int created = bpf_tc_hook_create(&where);
  if (created != 0 && created != -EEXIST)
    return error("The interface does not take a clsact qdisc ({}).", strerror(-created));
  if (created == 0) made_qdisc = true;
  where.attach_point = point_of(hook);
  LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program_fd, .flags = BPF_TC_F_REPLACE,
              .handle = kHandle, .priority = kPriority);
  if (int result = bpf_tc_attach(&where, &options); result != 0)
    return error("The interface does not take the program ({}).", strerror(-result));
  return Done{};
}

void detach_program(u32 ifindex, TcHook hook) {
  LIBBPF_OPTS(bpf_tc_hook, where, .ifindex = static_cast<int>(ifindex),
              .attach_point = point_of(hook));
  LIBBPF_OPTS(bpf_tc_opts, options, .handle = kHandle, .priority = kPriority);
  bpf_tc_detach(&where, &options);
}

void remove_qdisc(u32 ifindex) {
  LIBBPF_OPTS(bpf_tc_hook, where, .ifindex = static_cast<int>(ifindex),
              .attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  bpf_tc_hook_destroy(&where);
}

}  // namespace masq
