// SPDX-License-Identifier: MIT
//
// AdminControl: everything the admin API can observe and change. The API has no other access to the
// mediator.
//
// Control loop only. Nothing here blocks.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mediator/config/settings.h"
#include "mediator/events/counters.h"
#include "mediator/loop/loop_latency.h"

namespace vgpu {

struct StatusView {
    std::chrono::nanoseconds uptime{0};
    bool draining = false;
    vgpu_backend backend = VGPU_BACKEND_CPU;
    std::vector<std::string> sockets;
    std::size_t connections = 0;
    std::size_t queued = 0;
    std::size_t running = 0;
    Counters::Counts requests;
    std::uint64_t faults = 0;
    std::size_t quarantined_vms = 0;
    std::uint64_t log_lines_suppressed = 0;
    std::size_t shared_memory_devices = 0;  // devices whose shared memory is served
    std::uint64_t shared_memory_bytes = 0;
    std::uint64_t heap_bytes_copied = 0;  // by the CPU in place of a GPU
    std::array<std::chrono::nanoseconds, kLoopSources> loop_latency{};  // maximum, by LoopSource
    std::string config_file;                                            // empty: none
};

struct GpuView {
    std::size_t index = 0;
    std::string name;
    vgpu_backend backend = VGPU_BACKEND_CPU;
    bool recovering = false;
    std::vector<char> pools;
    std::size_t slots = 1;
    std::size_t running = 0;
    std::uint64_t memory_total = 0;  // bytes
    std::uint64_t memory_free = 0;
    double busy_share = 0;  // 0 to 1
    std::chrono::nanoseconds busy{0};
    std::uint64_t recoveries = 0;
};

struct PoolView {
    char id = 'A';
    std::vector<std::size_t> gpus;
    PoolPolicy policy;
    std::array<std::size_t, VGPU_PRIORITY_COUNT> queued{};
    std::size_t running = 0;
    std::size_t vms = 0;
};

struct VmView {
    std::uint32_t id = 0;
    std::size_t connections = 0;
    std::uint64_t file_requests = 0;       // through the file protocol, since the start
    std::optional<char> pool;              // effective value
    std::optional<std::uint8_t> priority;  // effective value
    VmSettings settings;
    std::size_t queue_depth = 0;
    std::uint64_t memory_limit = 0;  // bytes; 0: none
    std::size_t queued = 0;
    std::size_t running = 0;
    std::uint64_t memory_used = 0;
    bool throttled = false;                     // now, itself or with its process
    std::chrono::nanoseconds throttled_for{0};  // in total, on its own account
    bool quarantined = false;
    std::uint64_t faults = 0;
    Counters::Counts requests;
};

struct ReloadOutcome {
    std::vector<std::string> changed;      // settings of the file, with old and new values
    std::vector<std::string> not_applied;  // names of settings
    std::string error;                     // empty: success
    std::optional<std::uint64_t> line;
};

class AdminControl {
  public:
    AdminControl() = default;
    AdminControl(const AdminControl&) = delete;
    AdminControl& operator=(const AdminControl&) = delete;
    virtual ~AdminControl() = default;

    [[nodiscard]] virtual StatusView status() const = 0;
    [[nodiscard]] virtual std::vector<GpuView> gpus() const = 0;
    [[nodiscard]] virtual std::vector<PoolView> pools() const = 0;
    // Returns the VMs that are configured or have been seen, in ascending order.
    [[nodiscard]] virtual std::vector<std::uint32_t> vm_ids() const = 0;
    // Returns a function that returns one view per id, in the same order. Queued and running
    // requests are those of this moment. Borrows this object.
    using VmReader = std::function<std::vector<VmView>(std::span<const std::uint32_t> ids)>;
    [[nodiscard]] virtual VmReader vm_reader() const = 0;
    // Returns nothing if the VM is not configured and has not been seen.
    [[nodiscard]] virtual std::optional<VmView> vm(std::uint32_t id) const = 0;

    [[nodiscard]] virtual const Settings& settings() const = 0;
    virtual void apply(const Settings& settings) = 0;
    // Returns whether a VM has buffers on a GPU outside this pool. Precondition: the pool exists.
    [[nodiscard]] virtual bool has_buffers_outside(std::uint32_t vm_id, char pool) const = 0;

    // Both return false if nothing changed: the VM already is, or is not, in quarantine.
    virtual bool quarantine(std::uint32_t vm_id, std::string_view reason) = 0;
    virtual bool release(std::uint32_t vm_id) = 0;
    // Starts to drain. Idempotent.
    virtual void drain() = 0;
    virtual ReloadOutcome reload() = 0;
};

}  // namespace vgpu
