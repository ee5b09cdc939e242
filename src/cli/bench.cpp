// SPDX-License-Identifier: MIT
//
// vgpu bench: round trips as a program in the guest sees them, one after the other. Every answer
// of an addition is checked: a fast wrong answer is a failure.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <vector>

#include "cli/common.h"

namespace vgpu::cli {
namespace {

using nlohmann::json;

constexpr std::uint32_t kWarmUp = 20;

struct Line {
    std::string operation;
    std::string wait;
    std::vector<double> sorted_us;
};

// The value at `share` of the way through the sorted values, to the nearest one.
double percentile(const std::vector<double>& sorted, double share) {
    const auto rank = std::lround(share * static_cast<double>(sorted.size() - 1));
    return sorted[static_cast<std::size_t>(rank)];
}

class Progress {
  public:
    Progress(const Settings& settings, std::string what, std::uint32_t total)
        : shown_(!settings.json && ::isatty(STDERR_FILENO) != 0),
          what_(std::move(what)),
          total_(total) {}
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    ~Progress() {
        if (shown_) {
            std::cerr << "\r\033[K" << std::flush;
        }
    }
    void at(std::uint32_t done) const {
        if (shown_ && done % std::max(1U, total_ / 50) == 0) {
            std::cerr << '\r' << what_ << ' ' << 100ULL * done / total_ << " %" << std::flush;
        }
    }

  private:
    bool shown_;
    std::string what_;
    std::uint32_t total_;
};

// One round trip. Fails on an error and on a wrong answer.
Outcome<void> round_trip(Device& device, const std::string& operation, std::minstd_rand& random,
                         std::chrono::nanoseconds timeout) {
    if (operation == "nop") {
        return device.nop(timeout);
    }
    const auto a = static_cast<std::uint32_t>(random());
    const auto b = static_cast<std::uint32_t>(random()) * 3;
    const auto sum = device.add(a, b, timeout);
    if (!sum) {
        return sum.failure();
    }
    if (*sum != a + b) {
        return Failure{VGPU_E_BAD_RESPONSE,
                       "wrong answer: " + std::to_string(a) + " + " + std::to_string(b) +
                           " came back as " + std::to_string(*sum) + "; tell the host's operator",
                       0};
    }
    return {};
}

Outcome<Line> measure(const Settings& settings, vgpu_wait_mode mode, const std::string& operation,
                      std::uint32_t count) {
    OpenOptions options = settings.open;
    options.wait_mode = mode;
    auto device = Device::open(options);
    if (!device) {
        return device.failure();
    }
    Line line{operation, mode == VGPU_WAIT_INTERRUPT ? "interrupt" : "poll", {}};
    line.sorted_us.reserve(count);
    // Other numbers for each VM, so that an answer to another VM's request is noticed.
    std::minstd_rand random(device->properties().vm_id * 7919 + 1);
    const Progress progress(settings, operation + " (" + line.wait + ")", count);
    for (std::uint32_t i = 0; i < kWarmUp + count; ++i) {
        Outcome<void> done;
        const auto took =
            time_of([&] { done = round_trip(*device, operation, random, settings.timeout); });
        if (!done) {
            return done.failure();
        }
        if (i >= kWarmUp) {
            line.sorted_us.push_back(static_cast<double>(took.count()) / 1e3);
            progress.at(i - kWarmUp);
        }
    }
    std::sort(line.sorted_us.begin(), line.sorted_us.end());
    return line;
}

json line_json(const Line& line) {
    const auto& us = line.sorted_us;
    return {
        {"operation", line.operation},
        {"wait", line.wait},
        {"n", us.size()},
        {"min_us", us.front()},
        {"p50_us", percentile(us, 0.50)},
        {"p90_us", percentile(us, 0.90)},
        {"p99_us", percentile(us, 0.99)},
        {"max_us", us.back()},
        {"mean_us", std::accumulate(us.begin(), us.end(), 0.0) / static_cast<double>(us.size())}};
}

void print_line(const json& line) {
    std::cout << std::left << std::setw(10) << line["operation"].get<std::string>() << std::setw(10)
              << line["wait"].get<std::string>() << std::right << std::setw(9)
              << line["n"].get<std::size_t>() << std::fixed << std::setprecision(1);
    for (const char* key : {"min_us", "p50_us", "p90_us", "p99_us", "mean_us"}) {
        std::cout << std::setw(10) << line[key].get<double>();
    }
    std::cout << std::endl;
}

// The ways of waiting to measure: the one asked for, or polling and, where there is one, the
// interrupt.
Outcome<std::vector<vgpu_wait_mode>> modes_of(const Settings& settings) {
    if (settings.open.wait_mode != VGPU_WAIT_AUTO) {
        return std::vector{settings.open.wait_mode};
    }
    auto device = Device::open(settings.open);
    if (!device) {
        return device.failure();
    }
    std::vector modes{VGPU_WAIT_POLL};
    if (device->properties().has_interrupt != 0) {
        modes.push_back(VGPU_WAIT_INTERRUPT);
    }
    return modes;
}

}  // namespace

int run_bench(const Settings& settings, const BenchOptions& options) {
    const auto modes = modes_of(settings);
    if (!modes) {
        return report_failure(settings, modes.failure());
    }
    std::vector<std::string> operations{"nop", "add"};
    if (!options.operation.empty()) {
        operations = {options.operation};
    }
    json lines = json::array();
    if (!settings.json) {
        std::cout << "operation waits by        n    min us       p50       p90       p99      mean"
                  << std::endl;
    }
    for (const auto mode : *modes) {
        for (const auto& operation : operations) {
            const auto line = measure(settings, mode, operation, options.count);
            if (!line) {
                return report_failure(settings, line.failure(), {{"lines", lines}});
            }
            lines.push_back(line_json(*line));
            if (!settings.json) {
                print_line(lines.back());
            }
        }
    }
    if (settings.json) {
        print_json({{"ok", true}, {"lines", lines}});
    }
    return kSuccess;
}

}  // namespace vgpu::cli
