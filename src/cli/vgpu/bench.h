// SPDX-License-Identifier: MIT
//
// Shared by the two halves of `vgpu bench`: a line of the table and the progress display. One half
// sends requests through the registers, one at a time; the other sends commands through a queue,
// one or many at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iostream>
#include <optional>
#include <string>

#include <unistd.h>

#include "cli/vgpu/common.h"
#include "cli/vgpu/latency.h"

namespace vgpu::cli {

inline constexpr std::uint32_t kWarmUp = 20;

struct BenchLine {
    std::string operation;
    std::string wait;
    std::string path;
    std::uint64_t count = 0;      // commands or requests measured
    std::uint32_t in_flight = 1;  // maximum
    std::uint64_t size = 0;       // bytes that each moves or computes; 0: not applicable
    double seconds = 0;           // total
    LatencyHistogram latency;     // of single round trips; empty if several are in flight
    // memcpy() of the same size on this machine, measured in the same run; 0: not measured.
    double memcpy_bytes_per_second = 0;
};

// Shows the progress of a measurement on the terminal.
class Progress {
  public:
    Progress(const Settings& settings, std::string what, std::uint64_t total)
        : on_terminal_(!settings.json && ::isatty(STDERR_FILENO) != 0),
          what_(std::move(what)),
          total_(total) {}
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress() {
        if (shown()) {
            std::cerr << "\r\033[K" << std::flush;
        }
    }
    void at(std::uint64_t done) const {
        if (on_terminal_ && done % std::max<std::uint64_t>(1, total_ / 50) == 0 && shown()) {
            std::cerr << '\r' << what_ << ' ' << 100 * done / total_ << " %" << std::flush;
        }
    }

  private:
    // In the background (`vgpu bench &`, or Ctrl-Z and bg) the line would disturb the foreground
    // program.
    [[nodiscard]] bool shown() const {
        return on_terminal_ && ::tcgetpgrp(STDERR_FILENO) == ::getpgrp();
    }

    bool on_terminal_;
    std::string what_;
    std::uint64_t total_;
};

inline Failure wrong_answer(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
    return {VGPU_E_BAD_RESPONSE,
            "wrong result: " + std::to_string(a) + " + " + std::to_string(b) + " came back as " +
                std::to_string(sum) + "; report this to the host's operator",
            0};
}

// Returns why queues cannot be measured; nothing if they can.
std::optional<std::string> why_no_queue_bench(const Settings& settings);

// Measures the queue path. Passes each line to `tell` as soon as it is complete.
Expected<void> bench_queues(const Settings& settings, const BenchOptions& options,
                            const std::function<void(const BenchLine&)>& tell);

}  // namespace vgpu::cli
