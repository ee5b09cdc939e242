// SPDX-License-Identifier: MIT
//
// Backend: one device that runs jobs. Asynchronous: submit() starts a job and returns, poll()
// reports completions. The interface does not depend on where the device is: WorkerBackend talks to
// another process that drives the GPU.
//
// A job that fails is a completion with an error status. A backend never throws. A device failure
// fails its jobs and invalidates its buffers; the backend reports it among the completions and
// keeps completing jobs, with errors. It either tries to recover the device and reports the
// recovery, or, if only another process can recover it, is lost().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "executor/job.h"

namespace vgpu {

class Backend {
  public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;

    // Device information as of the backend's creation. Any thread.
    [[nodiscard]] virtual const DeviceInfo& info() const = 0;

    // Whether this job is bounded work of about a microsecond on the CPU, so that run() on the
    // control loop costs less than a hop to another thread. Always true for NOP. Any thread.
    [[nodiscard]] virtual bool immediate(const Job& job) const = 0;
    // Runs such a job synchronously. Any thread, also while another is in submit() or poll().
    // Precondition: immediate(job).
    virtual Outcome run(const Job& job) = 0;

    // Called once, first, on the thread that then makes all calls of submit(), poll() and the
    // regions' functions.
    virtual void attach_thread() = 0;
    // Starts a job. Never waits for the device.
    virtual void submit(const Job& job) = 0;
    // Appends the completions since the last call. Never waits for the device.
    virtual void poll(std::vector<Completion>& ended) = 0;

    // Shared memory of VMs. attach_region() makes `size` bytes of the memory file `fd` (borrowed)
    // available as `region` until detach_region() or the end of the backend's lifetime, even if the
    // device fails and recovers meanwhile. Both result in a completion, as jobs do. A job may name
    // a region once its attach has been submitted, and fails with an error if the attach failed. If
    // a recovered device rejects a region, its attach completes a second time, with the error.
    // Detach a region only when all jobs that name it have ended; after the completion nothing
    // accesses its memory. When a job that names a region completes, the device no longer accesses
    // it, if necessary because the process that drove the device has ended. Called on the same
    // thread as submit().
    virtual void attach_region(std::uint64_t token, RegionId region, int fd,
                               std::uint64_t size) = 0;
    virtual void detach_region(std::uint64_t token, RegionId region) = 0;
    // Whether Job::timeline has effect. Constant for the backend's lifetime. Any thread.
    [[nodiscard]] virtual bool writes_timeline() const { return false; }
    // Bytes of shared memory that a CPU has copied for MEMORY_COPY since the start. 0 if the device
    // copies them. Any thread.
    [[nodiscard]] virtual std::uint64_t bytes_copied_by_processor() const { return 0; }

    // Whether the device has failed and poll() must be called for it to recover, even with no job
    // in flight.
    [[nodiscard]] virtual bool recovering() const { return false; }
    // Whether the device has failed and cannot be recovered in this process.
    [[nodiscard]] virtual bool lost() const { return false; }
    // A descriptor that is readable, while set_waiting(true) is in effect, once poll() has
    // completions to return, and at any time once the device has failed; wake-ups may be spurious.
    // Constant for the backend's lifetime, and owned by it. A backend that has one never blocks.
    // -1: there is none; submit() and poll() may take long, and poll() must be called periodically.
    [[nodiscard]] virtual int wake_descriptor() const { return -1; }
    // true: the caller is about to sleep on wake_descriptor(), after one more poll(). false: it is
    // awake again.
    virtual void set_waiting(bool /*waiting*/) {}
    // Ends this job if it has not ended and the backend can do so: it fails with
    // VGPU_ERR_CUDA_TIME_LIMIT. A backend may have to fail its whole device for that.
    virtual void stop(std::uint64_t /*token*/) {}
    // Any thread. Nothing is needed any more: submit() and poll() end soon, if they can, and jobs
    // fail. detach_thread() follows.
    virtual void abandon() {}
    // Called once, last, on that thread. Abandons running jobs.
    virtual void detach_thread() = 0;
};

// Returns how many of these are ends of jobs.
inline std::size_t count_jobs(const std::vector<Completion>& ended) {
    return static_cast<std::size_t>(std::count_if(
        ended.begin(), ended.end(),
        [](const Completion& one) { return one.change == DeviceChange::kNone && !one.again; }));
}

}  // namespace vgpu
