// SPDX-License-Identifier: MIT
#include "base/folder_claim.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>
#include <string>
#include <utility>

namespace vgpu {

Fd claim_folder(const char* purpose, int folder) {
    struct stat info {};
    Fd claim(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!claim || ::fstat(folder, &info) != 0) {
        return {};
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // A leading zero: a name without a file.
    const std::string name = std::string(purpose) + '/' + std::to_string(info.st_dev) + '/' +
                             std::to_string(info.st_ino);
    name.copy(&address.sun_path[1], sizeof address.sun_path - 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    if (::bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
        return {};
    }
    return claim;
}

}  // namespace vgpu
