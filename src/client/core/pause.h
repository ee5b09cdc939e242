// SPDX-License-Identifier: MIT
//
// Pause: back-off for polling memory without an interrupt. Spins, then yields, then sleeps in steps
// that grow with the time waited, up to a millisecond. A long spin yields the core too, because the
// thread that it waits for may need it.
#pragma once

#include <algorithm>
#include <chrono>

#include "client/core/transport.h"

namespace vgpu::client {

class Pause {
  public:
    // `spin`: time to spin, starting now. `clock` must outlive this object.
    Pause(Clock& clock, Nanoseconds spin)
        : clock_(clock), spin_(spin), since_(clock.now()), now_(since_), told_(since_) {}

    // Pauses for one step, not beyond the deadline. Returns false at once if it has passed.
    bool step(Nanoseconds deadline) {
        if (now_ >= deadline) {
            return false;
        }
        const Nanoseconds waited = now_ - since_;
        if (waited < std::min(spin_, kSpinAlone)) {
            clock_.relax();
        } else if (waited < spin_ || waited - spin_ < kYieldFor) {
            clock_.yield();
        } else {
            const Nanoseconds length = std::clamp(waited / 8, kShortestSleep, kLongestSleep);
            clock_.sleep(deadline == kNever ? length : std::min(length, deadline - now_));
        }
        now_ = clock_.now();
        return true;
    }

    // Returns true if `time` has passed since it last returned true. Reads no clock.
    bool long_since(Nanoseconds time) {
        if (now_ - told_ < time) {
            return false;
        }
        told_ = now_;
        return true;
    }

    [[nodiscard]] Nanoseconds now() const { return now_; }
    [[nodiscard]] Nanoseconds waited() const { return now_ - since_; }

  private:
    static constexpr Nanoseconds kSpinAlone = std::chrono::microseconds(50);
    static constexpr Nanoseconds kYieldFor = std::chrono::microseconds(200);
    static constexpr Nanoseconds kShortestSleep = std::chrono::microseconds(50);
    static constexpr Nanoseconds kLongestSleep = std::chrono::milliseconds(1);

    Clock& clock_;
    Nanoseconds spin_;
    Nanoseconds since_;
    Nanoseconds now_;
    Nanoseconds told_;  // when long_since() last returned true
};

}  // namespace vgpu::client
