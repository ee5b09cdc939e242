// SPDX-License-Identifier: MIT
//
// Names of levels, pools, policies and backends, as the configuration, the admin API, the metrics
// and the log write them. Other names belong to nobody: the reverse functions return nothing for
// them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sched/scheduler.h"
#include "vgpu_protocol.h"

namespace vgpu {

inline constexpr std::array<const char*, VGPU_PRIORITY_COUNT> kLevelNames{"low", "medium", "high"};

// Precondition: level < VGPU_PRIORITY_COUNT.
inline const char* level_name(std::size_t level) {
    return kLevelNames.at(level);
}

// A level as a guest may have named it: its name, or its number where there is none.
inline std::string level_text(std::uint8_t level) {
    return level < kLevelNames.size() ? level_name(level) : std::to_string(level);
}

inline std::optional<std::uint8_t> level_named(std::string_view name) {
    const auto* const found = std::find(kLevelNames.begin(), kLevelNames.end(), name);
    return found == kLevelNames.end()
               ? std::nullopt
               : std::optional(static_cast<std::uint8_t>(found - kLevelNames.begin()));
}

inline bool is_pool_letter(std::uint8_t pool) {
    return (pool >= 'A' && pool <= 'Z') || (pool >= 'a' && pool <= 'z');
}

// A pool as a guest may have named it: its letter, or the byte's number if it is none.
inline std::string pool_text(std::uint8_t pool) {
    return is_pool_letter(pool) ? std::string(1, static_cast<char>(pool)) : std::to_string(pool);
}

inline const char* policy_name(Policy policy) {
    return policy == Policy::kFair ? "fair" : "strict";
}

inline std::optional<Policy> policy_named(std::string_view name) {
    for (const Policy policy : {Policy::kStrict, Policy::kFair}) {
        if (name == policy_name(policy)) {
            return policy;
        }
    }
    return std::nullopt;
}

inline const char* backend_text(vgpu_backend backend) {
    return backend == VGPU_BACKEND_CUDA ? "cuda" : "cpu";
}

}  // namespace vgpu
