// SPDX-License-Identifier: MIT
//
// Measurements of vgpu-bench-fastpath: a host process with a queue in shared memory, compared with
// the baselines of the machine (floors.h, native_gpu.h). Each round interleaves both, and a
// ratio is the median over the rounds, so that disturbances of the machine affect both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "figure.h"

namespace vgpu::bench {

struct FastPathPlan {
    std::string mediator;  // path of the program
    std::string backend = "cpu";
    std::size_t rounds = 15;         // 1 or more
    std::size_t iterations = 4000;   // round trips in a round
    std::size_t commands = 400'000;  // in a round of the throughput
    std::size_t window = 64;         // commands in flight there
    std::size_t adds = 1'000'000;
    std::size_t add_window = 128;
    std::uint64_t shm_size = std::uint64_t{512} << 20;      // bytes, for the copies
    std::uint64_t largest_copy = std::uint64_t{256} << 20;  // bytes, at most half of that
    std::size_t copy_rounds = 5;
    std::size_t copies_in_flight = 4;
};

// A point of the plot.
struct Bandwidth {
    std::string name;  // e.g. "heap to device"
    std::uint64_t bytes = 0;
    double gb_per_second = 0;  // 10^9 bytes, median over the rounds
};

struct CopyFigures {
    std::vector<Figure> figures;
    std::vector<Bandwidth> points;
};

// Each function starts its own mediator and throws std::runtime_error or std::system_error, with an
// error message, on failure. What cannot be measured on this machine is reported on standard output
// in a line that begins with "skipped:".

// NOP, one in flight: both sides polling, compared with two polling processes; both sides blocking,
// compared with two processes that block on an eventfd.
std::vector<Figure> measure_nop_latency(const FastPathPlan& plan);
// NOP with plan.window in flight, compared with the raw ring and with the socket path.
std::vector<Figure> measure_nop_rate(const FastPathPlan& plan);
// Additions: many in flight, each checked; with CUDA also one heap element at a time, compared with
// the GPU without a mediator.
std::vector<Figure> measure_adds(const FastPathPlan& plan);
// Copies of 4 KiB to plan.largest_copy between heap and device, compared with copies of pinned
// memory without a mediator (CUDA) or memcpy (CPU).
CopyFigures measure_copies(const FastPathPlan& plan);

}  // namespace vgpu::bench
