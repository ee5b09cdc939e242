// SPDX-License-Identifier: MIT
//
// `vgpuctl top`: who uses the GPUs now. What is shown is calculated here from two samples of the
// API, without a terminal; the terminal is in run_top().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace vgpu::ctl {

struct Sample {
    nlohmann::json status;
    nlohmann::json gpus;  // the array
    nlohmann::json vms;   // the array
    std::chrono::steady_clock::time_point at;
};

struct TopRow {
    std::uint64_t vm = 0;
    std::string pool;
    std::string priority;
    double gpu_percent = 0;  // of one slot's time, between the samples
    double rate = 0;         // requests done a second, between the samples
    double queued = 0;
    double running = 0;
    double wait_us = 0;  // mean since the mediator's start
    double memory = 0;   // bytes
    bool connected = false;
    bool quarantined = false;
};

enum class Sort : std::uint8_t { kGpu, kRate, kQueued, kWait, kMemory, kVm };
// The next one in a circle.
Sort next(Sort sort);

// Sorted: the largest first, but VMs by id. VMs that are alike stand in the order of their ids. A
// VM that `before` does not know counts from zero; one whose counters went back (the mediator was
// started anew) too.
std::vector<TopRow> top_rows(const Sample& before, const Sample& now, Sort sort);

// The whole screen: at most `height` lines of at most `width` columns, each ended by '\n'.
std::string top_screen(const Sample& now, const std::vector<TopRow>& rows, Sort sort, bool paused,
                       std::size_t width, std::size_t height);

nlohmann::json top_json(const Sample& now, const std::vector<TopRow>& rows);

// Shows samples until q, SIGINT or SIGTERM (success), or until `take` fails; a signal that asks to
// end while `take` runs ends the program. Ctrl-Z stops it; when it goes on in the foreground it
// paints the screen again. Precondition: standard input and output are a terminal. The terminal is
// as it was found whenever the program is stopped or has ended, also by a crash.
Result<void> run_top(const std::function<Result<Sample>()>& take,
                     std::chrono::milliseconds interval);

}  // namespace vgpu::ctl
