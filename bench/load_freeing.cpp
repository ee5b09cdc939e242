// SPDX-License-Identifier: MIT
//
// Latency of a VM's small requests while another VM's long kernels run on the same GPU, without and
// with a third VM that allocates and frees memory there: a driver's plain cuMemFree() waits for all
// running work.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <utility>
#include <vector>

#include "load.h"
#include "load_fleet.h"
#include "statistics.h"

namespace vgpu::bench {
namespace {

using Clock = std::chrono::steady_clock;

// A product of few rows and columns: one block runs for some milliseconds and leaves the rest of
// the GPU to others.
constexpr std::uint32_t kSide = 16;
constexpr std::uint32_t kDepth = 1U << 18U;
constexpr std::uint32_t kFreed = 1U << 20U;
constexpr std::uint32_t kLarge = 256U << 20U;
constexpr int kLargeRounds = 20;
constexpr std::array<std::uint32_t, 2> kSum{40, 2};
// Indices in the fleet.
constexpr std::size_t kLong = 0;
constexpr std::size_t kFreeing = 1;
constexpr std::size_t kSmall = 2;

struct Round {
    Summary latency;  // of the small requests
    std::size_t frees = 0;
    double kernel_us = 0;
};

struct Work {
    std::array<std::uint32_t, 7> matmul{};
    std::size_t samples = 0;
};

std::uint32_t allocate(LoadDevice& device, std::uint32_t bytes) {
    return device.ask(VGPU_OP_MEMORY_ALLOC, std::array{bytes, std::uint32_t{0}}).first_result;
}

// Drains in-flight requests at the end.
Round run_round(Fleet& fleet, const Work& work, bool freeing) {
    Round round;
    std::vector<std::int64_t> latencies;
    std::vector<double> kernels;
    std::uint32_t buffer = 0;
    Clock::time_point sent_at;
    const auto more = [&] { return latencies.size() < work.samples; };
    const auto next_of = [&](std::size_t index) {
        if (index == kLong && more()) {
            fleet.devices[kLong].send(VGPU_OP_MATMUL, work.matmul);
        } else if (index == kFreeing && buffer != 0) {
            fleet.devices[kFreeing].send(VGPU_OP_MEMORY_FREE, std::array{buffer});
        } else if (index == kFreeing && more()) {
            fleet.devices[kFreeing].send(VGPU_OP_MEMORY_ALLOC,
                                         std::array{kFreed, std::uint32_t{0}});
        } else if (index == kSmall && more()) {
            sent_at = Clock::now();
            fleet.devices[kSmall].send(VGPU_OP_CUDA_KERNEL, kSum);
        }
    };
    for (const std::size_t index : {kLong, kFreeing, kSmall}) {
        if (index != kFreeing || freeing) {
            next_of(index);
        }
    }
    const auto under_way = [&] {
        return std::any_of(fleet.devices.begin(), fleet.devices.end(),
                           [](const LoadDevice& device) { return device.under_way() > 0; });
    };
    while (under_way()) {
        for (const std::size_t index : fleet.poller.wait()) {
            for (const auto& answer : fleet.devices[index].receive()) {
                if (index == kLong) {
                    kernels.push_back(answer.exec_time_us);
                } else if (index == kFreeing) {
                    round.frees += buffer != 0 ? 1U : 0U;
                    buffer = buffer != 0 ? 0 : answer.first_result;
                } else {
                    latencies.push_back(std::chrono::nanoseconds(Clock::now() - sent_at).count());
                }
                next_of(index);
            }
        }
    }
    round.latency = summarize(std::move(latencies));
    round.kernel_us = median(std::move(kernels));
    return round;
}

}  // namespace

std::vector<Figure> measure_freeing(const LoadPlan& plan) {
    // Runs kernels, small requests and memory operations at the same time.
    Mediator mediator(plan, "[executor]\nslots = 4\n");
    Fleet fleet(mediator.socket(), 3, 1, VGPU_PRIORITY_MEDIUM);
    if (fleet.devices[kSmall].ask(VGPU_OP_GET_DEVICE_INFO).first_result != VGPU_BACKEND_CUDA) {
        fmt::print("skipped: freeing: needs a GPU, on which several jobs run at once\n");
        mediator.stop();
        return {};
    }
    Work work{.matmul = {VGPU_TYPE_F32, 0, 0, 0, kSide, kSide, kDepth},
              .samples = plan.flood_samples};
    for (const std::size_t handle : {1U, 2U, 3U}) {
        work.matmul.at(handle) =
            allocate(fleet.devices[kLong], kSide * kDepth * std::uint32_t{sizeof(float)});
    }
    // Measured without other load.
    std::vector<double> allocations;
    std::vector<double> releases;
    for (int i = 0; i < kLargeRounds; ++i) {
        const auto begin = Clock::now();
        const std::uint32_t buffer = allocate(fleet.devices[kFreeing], kLarge);
        const auto allocated = Clock::now();
        fleet.devices[kFreeing].ask(VGPU_OP_MEMORY_FREE, std::array{buffer});
        allocations.push_back(std::chrono::duration<double, std::micro>(allocated - begin).count());
        releases.push_back(
            std::chrono::duration<double, std::micro>(Clock::now() - allocated).count());
    }
    std::vector<double> alone;
    std::vector<double> beside;
    std::vector<double> ratios;
    std::vector<double> kernels;
    std::vector<double> frees;
    for (std::size_t i = 0; i < plan.rounds; ++i) {
        const Round without = run_round(fleet, work, false);
        const Round with = run_round(fleet, work, true);
        alone.push_back(without.latency.p99 / 1e3);
        beside.push_back(with.latency.p99 / 1e3);
        ratios.push_back(with.latency.p99 / without.latency.p99);
        kernels.push_back(without.kernel_us);
        frees.push_back(static_cast<double>(with.frees));
    }
    mediator.stop();
    return {
        {.name = "allocate_256_mib", .value = median(std::move(allocations)), .unit = "µs"},
        {.name = "free_256_mib", .value = median(std::move(releases)), .unit = "µs"},
        {.name = "freeing_kernel_of_another", .value = median(std::move(kernels)), .unit = "µs"},
        {.name = "freeing_p99_without", .value = median(std::move(alone)), .unit = "µs"},
        {.name = "freeing_p99_with", .value = median(std::move(beside)), .unit = "µs"},
        {.name = "freeing_frees_a_round", .value = median(std::move(frees)), .unit = ""},
        at_most("freeing_p99_with_over_without", median(std::move(ratios)), "times", 3)};
}

}  // namespace vgpu::bench
