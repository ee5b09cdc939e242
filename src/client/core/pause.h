// SPDX-License-Identifier: MIT
//
// back_off() and Pause: back-off for polling without an interrupt. Spins, then yields, then sleeps
// in steps that grow with the time waited, up to a millisecond. A long spin yields the core too,
// because the thread that it waits for may need it.
#pragma once

#include <algorithm>
#include <chrono>

#include "client/core/transport.h"

namespace vgpu::client {

// Pauses for one step after polling for `waited`, of which the first `spin` must not sleep. A sleep
// is not longer than `left`.
inline void back_off(Clock& clock, Nanoseconds waited, Nanoseconds spin, Nanoseconds left) {
    constexpr Nanoseconds kSpinAlone = std::chrono::microseconds(50);
    constexpr Nanoseconds kYieldFor = std::chrono::microseconds(200);
    constexpr Nanoseconds kShortestSleep = std::chrono::microseconds(50);
    constexpr Nanoseconds kLongestSleep = std::chrono::milliseconds(1);
    if (waited < std::min(spin, kSpinAlone)) {
        clock.relax();
    } else if (waited < spin || waited - spin < kYieldFor) {
        clock.yield();
    } else {
        clock.sleep(std::min(std::clamp(waited / 8, kShortestSleep, kLongestSleep), left));
    }
}

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
        back_off(clock_, waited(), spin_, deadline == kNever ? kNever : deadline - now_);
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
    Clock& clock_;
    Nanoseconds spin_;
    Nanoseconds since_;
    Nanoseconds now_;
    Nanoseconds told_;  // when long_since() last returned true
};

}  // namespace vgpu::client
