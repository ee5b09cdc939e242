// SPDX-License-Identifier: MIT
//
// BusyTime: execution time of a device, total and over the last seconds. An execution is added when
// it ends and is spread over the seconds in which it ran. Pure data; O(1).
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace vgpu {

class BusyTime {
  public:
    static constexpr std::chrono::seconds kWindow{10};

    // Adds an execution of duration `used` that ended at `now`.
    void add(std::chrono::nanoseconds used, std::chrono::nanoseconds now) {
        total_ += used;
        auto end = now;
        auto left = used;
        for (std::size_t i = 0; i < kSeconds && left.count() > 0 && end.count() > 0; ++i) {
            const std::int64_t second = (end - std::chrono::nanoseconds(1)) / kSecond;
            const auto part = std::min(left, end - second * kSecond);
            at(second) += part;
            left -= part;
            end = second * kSecond;
        }
    }
    [[nodiscard]] std::chrono::nanoseconds total() const { return total_; }
    // Returns the executing fraction of the window up to `now`: 1 is one slot always busy.
    [[nodiscard]] double share(std::chrono::nanoseconds now) const {
        const std::int64_t present = now / kSecond;
        std::chrono::nanoseconds sum{0};
        for (const Second& second : seconds_) {
            if (second.number > present - static_cast<std::int64_t>(kSeconds)) {
                sum += second.busy;
            }
        }
        const auto window = kWindow + (now - present * kSecond);
        return static_cast<double>(sum.count()) / static_cast<double>(window.count());
    }

  private:
    static constexpr std::chrono::nanoseconds kSecond{std::chrono::seconds(1)};
    // The window, and the current second.
    static constexpr std::size_t kSeconds = static_cast<std::size_t>(kWindow.count()) + 1;

    struct Second {
        std::int64_t number = -1'000'000;
        std::chrono::nanoseconds busy{0};
    };

    std::chrono::nanoseconds& at(std::int64_t number) {
        Second& second = seconds_[static_cast<std::size_t>(number) % kSeconds];
        if (second.number != number) {
            second = {.number = number, .busy = std::chrono::nanoseconds(0)};
        }
        return second.busy;
    }

    std::chrono::nanoseconds total_{0};
    std::array<Second, kSeconds> seconds_;
};

}  // namespace vgpu
