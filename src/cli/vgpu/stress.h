// SPDX-License-Identifier: MIT
//
// What the two halves of `vgpu stress` share: when additions are sent, and what came of them. One
// half sends requests through the registers, the other commands through a queue.
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

// With a least number of additions, the run ends after this many times its length all the same.
inline constexpr int kLongest = 10;
// Pause after an error: a mediator that is restarted takes some time.
inline constexpr auto kPause = std::chrono::milliseconds(20);

// What was done by one path with one operation.
struct Tally {
    std::string path;
    std::string operation;
    LatencyHistogram latency;                  // of what was answered
    std::chrono::nanoseconds longest_open{0};  // the longest that taking a queue took
    std::uint64_t wrong = 0;
    std::string first_wrong;  // a sentence
    std::map<std::string, std::uint64_t> errors;
    std::string first_error{};  // a sentence

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

// When one path sends its additions, and when its run ends. With a rate, each addition is due at a
// time of its own, however late those before it are, and its time counts from there: a stall delays
// all that are due in it, and is not counted as one slow addition.
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

    // Whether to go on after so many answers.
    [[nodiscard]] bool more(std::uint64_t answered) const {
        const auto now = StressClock::now();
        const auto next = paced() ? due_ : now;
        return next < end_ || (answered < least_ && now < longest_);
    }

    // Waits until the next `count` additions are due. The time from which theirs counts.
    StressClock::time_point next(std::uint32_t count) {
        if (!paced()) {
            return StressClock::now();
        }
        const auto due = due_;
        due_ += interval_ * count;
        std::this_thread::sleep_until(due);
        return due;
    }

    // Nothing could be sent: what was due meanwhile is not sent later.
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

// Additions, and matrix products if wanted, through one queue, until the schedule is over.
void stress_queue(Device& device, const Settings& settings, const StressOptions& options,
                  Schedule schedule, std::uint32_t seed, Tally& adds, Tally& products);

}  // namespace vgpu::cli
