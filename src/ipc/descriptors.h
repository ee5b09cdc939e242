// SPDX-License-Identifier: MIT
//
// Receiving bytes and descriptors from a Unix stream socket. Whatever a peer sends along, each
// descriptor ends in an Fd or is closed; all are close-on-exec.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/fd.h"

namespace vgpu {

// Descriptors taken with one message at the most; a peer that sends more has broken the protocol.
inline constexpr std::size_t kMostDescriptors = 8;

struct Received {
    // Bytes; 0: end of file; -1: nothing came, and errno says why.
    long count = 0;
    std::vector<Fd> descriptors;
    // The peer sent more descriptors than are taken; none was kept.
    bool truncated = false;
};

// Receives once, without waiting. Borrows fd. Precondition: room is not empty.
Received receive_with_descriptors(int fd, std::span<std::byte> room);

}  // namespace vgpu
