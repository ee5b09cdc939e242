// SPDX-License-Identifier: MIT
//
// What a mediator has in use, as the kernel and its admin API report it: for comparing the start of
// a long run with its end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace vgpu::test {

struct Usage {
    std::uint64_t rss_kib = 0;
    std::uint64_t anonymous_kib =
        0;  // of it, the mediator's own: guests' shared memory is not in it
    std::uint64_t descriptors = 0;
    std::uint64_t connections = 0;
    std::uint64_t shared_memory_devices = 0;
    std::uint64_t shared_memory_bytes = 0;
    std::uint64_t buffer_bytes = 0;  // allocated on the GPUs by all VMs
};

// Of this process.
std::uint64_t count_descriptors(pid_t pid);

// Of the mediator with this process id and admin socket. Throws std::runtime_error.
Usage read_usage(pid_t pid, const std::string& admin_socket);

// One line.
std::string usage_text(const Usage& usage);

}  // namespace vgpu::test
