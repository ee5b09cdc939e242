// SPDX-License-Identifier: MIT
#include "executor/direct_executor.h"

#include <iterator>
#include <utility>

namespace vgpu {

DirectExecutor::DirectExecutor(std::unique_ptr<Backend> backend) : Executor(std::move(backend)) {
    this->backend().attach_thread();
}

DirectExecutor::~DirectExecutor() {
    backend().detach_thread();
}

void DirectExecutor::submit(const Job& job) {
    ++in_flight_;
    backend().submit(job);
}

void DirectExecutor::attach_region(std::uint64_t token, RegionId region, int fd,
                                   std::uint64_t size) {
    ++in_flight_;
    backend().attach_region(token, region, fd, size);
}

void DirectExecutor::detach_region(std::uint64_t token, RegionId region) {
    ++in_flight_;
    backend().detach_region(token, region);
}

void DirectExecutor::stop(std::uint64_t token) {
    backend().stop(token);
}

bool DirectExecutor::has_completions() {
    if (!ended_.empty()) {
        return true;
    }
    if (in_flight_ == 0 && !woken_ && !backend().recovering()) {
        return false;
    }
    woken_ = false;
    backend().poll(ended_);
    return !ended_.empty();
}

void DirectExecutor::take_completions(std::vector<Completion>& ended) {
    if (!has_completions()) {
        return;
    }
    in_flight_ -= count_jobs(ended_);
    std::move(ended_.begin(), ended_.end(), std::back_inserter(ended));
    ended_.clear();
}

void DirectExecutor::set_control_waiting(bool waiting) {
    // With no job in flight only a device failure matters, and the descriptor always signals that.
    waiting = waiting && in_flight_ > 0;
    if (std::exchange(waiting_, waiting) != waiting) {
        backend().set_waiting(waiting);
    }
}

}  // namespace vgpu
