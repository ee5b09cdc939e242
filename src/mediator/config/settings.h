// SPDX-License-Identifier: MIT
//
// Settings: all parameters of the mediator's behaviour, with defaults. Filled from the
// configuration file and the command line, or by a test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "sched/scheduler.h"
#include "sched/vm_limits.h"

namespace vgpu {

struct GpuSettings {
    int index = 0;                     // CUDA ordinal
    std::optional<std::size_t> slots;  // concurrent requests; none: Settings::slots
};

struct PoolSettings {
    char id = 'A';                        // one ASCII letter
    std::vector<std::size_t> devices{0};  // indices into the mediator's backends; at least one
    PoolPolicy policy;
};

struct VmSettings {
    std::optional<char> pool;                   // none: as requested by the device, like priority
    std::optional<std::uint8_t> priority;       // enum vgpu_priority
    double weight = 1.0;                        // under the fair policy
    bool boost = false;                         // whether the flag BOOST is honoured
    std::optional<std::size_t> queue_depth;     // none: queue.per_vm
    std::optional<std::uint64_t> memory_bytes;  // none: memory_per_vm
    // Only processes of this user may use the VM id, as the kernel identifies them; none: of any.
    std::optional<uid_t> user;
    VmLimitSettings limits;
};

struct Settings {
    std::vector<PoolSettings> pools{{.id = 'A', .devices = {0}, .policy = {}},
                                    {.id = 'B', .devices = {0}, .policy = {}}};
    std::vector<GpuSettings> gpus;  // one per backend, or empty: the only backend has `slots`

    bool allow_duplicate_vm_id = false;
    bool registered_vms_only = false;  // reject VM ids without VmSettings::user
    std::size_t max_connections = 1024;
    // Of one process, which is throttled as a whole (HoldBack::kProcess). 0: processes are not
    // distinguished; the configuration's default is kDefaultConnectionsPerProcess.
    std::size_t max_connections_per_process = 0;
    // Time-out of a message, from its first byte until it is complete.
    std::chrono::milliseconds message_timeout{5000};
    // Bytes of responses that a peer may leave unread, beyond the kernel's buffers.
    std::size_t max_unsent_bytes = std::size_t{256} * 1024;

    Scheduler::Limits queue;
    std::uint64_t memory_per_vm = 0;  // bytes of device memory; 0: no quota

    VmSettings vm_default;
    std::map<std::uint32_t, VmSettings> vms;  // by id; others use vm_default
    [[nodiscard]] const VmSettings& vm(std::uint32_t id) const {
        const auto found = vms.find(id);
        return found == vms.end() ? vm_default : found->second;
    }

    // Returns how many bytes this VM may have allocated at once; 0: no quota.
    [[nodiscard]] std::uint64_t memory_quota(std::uint32_t id) const {
        return vm(id).memory_bytes.value_or(memory_per_vm);
    }

    std::size_t slots = 1;  // concurrent requests of a device
    [[nodiscard]] std::size_t slots_of(std::size_t device) const {
        return device < gpus.size() ? gpus[device].slots.value_or(slots) : slots;
    }
    // How long requests wait for a failed GPU to recover before they fail with an error.
    std::chrono::milliseconds recovery_wait{5000};
    // Whether a request that exceeds VmLimitSettings::longest_execution is stopped, and with it
    // everything else on that GPU.
    bool kill_overrun = false;
    std::chrono::microseconds spin{100};  // how long to poll for more work before blocking

    bool queues_enabled = true;  // whether shared memory is served
    // Bytes per device. A compromised QEMU can make an access to this memory block for 70 to 130 us
    // per MiB once or twice before it is disconnected.
    std::uint64_t queues_memory_max = std::uint64_t{256} << 20;
    // Commands of one queue that a device may have in flight while nothing else waits for it.
    std::size_t queues_pipeline = 8;

    // After SIGTERM: time limit for draining queued and running requests.
    std::chrono::milliseconds drain_timeout{10000};
};

}  // namespace vgpu
