// SPDX-License-Identifier: MIT
#include "mediator/admin/views.h"

#include <string>
#include <utility>

#include "mediator/config/names.h"

namespace vgpu {
namespace {

Json pool_or_null(const std::optional<char>& pool) {
    return pool ? Json(std::string(1, *pool)) : Json(nullptr);
}

Json level_or_null(const std::optional<std::uint8_t>& level) {
    return level && *level < kLevelNames.size() ? Json(level_name(*level)) : Json(nullptr);
}

double microseconds(std::chrono::nanoseconds time) {
    return static_cast<double>(time.count()) / 1e3;
}

// Request counts by outcome, of all VMs or of one.
Json json_of(const Counters::Counts& counts) {
    return {{"accepted", counts.accepted}, {"done", counts.done},
            {"failed", counts.failed},     {"refused", counts.refused},
            {"limited", counts.limited},   {"dropped", counts.dropped}};
}

}  // namespace

Json json_of(const StatusView& view) {
    Json latency = Json::object();
    for (std::size_t source = 0; source < kLoopSources; ++source) {
        latency[kLoopSourceNames.at(source)] = microseconds(view.loop_latency.at(source));
    }
    return {{"version", VGPU_VERSION},
            {"uptime_s", std::chrono::duration<double>(view.uptime).count()},
            {"state", view.draining ? "draining" : "running"},
            {"backend", backend_text(view.backend)},
            {"sockets", view.sockets},
            {"connections", view.connections},
            {"queued", view.queued},
            {"running", view.running},
            {"requests", json_of(view.requests)},
            {"faults", view.faults},
            {"loop_latency_us", std::move(latency)},
            {"config_file", view.config_file.empty() ? Json(nullptr) : Json(view.config_file)}};
}

Json json_of(const GpuView& view) {
    Json pools = Json::array();
    for (const char id : view.pools) {
        pools.push_back(std::string(1, id));
    }
    return {{"index", view.index},
            {"name", view.name},
            {"backend", backend_text(view.backend)},
            {"state", view.recovering ? "recovering" : "ok"},
            {"pools", std::move(pools)},
            {"slots", view.slots},
            {"running", view.running},
            {"memory_total", view.memory_total},
            {"memory_free", view.memory_free},
            {"busy_share", view.busy_share},
            {"recoveries", view.recoveries}};
}

Json json_of(const PoolView& view) {
    Json queued = Json::object();
    for (std::size_t level = 0; level < view.queued.size(); ++level) {
        queued[level_name(level)] = view.queued.at(level);
    }
    return {{"id", std::string(1, view.id)},
            {"gpus", view.gpus},
            {"policy", policy_name(view.policy.policy)},
            {"aging_ms", view.policy.aging.count()},
            {"queued", std::move(queued)},
            {"running", view.running},
            {"vms", view.vms}};
}

Json json_of(const VmView& view) {
    const Counters::Counts& counts = view.requests;
    const VmLimitSettings& limits = view.settings.limits;
    Json requests = json_of(counts);
    requests["overran"] = counts.overran;
    return {{"id", view.id},
            {"connected", view.connections > 0},
            {"connections", view.connections},
            {"file_requests", view.file_requests},
            {"pool", pool_or_null(view.pool)},
            {"priority", level_or_null(view.priority)},
            {"overrides",
             {{"pool", pool_or_null(view.settings.pool)},
              {"priority", level_or_null(view.settings.priority)}}},
            // The number: looking up the name could block.
            {"user", view.settings.user ? Json(*view.settings.user) : Json()},
            {"weight", view.settings.weight},
            {"boost", view.settings.boost},
            {"queue_depth", view.queue_depth},
            {"queued", view.queued},
            {"running", view.running},
            {"memory_used", view.memory_used},
            {"limits",
             {{"requests_per_second", limits.requests_per_second},
              {"burst", limits.burst},
              {"gpu_time_ms_per_window", limits.gpu_time.count()},
              {"gpu_window_ms", limits.gpu_window.count()},
              {"quarantine_after_faults", limits.quarantine_after_faults},
              {"longest_execution_ms", limits.longest_execution.count()},
              {"memory_bytes", view.memory_limit}}},
            {"throttled", view.throttled},
            {"throttled_us", microseconds(view.throttled_for)},
            {"quarantined", view.quarantined},
            {"faults", view.faults},
            {"requests", std::move(requests)},
            {"gpu_time_us", counts.gpu_us},
            {"wait_mean_us", counts.started == 0 ? 0.0
                                                 : microseconds(counts.waited) /
                                                       static_cast<double>(counts.started)},
            {"wait_max_us", microseconds(counts.longest_wait)}};
}

}  // namespace vgpu
