// SPDX-License-Identifier: MIT
//
// ControlLoop: drives an executor the way the mediator's control loop does, in isolation.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "executor/executor.h"
#include "executor/thread_executor.h"

namespace vgpu::test {

// A control loop that blocks when idle.
class ControlLoop {
  public:
    explicit ControlLoop(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
    // Creates a ThreadExecutor whose wake-ups call wake().
    ControlLoop(std::unique_ptr<Backend> backend, std::chrono::microseconds spin)
        : executor_(std::make_unique<ThreadExecutor>(
              std::move(backend), Executor::Options{.spin = spin}, [this] { wake(); })) {}

    // Not copyable: the executor's wake callback refers to this object.
    ControlLoop(const ControlLoop&) = delete;
    ControlLoop& operator=(const ControlLoop&) = delete;
    ~ControlLoop() = default;

    Executor& executor() { return *executor_; }
    // Blocks until `wanted` completions have been taken.
    std::vector<Completion> take(std::size_t wanted) {
        std::vector<Completion> ended;
        while (ended.size() < wanted) {
            executor_->set_control_waiting(true);
            if (!executor_->has_completions() && !sleep()) {
                ADD_FAILURE() << "never woken";
                break;
            }
            executor_->set_control_waiting(false);
            executor_->take_completions(ended);
        }
        return ended;
    }

  private:
    void wake() const { ::eventfd_write(wakes_.get(), 1); }
    // Returns false on time-out. A recovering device is polled periodically, as the mediator does.
    bool sleep() {
        constexpr int kLimitMs = 20000;
        constexpr int kPollMs = 10;
        const bool polls = executor_->needs_polling();
        std::array<pollfd, 2> watched{
            {{.fd = wakes_.get(), .events = POLLIN, .revents = 0},
             {.fd = executor_->wake_descriptor(), .events = POLLIN, .revents = 0}}};
        if (::poll(watched.data(), watched.size(), polls ? kPollMs : kLimitMs) <= 0) {
            return polls;
        }
        eventfd_t count = 0;
        ::eventfd_read(wakes_.get(), &count);
        if (watched[1].revents != 0) {
            executor_->on_wake();
        }
        return true;
    }

    Fd wakes_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::unique_ptr<Executor> executor_;  // last: its thread uses the other members
};

}  // namespace vgpu::test
