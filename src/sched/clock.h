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

// A clock that stands still until it is told to go on: what happens within one step of a loop
// happens at one time, and the time is asked for once. Use from one thread.
class SteppedClock final : public Clock {
  public:
    // Borrows the clock whose time this one shows.
    explicit SteppedClock(const Clock& source) : source_(source), at_(source.now()) {}

    [[nodiscard]] std::chrono::nanoseconds now() const override { return at_; }
    void step() { at_ = source_.now(); }

  private:
    const Clock& source_;
    std::chrono::nanoseconds at_;
};

}  // namespace vgpu
