// SPDX-License-Identifier: MIT
#include "statistics.h"

#include <algorithm>
#include <numeric>

#include "base/nearest_rank.h"

namespace vgpu::bench {

double median(std::vector<double> values) {
    if (values.empty()) {
        return 0;
    }
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double percentile(std::span<const std::int64_t> sorted, double share) {
    return static_cast<double>(sorted[nearest_rank(sorted.size(), share) - 1]);
}

Summary summarize(std::vector<std::int64_t> durations) {
    if (durations.empty()) {
        return {};
    }
    std::sort(durations.begin(), durations.end());
    const double sum = std::accumulate(durations.begin(), durations.end(), 0.0);
    return Summary{
        .min = static_cast<double>(durations.front()),
        .mean = sum / static_cast<double>(durations.size()),
        .p50 = percentile(durations, 0.50),
        .p90 = percentile(durations, 0.90),
        .p99 = percentile(durations, 0.99),
    };
}

Summary median_of(std::span<const Summary> rounds) {
    const auto field = [&](double Summary::*member) {
        std::vector<double> values;
        values.reserve(rounds.size());
        for (const Summary& round : rounds) {
            values.push_back(round.*member);
        }
        return median(std::move(values));
    };
    return Summary{
        .min = field(&Summary::min),
        .mean = field(&Summary::mean),
        .p50 = field(&Summary::p50),
        .p90 = field(&Summary::p90),
        .p99 = field(&Summary::p99),
    };
}

nlohmann::json to_json(const Summary& summary) {
    return {{"min_ns", summary.min},
            {"mean_ns", summary.mean},
            {"p50_ns", summary.p50},
            {"p90_ns", summary.p90},
            {"p99_ns", summary.p99}};
}

}  // namespace vgpu::bench
