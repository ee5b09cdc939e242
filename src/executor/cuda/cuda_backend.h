// SPDX-License-Identifier: MIT
//
// CudaBackend: jobs on an NVIDIA GPU, through the driver API. Completion is looked for, never
// waited for: blocking events and callbacks cost 40 µs more (see docs/).
//
// A VM's shared memory is registered with the driver once, when it is attached. From then on copies
// between it and device memory are the GPU's own DMA, kernels read and write it in place, and the
// GPU stores results and timelines into it; no processor copies any of it.
//
// Jobs that have nothing to do with each other have streams, the lanes, of their own as long as
// there are some. A chain has one for as long as it has jobs under way; the next is started without
// waiting for the last, because the stream keeps their order. With more work at once than lanes,
// some share one. What the processor does itself, MEMORY_FREE and GET_DEVICE_INFO, waits in its
// chain for what comes before, and holds up what comes after.
//
// A job whose launch fails is answered with an error. An error that loses the context (a fault, a
// GPU that fell off the bus) fails every job in it with VGPU_ERR_CUDA and takes all buffers. After
// that the backend is lost(): the driver refuses this process every further context, so no call is
// made to it any more, and every job is answered with VGPU_ERR_CUDA. What the driver holds goes
// with the process, which is therefore one of its own (worker/). It never ends the process itself.
// Until the process has ended, the GPU may still write where the jobs that failed have let it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mapping.h"
#include "executor/backend.h"
#include "executor/cuda/cuda_api.h"
#include "executor/cuda/cuda_context.h"
#include "executor/cuda/cuda_memory.h"
#include "executor/cuda/cuda_operations.h"
#include "executor/region.h"

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
    [[nodiscard]] bool writes_timeline() const override { return true; }
    [[nodiscard]] bool lost() const override { return lost_; }
    void detach_thread() override;

  private:
    using Clock = std::chrono::steady_clock;
    struct Running {
        CudaContext::Place place;
        Job job{};
        BufferId buffer = 0;     // MEMORY_ALLOC: the new one
        BufferId temporary = 0;  // released when the job is done
        bool stores_timeline = false;
        Clock::time_point began{};
    };
    struct Lane {
        std::deque<Running> running;   // given to the GPU, in this order
        std::deque<Job> waiting;       // for room, or for a job that the processor does
        Clock::time_point last_end{};  // of a job
        [[nodiscard]] std::size_t load() const { return running.size() + waiting.size(); }
    };
    struct Chain {
        std::size_t lane = 0;
        std::size_t jobs = 0;  // under way
    };
    struct Region {
        Mapping mapping;
        SharedRegion shared;
    };

    explicit CudaBackend(const Api& api) : api_(api), memory_(api_) {}
    // The lane for a job that has just come; counts it in its chain.
    std::size_t lane_for(const Job& job);
    // Starts what waits in the lane and can be started.
    void advance(std::size_t lane);
    void start(std::size_t lane, const Job& job);
    // What the processor does.
    void do_now(const Job& job);
    // Now, or when the work that uses the buffer has ended.
    void free_buffer(const Job& job);
    // Whether work that runs uses it.
    [[nodiscard]] bool in_use(BufferId buffer) const;
    [[nodiscard]] bool idle() const;
    void report_device(const Job& job);
    // What a job that is done on its lane gives.
    Outcome outcome_of(const Running& running);
    // The job's end, however it came. Called once for each.
    void end(const Job& job, Outcome outcome);
    void fail(const Job& job, Status status, const char* what);
    // Fails all that runs or waits, and gives the context up. `starting`: the job that was not yet
    // on a lane when the driver said so; may be null.
    void lose_context(Status status, const Job* starting);

    Api api_;
    DeviceInfo info_;
    CudaMemory memory_;
    std::unique_ptr<CudaContext> context_;
    bool lost_ = false;
    std::string lost_because_;
    std::array<Lane, CudaContext::kLanes> lanes_{};
    std::unordered_map<std::uint64_t, Chain> chains_;
    std::unordered_map<RegionId, Region> regions_;
    TimelineRuns runs_;
    std::vector<Job> frees_;  // of buffers in use
    std::vector<Completion> ended_;
    Clock::time_point next_thorough_check_;
};

// enum vgpu_error for what the driver said; never VGPU_ERR_NONE.
std::uint32_t error_of(Status status);
// Whether the context is gone after this.
bool loses_context(Status status);

}  // namespace vgpu::cuda
