// SPDX-License-Identifier: MIT
//
// Tokens: in the scheduler, a session's request or a queue's head command; on a device, a request,
// the attach or detach of a region, or a job whose completion is ignored.
#pragma once

#include <cstdint>

#include "executor/job.h"

namespace vgpu {

// The token of a job whose completion is ignored.
inline constexpr std::uint64_t kIgnoredToken = UINT64_MAX;

inline constexpr std::uint64_t kQueueBit = std::uint64_t{1} << 63U;
inline constexpr std::uint64_t kRegionBit = std::uint64_t{1} << 62U;
inline constexpr std::uint64_t kAttachBit = std::uint64_t{1} << 61U;

constexpr std::uint64_t queue_token(std::uint64_t id) {
    return kQueueBit | id;
}
// Precondition: a token from the scheduler.
constexpr bool is_queue_token(std::uint64_t token) {
    return (token & kQueueBit) != 0;
}
constexpr std::uint64_t queue_of_token(std::uint64_t token) {
    return token & ~kQueueBit;
}

constexpr std::uint64_t region_token(RegionId region) {
    return kRegionBit | region;
}
// Precondition: a token from a device.
constexpr bool is_region_token(std::uint64_t token) {
    return token != kIgnoredToken && (token & kRegionBit) != 0;
}
constexpr RegionId region_of_token(std::uint64_t token) {
    return token & ~kRegionBit;
}

// The attach of a region; region_token() is its detach.
constexpr std::uint64_t attach_token(RegionId region) {
    return kAttachBit | region;
}
// Precondition: a token from a device.
constexpr bool is_attach_token(std::uint64_t token) {
    return token != kIgnoredToken && (token & (kQueueBit | kRegionBit | kAttachBit)) == kAttachBit;
}
constexpr RegionId region_of_attach_token(std::uint64_t token) {
    return token & ~kAttachBit;
}

}  // namespace vgpu
