// SPDX-License-Identifier: MIT
//
// Memory and CPU time that idle VMs cost.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "load.h"
#include "load_fleet.h"
#include "process_tree.h"
#include "queue_device.h"
#include "statistics.h"

namespace vgpu::bench {

namespace {

using Clock = std::chrono::steady_clock;

// Reads a file of /proc/PID. `pid`: this process or one that it has started.
std::string proc(pid_t pid, const char* name) {
    const std::string path = fmt::format("/proc/{}/{}", pid, name);
    std::ifstream file(path);
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (text.empty()) {
        throw std::runtime_error("cannot read " + path);
    }
    return text;
}

// Returns the clock ticks used so far by a mediator and the processes that drive its GPUs.
std::uint64_t ticks_of(pid_t mediator) {
    std::uint64_t sum = 0;
    for (const pid_t pid : process_tree(mediator)) {
        const auto found = parse_cpu_ticks(proc(pid, "stat"));
        if (!found) {
            throw std::runtime_error("cannot parse /proc/PID/stat");
        }
        sum += *found;
    }
    return sum;
}

// Returns its CPU usage while `pass_time` waits until a given time, in percent of a core.
template <typename PassTime>
double idle_share(const LoadPlan& plan, pid_t mediator, PassTime pass_time) {
    const auto begin = Clock::now();
    const std::uint64_t before = ticks_of(mediator);
    pass_time(begin + std::chrono::milliseconds(plan.idle_window_ms));
    const auto per_second = static_cast<double>(::sysconf(_SC_CLK_TCK));
    const double used = static_cast<double>(ticks_of(mediator) - before) / per_second;
    return used / seconds_since(begin) * 100;
}

double idle_share_of_registers(const LoadPlan& plan) {
    Mediator mediator(plan);
    Fleet fleet(mediator.socket(), plan.idle_connections, 1, VGPU_PRIORITY_MEDIUM);
    for (LoadDevice& device : fleet.devices) {
        device.ask(VGPU_OP_NOP);
    }
    const double share = idle_share(plan, mediator.pid(), [&](Clock::time_point end) {
        while (Clock::now() < end) {
            // No response is expected; receive() throws if one arrives.
            const auto limit = std::min(end, Clock::now() + std::chrono::seconds(1));
            for (const std::size_t index : fleet.poller.wait(limit)) {
                fleet.devices[index].receive();
            }
        }
    });
    fleet.devices.clear();
    mediator.stop();
    return share;
}

// The same with one used queue in shared memory per VM.
double idle_share_of_queues(const LoadPlan& plan) {
    Mediator mediator(plan);
    std::deque<QueueDevice> devices;
    for (std::size_t i = 0; i < plan.idle_connections; ++i) {
        devices.emplace_back(mediator.socket(), static_cast<std::uint32_t>(i + 1),
                             QueueDevice::Wait::kDefault, VGPU_SHM_SIZE_MIN);
        devices.back().nop();
    }
    const double share = idle_share(
        plan, mediator.pid(), [](Clock::time_point end) { std::this_thread::sleep_until(end); });
    for (QueueDevice& device : devices) {
        device.synchronize();  // throws if it is not served any more
    }
    devices.clear();
    mediator.stop();
    return share;
}

}  // namespace

std::vector<Figure> measure_idle_memory(const LoadPlan& plan) {
    std::vector<double> alone;
    std::vector<double> full;
    std::vector<double> each;
    for (std::size_t round = 0; round < plan.rounds; ++round) {
        Mediator mediator(plan);
        const auto pss = [&] {
            const auto kib = parse_pss_kib(proc(mediator.pid(), "smaps_rollup"));
            if (!kib) {
                throw std::runtime_error("smaps_rollup has no line Pss");
            }
            return *kib;
        };
        // One request each, to include everything that a first request allocates.
        Fleet one(mediator.socket(), 1, 1, VGPU_PRIORITY_MEDIUM);
        one.devices.front().ask(VGPU_OP_NOP);
        alone.push_back(pss());
        Fleet others(mediator.socket(), plan.idle_vms, 2, VGPU_PRIORITY_MEDIUM);
        for (LoadDevice& device : others.devices) {
            device.ask(VGPU_OP_NOP);
        }
        full.push_back(pss());
        each.push_back((full.back() - alone.back()) / static_cast<double>(plan.idle_vms));
        others.devices.clear();
        one.devices.clear();
        mediator.stop();
    }
    return {{.name = "memory_with_1_vm", .value = median(std::move(alone)), .unit = "KiB"},
            {.name = fmt::format("memory_with_{}_vms", plan.idle_vms + 1),
             .value = median(std::move(full)),
             .unit = "KiB"},
            at_most("memory_per_idle_vm", median(std::move(each)), "KiB", 64)};
}

std::vector<Figure> measure_idle_time(const LoadPlan& plan) {
    return {at_most("processor_idle", idle_share_of_registers(plan), "% of a core", 0.5),
            at_most("processor_idle_with_queues", idle_share_of_queues(plan), "% of a core", 0.5)};
}

}  // namespace vgpu::bench
