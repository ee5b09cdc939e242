// SPDX-License-Identifier: MIT
//
// Statistics of measured durations, independent of what was measured.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

namespace vgpu::bench {

// All in nanoseconds.
struct Summary {
    double min = 0;
    double mean = 0;
    double p50 = 0;
    double p90 = 0;
    double p99 = 0;
};

// Returns the middle value; the mean of the two middle ones for an even count; 0 for no values.
double median(std::vector<double> values);

// Returns the smallest value that at least `share` (0 < share <= 1) of the values do not exceed.
// Precondition: `sorted` is sorted and not empty.
double percentile(std::span<const std::int64_t> sorted, double share);

// Returns the summary of durations in nanoseconds; all 0 for none.
Summary summarize(std::vector<std::int64_t> durations);

// Returns the field-wise median over several rounds, so that one disturbed round has no effect.
Summary median_of(std::span<const Summary> rounds);

// {"min_ns": …, "mean_ns": …, "p50_ns": …, "p90_ns": …, "p99_ns": …}
nlohmann::json to_json(const Summary& summary);

}  // namespace vgpu::bench
