// SPDX-License-Identifier: MIT
//
// Clock: where the scheduler and the daemon get the time from, so that a test can be the clock.
#pragma once

#include <chrono>
#include <cstdint>

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

// A clock for a loop that does one piece of work after another: the time is read from the source at
// most once for each piece, when the first one asks, and never before the piece began. So what
// belongs together happens at one time, and no time is older than the piece of work that uses it.
// The loop, and nothing else, calls next(): before each piece of work, and before it sleeps.
// Use from one thread.
class WorkClock final : public Clock {
  public:
    // Borrows the clock whose time this one shows.
    explicit WorkClock(const Clock& source) : source_(source) {}

    [[nodiscard]] std::chrono::nanoseconds now() const override {
        if (!known_) {
            at_ = source_.now();
            known_ = true;
        }
        return at_;
    }
    // A piece of work ends, another begins.
    void next() {
        known_ = false;
        ++pieces_;
    }
    // How often next() was called.
    [[nodiscard]] std::uint64_t pieces() const { return pieces_; }

  private:
    const Clock& source_;
    mutable std::chrono::nanoseconds at_{0};
    mutable bool known_ = false;
    std::uint64_t pieces_ = 0;
};

}  // namespace vgpu
