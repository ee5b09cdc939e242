// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_backend.h"

#include <sys/sysinfo.h>

#include <chrono>
#include <cstring>
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

// Total bytes.
std::uint64_t host_memory() {
    struct sysinfo found {};
    return ::sysinfo(&found) == 0 ? std::uint64_t{found.totalram} * found.mem_unit : 0;
}

// Returns the outcome of `body`, with the time it took.
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

bool CpuBackend::immediate(const Job& job) const {
    return job.opcode == VGPU_OP_NOP || job.opcode == VGPU_OP_GET_DEVICE_INFO ||
           (job.opcode == VGPU_OP_CUDA_KERNEL && job.heap_result == 0);
}

Outcome CpuBackend::run(const Job& job) {
    if (!immediate(job)) {
        return timed([&] { return work(job); });
    }
    switch (job.opcode) {
        case VGPU_OP_NOP:
            return {};
        case VGPU_OP_CUDA_KERNEL:
            return timed([&] { return word_outcome(job.params[0] + job.params[1]); });
        default: {
            DeviceInfo current = info_;
            current.memory_free = memory_.available();
            return device_info_outcome(current);
        }
    }
}

std::byte* CpuBackend::base(RegionId region) const {
    const auto found = regions_.find(region);
    return found == regions_.end() ? nullptr : found->second.data();
}

Outcome CpuBackend::work(const Job& job) {
    std::byte* const shared = base(job.region);
    if (job.region != 0 && shared == nullptr) {
        return no_region_outcome();
    }
    Outcome outcome = job.opcode == VGPU_OP_CUDA_KERNEL
                          ? word_outcome(job.params[0] + job.params[1])
                          : run_on_memory(job, memory_, shared, abandoned_);
    if (outcome.status != VGPU_ERR_NONE) {
        return outcome;
    }
    if (job.heap_data != 0) {
        bytes_copied_.fetch_add(job.length, std::memory_order_relaxed);
    }
    if (job.heap_result != 0 && outcome.result_count != 0) {
        std::memcpy(shared + job.heap_result, outcome.results.data(), sizeof outcome.results[0]);
    }
    return outcome;
}

void CpuBackend::submit(const Job& job) {
    Outcome outcome = run(job);
    if (job.timeline != 0) {
        std::byte* const shared = base(job.region);
        if (shared != nullptr && outcome.status == VGPU_ERR_NONE && runs_.open(job)) {
            auto& place = *reinterpret_cast<std::uint64_t*>(shared + job.timeline);
            std::atomic_ref(place).store(job.timeline_value, std::memory_order_release);
            outcome.timeline_written = true;
        } else {
            runs_.close(job);
        }
    }
    ended_.push_back({job.token, std::move(outcome)});
}

void CpuBackend::attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) {
    auto mapped = map_region(fd, size);
    if (!mapped) {
        ended_.push_back({token, failed_device_outcome(mapped.error().message)});
        return;
    }
    regions_.insert_or_assign(region, std::move(mapped).value());
    ended_.push_back({token, {}});
}

void CpuBackend::detach_region(std::uint64_t token, RegionId region) {
    regions_.erase(region);
    runs_.forget(region);
    ended_.push_back({token, {}});
}

void CpuBackend::poll(std::vector<Completion>& ended) {
    ended.insert(ended.end(), std::make_move_iterator(ended_.begin()),
                 std::make_move_iterator(ended_.end()));
    ended_.clear();
}

}  // namespace vgpu
