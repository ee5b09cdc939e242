// SPDX-License-Identifier: MIT
//
// LoopLatency: the longest time between two polls of each kind of source while the control loop was
// awake: the delay that a request can suffer from the loop alone. Time asleep does not count,
// because the kernel wakes the loop.
//
// Control loop only; pure data.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace vgpu {

// One event loop serves sockets, connections, doorbells, timers, signals and the admin API in the
// order in which they became ready, so one poll of them is a round of that loop.
enum class LoopSource : std::uint8_t { kEvents, kQueues, kCompletions };
inline constexpr std::size_t kLoopSources = 3;
inline constexpr std::array<const char*, kLoopSources> kLoopSourceNames{"events", "queues",
                                                                        "completions"};

class LoopLatency {
  public:
    static constexpr std::chrono::seconds kWindow{30};

    // Records a poll of this source. Returns the time since the previous poll.
    std::chrono::nanoseconds polled(LoopSource source, std::chrono::nanoseconds now) {
        if (now - window_began_ >= kWindow) {
            begin_window(now);
        }
        One& one = of_[static_cast<std::size_t>(source)];
        const auto passed = now - one.last;
        one.last = now;
        one.longest = std::max(one.longest, passed);
        return passed;
    }
    // Records that the loop has slept until `now`.
    void slept(std::chrono::nanoseconds now) {
        for (One& one : of_) {
            one.last = now;
        }
    }
    // Returns the longest time between two polls within the last one to two windows. An idle loop
    // begins no window, so what is older is left out here.
    [[nodiscard]] std::chrono::nanoseconds longest(std::size_t source,
                                                   std::chrono::nanoseconds now) const {
        const auto age = now - window_began_;
        if (age >= 2 * kWindow) {
            return std::chrono::nanoseconds(0);
        }
        const One& one = of_.at(source);
        return age >= kWindow ? one.longest : std::max(one.longest, one.longest_before);
    }

  private:
    struct One {
        std::chrono::nanoseconds last{0};
        std::chrono::nanoseconds longest{0};         // in this window
        std::chrono::nanoseconds longest_before{0};  // in the previous one
    };

    void begin_window(std::chrono::nanoseconds now) {
        const bool idle = now - window_began_ >= 2 * kWindow;
        window_began_ = now;
        for (One& one : of_) {
            one.longest_before = idle ? std::chrono::nanoseconds(0) : one.longest;
            one.longest = std::chrono::nanoseconds(0);
        }
    }

    std::array<One, kLoopSources> of_;
    std::chrono::nanoseconds window_began_{0};
};

}  // namespace vgpu
