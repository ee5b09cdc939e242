// SPDX-License-Identifier: MIT
//
// What every test and benchmark needs that speaks over a Unix socket with raw system calls.
#pragma once

#include <sys/un.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"

namespace vgpu::test {

// The address of `path`. Throws std::system_error if it has no room for it (107 bytes).
sockaddr_un unix_address(const std::string& path);

// A stream socket without an address, closed on exec. Throws std::system_error.
Fd stream_socket();

// A stream socket that is connected to `path`. Throws std::system_error, which names the path.
Fd connect_unix(const std::string& path);

// A stream socket that listens at `path`, where no file may be. Throws std::system_error.
Fd listen_unix(const std::string& path, int backlog);

// Waits until a read from `fd` would not block, which the end of the stream counts for, too. False
// at the deadline.
bool wait_readable(int fd, std::chrono::steady_clock::time_point deadline);

// Fills `into` from a Unix socket, and adds to `descriptors` those that came with any of it, as the
// mediator's own receive does. False at the deadline, at the end of the stream, or on an error.
// Throws std::runtime_error if more descriptors came than one message can have.
bool read_exactly(int fd, std::span<std::uint8_t> into, std::vector<Fd>& descriptors,
                  std::chrono::steady_clock::time_point deadline);

}  // namespace vgpu::test
