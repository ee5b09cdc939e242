// SPDX-License-Identifier: MIT
//
// vgpu bench: latency and throughput that a program in the guest observes, through the registers
// and through a queue. Checks the result of every addition: a fast wrong answer is a failure.
#include "cli/vgpu/bench.h"

#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

namespace vgpu::cli {
namespace {

using nlohmann::json;

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e3;
}

// Runs one round trip. Fails on an error and on a wrong answer.
Expected<void> round_trip(Device& device, const std::string& operation, std::minstd_rand& random,
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
        return wrong_answer(a, b, *sum);
    }
    return {};
}

Expected<BenchLine> measure(const Settings& settings, vgpu_wait_mode mode,
                            const std::string& operation, std::uint32_t count) {
    OpenOptions options = settings.open;
    options.wait_mode = mode;
    auto device = Device::open(options);
    if (!device) {
        return device.failure();
    }
    BenchLine line;
    line.operation = operation;
    line.wait = mode == VGPU_WAIT_INTERRUPT ? "interrupt" : "poll";
    line.path = request_path(settings);
    line.count = count;
    // Different operands for each VM, so that a response to another VM's request is detected.
    std::minstd_rand random(device->properties().vm_id * 7919 + 1);
    const Progress progress(settings, operation + " (" + line.wait + ")", count);
    for (std::uint32_t i = 0; i < kWarmUp + count; ++i) {
        Expected<void> done;
        const auto took =
            time_of([&] { done = round_trip(*device, operation, random, settings.timeout); });
        if (!done) {
            return done.failure();
        }
        if (i >= kWarmUp) {
            line.latency.add(took);
            line.seconds += static_cast<double>(took.count()) / 1e9;
            progress.at(i - kWarmUp);
        }
    }
    return line;
}

json line_json(const BenchLine& line) {
    const double per_second = static_cast<double>(line.count) / line.seconds;
    json made{{"operation", line.operation}, {"wait", line.wait},
              {"path", line.path},           {"n", line.count},
              {"in_flight", line.in_flight}, {"per_second", per_second},
              {"mean_us", 1e6 / per_second}};
    if (const LatencyHistogram& latency = line.latency; latency.count() != 0) {
        made.update({{"min_us", microseconds(latency.least())},
                     {"p50_us", microseconds(latency.percentile(0.50))},
                     {"p90_us", microseconds(latency.percentile(0.90))},
                     {"p99_us", microseconds(latency.percentile(0.99))},
                     {"max_us", microseconds(latency.greatest())}});
    }
    if (line.size != 0) {
        made["size"] = line.size;
        made["bytes_per_second"] = per_second * static_cast<double>(line.size);
    }
    if (line.memcpy_bytes_per_second != 0) {
        made["memcpy_bytes_per_second"] = line.memcpy_bytes_per_second;
    }
    return made;
}

void print_heading() {
    std::cout << "operation   waits by  path         n  in flight    min us       p50       p90"
                 "       p99      mean     per s    GB/s"
              << std::endl;
}

void print_line(const json& line) {
    std::cout << std::left << std::setw(12) << line["operation"].get<std::string>() << std::setw(10)
              << line["wait"].get<std::string>() << std::setw(10) << line["path"].get<std::string>()
              << std::right << std::setw(8) << line["n"].get<std::uint64_t>() << std::setw(6)
              << line["in_flight"].get<std::uint32_t>() << std::fixed;
    for (const char* key : {"min_us", "p50_us", "p90_us", "p99_us", "mean_us"}) {
        if (line.contains(key)) {
            const auto value = line[key].get<double>();
            std::cout << std::setprecision(value < 10 ? 3 : 1) << std::setw(10) << value;
        } else {
            std::cout << std::setw(10) << "-";
        }
    }
    std::cout << std::setprecision(0) << std::setw(10) << line["per_second"].get<double>();
    if (line.contains("bytes_per_second")) {
        std::cout << std::setprecision(2) << std::setw(8)
                  << line["bytes_per_second"].get<double>() / 1e9;
    }
    std::cout << std::endl;
}

// Returns the wait modes to measure: the requested one, or polling and, if available, the
// interrupt.
Expected<std::vector<vgpu_wait_mode>> modes_of(const Settings& settings) {
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
    // Some operations are available through a queue only.
    const bool queue_only =
        !options.operation.empty() && options.operation != "nop" && options.operation != "add";
    const bool registers = options.path != "queue" && !queue_only;
    const bool queue = options.path != "registers";
    if (options.path == "registers" && (queue_only || options.in_flight > 1)) {
        report_failure(settings, {VGPU_E_ARGUMENT,
                                  "the registers support only nop and add, one at a time: omit "
                                  "--path, or use --path queue",
                                  0});
        return kUsage;
    }
    std::vector<std::string> operations{"nop", "add"};
    if (!options.operation.empty()) {
        operations = {options.operation};
    }
    json lines = json::array();
    json document{{"ok", true}};
    const auto tell = [&](const BenchLine& line) {
        lines.push_back(line_json(line));
        if (!settings.json) {
            print_line(lines.back());
        }
    };
    const auto failed = [&](const Failure& failure) {
        return report_failure(settings, failure, {{"lines", lines}});
    };
    if (!settings.json) {
        print_heading();
    }
    if (registers) {
        const auto modes = modes_of(settings);
        if (!modes) {
            return failed(modes.failure());
        }
        for (const auto mode : *modes) {
            for (const auto& operation : operations) {
                const auto line = measure(settings, mode, operation, options.count);
                if (!line) {
                    return failed(line.failure());
                }
                tell(*line);
            }
        }
    }
    if (queue) {
        const auto why_not = why_no_queue_bench(settings);
        if (why_not && !registers) {
            return failed({VGPU_E_NO_QUEUES, *why_not, 0});
        }
        if (why_not) {
            document["queue_skipped"] = *why_not;
            if (!settings.json) {
                std::cout << "queue       skipped: " << *why_not << std::endl;
            }
        } else if (const auto done = bench_queues(settings, options, tell); !done) {
            return failed(done.failure());
        }
    }
    if (settings.json) {
        document["lines"] = lines;
        print_json(document);
    }
    return kSuccess;
}

}  // namespace vgpu::cli
