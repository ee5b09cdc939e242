// SPDX-License-Identifier: MIT
//
// VmState: the state of a VM, kept while it has a connection and until the last of its requests has
// ended.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "mediator/devices/placement.h"
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
    // Of the process of its latest connection; none: processes are not distinguished.
    std::shared_ptr<HoldBack> process;
    VmOrder order;
    bool running = false;   // one of its requests, or a chain of its commands, is on a device
    bool free_all = false;  // its device was reset: free its buffers once nothing runs
    std::size_t connections = 0;

    // Counts an event against this VM and its process; either may be throttled.
    template <class... Amount>
    void count(void (HoldBack::*what)(std::chrono::nanoseconds, Amount...),
               std::chrono::nanoseconds now, Amount... amount) {
        (limits.hold().*what)(now, amount...);
        if (process) {
            (*process.*what)(now, amount...);
        }
    }
    // Returns the time until which this VM is throttled.
    [[nodiscard]] std::chrono::nanoseconds held_until() const {
        const auto until = limits.hold().until();
        return process ? std::max(until, process->until()) : until;
    }

    VmPlacement placement;
};

}  // namespace vgpu
