// SPDX-License-Identifier: MIT
//
// VmState: what the mediator keeps about a VM as long as it has a connection, and until the last of
// its requests has ended.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "mediator/devices/vm_memory.h"
#include "mediator/requests/vm_order.h"
#include "sched/hold_back.h"
#include "sched/vm_limits.h"

namespace vgpu {

struct VmState {
    VmState(std::uint64_t memory_quota, std::shared_ptr<VmLimits> its_limits)
        : memory(memory_quota), entry(std::move(its_limits)), limits(*entry) {}

    VmMemory memory;
    std::shared_ptr<VmLimits> entry;
    VmLimits& limits;  // the entry
    // Of the process whose connection of this VM came last; none: processes are not told apart.
    std::shared_ptr<HoldBack> process;
    VmOrder order;
    bool running = false;   // one of its requests, or a chain of its commands, is on a device
    bool free_all = false;  // its device was reset: its buffers go when nothing runs any more
    std::size_t connections = 0;

    // What this VM does counts for its process as well: each of them may be held back.
    void count(void (HoldBack::*what)(std::chrono::nanoseconds), std::chrono::nanoseconds now) {
        (limits.hold().*what)(now);
        if (process) {
            (*process.*what)(now);
        }
    }
    // Nothing of this VM is to be looked at before this time.
    [[nodiscard]] std::chrono::nanoseconds held_until() const {
        const auto until = limits.hold().until();
        return process ? std::max(until, process->until()) : until;
    }

    // By pool: one more than the queue in which this VM waits there; 0: it has not been yet.
    std::vector<std::size_t> queue_in_pool;
    std::vector<std::size_t> devices;  // that it is counted on
};

}  // namespace vgpu
