// SPDX-License-Identifier: MIT
//
// Blocking stream-socket I/O with as few system calls as possible: the overhead of a measurement
// must be small, and the same on the measured path and on its baseline.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "vgpu_protocol.h"

namespace vgpu::bench {

// Sends all of `bytes`, with one call unless the socket's buffer is full. Returns false with errno
// set if the peer has disconnected. Async-signal-safe.
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

// Fills `into`. Returns false at the end of the stream (errno 0) or on failure (errno set).
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

// Maximum number of parameters of a benchmark request.
inline constexpr std::size_t kMostParams = 8;

// Sends a REQUEST with one call and without allocation. Sets the header's magic, type and length.
// Returns false if the peer has disconnected. Precondition: at most kMostParams params.
inline bool send_request(int fd, vgpu_msg_header header, std::uint32_t opcode,
                         std::span<const std::uint32_t> params) {
    const std::size_t payload_size = sizeof(vgpu_request) + params.size_bytes();
    header.magic = VGPU_MSG_MAGIC;
    header.msg_type = VGPU_MSG_REQUEST;
    header.payload_len = static_cast<std::uint16_t>(payload_size);
    vgpu_request request{};
    request.version = VGPU_PROTOCOL_VERSION;
    request.opcode = opcode;
    request.param_count = static_cast<std::uint32_t>(params.size());

    std::array<std::byte, sizeof header + sizeof request + kMostParams * sizeof(std::uint32_t)>
        bytes{};
    std::byte* const begin = bytes.data();
    std::memcpy(begin, &header, sizeof header);
    std::memcpy(begin + sizeof header, &request, sizeof request);
    if (!params.empty()) {
        std::memcpy(begin + sizeof header + sizeof request, params.data(), params.size_bytes());
    }
    return send_all(fd, std::span(bytes).first(sizeof header + payload_size));
}

}  // namespace vgpu::bench
