// SPDX-License-Identifier: MIT
//
// CpuBackend: produces the same results as a GPU on the host CPU, so that everything above it works
// and can be tested on any machine. NOP, CUDA_KERNEL and GET_DEVICE_INFO take well under a
// microsecond and are immediate; operations on buffers run on the executor's thread, in submit().
// So does all work on shared memory, which stays mapped while it is attached: run() of an immediate
// job takes no lock and reads no unsynchronized state of that thread. Jobs run in submission order,
// so chains need no handling, and the thread that ran a job stores its timeline value.
//
// Its device memory is half of the host's, divided by the number of CPU devices.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mapping.h"
#include "executor/backend.h"
#include "executor/cpu/cpu_memory.h"
#include "executor/region.h"

namespace vgpu {

class CpuBackend final : public Backend {
  public:
    CpuBackend();
    // One of `count` backends that simulate several GPUs.
    CpuBackend(int index, std::size_t count);

    [[nodiscard]] const DeviceInfo& info() const override { return info_; }
    [[nodiscard]] bool immediate(const Job& job) const override;
    // Also runs operations that are not immediate, on the executor's thread; never stores a
    // timeline value.
    Outcome run(const Job& job) override;
    void attach_thread() override {}
    void submit(const Job& job) override;
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override;
    void detach_region(std::uint64_t token, RegionId region) override;
    [[nodiscard]] bool writes_timeline() const override { return true; }
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const override {
        return bytes_copied_.load(std::memory_order_relaxed);
    }
    void poll(std::vector<Completion>& ended) override;
    void abandon() override { abandoned_.store(true, std::memory_order_relaxed); }
    void detach_thread() override {}

  private:
    CpuBackend(const std::string& kind, std::uint64_t memory);
    // Runs a job that is not immediate.
    Outcome work(const Job& job);
    // Returns the start of the region; null if it is not attached.
    [[nodiscard]] std::byte* base(RegionId region) const;

    DeviceInfo info_;
    CpuMemory memory_;
    std::unordered_map<RegionId, Mapping> regions_;
    TimelineRuns runs_;
    std::atomic<std::uint64_t> bytes_copied_ = 0;
    std::atomic<bool> abandoned_ = false;
    std::vector<Completion> ended_;
};

}  // namespace vgpu
