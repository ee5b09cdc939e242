// SPDX-License-Identifier: MIT
//
// DirectExecutor: drives a backend that has a wake_descriptor() on the control loop itself. Such a
// backend only accesses memory that it shares with the process that does the work, so a thread in
// between would only add a hop each way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor/executor.h"

namespace vgpu {

class DirectExecutor final : public Executor {
  public:
    // Precondition: the backend has a wake_descriptor().
    explicit DirectExecutor(std::unique_ptr<Backend> backend);
    ~DirectExecutor() override;

    void submit(const Job& job) override;
    void attach_region(std::uint64_t token, RegionId region, int fd, std::uint64_t size) override;
    void detach_region(std::uint64_t token, RegionId region) override;
    void stop(std::uint64_t token) override;
    void take_completions(std::vector<Completion>& ended) override;
    [[nodiscard]] bool has_completions() override;
    void set_control_waiting(bool waiting) override;
    [[nodiscard]] int wake_descriptor() const override { return backend().wake_descriptor(); }
    void on_wake() override { woken_ = true; }
    [[nodiscard]] bool needs_polling() const override { return backend().recovering(); }

  private:
    std::vector<Completion> ended_;  // polled from the backend
    std::size_t in_flight_ = 0;
    bool woken_ = false;    // the descriptor was readable since the last poll
    bool waiting_ = false;  // the backend was notified that the control loop sleeps
};

}  // namespace vgpu
