// SPDX-License-Identifier: MIT
#include "mediator/config/reload.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace vgpu {

std::vector<std::string> keep_what_cannot_change(const Config& running, Config& next) {
    std::vector<std::string> names;
    const auto keep = [&](const char* name, const auto& now, auto& then) {
        if (now != then) {
            then = now;
            names.emplace_back(name);
        }
    };
    keep("mediator.sockets", running.sockets, next.sockets);
    keep("mediator.socket_group", running.socket_group, next.socket_group);
    keep("mediator.socket_mode", running.socket_mode, next.socket_mode);
    keep("mediator.backend", running.backend, next.backend);
    keep("mediator.device", running.device, next.device);
    keep("executor.spin_us", running.mediator.spin, next.mediator.spin);
    if (admin_socket_of(running) != admin_socket_of(next)) {
        names.emplace_back("admin.socket");
    }
    next.admin_socket = running.admin_socket;
    keep("admin.allowed_users", running.allowed_users, next.allowed_users);
    keep("metrics.listen", running.metrics_listen, next.metrics_listen);
    keep("files", running.files, next.files);
    keep("log.target", running.log_target, next.log_target);
    keep("log.lines_per_second", running.log_lines_per_second, next.log_lines_per_second);
    keep("log.burst", running.log_burst, next.log_burst);
    const auto& gpus = running.mediator.gpus;
    if (!std::equal(gpus.begin(), gpus.end(), next.mediator.gpus.begin(), next.mediator.gpus.end(),
                    [](const auto& a, const auto& b) { return a.index == b.index; })) {
        next.mediator.gpus = gpus;
        next.mediator.pools = running.mediator.pools;
        names.emplace_back("gpu (the indices)");
    }
    const auto& pools = running.mediator.pools;
    const bool same_pools = std::is_permutation(
        pools.begin(), pools.end(), next.mediator.pools.begin(), next.mediator.pools.end(),
        [](const auto& a, const auto& b) { return a.id == b.id && a.devices == b.devices; });
    if (!same_pools) {
        next.mediator.pools = pools;
        names.emplace_back("pool (the ids and GPUs)");
    }
    return names;
}

std::vector<std::string> changes_of_file(const Config& running, const Config& next) {
    std::vector<std::string> changes;
    const auto note = [&](const std::string& name, const std::string& before,
                          const std::string& now) {
        std::string change = name;
        change.append(": ").append(before).append(" -> ").append(now);
        changes.push_back(std::move(change));
    };
    for (const auto& [name, value] : running.written) {
        const auto now = next.written.find(name);
        if (now == next.written.end()) {
            note(name, value, "(not in the file: the default)");
        } else if (now->second != value) {
            note(name, value, now->second);
        }
    }
    for (const auto& [name, value] : next.written) {
        if (!running.written.contains(name)) {
            note(name, "(the default)", value);
        }
    }
    return changes;
}

Result<void> refuse_emptied(const Config& running, const Config& next, const std::string& path) {
    if (running.written.empty() || !next.written.empty()) {
        return {};
    }
    return Error{path +
                     " no longer contains any settings: if it was being written, reload again; to "
                     "return to the defaults, restart the mediator",
                 EINVAL};
}

}  // namespace vgpu
