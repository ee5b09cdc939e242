// SPDX-License-Identifier: MIT
#include "mediator/admin/mediator_control.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace vgpu {

StatusView MediatorControl::status() const {
    const Dispatcher& dispatcher = parts_.mediator.dispatcher();
    const MemoryRegistry::Shared shared = dispatcher.memories().shared();
    std::array<std::chrono::nanoseconds, kLoopSources> latency{};
    for (std::size_t source = 0; source < latency.size(); ++source) {
        latency.at(source) = parts_.mediator.latency().longest(source, dispatcher.now());
    }
    return {.uptime = parts_.clock.now() - begin_,
            .draining = parts_.mediator.stopping(),
            .backend = dispatcher.devices()[0].executor->info().backend,
            .sockets = parts_.sockets,
            .connections = parts_.mediator.connections(),
            .queued = dispatcher.load().queued,
            .running = dispatcher.load().running,
            .requests = parts_.counters.total(),
            .faults = parts_.counters.faults(),
            .quarantined_vms = dispatcher.limits().quarantined(),
            .log_lines_suppressed = parts_.suppressed_lines(),
            .shared_memory_devices = shared.devices,
            .shared_memory_bytes = shared.bytes,
            .heap_bytes_copied = dispatcher.devices().bytes_copied_by_processor(),
            .loop_latency = latency,
            .config_file = parts_.config_file};
}

std::size_t MediatorControl::gpu_number(std::size_t device) const {
    const auto& gpus = settings().gpus;
    return static_cast<std::size_t>(gpus.empty() ? parts_.only_gpu : gpus.at(device).index);
}

std::vector<GpuView> MediatorControl::gpus() const {
    const Dispatcher& dispatcher = parts_.mediator.dispatcher();
    const auto now = parts_.clock.now();
    std::vector<GpuView> views;
    for (std::size_t index = 0; index < dispatcher.devices().size(); ++index) {
        const Device& device = dispatcher.devices()[index];
        const DeviceInfo& info = device.executor->info();
        GpuView view;
        view.index = gpu_number(index);
        view.name = info.name;
        view.backend = info.backend;
        for (const PoolSettings& pool : settings().pools) {
            if (std::find(pool.devices.begin(), pool.devices.end(), index) != pool.devices.end()) {
                view.pools.push_back(pool.id);
            }
        }
        view.recovering = device.failed_at.has_value();
        view.recoveries = device.recoveries;
        view.slots = settings().slots_of(index);
        view.running = device.running;
        view.memory_total = info.memory_total;
        view.memory_free =
            info.memory_free - std::min(info.memory_free, dispatcher.memory_used_on(index));
        view.busy = device.busy.total();
        view.busy_share = std::min(1.0, device.busy.share(now) / static_cast<double>(view.slots));
        views.push_back(std::move(view));
    }
    return views;
}

std::vector<PoolView> MediatorControl::pools() const {
    const Dispatcher& dispatcher = parts_.mediator.dispatcher();
    auto running = dispatcher.running_by_pool();
    std::unordered_map<char, std::size_t> vms;
    for (const std::uint32_t id : parts_.mediator.connected_vms()) {
        if (const auto pool = pool_of(id)) {
            ++vms[*pool];
        }
    }
    std::vector<PoolView> views;
    for (const PoolSettings& pool : settings().pools) {
        PoolView view{.id = pool.id,
                      .gpus = {},
                      .policy = pool.policy,
                      .queued = {},
                      .running = running[pool.id],
                      .vms = vms[pool.id]};
        for (const std::size_t device : pool.devices) {
            view.gpus.push_back(gpu_number(device));
        }
        for (std::size_t level = 0; level < view.queued.size(); ++level) {
            view.queued.at(level) = dispatcher.placement().queued(pool.id, level);
        }
        views.push_back(std::move(view));
    }
    return views;
}

std::optional<char> MediatorControl::pool_of(std::uint32_t id) const {
    if (const auto& pool = settings().vm(id).pool) {
        return pool;
    }
    const auto seen = parts_.counters.vms().find(id);
    return seen == parts_.counters.vms().end() ? std::nullopt : seen->second.pool;
}

bool MediatorControl::known(std::uint32_t id) const {
    return settings().vms.contains(id) || parts_.counters.vms().contains(id) ||
           parts_.mediator.connections_of(id) > 0;
}

VmView MediatorControl::view_of(std::uint32_t id, const Loads& loads) const {
    const Dispatcher& dispatcher = parts_.mediator.dispatcher();
    VmView view;
    view.id = id;
    view.connections = parts_.mediator.connections_of(id);
    view.file_requests = parts_.mediator.file_requests_of(id);
    view.settings = settings().vm(id);
    view.pool = pool_of(id);
    view.priority = view.settings.priority;
    if (const auto seen = parts_.counters.vms().find(id); seen != parts_.counters.vms().end()) {
        view.requests = seen->second.counts;
        if (!view.priority) {
            view.priority = seen->second.priority;
        }
    }
    view.queue_depth = view.settings.queue_depth.value_or(settings().queue.per_vm);
    view.memory_limit = view.settings.memory_bytes.value_or(settings().memory_per_vm);
    if (const auto load = loads.find(id); load != loads.end()) {
        view.queued = load->second.queued;
        view.running = load->second.running;
    }
    if (const VmState* const state = dispatcher.vm(id)) {
        view.memory_used = state->memory.used();
        view.throttled = state->held_until() > dispatcher.now();
    }
    if (const VmLimits* const limits = dispatcher.limits().find(id)) {
        view.throttled_for = limits->hold().total();
        view.quarantined = limits->faults().quarantined();
        view.faults = limits->faults().faults();
    }
    return view;
}

std::vector<std::uint32_t> MediatorControl::vm_ids() const {
    std::set<std::uint32_t> ids;
    for (const auto& [id, vm] : settings().vms) {
        ids.insert(id);
    }
    for (const auto& [id, vm] : parts_.counters.vms()) {
        ids.insert(id);
    }
    for (const std::uint32_t id : parts_.mediator.connected_vms()) {
        ids.insert(id);
    }
    return {ids.begin(), ids.end()};
}

AdminControl::VmReader MediatorControl::vm_reader() const {
    return [this,
            loads = parts_.mediator.dispatcher().load_by_vm()](std::span<const std::uint32_t> ids) {
        std::vector<VmView> views;
        views.reserve(ids.size());
        for (const std::uint32_t id : ids) {
            views.push_back(view_of(id, loads));
        }
        return views;
    };
}

std::optional<VmView> MediatorControl::vm(std::uint32_t id) const {
    if (!known(id)) {
        return std::nullopt;
    }
    return view_of(id, parts_.mediator.dispatcher().load_by_vm());
}

bool MediatorControl::has_buffers_outside(std::uint32_t vm_id, char pool) const {
    const Dispatcher& dispatcher = parts_.mediator.dispatcher();
    const VmState* const vm = dispatcher.vm(vm_id);
    return vm != nullptr && !dispatcher.placement().can_move(vm->placement, vm->memory, pool);
}

bool MediatorControl::quarantine(std::uint32_t vm_id, std::string_view reason) {
    if (!parts_.mediator.quarantine(vm_id)) {
        return false;
    }
    if (!reason.empty()) {
        const std::string text = fmt::format("vm={} quarantined: {}", vm_id, reason);
        parts_.events.on_event(Notice{.text = text});
    }
    return true;
}

void MediatorControl::drain() {
    if (!parts_.mediator.stopping()) {
        if (parts_.before_drain) {
            parts_.before_drain();
        }
        parts_.mediator.begin_shutdown();
    }
}

}  // namespace vgpu
