// SPDX-License-Identifier: MIT
//
// Executor: owns one backend and has it do jobs beside the control loop, which hands them over and
// takes completions; neither side ever waits for the other. Two kinds, by what the backend is:
//
//   ThreadExecutor   a thread of its own drives a backend whose calls may take long
//   DirectExecutor   the control loop itself drives a backend that never blocks, because another
//                    process does the work: one hop less each way
//
// Operations that the backend declares immediate can be done on the control loop by run().
// Control loop only, but for info().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "executor/backend.h"

namespace vgpu {

class Executor {
  public:
    struct Options {
        // How long a thread goes on looking for jobs and completions before it sleeps.
        std::chrono::microseconds spin{100};
    };

    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    // Jobs that have not ended are given up without a completion.
    virtual ~Executor() = default;

    [[nodiscard]] const DeviceInfo& info() const { return backend_->info(); }
    [[nodiscard]] bool immediate(const Job& job) const { return backend_->immediate(job); }
    // Precondition: immediate(job).
    Outcome run(const Job& job) { return backend_->run(job); }

    virtual void submit(const Job& job) = 0;
    // Shared memory for the jobs submitted after, and the end of it (Backend::attach_region): done
    // in order with jobs, and answered as they are. `fd` is borrowed for the call.
    virtual void attach_region(std::uint64_t token, RegionId region, int fd,
                               std::uint64_t size) = 0;
    virtual void detach_region(std::uint64_t token, RegionId region) = 0;
    [[nodiscard]] bool writes_timeline() const { return backend_->writes_timeline(); }
    // Any thread.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const {
        return backend_->bytes_copied_by_processor();
    }
    // Asks the backend to end the job that was submitted last with this token (Backend::stop).
    virtual void stop(std::uint64_t token) = 0;
    // Appends what has ended. Costs next to nothing if nothing has.
    virtual void take_completions(std::vector<Completion>& ended) = 0;
    [[nodiscard]] virtual bool has_completions() = 0;

    // true: from now on a completion wakes the control loop. Check has_completions() after, and
    // only then sleep. false: it looks by itself.
    virtual void set_control_waiting(bool waiting) = 0;
    // A descriptor that is readable when a sleeping control loop has to look; the same for the
    // executor's life and the executor's. -1: the executor calls `wake_control` instead.
    [[nodiscard]] virtual int wake_descriptor() const { return -1; }
    // The descriptor was readable.
    virtual void on_wake() {}
    // Whether take_completions() has to be called from time to time although nothing was submitted.
    [[nodiscard]] virtual bool needs_looks() const { return false; }

  protected:
    explicit Executor(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
    [[nodiscard]] Backend& backend() const { return *backend_; }
    // How many of these are the ends of jobs.
    static std::size_t count_jobs(const std::vector<Completion>& ended);

  private:
    std::unique_ptr<Backend> backend_;
};

// The kind that fits the backend. `wake_control` is called on another thread and has to make the
// control loop look for completions; it must not block. Throws std::system_error if there is no
// thread or descriptor to be had.
std::unique_ptr<Executor> make_executor(std::unique_ptr<Backend> backend, Executor::Options options,
                                        std::function<void()> wake_control);

}  // namespace vgpu
