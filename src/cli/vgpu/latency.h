// SPDX-License-Identifier: MIT
//
// LatencyHistogram: counts durations in buckets, in constant memory, so that a run of any length
// can be measured. A bucket is at most 1/128 wide, relative to its values; minimum and maximum are
// exact.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/nearest_rank.h"

namespace vgpu::cli {

class LatencyHistogram {
  public:
    using Duration = std::chrono::nanoseconds;

    // Counts a negative duration as 0.
    void add(Duration duration) {
        const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0));
        ++buckets_[bucket_of(ns)];
        least_ = count_ == 0 ? ns : std::min(least_, ns);
        greatest_ = std::max(greatest_, ns);
        sum_ += static_cast<double>(ns);
        ++count_;
    }

    [[nodiscard]] std::uint64_t count() const { return count_; }
    [[nodiscard]] Duration least() const { return to_duration(least_); }
    [[nodiscard]] Duration greatest() const { return to_duration(greatest_); }
    // Returns 0 if nothing was added.
    [[nodiscard]] Duration mean() const {
        return Duration(static_cast<std::int64_t>(
            sum_ / static_cast<double>(std::max<std::uint64_t>(count_, 1))));
    }

    // Returns the value at `share` (0 to 1) of the sorted values, rounded up to the end of its
    // bucket. 0 if nothing was added.
    [[nodiscard]] Duration percentile(double share) const {
        if (count_ == 0) {
            return Duration(0);
        }
        const std::uint64_t rank = nearest_rank(count_, share);
        std::uint64_t seen = 0;
        for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
            seen += buckets_[bucket];
            if (seen >= rank) {
                return to_duration(std::clamp(end_of(bucket), least_, greatest_));
            }
        }
        return Duration(0);
    }

  private:
    static constexpr unsigned kSubBits = 7;  // 128 buckets per power of two
    static constexpr std::uint64_t kSub = 1U << kSubBits;
    static constexpr std::size_t kBuckets = (64 - kSubBits + 1) * kSub;

    // Values below kSub have one bucket each; above, each power of two has kSub buckets.
    static std::size_t bucket_of(std::uint64_t ns) {
        if (ns < kSub) {
            return static_cast<std::size_t>(ns);
        }
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - kSubBits;
        return static_cast<std::size_t>((shift + 1) * kSub + ((ns >> shift) - kSub));
    }
    // Returns the greatest value of a bucket.
    static std::uint64_t end_of(std::size_t bucket) {
        if (bucket < kSub) {
            return bucket;
        }
        const auto shift = static_cast<unsigned>(bucket / kSub) - 1;
        return ((bucket % kSub + kSub + 1) << shift) - 1;
    }
    static Duration to_duration(std::uint64_t ns) {
        return Duration(static_cast<std::int64_t>(ns));
    }

    std::array<std::uint64_t, kBuckets> buckets_{};
    std::uint64_t count_ = 0;
    std::uint64_t least_ = 0;
    std::uint64_t greatest_ = 0;
    double sum_ = 0;
};

}  // namespace vgpu::cli
