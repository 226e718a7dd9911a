// What is asked of the kernel before anything is changed, put to kernels that never were.
#include "gateway/requirements.h"

#include <gtest/gtest.h>
#include <linux/bpf.h>

namespace masq {
namespace {

KernelFeatures kernel_without(int function) {
  return {"5.10.0-33-amd64", true, [function](int asked) { return asked != function; }};
}

std::string refusal(const KernelFeatures& kernel) {
  Status status = check_kernel(kernel);
  return status ? "" : status.error().sentence;
}

TEST(Requirements, AKernelWithEverythingIsTaken) {
  EXPECT_EQ(refusal(kernel_without(-1)), "");
}

TEST(Requirements, AnOldReleaseWithEverythingIsTaken) {
  KernelFeatures kernel = kernel_without(-1);
  kernel.release = "4.18.0-553.el8.x86_64";
  EXPECT_EQ(refusal(kernel), "");
}

TEST(Requirements, EachMissingFunctionIsNamed) {
  const std::pair<int, std::string> needed[] = {{BPF_FUNC_loop, "bpf_loop"},
                                                {BPF_FUNC_timer_init, "bpf_timer"},
                                                {BPF_FUNC_redirect_neigh, "bpf_redirect_neigh"},
                                                {BPF_FUNC_skc_lookup_tcp, "bpf_skc_lookup_tcp"}};
  for (const auto& [function, name] : needed) {
    std::string sentence = refusal(kernel_without(function));
    EXPECT_NE(sentence.find("This kernel (Linux 5.10.0-33-amd64) lacks " + name + ","),
              std::string::npos)
        << sentence;
    EXPECT_NE(sentence.find("its programs need Linux 6.1 or newer"), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
  }
}

TEST(Requirements, AKernelWithoutTypesIsRefused) {
  KernelFeatures kernel = kernel_without(-1);
  kernel.has_types = false;
  EXPECT_NE(refusal(kernel).find("does not tell its types (CONFIG_DEBUG_INFO_BTF)"),
            std::string::npos);
}

}  // namespace
}  // namespace masq
