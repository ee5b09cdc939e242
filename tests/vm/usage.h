// SPDX-License-Identifier: MIT
//
// Resource use of a mediator, as reported by the kernel and the admin API: for comparing the start
// of a long run with its end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace vgpu::test {

struct Usage {
    std::uint64_t rss_kib = 0;
    std::uint64_t anonymous_kib =
        0;  // of rss_kib, anonymous memory: excludes guests' shared memory
    std::uint64_t descriptors = 0;
    std::uint64_t connections = 0;
    std::uint64_t shared_memory_devices = 0;
    std::uint64_t shared_memory_bytes = 0;
    std::uint64_t buffer_bytes = 0;  // allocated on the GPUs by all VMs
};

// Counts the open descriptors of this process.
std::uint64_t count_descriptors(pid_t pid);

// Reads the usage of this mediator (process id, admin socket). Throws std::runtime_error.
Usage read_usage(pid_t pid, const std::string& admin_socket);

// Formats the usage as one line.
std::string usage_text(const Usage& usage);

}  // namespace vgpu::test
