// SPDX-License-Identifier: MIT
//
// The measurements of vgpu-bench-load: what the mediator does under load, each beside the figure
// that it is to reach. Each starts a mediator of its own; nothing is left of one for the next.
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
    std::size_t requests = 20'000;        // a round, closed loop
    std::size_t paced_rate = 10'000;      // requests a second, all connections together
    std::size_t paced_requests = 20'000;  // a round
    // Flood.
    std::size_t flood_vms = 5;
    std::size_t flood_depth = 64;     // requests that each of them keeps under way
    std::size_t flood_samples = 200;  // requests of the high-priority VM, a round
    std::size_t work_us = 3000;       // length of one execution, about
    // Idle.
    std::size_t idle_vms = 512;         // more than the one that is measured without them
    std::size_t idle_connections = 32;  // for the processor time
    std::size_t idle_window_ms = 10'000;
    // Fairness.
    std::size_t fair_window_ms = 2000;
};

// Each throws std::runtime_error or std::system_error, with a sentence, if anything goes wrong.
std::vector<Figure> measure_load_throughput(const LoadPlan& plan);
std::vector<Figure> measure_flood(const LoadPlan& plan);
std::vector<Figure> measure_idle_memory(const LoadPlan& plan);
std::vector<Figure> measure_idle_time(const LoadPlan& plan);
std::vector<Figure> measure_fairness(const LoadPlan& plan);
// On a GPU alone; elsewhere no figures, and a line that says so.
std::vector<Figure> measure_freeing(const LoadPlan& plan);

// Jain's index of what each got: 1 where all got the same, 1/n where one got all; 0 for nothing.
double jain_index(std::span<const double> shares);
// The largest relative error of the shares against those that the weights ask for: 0.05 is 5 %.
// Precondition: as many of the one as of the other, all weights over 0.
double worst_share_error(std::span<const double> got, std::span<const double> weights);

// From the text of /proc/PID/smaps_rollup: proportional set size in KiB; nothing if it is not
// there.
std::optional<double> parse_pss_kib(std::string_view smaps_rollup);
// From the text of /proc/PID/stat: processor time in clock ticks, user and system together.
std::optional<std::uint64_t> parse_cpu_ticks(std::string_view stat);

}  // namespace vgpu::bench
