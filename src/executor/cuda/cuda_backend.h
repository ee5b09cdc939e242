// SPDX-License-Identifier: MIT
//
// CudaBackend: runs jobs on an NVIDIA GPU through the driver API. Completions are polled: blocking
// events and callbacks cost 40 µs more (see docs/).
//
// A VM's shared memory is registered with the driver once, when it is attached. From then on the
// GPU's DMA copies between it and device memory, kernels access it in place, and the GPU stores
// results and timelines in it; the CPU copies none of it.
//
// Independent jobs run in separate streams (lanes) as long as there are free ones. A chain keeps
// its lane while it has jobs in flight; the next job is started without waiting for the previous
// one, because the stream keeps their order. With more concurrent work than lanes, lanes are
// shared. Operations on the CPU, MEMORY_FREE and GET_DEVICE_INFO, wait for the earlier jobs of
// their chain and block the later ones.
//
// A job whose launch fails completes with an error. An error that loses the context (a fault, a GPU
// that fell off the bus) fails all its jobs with VGPU_ERR_CUDA and invalidates all buffers. The
// backend is then lost(): the driver gives this process no further context, so it is not called
// again, and every job fails with VGPU_ERR_CUDA. The driver's resources are freed with the process,
// which is therefore a separate one (worker/). The backend never ends the process itself. Until the
// process has ended, the GPU may still write wherever the failed jobs could write.
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
    // Opens the GPU with this ordinal and verifies with a test job that it works. The error states
    // why there is none.
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
        BufferId buffer = 0;     // MEMORY_ALLOC: the new buffer
        BufferId temporary = 0;  // released when the job is done
        bool stores_timeline = false;
        Clock::time_point began{};
    };
    struct Lane {
        std::deque<Running> running;   // submitted to the GPU, in this order
        std::deque<Job> waiting;       // for space, or for a job on the CPU
        Clock::time_point last_end{};  // of the previous job
        [[nodiscard]] std::size_t load() const { return running.size() + waiting.size(); }
    };
    struct Chain {
        std::size_t lane = 0;
        std::size_t jobs = 0;  // in flight
    };
    struct Region {
        Mapping mapping;
        SharedRegion shared;
    };

    explicit CudaBackend(const Api& api) : api_(api), memory_(api_) {}
    // Returns the lane for a new job and counts the job in its chain.
    std::size_t lane_for(const Job& job);
    // Starts the waiting jobs of the lane that can start.
    void advance(std::size_t lane);
    void start(std::size_t lane, const Job& job);
    // Performs an operation on the CPU.
    void do_now(const Job& job);
    // Frees the buffer now, or when the work that uses it has ended.
    void free_buffer(const Job& job);
    // Whether work in flight uses the buffer.
    [[nodiscard]] bool in_use(BufferId buffer) const;
    [[nodiscard]] bool idle() const;
    void report_device(const Job& job);
    // Returns the outcome of a job that has ended on its lane.
    Outcome outcome_of(const Running& running);
    // Completes a job, successful or not. Called at most once per job.
    void end(const Job& job, Outcome outcome);
    void fail(const Job& job, Status status, const char* what);
    // Fails all running and waiting jobs, and gives up the context. `starting`: the job that was
    // not yet on a lane when the driver reported the error; may be null.
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
    std::vector<Job> frees_;  // deferred: the buffers are in use
    std::vector<Completion> ended_;
    Clock::time_point next_thorough_check_;
};

// Maps a driver error to enum vgpu_error; never VGPU_ERR_NONE.
std::uint32_t error_of(Status status);
// Whether the context is lost after this error.
bool loses_context(Status status);

}  // namespace vgpu::cuda
