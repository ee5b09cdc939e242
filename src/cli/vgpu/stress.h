// SPDX-License-Identifier: MIT
//
// Shared by the two halves of `vgpu stress`: the schedule of additions and the tally of results.
// One half sends requests through the registers, the other commands through a queue.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "cli/vgpu/common.h"
#include "cli/vgpu/latency.h"

namespace vgpu::cli {

using StressClock = std::chrono::steady_clock;

// With a minimum number of additions, the run ends after this many times its length at the latest.
inline constexpr int kLongest = 10;
// Pause after an error: a mediator that restarts takes some time.
inline constexpr auto kPause = std::chrono::milliseconds(20);

// Results of one operation on one path.
struct Tally {
    std::string path;
    std::string operation;
    LatencyHistogram latency;                  // of answered operations
    std::chrono::nanoseconds longest_open{0};  // longest time to open a queue
    std::uint64_t wrong = 0;
    std::string first_wrong;  // error text
    std::map<std::string, std::uint64_t> errors;
    std::string first_error{};  // error text

    void count_wrong(const std::string& what) {
        if (wrong++ == 0) {
            first_wrong = what;
        }
    }
    void count_error(const Failure& failure) {
        ++errors[vgpu_code_name(failure.code)];
        if (first_error.empty()) {
            first_error = failure.message;
        }
    }
};

// Determines when one path sends its additions and when its run ends. With a rate, each addition is
// due at its own time, however late those before it are, and its latency counts from there: a stall
// delays all additions due during it instead of one (avoids coordinated omission).
class Schedule {
  public:
    explicit Schedule(const StressOptions& options)
        : least_(options.count),
          interval_(options.rate == 0
                        ? std::chrono::nanoseconds(0)
                        : std::chrono::nanoseconds(std::chrono::seconds(1)) / options.rate),
          due_(StressClock::now()),
          end_(due_ + options.length),
          longest_(due_ + kLongest * options.length) {}

    // Returns whether to continue after this many answers.
    [[nodiscard]] bool more(std::uint64_t answered) const {
        const auto now = StressClock::now();
        const auto next = paced() ? due_ : now;
        return next < end_ || (answered < least_ && now < longest_);
    }

    // Waits until the next `count` additions are due. Returns the start of their latency.
    StressClock::time_point next(std::uint32_t count) {
        if (!paced()) {
            return StressClock::now();
        }
        const auto due = due_;
        due_ += interval_ * count;
        std::this_thread::sleep_until(due);
        return due;
    }

    // Skips the additions that became due while nothing could be sent.
    void skip() {
        const auto now = StressClock::now();
        if (paced() && due_ < now) {
            due_ += interval_ * ((now - due_) / interval_ + 1);
        }
    }

  private:
    [[nodiscard]] bool paced() const { return interval_.count() != 0; }

    std::uint64_t least_;
    std::chrono::nanoseconds interval_;
    StressClock::time_point due_;
    StressClock::time_point end_;
    StressClock::time_point longest_;
};

inline std::string sum_text(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
    return std::to_string(a) + " + " + std::to_string(b) + " came back as " + std::to_string(sum);
}

// Runs additions, and matrix products if requested, through one queue until the schedule ends.
void stress_queue(Device& device, const Settings& settings, const StressOptions& options,
                  Schedule schedule, std::uint32_t seed, Tally& adds, Tally& products);

}  // namespace vgpu::cli
