// SPDX-License-Identifier: MIT
//
// Fault injection: the faults of the test worker (test_worker.cpp) and the command that starts it.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "executor/job.h"
#include "executor/worker/worker_process.h"

namespace vgpu::worker {

inline constexpr std::uint32_t kMischief = 0xBADC0DE;

enum class Mischief : std::uint32_t {
    kDie,             // as if killed by the kernel
    kHang,            // this job never ends
    kLose,            // its backend is lost
    kStoreToNowhere,  // "cuda" only: a kernel that stores to an invalid address, and
    kTrap,            // one that traps, both launched beside the job itself
};

inline Job mischief_job(std::uint64_t token, Mischief what) {
    return {.token = token,
            .opcode = VGPU_OP_CUDA_KERNEL,
            .params = {kMischief, static_cast<std::uint32_t>(what)}};
}

// The test worker is in the folder of the test program, in the build tree and when both are copied.
inline Command test_worker(std::vector<std::string> arguments) {
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
    const std::string own(path.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
    return {.program = own.substr(0, own.rfind('/') + 1) + "vgpu-test-worker",
            .arguments = std::move(arguments)};
}

}  // namespace vgpu::worker
