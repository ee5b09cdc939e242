// SPDX-License-Identifier: MIT
//
// VmState: what the mediator keeps about a VM as long as it has a connection, and until the last of
// its requests has ended.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mediator/vm_memory.h"
#include "mediator/vm_order.h"

namespace vgpu {

struct VmState {
    explicit VmState(std::uint64_t memory_quota) : memory(memory_quota) {}

    VmMemory memory;
    VmOrder order;
    bool running = false;  // one of its requests is on a device
    std::size_t connections = 0;
};

}  // namespace vgpu
