// SPDX-License-Identifier: MIT
//
// What the two halves of `vgpu bench` share: a line of the table, and how it is measured. One half
// sends requests through the registers, one after the other; the other half commands through a
// queue, one at a time or many.
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
    std::uint32_t in_flight = 1;  // at most, at a time
    std::uint64_t size = 0;       // bytes that each moves or computes; 0: says nothing
    double seconds = 0;           // for all of them
    LatencyHistogram latency;     // of each one's round trip; empty where several are in flight
    // The machine's own copy of as many bytes, seen in the same run; 0: not measured.
    double memcpy_bytes_per_second = 0;
};

// A line on the terminal that says how far a measurement is.
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
    // In the background (`vgpu bench &`, or Ctrl-Z and bg) the line would stand in the way of what
    // has the terminal.
    [[nodiscard]] bool shown() const {
        return on_terminal_ && ::tcgetpgrp(STDERR_FILENO) == ::getpgrp();
    }

    bool on_terminal_;
    std::string what_;
    std::uint64_t total_;
};

inline Failure wrong_answer(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
    return {VGPU_E_BAD_RESPONSE,
            "wrong answer: " + std::to_string(a) + " + " + std::to_string(b) + " came back as " +
                std::to_string(sum) + "; tell the host's operator",
            0};
}

// Whether queues can be measured; if not, why.
std::optional<std::string> why_no_queue_bench(const Settings& settings);

// The lines of the queue path; each is given to `tell` as soon as it is measured.
Outcome<void> bench_queues(const Settings& settings, const BenchOptions& options,
                           const std::function<void(const BenchLine&)>& tell);

}  // namespace vgpu::cli
