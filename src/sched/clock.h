// SPDX-License-Identifier: MIT
//
// Clock: time source of the scheduler and the daemon, replaceable in tests.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace vgpu {

class Clock {
  public:
    Clock() = default;
    Clock(const Clock&) = delete;
    Clock& operator=(const Clock&) = delete;
    virtual ~Clock() = default;

    // Monotonic. Callable from any thread.
    [[nodiscard]] virtual std::chrono::nanoseconds now() const = 0;
};

// The host's monotonic clock.
class SteadyClock final : public Clock {
  public:
    [[nodiscard]] std::chrono::nanoseconds now() const override {
        return std::chrono::steady_clock::now().time_since_epoch();
    }
};

// A clock for a loop that processes one piece of work after another. It reads the source at most
// once per piece, on the first call of now(), and never before the piece began. So everything in
// one piece happens at one time, and no time is older than the piece of work that uses it. Only the
// loop calls next(): before each piece of work, and before it sleeps. Use from one thread.
class WorkClock final : public Clock {
  public:
    // Borrows the underlying clock.
    explicit WorkClock(const Clock& source) : source_(source) {}

    [[nodiscard]] std::chrono::nanoseconds now() const override {
        if (!known_) {
            at_ = source_.now();
            known_ = true;
            if (!marked_) {
                marked_ = at_;
            }
        }
        return at_;
    }
    // Ends a piece of work and starts the next.
    void next() {
        known_ = false;
        ++pieces_;
    }
    // Ends a piece of work and forgets what marked() returns.
    void mark() {
        next();
        marked_.reset();
    }
    // Returns the first time that was read since mark(): now, if none was.
    [[nodiscard]] std::chrono::nanoseconds marked() const {
        static_cast<void>(now());
        return *marked_;
    }
    // Number of calls of next().
    [[nodiscard]] std::uint64_t pieces() const { return pieces_; }

  private:
    const Clock& source_;
    mutable std::chrono::nanoseconds at_{0};
    mutable bool known_ = false;
    mutable std::optional<std::chrono::nanoseconds> marked_;
    std::uint64_t pieces_ = 0;
};

}  // namespace vgpu
