// SPDX-License-Identifier: MIT
//
// Clock: where the scheduler and the daemon get the time from, so that a test can be the clock.
#pragma once

#include <chrono>

namespace vgpu {

class Clock {
  public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;

    // Never goes back. Callable from any thread.
    [[nodiscard]] virtual std::chrono::nanoseconds now() const = 0;
};

// The host's monotonic clock.
class SteadyClock final : public Clock {
  public:
    [[nodiscard]] std::chrono::nanoseconds now() const override {
        return std::chrono::steady_clock::now().time_since_epoch();
    }
};

}  // namespace vgpu
