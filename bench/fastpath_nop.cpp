// SPDX-License-Identifier: MIT
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "base/relax.h"
#include "fastpath.h"
#include "floors.h"
#include "measure.h"
#include "own_mediator.h"
#include "placement.h"
#include "queue_device.h"
#include "statistics.h"
#include "turns.h"

namespace vgpu::bench {

namespace {

using Bound = Figure::Bound;
using Clock = std::chrono::steady_clock;

// Each measurement has its own VM id: the mediator may notice a disconnect only after the next
// connection has started.
constexpr std::uint32_t kSpinVm = 1;
constexpr std::uint32_t kSleepVm = 10;
constexpr std::uint32_t kRateVm = 20;

// Longer than a mediator polls for more work: then it blocks and leaves its core to the baseline.
constexpr auto kUntilAsleep = std::chrono::milliseconds(2);
constexpr std::size_t kTurn = 500;  // polling round trips
constexpr std::size_t kBlock = 20;  // of them per reading of the clock
constexpr std::uint32_t kPollsPerCheck = 1U << 24U;
constexpr std::size_t kSleepTurn = 50;  // blocking round trips

void skip(const char* what) {
    fmt::print("skipped: {}: needs two cores, this process may use one\n", what);
}

void append_pair(std::vector<Figure>& figures, const std::string& name, const std::string& floor,
                 const Pair& pair, double target) {
    figures.push_back({.name = floor + ", p50", .value = pair.floor.p50 / 1e3, .unit = "us"});
    figures.push_back({.name = name + ", p50", .value = pair.measured.p50 / 1e3, .unit = "us"});
    figures.push_back({.name = name + ", p99", .value = pair.measured.p99 / 1e3, .unit = "us"});
    figures.push_back({.name = name + " / " + floor,
                       .value = pair.ratio,
                       .unit = "times",
                       .bound = Bound::kAtMost,
                       .target = target});
}

Pair measure_spinning(const FastPathPlan& plan) {
    OwnMediator mediator(plan.mediator, plan.backend);
    QueueDevice device(mediator.socket(), kSpinVm, QueueDevice::Wait::kSpin);
    SpinPingPong raw;
    const Placed placed(Placement::kTwoCores, {mediator.pid(), raw.other().pid()});
    const auto floor = [&](std::size_t calls, std::vector<std::int64_t>& times) {
        std::this_thread::sleep_for(kUntilAsleep);
        raw.other().resume();
        raw.round_trip();
        time_blocks(
            calls, kBlock, [&] { raw.round_trip(); }, times);
        raw.other().pause();
    };
    const auto nop = [&](std::size_t calls, std::vector<std::int64_t>& times) {
        device.nop();
        time_blocks(
            calls, kBlock, [&] { device.nop(); }, times);
    };
    raw.other().pause();
    const Pair pair = measure_in_turns(plan.rounds, plan.iterations, kTurn, floor, nop);
    device.synchronize();
    mediator.stop();
    return pair;
}

Pair measure_sleeping(const FastPathPlan& plan, Placement placement) {
    OwnMediator mediator(plan.mediator, plan.backend, "[executor]\nspin_us = 0\n");
    const auto vm = kSleepVm + static_cast<std::uint32_t>(placement);
    QueueDevice device(mediator.socket(), vm, QueueDevice::Wait::kSleep);
    EventfdPingPong raw;
    const Placed placed(placement, {mediator.pid(), raw.other().pid()});
    const auto floor = [&](std::size_t calls, std::vector<std::int64_t>& times) {
        time_blocks(
            calls, 1, [&] { raw.round_trip(); }, times);
    };
    const auto nop = [&](std::size_t calls, std::vector<std::int64_t>& times) {
        time_blocks(
            calls, 1, [&] { device.nop(); }, times);
    };
    const Pair pair =
        measure_in_turns(plan.rounds, plan.iterations / 4 + 1, kSleepTurn, floor, nop);
    device.synchronize();
    mediator.stop();
    return pair;
}

// Returns the seconds for `commands` NOPs with at most `window` in flight. Refills when a quarter
// of it is free, which is the batch size of the raw ring's consumer.
double carry_nops(QueueDevice& device, std::size_t commands, std::size_t window) {
    vgpu_queue* const queue = device.queue();
    const auto begin = Clock::now();
    std::uint64_t point = vgpu_queue_submitted(queue);
    std::uint32_t polls = 0;
    const std::uint64_t end = point + commands;
    while (point != end) {
        const std::uint64_t under_way = point - vgpu_queue_completed(queue);
        const std::uint64_t room = std::min<std::uint64_t>(window - under_way, end - point);
        if (room < window / 4 && room != end - point) {
            relax_processor();
            if (++polls % kPollsPerCheck == 0) {
                device.wait(point);  // throws if the queue makes no progress
            }
            continue;
        }
        for (std::uint64_t i = 0; i < room; ++i) {
            device.check(vgpu_queue_push_nop(queue, nullptr, &point, device.why()));
        }
        device.flush();
    }
    device.wait(end);
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

std::vector<Figure> measure_nop_latency(const FastPathPlan& plan) {
    std::vector<Figure> figures;
    if (Placed::possible(Placement::kTwoCores)) {
        append_pair(figures, "NOP, both spin", "shared-memory ping-pong", measure_spinning(plan),
                    3);
    } else {
        skip("NOP with both sides spinning");
    }
    for (const Placement placement : {Placement::kOneCore, Placement::kTwoCores}) {
        if (!Placed::possible(placement)) {
            skip("NOP with both sides asleep, two cores");
            continue;
        }
        const std::string where = ", " + name_of(placement);
        append_pair(figures, "NOP, both asleep" + where, "eventfd ping-pong" + where,
                    measure_sleeping(plan, placement), 1.5);
    }
    return figures;
}

std::vector<Figure> measure_nop_rate(const FastPathPlan& plan) {
    if (!Placed::possible(Placement::kTwoCores)) {
        skip("NOP with several in flight");
        return {};
    }
    OwnMediator mediator(plan.mediator, plan.backend);
    std::vector<double> rates;
    std::vector<double> raw_rates;
    std::vector<double> shares;
    {
        QueueDevice device(mediator.socket(), kRateVm, QueueDevice::Wait::kSpin);
        RawRing raw(plan.window);
        const Placed placed(Placement::kTwoCores, {mediator.pid(), raw.other().pid()});
        const auto commands = static_cast<double>(plan.commands);
        for (std::size_t round = 0; round <= plan.rounds; ++round) {
            raw.other().resume();
            raw.carry(1);
            const double raw_rate = commands / raw.carry(plan.commands);
            raw.other().pause();
            device.nop();
            const double rate = commands / carry_nops(device, plan.commands, plan.window);
            std::this_thread::sleep_for(kUntilAsleep);
            if (round != 0) {  // the first is the warm-up
                raw_rates.push_back(raw_rate);
                rates.push_back(rate);
                shares.push_back(rate / raw_rate);
            }
        }
        device.synchronize();
    }
    Plan socket;
    socket.socket_path = mediator.socket();
    socket.mediator_pid = mediator.pid();
    socket.requests = std::max<std::size_t>(plan.commands / 20, 100);
    const double by_socket = measure_throughput(socket).mediator_per_second;
    mediator.stop();

    const double rate = median(std::move(rates));
    const std::string name = fmt::format("NOP, {} in flight", plan.window);
    return {{.name = "raw ring of 64-byte records",
             .value = median(std::move(raw_rates)) / 1e6,
             .unit = "M/s"},
            {.name = name, .value = rate / 1e6, .unit = "M/s"},
            {.name = "NOP by the socket, 32 connections", .value = by_socket / 1e6, .unit = "M/s"},
            {.name = name + " / raw ring",
             .value = median(std::move(shares)),
             .unit = "times",
             .bound = Bound::kAtLeast,
             .target = 0.5},
            {.name = name + " / by the socket",
             .value = rate / by_socket,
             .unit = "times",
             .bound = Bound::kAtLeast,
             .target = 10}};
}

}  // namespace vgpu::bench
