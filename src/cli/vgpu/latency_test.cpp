// SPDX-License-Identifier: MIT
//
// Compares the histogram's percentiles with sorted values.
#include "cli/vgpu/latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace vgpu::cli {
namespace {

using std::chrono::nanoseconds;

TEST(LatencyHistogram, IsEmptyAtFirst) {
    const LatencyHistogram empty;
    EXPECT_EQ(empty.count(), 0U);
    EXPECT_EQ(empty.percentile(0.5), nanoseconds(0));
    EXPECT_EQ(empty.greatest(), nanoseconds(0));
    EXPECT_EQ(empty.mean(), nanoseconds(0));
}

TEST(LatencyHistogram, IsExactForSmallValuesAndForTheEnds) {
    LatencyHistogram histogram;
    for (int ns = 1; ns <= 20; ++ns) {
        histogram.add(nanoseconds(ns));
    }
    EXPECT_EQ(histogram.percentile(0.5), nanoseconds(10));
    EXPECT_EQ(histogram.mean(), nanoseconds(10)) << "10.5, cut";
    EXPECT_EQ(histogram.percentile(0), nanoseconds(1));
    EXPECT_EQ(histogram.percentile(1), nanoseconds(20));
    histogram.add(nanoseconds(-5));
    EXPECT_EQ(histogram.least(), nanoseconds(0));
    histogram.add(nanoseconds::max());
    EXPECT_EQ(histogram.greatest(), nanoseconds::max());
    EXPECT_EQ(histogram.percentile(1), nanoseconds::max());
}

TEST(LatencyHistogram, IsWithinABucketOfSortedValues) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> durations(11, 3);
    LatencyHistogram histogram;
    std::vector<double> sorted;
    for (int i = 0; i < 10000; ++i) {
        const auto ns = static_cast<std::int64_t>(durations(random));
        histogram.add(nanoseconds(ns));
        sorted.push_back(static_cast<double>(ns));
    }
    std::sort(sorted.begin(), sorted.end());
    for (const double share : {0.01, 0.5, 0.9, 0.99, 0.999}) {
        const double exact = sorted[static_cast<std::size_t>(share * 10000) - 1];
        const auto found = static_cast<double>(histogram.percentile(share).count());
        EXPECT_GE(found, exact) << share;
        EXPECT_LE(found, exact * (1 + 1.0 / 128) + 1) << share;
    }
}

}  // namespace
}  // namespace vgpu::cli
