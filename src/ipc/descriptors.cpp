// SPDX-License-Identifier: MIT
#include "ipc/descriptors.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace vgpu {
namespace {

// Maximum number of descriptors that the kernel accepts in one message (SCM_MAX_FD in its
// include/net/scm.h).
constexpr std::size_t kMostOfKernel = 253;

}  // namespace

Received receive_with_descriptors(int fd, std::span<std::byte> room, Disposer& disposer) {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostOfKernel)> control{};
    iovec part{.iov_base = room.data(), .iov_len = room.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    Received received;
    do {
        received.count = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (received.count < 0 && errno == EINTR);
    if (received.count < 0) {
        return received;
    }
    for (cmsghdr* part_of = CMSG_FIRSTHDR(&message); part_of != nullptr;
         part_of = CMSG_NXTHDR(&message, part_of)) {
        if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t count = (part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int one = -1;
            std::memcpy(&one, CMSG_DATA(part_of) + i * sizeof(int), sizeof one);
            received.descriptors.emplace_back(Fd(one), disposer);
        }
    }
    received.too_many = received.descriptors.size() > kMostDescriptors;
    // The buffer has room for the kernel's maximum: only the descriptor table can be full.
    received.lost = (message.msg_flags & MSG_CTRUNC) != 0 && !received.too_many;
    if (received.too_many || received.lost) {
        received.descriptors.clear();
    }
    return received;
}

}  // namespace vgpu
