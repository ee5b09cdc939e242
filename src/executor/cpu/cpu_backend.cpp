// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_backend.h"

#include <sys/sysinfo.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>

namespace vgpu {
namespace {

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    std::string line;
    while (std::getline(file, line)) {
        const auto colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) {
            return line.substr(colon + 2);
        }
    }
    return "host processor";
}

// Host memory: bytes in all, bytes free.
std::pair<std::uint64_t, std::uint64_t> host_memory() {
    struct sysinfo found {};
    if (::sysinfo(&found) != 0) {
        return {0, 0};
    }
    return {std::uint64_t{found.totalram} * found.mem_unit,
            std::uint64_t{found.freeram} * found.mem_unit};
}

}  // namespace

CpuBackend::CpuBackend() {
    info_.backend = VGPU_BACKEND_CPU;
    info_.name = "CPU (" + processor_name() + ")";
    info_.multiprocessors = static_cast<std::uint32_t>(::get_nprocs());
    std::tie(info_.memory_total, info_.memory_free) = host_memory();
}

bool CpuBackend::immediate(std::uint32_t opcode) const {
    return opcode == VGPU_OP_NOP || opcode == VGPU_OP_CUDA_KERNEL ||
           opcode == VGPU_OP_GET_DEVICE_INFO;
}

Outcome CpuBackend::run(const Job& job) {
    switch (job.opcode) {
        case VGPU_OP_NOP:
            return {};
        case VGPU_OP_CUDA_KERNEL: {
            using Clock = std::chrono::steady_clock;
            const auto began = Clock::now();
            Outcome outcome;
            outcome.result_count = 1;
            outcome.results[0] = job.params[0] + job.params[1];
            outcome.exec_time_us = static_cast<std::uint32_t>(
                std::chrono::ceil<std::chrono::microseconds>(Clock::now() - began).count());
            return outcome;
        }
        case VGPU_OP_GET_DEVICE_INFO: {
            DeviceInfo current = info_;
            std::tie(current.memory_total, current.memory_free) = host_memory();
            return device_info_outcome(current);
        }
        default:
            return Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION,
                                    "the CPU backend does not know this operation");
    }
}

void CpuBackend::submit(const Job& job) {
    ended_.push_back({job.token, run(job)});
}

void CpuBackend::poll(std::vector<Completion>& ended) {
    ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
                 std::make_move_iterator(ended_.end()));
    ended_.clear();
}

}  // namespace vgpu
