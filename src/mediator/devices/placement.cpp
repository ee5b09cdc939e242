// SPDX-License-Identifier: MIT
#include "mediator/devices/placement.h"

#include <algorithm>
#include <numeric>

namespace vgpu {

std::size_t Placement::count_queues(const std::vector<PoolSettings>& pools) {
    std::size_t count = 0;
    for (const PoolSettings& pool : pools) {
        count += pool.devices.size();
    }
    return count;
}

Placement::Placement(const Settings& settings, Scheduler& scheduler, std::size_t device_count)
    : settings_(settings), scheduler_(scheduler), on_device_(device_count) {
    Scheduler::PoolIndex queue = 0;
    for (const PoolSettings& pool : settings.pools) {
        pool_by_id_[static_cast<std::uint8_t>(pool.id)] = pools_.size();
        Pool& queues = pools_.emplace_back();
        for (const std::size_t device : pool.devices) {
            on_device_.at(device).queues.push_back(queue);
            queues.push_back({.index = queue++, .device = device});
        }
    }
    apply_policies();
}

void Placement::apply_policies() {
    for (const PoolSettings& pool : settings_.pools) {
        for (const Queue& queue : pools_[*pool_by_id_[static_cast<std::uint8_t>(pool.id)]]) {
            scheduler_.set_policy(queue.index, pool.policy);
        }
    }
}

const Placement::Queue& Placement::queue_of(VmPlacement& vm, std::size_t pool_index) {
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
                return on_device_[a.device].vms < on_device_[b.device].vms;
            });
            ++on_device_[queue->device].vms;
            vm.devices.push_back(queue->device);
        }
        chosen = static_cast<std::size_t>(queue - pool.begin()) + 1;
    }
    return pool[chosen - 1];
}

void Placement::remove(VmPlacement& vm) {
    for (const std::size_t device : vm.devices) {
        --on_device_[device].vms;
    }
    vm = {};
}

bool Placement::full(std::size_t pool) const {
    std::size_t depth = 0;
    for (const Queue& queue : pools_[pool]) {
        depth += scheduler_.depth(queue.index);
    }
    return depth >= settings_.queue.per_pool;
}

std::optional<Scheduler::Entry> Placement::next_for(std::size_t device) {
    OnDevice& here = on_device_[device];
    for (std::size_t tried = 0; tried < here.queues.size(); ++tried) {
        const Scheduler::PoolIndex queue = here.queues[here.next_queue];
        here.next_queue = (here.next_queue + 1) % here.queues.size();
        if (auto entry = scheduler_.dequeue(queue)) {
            return entry;
        }
    }
    return std::nullopt;
}

bool Placement::any_waiting_for(std::size_t device) const {
    const auto& queues = on_device_[device].queues;
    return std::any_of(queues.begin(), queues.end(),
                       [&](auto queue) { return scheduler_.depth(queue) > 0; });
}

std::size_t Placement::queued(char pool, std::size_t priority) const {
    const Pool& queues = pools_[pool_by_id_[static_cast<std::uint8_t>(pool)].value()];
    return std::accumulate(queues.begin(), queues.end(), std::size_t{0},
                           [&](std::size_t sum, const Queue& queue) {
                               return sum + scheduler_.depth(queue.index, priority);
                           });
}

bool Placement::can_move(const VmPlacement& vm, const VmMemory& memory, char pool) const {
    const Pool& queues = pools_[pool_by_id_[static_cast<std::uint8_t>(pool)].value()];
    return std::all_of(vm.devices.begin(), vm.devices.end(), [&](std::size_t device) {
        return !memory.has_buffers_on(device) ||
               std::any_of(queues.begin(), queues.end(),
                           [&](const Queue& queue) { return queue.device == device; });
    });
}

}  // namespace vgpu
