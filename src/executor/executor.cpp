// SPDX-License-Identifier: MIT
#include "executor/executor.h"

#include <cassert>
#include <iterator>
#include <utility>

#include "executor/thread_backend.h"

namespace vgpu {

Executor::Executor(std::unique_ptr<Backend> backend, std::chrono::microseconds spin)
    : backend_(backend->wake_descriptor() >= 0
                   ? std::move(backend)
                   : std::make_unique<ThreadBackend>(std::move(backend), spin)) {
    backend_->attach_thread();
}

Executor::~Executor() {
    backend_->detach_thread();
}

void Executor::submit(const Job& job) {
    ++in_flight_;
    backend_->submit(job);
}

void Executor::attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) {
    ++in_flight_;
    backend_->attach_region(token, region, fd, size);
}

void Executor::detach_region(std::uint64_t token, RegionId region) {
    ++in_flight_;
    backend_->detach_region(token, region);
}

bool Executor::has_completions() {
    if (!ended_.empty()) {
        return true;
    }
    if (in_flight_ == 0 && !woken_ && !backend_->recovering()) {
        return false;
    }
    woken_ = false;
    backend_->poll(ended_);
    return !ended_.empty();
}

void Executor::take_completions(std::vector<Completion>& ended) {
    if (!has_completions()) {
        return;
    }
    const std::size_t jobs = count_jobs(ended_);
    assert(jobs <= in_flight_);
    in_flight_ -= jobs;
    std::move(ended_.begin(), ended_.end(), std::back_inserter(ended));
    ended_.clear();
}

void Executor::set_control_waiting(bool waiting) {
    // With no job in flight only a device failure matters, and the descriptor always signals that.
    waiting = waiting && in_flight_ > 0;
    if (std::exchange(waiting_, waiting) != waiting) {
        backend_->set_waiting(waiting);
    }
}

}  // namespace vgpu
