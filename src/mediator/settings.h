// SPDX-License-Identifier: MIT
//
// Settings: what the mediator's behaviour depends on, with its defaults. Filled from the
// configuration file and the command line, or by a test.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "sched/scheduler.h"
#include "sched/vm_limits.h"

namespace vgpu {

struct PoolSettings {
    char id = 'A';           // one ASCII letter
    std::size_t device = 0;  // index into the mediator's backends
    PoolPolicy policy;
};

// The GPUs of a pool, as indices into the mediator's backends.
inline std::vector<std::size_t> devices_of(const PoolSettings& pool) {
    return {pool.device};
}

struct VmSettings {
    double weight = 1.0;                        // under the fair policy
    bool boost = false;                         // whether the flag BOOST has effect
    std::optional<std::size_t> queue_depth;     // none: queue.per_vm
    std::optional<char> pool;                   // none: as the device says
    std::optional<std::uint8_t> priority;       // none: as the device says
    std::optional<std::uint64_t> memory_bytes;  // of device memory, 0: any; none: memory_per_vm
    VmLimitSettings limits;
};

struct Settings {
    std::vector<PoolSettings> pools{{.id = 'A', .device = 0, .policy = {}},
                                    {.id = 'B', .device = 0, .policy = {}}};

    bool allow_duplicate_vm_id = false;
    std::size_t max_connections = 1024;
    // A message has to be complete this long after its first byte.
    std::chrono::milliseconds message_timeout{5000};
    // Answers a peer may leave unread, in bytes, beyond what the kernel buffers.
    std::size_t max_unsent_bytes = std::size_t{256} * 1024;

    Scheduler::Limits queue;
    std::uint64_t memory_per_vm = 0;  // bytes of device memory; 0: no quota

    VmSettings vm_default;
    std::map<std::uint32_t, VmSettings> vms;  // by id; others get vm_default
    [[nodiscard]] const VmSettings& vm(std::uint32_t id) const {
        const auto found = vms.find(id);
        return found == vms.end() ? vm_default : found->second;
    }

    std::size_t slots = 1;                // requests a device works on at once
    std::chrono::microseconds spin{100};  // how long to look for more work before sleeping

    // After SIGTERM: how long to go on with what is queued and running.
    std::chrono::milliseconds drain_timeout{10000};
};

}  // namespace vgpu
