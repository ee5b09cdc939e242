// SPDX-License-Identifier: MIT
//
// All devices of a measurement run in one thread: with few cores, more threads would compete with
// the measured mediator for CPU time. Times are those of the responses' arrival in this thread.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <optional>
#include <stdexcept>

#include "load.h"
#include "load_fleet.h"
#include "statistics.h"

namespace vgpu::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Bound = Figure::Bound;
using std::chrono::nanoseconds;

// Round-trip times and responses per second.
struct Run {
    Summary latency;
    double per_second = 0;
};

// Keeps one request in flight on each device.
Run run_closed_loop(Fleet& fleet, std::size_t requests) {
    std::vector<std::int64_t> latencies;
    latencies.reserve(requests);
    std::vector<Clock::time_point> sent_at(fleet.devices.size());
    std::size_t sent = 0;
    const auto send = [&](std::size_t index) {
        sent_at[index] = Clock::now();
        fleet.devices[index].send(VGPU_OP_NOP);
        ++sent;
    };
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < fleet.devices.size() && sent < requests; ++i) {
        send(i);
    }
    while (latencies.size() < requests) {
        for (const std::size_t index : fleet.poller.wait()) {
            if (fleet.devices[index].receive().empty()) {
                continue;
            }
            latencies.push_back(nanoseconds(Clock::now() - sent_at[index]).count());
            if (sent < requests) {
                send(index);
            }
        }
    }
    const double took = seconds_since(begin);
    return {.latency = summarize(std::move(latencies)),
            .per_second = static_cast<double>(requests) / took};
}

// Open loop: sends requests at a fixed rate, regardless of earlier responses. Each latency counts
// from the time the request was due, so that a delay counts for all requests that had to wait.
Run run_paced(Fleet& fleet, std::size_t requests, std::size_t per_second) {
    const nanoseconds distance(1'000'000'000 / static_cast<std::int64_t>(per_second));
    std::vector<std::int64_t> latencies;
    latencies.reserve(requests);
    std::size_t sent = 0;
    const auto begin = Clock::now();
    const auto due = [&](std::size_t number) {
        return begin + distance * static_cast<std::int64_t>(number);
    };
    while (latencies.size() < requests) {
        for (auto now = Clock::now(); sent < requests && due(sent) <= now; ++sent) {
            fleet.devices[sent % fleet.devices.size()].send(VGPU_OP_NOP, {}, sent);
        }
        const auto ready = sent < requests ? fleet.poller.wait(due(sent)) : fleet.poller.wait();
        for (const std::size_t index : ready) {
            for (const auto& answer : fleet.devices[index].receive()) {
                latencies.push_back(nanoseconds(Clock::now() - due(answer.tag)).count());
            }
        }
    }
    const double took = seconds_since(begin);
    return {.latency = summarize(std::move(latencies)),
            .per_second = static_cast<double>(requests) / took};
}

// Square matrices of one VM: work whose duration depends on its size.
class Matrices {
  public:
    // Allocates up to n×n elements for each.
    Matrices(LoadDevice& device, std::uint32_t n) : device_(device) {
        const std::array<std::uint32_t, 2> bytes{n * n * std::uint32_t{sizeof(float)}, 0};
        for (std::uint32_t& handle : handles_) {
            handle = device.ask(VGPU_OP_MEMORY_ALLOC, bytes).first_result;
        }
    }
    // Returns the parameters of dst[m×n] = a[m×k] b[k×n].
    [[nodiscard]] std::array<std::uint32_t, 7> multiply(std::uint32_t m, std::uint32_t n,
                                                        std::uint32_t k) const {
        return {VGPU_TYPE_F32, handles_[0], handles_[1], handles_[2], m, n, k};
    }
    [[nodiscard]] LoadDevice& device() const { return device_; }

  private:
    LoadDevice& device_;
    std::array<std::uint32_t, 3> handles_{};
};

constexpr std::uint32_t kMostRows = 1024;
constexpr std::uint32_t kColumns = 128;  // of the matrices; the number of rows sets the duration

// Returns the number of rows for which a rows×128 by 128×128 product takes about `work_us`.
std::uint32_t calibrate(const std::string& socket, std::uint32_t vm_id, std::size_t work_us) {
    LoadDevice device(socket, vm_id, VGPU_PRIORITY_HIGH);
    const Matrices matrices(device, kMostRows);
    std::vector<double> times;
    constexpr std::uint32_t kRows = 256;
    for (int i = 0; i < 7; ++i) {
        const auto answer =
            device.ask(VGPU_OP_MATMUL, matrices.multiply(kRows, kColumns, kColumns));
        times.push_back(answer.exec_time_us);
    }
    const double per_row = std::max(median(std::move(times)), 1.0) / kRows;
    const double rows = std::round(static_cast<double>(work_us) / per_row);
    return static_cast<std::uint32_t>(std::clamp(rows, 1.0, double{kMostRows}));
}

Figure at_least(std::string name, double value, std::string unit, double target) {
    return {std::move(name), value, std::move(unit), Bound::kAtLeast, target};
}

// One round of the flood, in microseconds.
struct FloodRound {
    double wait_p50 = 0;
    double wait_p99 = 0;
    double execution_p50 = 0;
    double execution_p99 = 0;
    double excess_p99 = 0;  // of the wait minus the execution running when it began
    double over = 0;        // wait_p99 minus execution_p50
};

FloodRound run_flood(const LoadPlan& plan, Fleet& fleet, const std::vector<Matrices>& matrices,
                     LoadDevice& high, std::uint32_t rows) {
    const std::size_t high_index = fleet.devices.size();
    std::vector<std::int64_t> waits;
    std::vector<std::int64_t> executions;
    std::vector<std::int64_t> excesses;
    std::optional<std::int64_t> running;  // first execution to end after the high-priority send
    Clock::time_point asked_at;
    Clock::time_point ask_at = Clock::now();
    double golden = 0.5;
    while (waits.size() < plan.flood_samples) {
        if (high.under_way() == 0 && Clock::now() >= ask_at) {
            running.reset();
            asked_at = Clock::now();
            high.send(VGPU_OP_NOP);
        }
        const auto ready = high.under_way() == 0 ? fleet.poller.wait(ask_at) : fleet.poller.wait();
        bool high_ready = false;
        for (const std::size_t index : ready) {
            if (index == high_index) {
                high_ready = true;
                continue;
            }
            for (const auto& answer : fleet.devices[index].receive()) {
                executions.push_back(std::int64_t{answer.exec_time_us} * 1000);
                if (!running) {
                    running = executions.back();
                }
                fleet.devices[index].send(VGPU_OP_MATMUL,
                                          matrices[index].multiply(rows, kColumns, kColumns));
            }
        }
        if (high_ready && !high.receive().empty()) {
            waits.push_back(nanoseconds(Clock::now() - asked_at).count());
            excesses.push_back(std::max<std::int64_t>(0, waits.back() - running.value_or(0)));
            // Samples all phases of an execution: steps of the golden ratio cover it evenly.
            golden = std::fmod(golden + 0.6180339887, 1.0);
            ask_at = Clock::now() + std::chrono::microseconds(std::lround(
                                        static_cast<double>(plan.work_us) * (0.5 + 2 * golden)));
        }
    }
    const auto us = [](double ns) { return ns / 1000; };
    const Summary wait = summarize(std::move(waits));
    const Summary execution = summarize(std::move(executions));
    const Summary excess = summarize(std::move(excesses));
    return {.wait_p50 = us(wait.p50),
            .wait_p99 = us(wait.p99),
            .execution_p50 = us(execution.p50),
            .execution_p99 = us(execution.p99),
            .excess_p99 = us(excess.p99),
            .over = us(wait.p99 - execution.p50)};
}

template <typename Round>
double median_field(const std::vector<Round>& rounds, double Round::*field) {
    std::vector<double> values;
    values.reserve(rounds.size());
    for (const Round& round : rounds) {
        values.push_back(round.*field);
    }
    return median(std::move(values));
}

// Returns the GPU time of each of `matrices.size()` VMs within the window, in microseconds. Each VM
// keeps two requests of its own size in flight.
std::vector<double> share_gpu(Fleet& fleet, const std::vector<Matrices>& matrices,
                              std::span<const std::uint32_t> rows,
                              std::chrono::milliseconds window) {
    std::vector<double> used(matrices.size());
    const auto send = [&](std::size_t index) {
        fleet.devices[index].send(VGPU_OP_MATMUL,
                                  matrices[index].multiply(rows[index], kColumns, kColumns));
    };
    for (std::size_t i = 0; i < matrices.size(); ++i) {
        send(i);
        send(i);
    }
    const auto end = Clock::now() + window;
    while (Clock::now() < end) {
        for (const std::size_t index : fleet.poller.wait(end)) {
            for (const auto& answer : fleet.devices[index].receive()) {
                used[index] += answer.exec_time_us;
                send(index);
            }
        }
    }
    return used;
}

std::vector<double> measure_shares(const LoadPlan& plan, std::span<const double> weights,
                                   std::span<const double> sizes_us) {
    std::string config = "[[pool]]\nid = \"A\"\npolicy = \"fair\"\n";
    constexpr std::uint32_t kFirstVm = 1;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        config += fmt::format("[[vm]]\nid = {}\nweight = {}\n", kFirstVm + i, weights[i]);
    }
    Mediator mediator(plan, config);
    const std::uint32_t unit = calibrate(mediator.socket(), 1000, plan.work_us);
    Fleet fleet(mediator.socket(), weights.size(), kFirstVm, VGPU_PRIORITY_MEDIUM);
    std::vector<Matrices> matrices;
    std::vector<std::uint32_t> rows;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        matrices.emplace_back(fleet.devices[i], kMostRows);
        const double wanted = std::round(unit * sizes_us[i] / static_cast<double>(plan.work_us));
        rows.push_back(static_cast<std::uint32_t>(std::clamp(wanted, 1.0, double{kMostRows})));
    }
    auto used = share_gpu(fleet, matrices, rows, std::chrono::milliseconds(plan.fair_window_ms));
    fleet.devices.clear();
    mediator.stop();
    return used;
}

}  // namespace

std::vector<Figure> measure_load_throughput(const LoadPlan& plan) {
    Mediator mediator(plan);
    Fleet fleet(mediator.socket(), plan.connections, 1, VGPU_PRIORITY_MEDIUM);
    run_closed_loop(fleet, plan.connections * 10);  // to warm up
    std::vector<double> closed_rates;
    std::vector<double> paced_rates;
    std::vector<Summary> closed;
    std::vector<Summary> paced;
    for (std::size_t round = 0; round < plan.rounds; ++round) {
        const Run loop = run_closed_loop(fleet, plan.requests);
        closed_rates.push_back(loop.per_second);
        closed.push_back(loop.latency);
        const Run pace = run_paced(fleet, plan.paced_requests, plan.paced_rate);
        paced_rates.push_back(pace.per_second);
        paced.push_back(pace.latency);
    }
    fleet.devices.clear();
    mediator.stop();
    const auto target = static_cast<double>(plan.paced_rate);
    const Summary closed_median = median_of(closed);
    const Summary paced_median = median_of(paced);
    return {at_least("closed_loop_rate", median(std::move(closed_rates)), "requests/s", target),
            {.name = "closed_loop_p50", .value = closed_median.p50 / 1000, .unit = "µs"},
            {.name = "closed_loop_p99", .value = closed_median.p99 / 1000, .unit = "µs"},
            // The last response arrives shortly after the last request was due.
            at_least("paced_rate", median(std::move(paced_rates)), "requests/s", target * 0.99),
            {.name = "paced_p50", .value = paced_median.p50 / 1000, .unit = "µs"},
            {.name = "paced_p99", .value = paced_median.p99 / 1000, .unit = "µs"}};
}

std::vector<Figure> measure_flood(const LoadPlan& plan) {
    constexpr std::uint32_t kFirstVm = 1;
    constexpr std::uint32_t kHighVm = 900;
    Mediator mediator(plan);
    const std::uint32_t rows = calibrate(mediator.socket(), 901, plan.work_us);
    Fleet fleet(mediator.socket(), plan.flood_vms, kFirstVm, VGPU_PRIORITY_LOW);
    LoadDevice high(mediator.socket(), kHighVm, VGPU_PRIORITY_HIGH);
    fleet.poller.add(high, fleet.devices.size());
    std::vector<Matrices> matrices;
    matrices.reserve(fleet.devices.size());
    for (LoadDevice& device : fleet.devices) {
        matrices.emplace_back(device, kMostRows);
    }
    for (std::size_t sent = 0; sent < plan.flood_depth; ++sent) {
        for (const Matrices& work : matrices) {
            work.device().send(VGPU_OP_MATMUL, work.multiply(rows, kColumns, kColumns));
        }
    }
    std::vector<FloodRound> rounds;
    rounds.reserve(plan.rounds);
    for (std::size_t round = 0; round < plan.rounds; ++round) {
        rounds.push_back(run_flood(plan, fleet, matrices, high, rows));
    }
    fleet.devices.clear();  // drops their queued requests
    mediator.stop();
    return {
        {.name = "flood_execution_p50",
         .value = median_field(rounds, &FloodRound::execution_p50),
         .unit = "µs"},
        {.name = "flood_execution_p99",
         .value = median_field(rounds, &FloodRound::execution_p99),
         .unit = "µs"},
        {.name = "flood_wait_p50",
         .value = median_field(rounds, &FloodRound::wait_p50),
         .unit = "µs"},
        {.name = "flood_wait_p99",
         .value = median_field(rounds, &FloodRound::wait_p99),
         .unit = "µs"},
        {.name = "flood_wait_p99_over_execution_p50",
         .value = median_field(rounds, &FloodRound::over),
         .unit = "µs"},
        // Compares each wait with the execution that it met: if other programs use the CPU,
        // execution times vary by more than the measured excess.
        at_most("flood_wait_over_the_running_one_p99",
                median_field(rounds, &FloodRound::excess_p99), "µs", 1000),
    };
}

std::vector<Figure> measure_fairness(const LoadPlan& plan) {
    const auto work = static_cast<double>(plan.work_us);
    const std::array<double, 4> equal{1, 1, 1, 1};
    const std::array<double, 4> sizes{work / 8, work / 4, work / 2, work};
    const std::array<double, 3> weights{1, 2, 4};
    const std::array<double, 3> sizes_of_three{work / 3, work / 3, work / 3};
    std::vector<double> indices;
    std::vector<double> errors;
    std::array<std::vector<double>, 3> shares;
    for (std::size_t round = 0; round < plan.rounds; ++round) {
        indices.push_back(jain_index(measure_shares(plan, equal, sizes)));
        const auto got = measure_shares(plan, weights, sizes_of_three);
        errors.push_back(worst_share_error(got, weights) * 100);
        const double all = got[0] + got[1] + got[2];
        for (std::size_t i = 0; i < shares.size(); ++i) {
            shares.at(i).push_back(all > 0 ? got[i] / all * 100 : 0);
        }
    }
    return {at_least("fair_jain_index", median(std::move(indices)), "", 0.98),
            {.name = "fair_share_of_weight_1", .value = median(shares[0]), .unit = "%"},
            {.name = "fair_share_of_weight_2", .value = median(shares[1]), .unit = "%"},
            {.name = "fair_share_of_weight_4", .value = median(shares[2]), .unit = "%"},
            at_most("fair_weights_worst_error", median(std::move(errors)), "%", 5)};
}

}  // namespace vgpu::bench
