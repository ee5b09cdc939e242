// SPDX-License-Identifier: MIT
//
// Executor: drives one backend on the control loop, which submits jobs and takes completions.
// Counts the jobs in flight, so that an idle device costs the loop nothing. Control loop only,
// except for info() and where noted.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor/backend.h"

namespace vgpu {

class Executor {
  public:
    // Wraps a backend without a wake_descriptor() in a ThreadBackend, whose thread polls for `spin`
    // before it sleeps. Throws std::system_error if no thread or descriptor is available.
    Executor(std::unique_ptr<Backend> backend, std::chrono::microseconds spin);
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    // Abandons jobs that have not ended, without a completion.
    ~Executor();

    [[nodiscard]] const DeviceInfo& info() const { return backend_->info(); }
    [[nodiscard]] bool immediate(const Job& job) const { return backend_->immediate(job); }
    // Precondition: immediate(job).
    Outcome run(const Job& job) { return backend_->run(job); }

    void submit(const Job& job);
    // Attaches and detaches shared memory for later jobs (Backend::attach_region): processed in
    // order with jobs, with a completion each. `fd` is borrowed for the call.
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size);
    void detach_region(std::uint64_t token, RegionId region);
    [[nodiscard]] bool writes_timeline() const { return backend_->writes_timeline(); }
    // Any thread.
    [[nodiscard]] std::uint64_t bytes_copied_by_processor() const {
        return backend_->bytes_copied_by_processor();
    }
    // Asks the backend to end the job last submitted with this token (Backend::stop).
    void stop(std::uint64_t token) { backend_->stop(token); }
    // Appends the pending completions. Nearly free if there are none.
    void take_completions(std::vector<Completion>& ended);
    [[nodiscard]] bool has_completions();

    // true: from now on a completion makes wake_descriptor() readable. Check has_completions() once
    // more before sleeping. false: the control loop polls.
    void set_control_waiting(bool waiting);
    // See Backend::wake_descriptor().
    [[nodiscard]] int wake_descriptor() const { return backend_->wake_descriptor(); }
    // Call when the descriptor was readable.
    void on_wake() { woken_ = true; }
    // Whether take_completions() must be called periodically even if nothing was submitted.
    [[nodiscard]] bool needs_polling() const { return backend_->recovering(); }

  private:
    std::unique_ptr<Backend> backend_;
    std::vector<Completion> ended_;  // polled from the backend
    std::size_t in_flight_ = 0;
    bool woken_ = false;    // the descriptor was readable since the last poll
    bool waiting_ = false;  // the backend was notified that the control loop sleeps
};

}  // namespace vgpu
