// SPDX-License-Identifier: MIT
//
// Receiving bytes and descriptors from a Unix stream socket. Whatever a peer sends along, each
// descriptor ends in a ForeignFd; all are close-on-exec. A connection whose peer may send
// descriptors is always read in this way: what another read leaves out, the kernel closes on the
// reading thread, which that may block.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "ipc/foreign_fd.h"

namespace vgpu {

// Descriptors of one message at the most; a peer that sends more has broken the protocol.
inline constexpr std::size_t kMostDescriptors = 8;

struct Received {
    // Bytes; 0: end of file; -1: nothing came, and errno says why.
    long count = 0;
    std::vector<ForeignFd> descriptors;
    // The peer sent more descriptors than a message may have; none was kept.
    bool too_many = false;
    // This process could not take them all, because it has as many open as it may; none was kept.
    bool lost = false;
};

// Receives once, without waiting. Borrows fd and disposer. Precondition: room is not empty.
Received receive_with_descriptors(int fd, std::span<std::byte> room, Disposer& disposer);

}  // namespace vgpu
