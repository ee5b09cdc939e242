// SPDX-License-Identifier: MIT
#include "base/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

namespace vgpu {
namespace {

// Returns why a file is rejected; null if it is a regular file.
const char* unusable(const struct stat& info) {
    if (S_ISLNK(info.st_mode)) {
        return "is a symbolic link, and is not followed";
    }
    if (S_ISDIR(info.st_mode)) {
        return "is a folder";
    }
    if (!S_ISREG(info.st_mode)) {
        return "is not a regular file";
    }
    return info.st_nlink > 1 ? "has other hard links: replace it by a new file" : nullptr;
}

}  // namespace

Fd reopen(int fd, int flags) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    return Fd(::open(path.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

Result<Fd> open_regular_file(int folder, const char* name, int flags) {
    // O_PATH opens nothing: no FIFO waits, no device acts. The check and the open refer to the same
    // file, whatever has its name meanwhile.
    const Fd path(::openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat info {};
    if (!path || ::fstat(path.get(), &info) != 0) {
        return errno == ENOENT ? Result<Fd>(Fd()) : Error::from_errno("cannot be opened", errno);
    }
    if (const char* const why = unusable(info)) {
        return Error{why, EINVAL};
    }
    Fd file = reopen(path.get(), flags);
    if (!file) {
        return Error::from_errno("cannot be opened", errno);
    }
    return file;
}

}  // namespace vgpu
