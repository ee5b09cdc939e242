// SPDX-License-Identifier: MIT
//
// Executor: runs jobs on the backend it owns, asynchronously from the control loop, which submits
// jobs and takes completions; neither waits for the other. Two kinds, by backend:
//
//   ThreadExecutor   a dedicated thread drives a backend whose calls may take long
//   DirectExecutor   the control loop drives a backend that never blocks, because another process
//                    does the work: one hop less each way
//
// run() executes operations that the backend declares immediate. Control loop only, except for
// info() and where noted.
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
        // How long a thread polls for jobs and completions before it sleeps.
        std::chrono::microseconds spin{100};
    };

    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    // Abandons jobs that have not ended, without a completion.
    virtual ~Executor() = default;

    [[nodiscard]] const DeviceInfo& info() const { return backend_->info(); }
    [[nodiscard]] bool immediate(const Job& job) const { return backend_->immediate(job); }
    // Precondition: immediate(job).
    Outcome run(const Job& job) { return backend_->run(job); }

    virtual void submit(const Job& job) = 0;
    // Attaches and detaches shared memory for later jobs (Backend::attach_region): processed in
    // order with jobs, with a completion each. `fd` is borrowed for the call.
    virtual void attach_region(std::uint64_t token, RegionId region, int fd,
                               std::uint64_t size) = 0;
    virtual void detach_region(std::uint64_t token, RegionId region) = 0;
    [[nodiscard]] bool writes_timeline() const { return backend_->writes_timeline(); }
    // Any thread.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const {
        return backend_->bytes_copied_by_processor();
    }
    // Asks the backend to end the job last submitted with this token (Backend::stop).
    virtual void stop(std::uint64_t token) = 0;
    // Appends the pending completions. Nearly free if there are none.
    virtual void take_completions(std::vector<Completion>& ended) = 0;
    [[nodiscard]] virtual bool has_completions() = 0;

    // true: from now on a completion wakes the control loop. Check has_completions() once more
    // before sleeping. false: the control loop polls.
    virtual void set_control_waiting(bool waiting) = 0;
    // A descriptor that is readable when a sleeping control loop has to poll; constant for the
    // executor's lifetime, and owned by it. -1: the executor calls `wake_control` instead.
    [[nodiscard]] virtual int wake_descriptor() const { return -1; }
    // Call when the descriptor was readable.
    virtual void on_wake() {}
    // Whether take_completions() must be called periodically even if nothing was submitted.
    [[nodiscard]] virtual bool needs_polling() const { return false; }

  protected:
    explicit Executor(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}
    [[nodiscard]] Backend& backend() const { return *backend_; }
    // Counts the completions of jobs.
    static std::size_t count_jobs(const std::vector<Completion>& ended);

  private:
    std::unique_ptr<Backend> backend_;
};

// Creates the kind that fits the backend. `wake_control` is called on another thread and must make
// the control loop poll for completions; it must not block. Throws std::system_error if no thread
// or descriptor is available.
std::unique_ptr<Executor> make_executor(std::unique_ptr<Backend> backend, Executor::Options options,
                                        std::function<void()> wake_control);

}  // namespace vgpu
