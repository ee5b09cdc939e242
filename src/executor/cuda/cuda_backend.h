// SPDX-License-Identifier: MIT
//
// CudaBackend: jobs on an NVIDIA GPU, through the driver API. Completion is looked for, never
// waited for: blocking events and callbacks cost 40 µs more (see docs/).
//
// A job whose launch fails is answered with an error. An error that loses the context (a fault, a
// GPU that fell off the bus) fails every job in it with VGPU_ERR_CUDA and takes all buffers. After
// that the backend is lost(): the driver refuses this process every further context, so no call is
// made to it any more, and every job is answered with VGPU_ERR_CUDA. What the driver holds goes
// with the process, which is therefore one of its own (worker/). It never ends the process itself.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "executor/backend.h"
#include "executor/cuda/cuda_api.h"
#include "executor/cuda/cuda_context.h"
#include "executor/cuda/cuda_memory.h"

namespace vgpu::cuda {

class CudaBackend final : public Backend {
  public:
    // Takes the GPU with this ordinal and proves with one job that it works. The error is a
    // sentence that says why there is none.
    static Result<std::unique_ptr<CudaBackend>> create(const Api& api, int ordinal);
    ~CudaBackend() override;

    [[nodiscard]] const DeviceInfo& info() const override { return info_; }
    [[nodiscard]] bool immediate(const Job& job) const override {
        return job.opcode == VGPU_OP_NOP;
    }
    Outcome run(const Job& job) override;
    void attach_thread() override;
    void submit(const Job& job) override;
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override;
    void detach_region(std::uint64_t token, RegionId region) override;
    void poll(std::vector<Completion>& ended) override;
    [[nodiscard]] bool lost() const override { return lost_; }
    void detach_thread() override;

  private:
    using Clock = std::chrono::steady_clock;
    struct Running {
        bool busy = false;
        Job job{};
        BufferId buffer = 0;     // MEMORY_ALLOC: the new one
        BufferId temporary = 0;  // released when the job is done
        Clock::time_point began{};
    };

    explicit CudaBackend(const Api& api) : api_(api), memory_(api_) {}
    void start(std::size_t lane, Job job);
    void free_buffer(const Job& job);
    // What a job that is done on its lane gives.
    Outcome outcome_of(std::size_t lane);
    void start_waiting();
    void report_device(const Job& job);
    void fail(std::uint64_t token, Status status, const char* what);
    void fail_without_context(std::uint64_t token);
    // Fails all that runs or waits for a lane, and gives the context up. `starting`: the job that
    // was not yet on a lane when the driver said so.
    void lose_context(Status status, std::optional<std::uint64_t> starting = std::nullopt);

    Api api_;
    DeviceInfo info_;
    CudaMemory memory_;
    std::unique_ptr<CudaContext> context_;
    bool lost_ = false;
    std::string lost_because_;
    std::array<Running, CudaContext::kLanes> running_{};
    std::deque<Job> waiting_;  // for a lane
    std::vector<Completion> ended_;
    Clock::time_point next_thorough_check_;
};

// enum vgpu_error for what the driver said; never VGPU_ERR_NONE.
std::uint32_t error_of(Status status);
// Whether the context is gone after this.
bool loses_context(Status status);

}  // namespace vgpu::cuda
