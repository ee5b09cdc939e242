// SPDX-License-Identifier: MIT
//
// Names of levels, policies and backends, as the configuration, the admin API, the metrics and the
// log write them. Other names belong to nobody: the reverse functions return nothing for them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "sched/scheduler.h"
#include "vgpu_protocol.h"

namespace vgpu {

inline constexpr std::array<const char*, VGPU_PRIORITY_COUNT> kLevelNames{"low", "medium", "high"};

// Precondition: level < VGPU_PRIORITY_COUNT.
inline const char* level_name(std::size_t level) {
    return kLevelNames.at(level);
}

inline std::optional<std::uint8_t> level_named(std::string_view name) {
    const auto* const found = std::find(kLevelNames.begin(), kLevelNames.end(), name);
    return found == kLevelNames.end()
               ? std::nullopt
               : std::optional(static_cast<std::uint8_t>(found - kLevelNames.begin()));
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
