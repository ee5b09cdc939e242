// SPDX-License-Identifier: MIT
//
// VmState: what the mediator keeps about a VM as long as it has a connection, and until the last of
// its requests has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "mediator/vm_memory.h"
#include "mediator/vm_order.h"
#include "sched/vm_limits.h"

namespace vgpu {

struct VmState {
    VmState(std::uint64_t memory_quota, std::shared_ptr<VmLimits> its_limits)
        : memory(memory_quota), entry(std::move(its_limits)), limits(*entry) {}

    VmMemory memory;
    std::shared_ptr<VmLimits> entry;
    VmLimits& limits;  // the entry
    VmOrder order;
    bool running = false;   // one of its requests, or a chain of its commands, is on a device
    bool free_all = false;  // its device was reset: its buffers go when nothing runs any more
    std::size_t connections = 0;
    // By pool: one more than the queue in which this VM waits there; 0: it has not been yet.
    std::vector<std::size_t> queue_in_pool;
    std::vector<std::size_t> devices;  // that it is counted on
};

}  // namespace vgpu
