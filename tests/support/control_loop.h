// SPDX-License-Identifier: MIT
//
// ControlLoop: drives an executor the way the mediator's control loop does, in isolation.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "executor/executor.h"

namespace vgpu::test {

// A control loop that blocks when idle.
class ControlLoop {
  public:
    explicit ControlLoop(std::unique_ptr<Backend> backend,
                         std::chrono::microseconds spin = std::chrono::microseconds(100))
        : executor_(std::move(backend), spin) {}

    Executor& executor() { return executor_; }
    // Blocks until `wanted` completions have been taken.
    std::vector<Completion> take(std::size_t wanted) {
        std::vector<Completion> ended;
        while (ended.size() < wanted) {
            executor_.set_control_waiting(true);
            if (!executor_.has_completions() && !sleep()) {
                ADD_FAILURE() << "never woken";
                break;
            }
            executor_.set_control_waiting(false);
            executor_.take_completions(ended);
        }
        return ended;
    }

  private:
    // Returns false on time-out. A recovering device is polled periodically, as the mediator does.
    bool sleep() {
        constexpr int kLimitMs = 20000;
        constexpr int kPollMs = 10;
        const bool polls = executor_.needs_polling();
        pollfd watched{.fd = executor_.wake_descriptor(), .events = POLLIN, .revents = 0};
        if (::poll(&watched, 1, polls ? kPollMs : kLimitMs) <= 0) {
            return polls;
        }
        executor_.on_wake();
        return true;
    }

    Executor executor_;
};

}  // namespace vgpu::test
