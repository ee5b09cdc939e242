// SPDX-License-Identifier: MIT
//
// What a token stands for: in the scheduler a request of a session or the head of a queue, with a
// device a request, the beginning or end of a region, or nothing that anybody waits for.
#pragma once

#include <cstdint>

#include "executor/operation.h"

namespace vgpu {

// The token of a job that nobody waits for.
inline constexpr std::uint64_t kNobody = UINT64_MAX;

inline constexpr std::uint64_t kQueueBit = std::uint64_t{1} << 63U;
inline constexpr std::uint64_t kRegionBit = std::uint64_t{1} << 62U;
inline constexpr std::uint64_t kAttachBit = std::uint64_t{1} << 61U;

constexpr std::uint64_t queue_token(std::uint64_t id) {
    return kQueueBit | id;
}
// Precondition: a token that the scheduler gave.
constexpr bool is_queue_token(std::uint64_t token) {
    return (token & kQueueBit) != 0;
}
constexpr std::uint64_t queue_of_token(std::uint64_t token) {
    return token & ~kQueueBit;
}

constexpr std::uint64_t region_token(RegionId region) {
    return kRegionBit | region;
}
// Precondition: a token that a device gave.
constexpr bool is_region_token(std::uint64_t token) {
    return token != kNobody && (token & kRegionBit) != 0;
}
constexpr RegionId region_of_token(std::uint64_t token) {
    return token & ~kRegionBit;
}

// The beginning of a region, as against its end.
constexpr std::uint64_t attach_token(RegionId region) {
    return kAttachBit | region;
}
// Precondition: a token that a device gave.
constexpr bool is_attach_token(std::uint64_t token) {
    return token != kNobody && (token & (kQueueBit | kRegionBit | kAttachBit)) == kAttachBit;
}
constexpr RegionId region_of_attach_token(std::uint64_t token) {
    return token & ~kAttachBit;
}

}  // namespace vgpu
