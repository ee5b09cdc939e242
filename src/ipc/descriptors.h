// SPDX-License-Identifier: MIT
//
// Receiving bytes and descriptors from a Unix stream socket. Every received descriptor ends in a
// ForeignFd; all are close-on-exec. A connection whose peer may send descriptors must always be
// read this way: any other read makes the kernel close them on the reading thread, which may block.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

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

// Receives once, non-blocking. Borrows fd and disposer. Precondition: room is not empty.
Received receive_with_descriptors(int fd, std::span<std::byte> room, Disposer& disposer);

}  // namespace vgpu
