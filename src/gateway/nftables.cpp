// libnftables from C++; for what it cannot do it says why in one line.
#include "gateway/nftables.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace masq {

Nftables::Nftables() : context_(nft_ctx_new(NFT_CTX_DEFAULT)) {
  if (!context_) return;
  nft_ctx_buffer_output(context_.get());
  nft_ctx_buffer_error(context_.get());
}

Status Nftables::run(const std::string& commands) {
  if (!context_) return error("nftables cannot be spoken to");
  if (nft_run_cmd_from_buffer(context_.get(), commands.c_str()) == 0) return Done{};
  // The first line of what it says: the rest shows the command.
  std::string all = nft_ctx_get_error_buffer(context_.get());
  std::string first = all.substr(0, all.find('\n'));
  return error("{}", first.starts_with("Error: ") ? first.substr(7) : first);
}

std::string Nftables::list(const std::string& what, bool as_json) {
  if (!context_) return "";
  nft_ctx_output_set_flags(context_.get(),
                           as_json ? NFT_CTX_OUTPUT_JSON : NFT_CTX_OUTPUT_STATELESS);
  if (nft_run_cmd_from_buffer(context_.get(), ("list " + what).c_str()) != 0) return "";
  return nft_ctx_get_output_buffer(context_.get());
}

std::string set_of(const std::vector<std::string>& names) {
  // No interface can have this name.
  return names.empty() ? "{ \".\" }" : fmt::format("{{ \"{}\" }}", fmt::join(names, "\", \""));
}

std::string set_of(const std::vector<u32>& indexes) {
  return indexes.empty() ? "{ 0 }" : fmt::format("{{ {} }}", fmt::join(indexes, ", "));
}

Result<Fd> open_filter_monitor() {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  int group = NFNLGRP_NFTABLES;
  if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0)
    return error("Changes of nftables cannot be followed ({}).", strerror(errno));
  return fd;
}

}  // namespace masq
