// SPDX-License-Identifier: MIT
//
// Interleaved measurement of an operation and its baseline.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "statistics.h"

namespace vgpu::bench {

struct Pair {
    Summary floor;     // medians over the rounds
    Summary measured;  // the same
    double ratio = 0;  // median over the rounds of measured p50 / floor p50
};

// Appends durations of calls of `operation` in nanoseconds, each the mean over `block` calls, for
// calls that take no longer than reading the clock. Rounds `calls` up to whole blocks.
template <typename Operation>
void time_blocks(std::size_t calls, std::size_t block, Operation operation,
                 std::vector<std::int64_t>& durations) {
    using Clock = std::chrono::steady_clock;
    for (std::size_t done = 0; done < calls; done += block) {
        const auto begin = Clock::now();
        for (std::size_t i = 0; i < block; ++i) {
            operation();
        }
        const auto took = std::chrono::nanoseconds(Clock::now() - begin).count();
        durations.push_back(took / static_cast<std::int64_t>(block));
    }
}

// Calls `floor` and `measured` alternately with a number of calls to make, at most `turn`, and a
// vector for the durations. Runs a tenth of a round first, as warm-up.
template <typename Floor, typename Measured>
Pair measure_in_turns(std::size_t rounds, std::size_t calls, std::size_t turn, Floor floor,
                      Measured measured) {
    std::vector<Summary> floors;
    std::vector<Summary> results;
    std::vector<double> ratios;
    const auto run_round = [&](std::size_t count) {
        std::vector<std::int64_t> floor_times;
        std::vector<std::int64_t> times;
        for (std::size_t done = 0; done < count; done += turn) {
            floor(std::min(turn, count - done), floor_times);
            measured(std::min(turn, count - done), times);
        }
        return std::pair(summarize(std::move(floor_times)), summarize(std::move(times)));
    };
    run_round(calls / 10 + 1);
    for (std::size_t round = 0; round < rounds; ++round) {
        const auto [under, over] = run_round(calls);
        floors.push_back(under);
        results.push_back(over);
        ratios.push_back(over.p50 / under.p50);
    }
    return {median_of(floors), median_of(results), median(std::move(ratios))};
}

}  // namespace vgpu::bench
