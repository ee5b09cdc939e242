// SPDX-License-Identifier: MIT
#include "ipc/descriptors.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

namespace vgpu {

Received receive_with_descriptors(int fd, std::span<std::byte> room,
                                  const Disposer::Source& disposer) {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * kMostDescriptorsOfKernel)>
        control{};
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
    for_each_descriptor(
        message, [&](Fd one) { received.descriptors.emplace_back(std::move(one), disposer); });
    received.too_many = received.descriptors.size() > kMostDescriptors;
    // The buffer has room for the kernel's maximum: only the descriptor table can be full.
    received.lost = (message.msg_flags & MSG_CTRUNC) != 0 && !received.too_many;
    if (received.too_many || received.lost) {
        received.descriptors.clear();
    }
    return received;
}

}  // namespace vgpu
