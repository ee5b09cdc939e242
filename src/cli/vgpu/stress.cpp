// SPDX-License-Identifier: MIT
//
// vgpu stress: additions of random numbers through the registers and through a queue at the same
// time, each result compared with the guest's own arithmetic. An error is counted by its name and
// the run continues, so that it can span a restart of the mediator. Wrong results are counted
// separately.
#include "cli/vgpu/stress.h"

#include <exception>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

namespace vgpu::cli {
namespace {

using nlohmann::json;

// Sends requests through the registers, one at a time.
void stress_registers(Device& device, const Settings& settings, Schedule schedule,
                      std::uint32_t seed, Tally& tally) {
    std::mt19937 random(seed);
    while (schedule.more(tally.latency.count())) {
        const auto a = static_cast<std::uint32_t>(random());
        const auto b = static_cast<std::uint32_t>(random());
        const auto start = schedule.next(1);
        const auto sum = device.add(a, b, settings.timeout);
        const auto took = StressClock::now() - start;
        if (!sum) {
            tally.count_error(sum.failure());
            std::this_thread::sleep_for(kPause);
            continue;
        }
        tally.latency.add(took);
        if (*sum != a + b) {
            tally.count_wrong(sum_text(a, b, *sum));
        }
    }
}

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e3;
}

json tally_json(const Tally& tally, double seconds) {
    const LatencyHistogram& latency = tally.latency;
    json made{
        {"path", tally.path},     {"operation", tally.operation},
        {"n", latency.count()},   {"wrong", tally.wrong},
        {"errors", tally.errors}, {"per_second", static_cast<double>(latency.count()) / seconds}};
    if (latency.count() != 0) {
        made.update({{"min_us", microseconds(latency.least())},
                     {"mean_us", microseconds(latency.mean())},
                     {"p50_us", microseconds(latency.percentile(0.50))},
                     {"p99_us", microseconds(latency.percentile(0.99))},
                     {"max_us", microseconds(latency.greatest())}});
    }
    if (tally.path == "queue" && tally.operation == "add") {
        made["open_us"] = microseconds(tally.longest_open);
    }
    if (!tally.errors.empty()) {
        made["first_error"] = tally.first_error;
    }
    if (tally.wrong != 0) {
        made["first_wrong"] = tally.first_wrong;
    }
    return made;
}

void print_tally(const json& line) {
    std::cout << std::left << std::setw(10) << line["path"].get<std::string>() << std::setw(10)
              << line["operation"].get<std::string>() << std::right << std::setw(10)
              << line["n"].get<std::uint64_t>() << std::setw(7)
              << line["wrong"].get<std::uint64_t>();
    std::uint64_t errors = 0;
    for (const auto& [name, count] : line["errors"].items()) {
        errors += count.get<std::uint64_t>();
    }
    std::cout << std::setw(8) << errors << std::fixed << std::setprecision(1);
    for (const char* key : {"p50_us", "p99_us", "max_us"}) {
        if (line.contains(key)) {
            std::cout << std::setw(12) << line[key].get<double>();
        } else {
            std::cout << std::setw(12) << "-";
        }
    }
    std::cout << std::setprecision(0) << std::setw(10) << line["per_second"].get<double>() << '\n';
    for (const auto& [name, count] : line["errors"].items()) {
        std::cout << "          " << count << " times " << name << '\n';
    }
    if (line.contains("first_error")) {
        std::cout << "          first error: " << line["first_error"].get<std::string>() << '\n';
    }
    if (line.contains("open_us")) {
        std::cout << "          opening the queue took " << std::setprecision(1)
                  << line["open_us"].get<double>() << " us\n";
    }
    if (line.contains("first_wrong")) {
        std::cout << "          first wrong result: " << line["first_wrong"].get<std::string>()
                  << '\n';
    }
}

}  // namespace

int run_stress(const Settings& settings, const StressOptions& options) {
    OpenOptions open = settings.open;
    open.for_queues = true;
    auto device = Device::open(open);
    if (!device) {
        return report_failure(settings, device.failure());
    }
    const bool has_queues = device->shm_info().size != 0;
    std::string why_no_queues;
    if (!has_queues) {
        const auto queue = Queue::open(*device, VGPU_QUEUE_ANY, settings.timeout);
        why_no_queues = queue ? std::string() : queue.failure().message;
        if (options.path == "queue") {
            return report_failure(settings, {VGPU_E_NO_QUEUES, why_no_queues, 0});
        }
    }
    // Different operands for each VM and run, so that another VM's or a stale response is detected.
    const std::uint32_t seed = device->properties().vm_id * 7919 + std::random_device()();
    const Schedule schedule(options);
    Tally by_registers{.path = request_path(settings),
                       .operation = "add",
                       .latency = {},
                       .first_wrong = {},
                       .errors = {}};
    Tally by_queue{
        .path = "queue", .operation = "add", .latency = {}, .first_wrong = {}, .errors = {}};
    Tally products{
        .path = "queue", .operation = "matmul", .latency = {}, .first_wrong = {}, .errors = {}};
    const bool queue_wanted = options.path != "registers" && has_queues;
    std::exception_ptr thrown;
    const auto start = StressClock::now();
    {
        std::jthread queue_thread;
        if (queue_wanted) {
            queue_thread = std::jthread([&] {
                try {
                    stress_queue(*device, settings, options, schedule, seed, by_queue, products);
                } catch (...) {
                    thrown = std::current_exception();
                }
            });
        }
        if (options.path != "queue") {
            stress_registers(*device, settings, schedule, seed + 1, by_registers);
        }
    }
    if (thrown) {
        std::rethrow_exception(thrown);
    }
    const double seconds = std::chrono::duration<double>(StressClock::now() - start).count();
    json lines = json::array();
    bool ok = true;
    const auto add_line = [&](const Tally& tally) {
        lines.push_back(tally_json(tally, seconds));
        ok = ok && tally.wrong == 0 && tally.errors.empty() &&
             (tally.operation != "add" || tally.latency.count() >= options.count);
    };
    if (options.path != "queue") {
        add_line(by_registers);
    }
    if (queue_wanted) {
        add_line(by_queue);
    }
    if (queue_wanted && options.matrix != 0) {
        add_line(products);
    }
    if (settings.json) {
        print_json({{"ok", ok}, {"seconds", seconds}, {"lines", lines}});
    } else {
        std::cout << "path      operation          n  wrong  errors      p50 us         p99"
                     "         max     per s\n";
        for (const json& line : lines) {
            print_tally(line);
        }
        if (!queue_wanted && options.path.empty()) {
            std::cout << "queue     skipped: " << why_no_queues << '\n';
        }
    }
    return ok ? kSuccess : kFailure;
}

}  // namespace vgpu::cli
