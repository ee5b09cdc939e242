// SPDX-License-Identifier: MIT
//
// The part of the Dispatcher that tracks devices: which VM is on which, which of them work, and
// what has exceeded its time limit.
#include <algorithm>
#include <chrono>
#include <numeric>

#include "mediator/core/dispatcher.h"

namespace vgpu {
namespace {

// Poll interval of a device that has failed.
constexpr std::chrono::milliseconds kRecoveryLook{10};

}  // namespace

const Dispatcher::Queue& Dispatcher::queue_of(VmState& vm, std::size_t pool_index) {
    const Pool& pool = pools_[pool_index];
    vm.queue_in_pool.resize(pools_.size());
    std::size_t& chosen = vm.queue_in_pool[pool_index];
    if (chosen == 0) {
        const auto has_vm = [&](const Queue& queue) {
            return std::find(vm.devices.begin(), vm.devices.end(), queue.device) !=
                   vm.devices.end();
        };
        auto queue = std::find_if(pool.begin(), pool.end(), has_vm);
        if (queue == pool.end()) {
            queue = std::min_element(pool.begin(), pool.end(), [&](const auto& a, const auto& b) {
                return devices_[a.device].vms < devices_[b.device].vms;
            });
            ++devices_[queue->device].vms;
            vm.devices.push_back(queue->device);
        }
        chosen = static_cast<std::size_t>(queue - pool.begin()) + 1;
    }
    return pool[chosen - 1];
}

void Dispatcher::report_overrun(Request& request) {
    request.overran = true;
    events_.on_event(RequestOverran{.request = request.info,
                                    .ran = clock_.now() - request.started_at,
                                    .limit = request.vm->limits.settings().longest_execution});
}

void Dispatcher::report_overruns() {
    while (!watched_.empty() && watched_.begin()->first <= clock_.now()) {
        const std::uint64_t token = watched_.begin()->second;
        Request& request = requests_[token];
        request.watched.reset();
        watched_.erase(watched_.begin());
        report_overrun(request);
        if (settings_.kill_overrun) {
            devices_[request.device].executor->stop(token);
        }
    }
}

void Dispatcher::take_change(std::size_t device_index, const Completion& completion) {
    Device& device = devices_[device_index];
    const auto now = clock_.now();
    if (completion.change == DeviceChange::kFailed) {
        if (!device.failed_at) {
            device.failed_at = now;
        }
        for (const auto& [vm_id, vm] : vms_) {
            vm->memory.lose(device_index);
        }
        events_.on_event(GpuState{.gpu = device_index,
                                  .change = GpuState::Change::kFailed,
                                  .why = completion.outcome.data,
                                  .down_for = {}});
    } else if (device.failed_at) {
        const auto down_for = now - *device.failed_at;
        device.failed_at.reset();
        ++device.recoveries;
        events_.on_event(GpuState{.gpu = device_index,
                                  .change = GpuState::Change::kRecovered,
                                  .why = {},
                                  .down_for = down_for});
    }
}

std::optional<std::chrono::nanoseconds> Dispatcher::next_due() const {
    std::optional<std::chrono::nanoseconds> due;
    if (!watched_.empty()) {
        due = watched_.begin()->first;
    }
    const auto not_later_than = [&due](std::chrono::nanoseconds time) {
        due = std::min(due.value_or(time), time);
    };
    for (const GuestQueues* const queues : held_) {
        not_later_than(queues->vm->held_until());
    }
    for (const Device& device : devices_) {
        if (device.failed_at && scheduler_.depth() > 0) {
            // After recovery_wait, what is queued there waits for a request on another device.
            const auto patience_ends = *device.failed_at + settings_.recovery_wait;
            if (patience_ends > clock_.now()) {
                not_later_than(patience_ends);
            }
        }
        if (device.executor->needs_looks()) {
            not_later_than(clock_.now() + kRecoveryLook);
        }
    }
    return due;
}

Dispatcher::DeviceState Dispatcher::device_state(std::size_t index) const {
    const Device& device = devices_[index];
    return {.working = !device.failed_at,
            .running = device.running,
            .slots = settings_.slots_of(index),
            .vms = device.vms,
            .recoveries = device.recoveries};
}

std::size_t Dispatcher::queued(char pool, std::size_t priority) const {
    const Pool& queues = pools_[pool_by_id_[static_cast<std::uint8_t>(pool)].value()];
    return std::accumulate(queues.begin(), queues.end(), std::size_t{0},
                           [&](std::size_t sum, const Queue& queue) {
                               return sum + scheduler_.depth(queue.index, priority);
                           });
}

bool Dispatcher::can_move(std::uint32_t vm_id, char pool) const {
    const auto found = vms_.find(vm_id);
    if (found == vms_.end()) {
        return true;
    }
    const VmState& vm = *found->second;
    const auto& queues = pools_[*pool_by_id_[static_cast<std::uint8_t>(pool)]];
    return std::all_of(vm.devices.begin(), vm.devices.end(), [&](std::size_t device) {
        return !vm.memory.has_buffers_on(device) ||
               std::any_of(queues.begin(), queues.end(),
                           [&](const Queue& queue) { return queue.device == device; });
    });
}

}  // namespace vgpu
