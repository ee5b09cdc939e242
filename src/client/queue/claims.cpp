// SPDX-License-Identifier: MIT
#include "client/queue/claims.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <system_error>

#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

struct flock range(short type, std::uint64_t first, std::uint64_t count) {
    struct flock made {};
    made.l_type = type;
    made.l_whence = SEEK_SET;
    made.l_start = static_cast<off_t>(first);
    made.l_len = static_cast<off_t>(count);
    return made;
}

}  // namespace

Expected<bool> Claims::take(std::uint64_t first, std::uint64_t count) const {
    struct flock wanted = range(F_WRLCK, first, count);
    if (::fcntl(file_, F_OFD_SETLK, &wanted) == 0) {
        return true;
    }
    const int error = errno;
    if (error == EAGAIN || error == EACCES) {
        return false;
    }
    return Failure{
        VGPU_E_SYSTEM,
        "cannot lock the file of the shared memory: " + std::generic_category().message(error),
        error};
}

void Claims::give_back(std::uint64_t first, std::uint64_t count) const {
    struct flock released = range(F_UNLCK, first, count);
    // Cannot fail for a range that is held entirely.
    (void)::fcntl(file_, F_OFD_SETLK, &released);
}

std::optional<std::uint64_t> Claims::end_of_obstacle(std::uint64_t first,
                                                     std::uint64_t count) const {
    struct flock found = range(F_WRLCK, first, count);
    if (::fcntl(file_, F_OFD_GETLK, &found) != 0 || found.l_type == F_UNLCK) {
        return std::nullopt;
    }
    if (found.l_len == 0) {
        return std::numeric_limits<std::uint64_t>::max();
    }
    // Always advance, whatever range the other process has locked.
    return std::max(first + 1, static_cast<std::uint64_t>(found.l_start) +
                                   static_cast<std::uint64_t>(found.l_len));
}

}  // namespace vgpu::client
