// By flock, and by renaming.
#include "gateway/kept_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "gateway/state.h"

namespace masq {

Result<Fd> lock_kept_file(const std::string& name) {
  if (Status status = make_run_folder(); !status) return status.error();
  const std::string path = run_file(name);
  Fd lock(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return error("{} cannot be made ({}).", path, strerror(errno));
  while (flock(lock.get(), LOCK_EX) != 0)
    if (errno != EINTR) return error("{} cannot be locked ({}).", path, strerror(errno));
  return lock;
}

Result<std::optional<std::string>> read_kept_file(const std::string& name) {
  const std::string path = run_file(name);
  std::ifstream file(path);
  if (!file && access(path.c_str(), F_OK) != 0) return std::optional<std::string>();
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return error("{} cannot be read ({}).", path, strerror(errno));
  return std::optional(text.str());
}

Status replace_kept_file(const std::string& name, const std::string& text) {
  const std::string path = run_file(name), fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc);
  file << text;
  file.close();
  if (!file || rename(fresh.c_str(), path.c_str()) != 0)
    return error("{} cannot be written ({}).", path, strerror(errno));
  return Done{};
}

}  // namespace masq
