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

struct GpuSettings {
    int index = 0;                     // CUDA's number for it
    std::optional<std::size_t> slots;  // requests at once; none: Settings::slots
};

struct PoolSettings {
    char id = 'A';                        // one ASCII letter
    std::vector<std::size_t> devices{0};  // indices into the mediator's backends; at least one
    PoolPolicy policy;
};

struct VmSettings {
    std::optional<char> pool;                   // none: what the device says, as for the priority
    std::optional<std::uint8_t> priority;       // enum vgpu_priority
    double weight = 1.0;                        // under the fair policy
    bool boost = false;                         // whether the flag BOOST has effect
    std::optional<std::size_t> queue_depth;     // none: queue.per_vm
    std::optional<std::uint64_t> memory_bytes;  // none: memory_per_vm
    VmLimitSettings limits;
};

struct Settings {
    std::vector<PoolSettings> pools{{.id = 'A', .devices = {0}, .policy = {}},
                                    {.id = 'B', .devices = {0}, .policy = {}}};
    std::vector<GpuSettings> gpus;  // one for each backend, or none: the one backend has `slots`

    bool allow_duplicate_vm_id = false;
    std::size_t max_connections = 1024;
    // Of one process, which is held back as a whole (HoldBack::kProcess); 0: processes are not told
    // apart, which the configuration file's default changes.
    std::size_t max_connections_per_process = 0;
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

    // Bytes that this VM may have allocated at once; 0: no quota.
    [[nodiscard]] std::uint64_t memory_quota(std::uint32_t id) const {
        return vm(id).memory_bytes.value_or(memory_per_vm);
    }

    std::size_t slots = 1;  // requests a device works on at once
    [[nodiscard]] std::size_t slots_of(std::size_t device) const {
        return device < gpus.size() ? gpus[device].slots.value_or(slots) : slots;
    }
    // How long requests wait for a GPU that has failed before they are answered with an error.
    std::chrono::milliseconds recovery_wait{5000};
    // Whether a request that overran VmLimitSettings::longest_execution is stopped, and with it
    // what else is on that GPU.
    bool kill_overrun = false;
    std::chrono::microseconds spin{100};  // how long to look for more work before sleeping

    bool queues_enabled = true;  // shared memory is served
    // Bytes of one device's. A taken-over QEMU can make each touch of it take 70 us a MiB, until it
    // is found (TouchWatch).
    std::uint64_t queues_memory_max = std::uint64_t{512} << 20;
    // Commands of one queue that a device may have at once, while nobody else waits for it.
    std::size_t queues_pipeline = 8;

    // After SIGTERM: how long to go on with what is queued and running.
    std::chrono::milliseconds drain_timeout{10000};
};

}  // namespace vgpu
