// SPDX-License-Identifier: MIT
//
// Unix socket helpers based on raw system calls, for tests and benchmarks.
#pragma once

#include <sys/un.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"

namespace vgpu::test {

// Returns the address of `path`. Throws std::system_error if the path exceeds 107 bytes.
sockaddr_un unix_address(const std::string& path);

// Returns an unbound stream socket with close-on-exec set. Throws std::system_error.
Fd stream_socket();

// Returns a stream socket connected to `path`. Throws std::system_error that names the path.
Fd connect_unix(const std::string& path);

// Returns a stream socket listening at `path`, which must not exist. Throws std::system_error.
Fd listen_unix(const std::string& path, int backlog);

// Waits until a read from `fd` would not block, which includes end of file. Returns false at the
// deadline.
bool wait_readable(int fd, std::chrono::steady_clock::time_point deadline);

// Fills `into` from a Unix socket and appends the received descriptors to `descriptors`, as the
// mediator's own receive does. Returns false at the deadline, at end of file, or on an error.
// Throws std::runtime_error if the control data was truncated (too many descriptors).
bool read_exactly(int fd, std::span<std::uint8_t> into, std::vector<Fd>& descriptors,
                  std::chrono::steady_clock::time_point deadline);

}  // namespace vgpu::test
