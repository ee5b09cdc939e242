// SPDX-License-Identifier: MIT
//
// Receiving bytes and descriptors from a Unix stream socket. Every received descriptor ends in a
// ForeignFd; all are close-on-exec. A connection whose peer may send descriptors must always be
// read this way: any other read makes the kernel close them on the reading thread, which may block.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "base/disposer.h"
#include "base/fd.h"
#include "ipc/foreign_fd.h"

namespace vgpu {

// Maximum number of descriptors per message; a peer that sends more violates the protocol.
inline constexpr std::size_t kMostDescriptors = 8;

struct Received {
    // Bytes; 0: end of file; -1: nothing received, errno set.
    long count = 0;
    std::vector<ForeignFd> descriptors;
    // The peer sent more descriptors than a message may have; all were discarded.
    bool too_many = false;
    // Descriptors were lost to this process's limit of open files; all were discarded.
    bool lost = false;
};

// Receives once, non-blocking. Borrows fd. Precondition: room is not empty.
Received receive_with_descriptors(int fd, std::span<std::byte> room,
                                  const Disposer::Source& disposer);

// Maximum number of descriptors that the kernel accepts in one message (SCM_MAX_FD in its
// include/net/scm.h).
inline constexpr std::size_t kMostDescriptorsOfKernel = 253;

// Calls visit(Fd) for each descriptor of a received message.
template <class Visit>
void for_each_descriptor(msghdr& message, const Visit& visit) {
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int one = -1;
            std::memcpy(&one, CMSG_DATA(part) + i * sizeof(int), sizeof one);
            visit(Fd(one));
        }
    }
}

}  // namespace vgpu
