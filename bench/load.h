// SPDX-License-Identifier: MIT
//
// Measurements of vgpu-bench-load: the mediator under load, each compared with its target. Each
// measurement starts its own mediator; no state carries over to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "figure.h"

namespace vgpu::bench {

struct LoadPlan {
    std::string mediator;  // path of the program
    std::string backend = "cpu";
    std::size_t rounds = 5;  // 1 or more; the figures are medians over them
    // Throughput.
    std::size_t connections = 32;
    std::size_t requests = 20'000;        // per round, closed loop
    std::size_t paced_rate = 10'000;      // requests per second, all connections together
    std::size_t paced_requests = 20'000;  // per round
    // Flood.
    std::size_t flood_vms = 5;
    std::size_t flood_depth = 64;     // requests in flight per VM
    std::size_t flood_samples = 200;  // requests of the high-priority VM per round
    std::size_t work_us = 3000;       // approximate length of one execution
    // Idle.
    std::size_t idle_vms = 512;         // in addition to the one VM of the baseline
    std::size_t idle_connections = 32;  // for the CPU time
    std::size_t idle_window_ms = 10'000;
    // Fairness.
    std::size_t fair_window_ms = 2000;
};

// Each throws std::runtime_error or std::system_error, with an error message, on failure.
std::vector<Figure> measure_load_throughput(const LoadPlan& plan);
std::vector<Figure> measure_flood(const LoadPlan& plan);
std::vector<Figure> measure_idle_memory(const LoadPlan& plan);
std::vector<Figure> measure_idle_time(const LoadPlan& plan);
std::vector<Figure> measure_fairness(const LoadPlan& plan);
// Needs a GPU; without one, prints a "skipped:" line and returns no figures.
std::vector<Figure> measure_freeing(const LoadPlan& plan);

// Jain's fairness index: 1 if all shares are equal, 1/n if one has everything, 0 if all are 0.
double jain_index(std::span<const double> shares);
// Returns the largest relative error of the shares against their weights: 0.05 is 5 %.
// Precondition: both have the same size, all weights are positive.
double worst_share_error(std::span<const double> got, std::span<const double> weights);

// Returns the proportional set size in KiB from the text of /proc/PID/smaps_rollup, or nothing if
// it is missing.
std::optional<double> parse_pss_kib(std::string_view smaps_rollup);
// Returns user plus system CPU time in clock ticks from the text of /proc/PID/stat.
std::optional<std::uint64_t> parse_cpu_ticks(std::string_view stat);

}  // namespace vgpu::bench
