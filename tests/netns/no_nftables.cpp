// Stands before libnftables (LD_PRELOAD) and answers as it does on a kernel without nf_tables.
#include <nftables/libnftables.h>

extern "C" int nft_run_cmd_from_buffer(nft_ctx*, const char*) {
  return -1;
}

extern "C" const char* nft_ctx_get_error_buffer(nft_ctx*) {
  return "Error: Could not process rule: Operation not supported\nadd table inet masq_belt\n";
}
