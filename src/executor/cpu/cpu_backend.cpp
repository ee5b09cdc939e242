// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_backend.h"

#include <sys/sysinfo.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "executor/cpu/cpu_operations.h"

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

// Bytes in all.
std::uint64_t host_memory() {
    struct sysinfo found {};
    return ::sysinfo(&found) == 0 ? std::uint64_t{found.totalram} * found.mem_unit : 0;
}

// What `body` gives, with the time it took.
template <typename Body>
Outcome timed(Body body) {
    using Clock = std::chrono::steady_clock;
    const auto began = Clock::now();
    Outcome outcome = body();
    outcome.exec_time_us = static_cast<std::uint32_t>(
        std::chrono::ceil<std::chrono::microseconds>(Clock::now() - began).count());
    return outcome;
}

}  // namespace

CpuBackend::CpuBackend() : CpuBackend("CPU", host_memory() / 2) {}

CpuBackend::CpuBackend(int index, std::size_t count)
    : CpuBackend("CPU " + std::to_string(index), host_memory() / 2 / count) {}

CpuBackend::CpuBackend(const std::string& kind, std::uint64_t memory) : memory_(memory) {
    info_.backend = VGPU_BACKEND_CPU;
    info_.name = std::string(kind).append(" (").append(processor_name()).append(")");
    info_.multiprocessors = static_cast<std::uint32_t>(::get_nprocs());
    info_.memory_total = memory_.available();
    info_.memory_free = info_.memory_total;
}

bool CpuBackend::immediate(std::uint32_t opcode) const {
    return opcode == VGPU_OP_NOP || opcode == VGPU_OP_CUDA_KERNEL ||
           opcode == VGPU_OP_GET_DEVICE_INFO;
}

Outcome CpuBackend::run(const Job& job) {
    switch (job.opcode) {
        case VGPU_OP_NOP:
            return {};
        case VGPU_OP_CUDA_KERNEL:
            return timed([&] { return word_outcome(job.params[0] + job.params[1]); });
        case VGPU_OP_GET_DEVICE_INFO: {
            DeviceInfo current = info_;
            current.memory_free = memory_.available();
            return device_info_outcome(current);
        }
        default:
            return timed([&] { return run_on_memory(job, memory_); });
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
