// SPDX-License-Identifier: MIT
//
// Pause: waiting for a word in memory where no interrupt tells of it: spin, then yield, then sleep
// in steps that grow with the time waited, up to a millisecond. Who spins for long lets others have
// the processor in between, as the one waited for may be among them.
#pragma once

#include <algorithm>
#include <chrono>

#include "client/core/transport.h"

namespace vgpu::client {

class Pause {
  public:
    // `spin`: how long to spin, from now on. `clock` must outlive this.
    Pause(Clock& clock, Nanoseconds spin)
        : clock_(clock), spin_(spin), since_(clock.now()), now_(since_), told_(since_) {}

    // One step, never past the deadline. False without one if that has come.
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

    // True once for each time that so much has passed. Cheap.
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
    Nanoseconds told_;  // when long_since() was last true
};

}  // namespace vgpu::client
