// SPDX-License-Identifier: MIT
//
// `vgpuctl top`: current use of the GPUs per VM. Rows and screen are computed from two samples of
// the API, without a terminal; run_top() handles the terminal.
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
    double rate = 0;         // requests completed per second, between the samples
    double queued = 0;
    double running = 0;
    double wait_us = 0;  // mean since the mediator's start
    double memory = 0;   // bytes
    bool connected = false;
    bool quarantined = false;
    bool throttled = false;
};

enum class Sort : std::uint8_t { kGpu, kRate, kQueued, kWait, kMemory, kVm };
// Returns the next order, cyclically.
Sort next(Sort sort);

// Returns sorted rows: the largest first, but VMs by id. Ties are ordered by VM id. A VM that is
// not in `before` counts from zero; so does one whose counters decreased (the mediator restarted).
std::vector<TopRow> top_rows(const Sample& before, const Sample& now, Sort sort);

// Renders the whole screen: at most `height` lines of at most `width` columns, each ended by '\n'.
std::string top_screen(const Sample& now, const std::vector<TopRow>& rows, Sort sort, bool paused,
                       std::size_t width, std::size_t height);

nlohmann::json top_json(const Sample& now, const std::vector<TopRow>& rows);

// Shows samples until q, SIGINT or SIGTERM (success), or until `take` fails; a termination signal
// during `take` ends the program. Ctrl-Z stops it; when it continues in the foreground it redraws
// the screen. Precondition: standard input and output are a terminal. The terminal's state is
// restored whenever the program stops or ends, even by a crash.
Result<void> run_top(const std::function<Result<Sample>()>& take,
                     std::chrono::milliseconds interval);

}  // namespace vgpu::ctl
