// SPDX-License-Identifier: MIT
//
// Placement: which device of a pool serves a VM. The scheduler keeps one queue per pair of pool and
// device. With its first request in a pool, a VM is placed on a device that it already uses, or
// else on the one with the fewest VMs, and stays there while it is connected. Control loop only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "mediator/config/settings.h"
#include "mediator/devices/vm_memory.h"
#include "sched/scheduler.h"

namespace vgpu {

// Where one VM has been placed.
struct VmPlacement {
    // By pool: 1 + the index of the queue assigned to this VM; 0: none yet.
    std::vector<std::size_t> queue_in_pool;
    std::vector<std::size_t> devices;  // devices that count this VM
};

class Placement {
  public:
    struct Queue {
        Scheduler::PoolIndex index = 0;  // the scheduler calls it a pool
        std::size_t device = 0;
    };

    // Borrows both. Precondition: scheduler has a pool for each of count_queues(settings.pools).
    Placement(const Settings& settings, Scheduler& scheduler, std::size_t device_count);
    static std::size_t count_queues(const std::vector<PoolSettings>& pools);

    // Returns the index of a pool, or nothing if it is not served.
    [[nodiscard]] std::optional<std::size_t> pool(std::uint8_t id) const { return pool_by_id_[id]; }
    // Returns the queue of a VM in a pool; assigns one if it has none.
    const Queue& queue_of(VmPlacement& vm, std::size_t pool);
    // Removes a VM from its devices.
    void remove(VmPlacement& vm);
    // Returns true if as many requests wait in the pool as the settings allow.
    [[nodiscard]] bool full(std::size_t pool) const;
    // Takes the next request for this device; its queues take turns.
    std::optional<Scheduler::Entry> next_for(std::size_t device);
    [[nodiscard]] bool any_waiting_for(std::size_t device) const;

    // Applies changed policies. The pools are unchanged.
    void apply_policies();
    // Requests waiting in a pool at one priority level. Precondition: the pool is served.
    [[nodiscard]] std::size_t queued(char pool, std::size_t priority) const;
    // Number of VMs on a device.
    [[nodiscard]] std::size_t vms_on(std::size_t device) const { return on_device_[device].vms; }
    // Returns true if a VM could be served in this pool without losing access to its buffers.
    // Precondition: the pool is served.
    [[nodiscard]] bool can_move(const VmPlacement& vm, const VmMemory& memory, char pool) const;

  private:
    using Pool = std::vector<Queue>;  // at least one
    struct OnDevice {
        std::vector<Scheduler::PoolIndex> queues;
        std::size_t next_queue = 0;  // round robin
        std::size_t vms = 0;
    };

    const Settings& settings_;
    Scheduler& scheduler_;
    std::vector<Pool> pools_;
    std::array<std::optional<std::size_t>, 256> pool_by_id_{};
    std::vector<OnDevice> on_device_;
};

}  // namespace vgpu
