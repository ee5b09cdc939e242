// SPDX-License-Identifier: MIT
//
// Backend: one device that does jobs. Asynchronous: submit() starts a job and returns, poll() says
// which have ended. Nothing here says where the device lives: WorkerBackend talks to another
// process that drives the GPU.
//
// A job that fails is a completion with a status. A backend never throws. A device that fails takes
// its jobs and its buffers with it; the backend says so among the completions and goes on
// answering, with errors. Either it tries to make the device work again, and says when it does, or,
// where only another process can do that, it is lost().
#pragma once

#include <cstdint>
#include <vector>

#include "executor/operation.h"

namespace vgpu {

class Backend {
  public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    // What was found when the backend was made. Any thread.
    [[nodiscard]] virtual const DeviceInfo& info() const = 0;

    // Whether this job is bounded work of about a microsecond on the CPU, so that run() on the
    // control loop costs less than the way to another thread. NOP is, everywhere. Any thread.
    [[nodiscard]] virtual bool immediate(const Job& job) const = 0;
    // Does such a job at once. Any thread, also while another is in submit() or poll().
    // Precondition: immediate(job).
    virtual Outcome run(const Job& job) = 0;

    // Called once, first, on the thread that then makes all calls of submit() and poll().
    virtual void attach_thread() = 0;
    // Starts a job. Never waits for the device.
    virtual void submit(const Job& job) = 0;
    // Appends the jobs that have ended since the last call. Never waits for the device.
    virtual void poll(std::vector<Completion>& ended) = 0;

    // Shared memory of VMs. attach_region() makes `size` bytes of the memory file `fd` (borrowed)
    // known as `region`, for as long as the backend lives or until detach_region(), also to a
    // device that fails and recovers meanwhile. Both are answered with a completion, as jobs are.
    // A job may name a region once its attaching has been submitted, and fails with an error if
    // that failed; one that a recovered device does not take is answered a second time, with the
    // failure. A region is detached once all jobs that name it have ended; from the completion
    // on nothing touches its memory. Where such a job is answered, the device has done with it, be
    // it because the process that drove the device is gone.
    // Called as submit() is.
    virtual void attach_region(std::uint64_t token, RegionId region, int fd,
                               std::uint64_t size) = 0;
    virtual void detach_region(std::uint64_t token, RegionId region) = 0;
    // Whether Job::timeline has effect. The same for the backend's life. Any thread.
    [[nodiscard]] virtual bool writes_timeline() const { return false; }
    // Bytes of shared memory that a processor has copied for MEMORY_COPY, since the start. 0 where
    // the device does it. Any thread.
    [[nodiscard]] virtual std::uint64_t bytes_copied_by_processor() const { return 0; }

    // Whether the device has failed and poll() has to be called for it to recover, though no job is
    // under way.
    [[nodiscard]] virtual bool recovering() const { return false; }
    // Whether the device has failed and nothing done in this process makes it work again.
    [[nodiscard]] virtual bool lost() const { return false; }
    // A descriptor that is readable, while the caller has set_waiting(true), from when poll() has
    // something to give, and at any time from when the device has failed; sometimes without either.
    // The same for the backend's life, and the backend's. A backend that has one never blocks.
    // -1: there is none, submit() and poll() may take long, and poll() is to be called from time
    // to time.
    [[nodiscard]] virtual int wake_descriptor() const { return -1; }
    // true: the caller is about to sleep on wake_descriptor(), after one more poll(). false: it is
    // awake again.
    virtual void set_waiting(bool /*waiting*/) {}
    // Ends this job, whatever that takes, if it has not ended and the backend can: it is answered
    // with VGPU_ERR_CUDA_TIME_LIMIT. A backend may have to let its device fail for it.
    virtual void stop(std::uint64_t /*token*/) {}
    // Called once, last, on that thread. Jobs still running are given up.
    virtual void detach_thread() = 0;
};

}  // namespace vgpu
