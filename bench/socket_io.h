// SPDX-License-Identifier: MIT
//
// Blocking stream-socket input and output with as few system calls as can be: what a measurement
// costs itself must be small, and the same on the measured path as on the floor beside it.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <span>

namespace vgpu::bench {

// Sends all of `bytes`; one call unless the socket's buffer is full. False if the peer is gone,
// errno set. Async-signal-safe.
inline bool send_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(n));
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

// Fills `into`. False at the end of the stream (errno 0) or on failure (errno set).
// Async-signal-safe.
inline bool receive_exactly(int fd, std::span<std::byte> into) {
    while (!into.empty()) {
        const ssize_t n = ::recv(fd, into.data(), into.size(), 0);
        if (n > 0) {
            into = into.subspan(static_cast<std::size_t>(n));
        } else if (n == 0) {
            errno = 0;
            return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

}  // namespace vgpu::bench
