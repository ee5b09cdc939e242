// SPDX-License-Identifier: MIT
//
// Names of levels, pools, policies and backends, as used by the configuration, the admin API, the
// metrics and the log. The reverse functions return nothing for an unknown name.
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

// Returns the name of a level that a guest sent, or its number if it has none.
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

// Returns the letter of a pool that a guest sent, or the byte as a number if it is not one.
inline std::string pool_text(std::uint8_t pool) {
    return is_pool_letter(pool) ? std::string(1, static_cast<char>(pool)) : std::to_string(pool);
}

// Returns why a queue stopped (enum vgpu_queue_error), as a clause for messages.
inline const char* queue_error_text(std::uint32_t error) {
    switch (error) {
        case VGPU_QUEUE_ERR_TAIL_UNALIGNED:
            return "its tail is not a multiple of 8";
        case VGPU_QUEUE_ERR_TAIL_RANGE:
            return "its tail is behind its head, or too far ahead";
        case VGPU_QUEUE_ERR_RECORD_SIZE:
            return "a record has an invalid size";
        case VGPU_QUEUE_ERR_RECORD_PAST_TAIL:
            return "a record is longer than the submitted bytes";
        case VGPU_QUEUE_ERR_RECORD_SPLIT:
            return "a record crosses the end of the ring";
        case VGPU_QUEUE_ERR_PADDING:
            return "padding does not end at the end of the ring";
        case VGPU_QUEUE_ERR_RECORD_PARTS:
            return "the parts of a record do not add up to its size";
        case VGPU_QUEUE_ERR_REPLY_PLACE:
            return "a reply place is outside the heap, unaligned or too small";
        default:
            return "the queue is stopped";
    }
}

// Returns why a hello was rejected (enum vgpu_hello_status), as a clause for messages.
inline const char* hello_status_text(std::uint32_t status) {
    switch (status) {
        case VGPU_HELLO_NOT_OFFERED:
            return "queues are disabled (queues.enabled)";
        case VGPU_HELLO_BAD_VERSION:
            return "the device implements another version, or lacks a required feature";
        case VGPU_HELLO_BAD_LAYOUT:
            return "the size or the number of queues is out of range";
        case VGPU_HELLO_BAD_MEMORY:
            return "the memory is not a sealed memfd of the announced size";
        case VGPU_HELLO_BAD_DESCRIPTOR:
            return "a doorbell or interrupt is not an eventfd";
        case VGPU_HELLO_NO_RESOURCES:
            return "a limit is reached (queues.memory_max, address space, descriptors)";
        case VGPU_HELLO_NOT_ALLOWED:
            return "this VM is not allowed to have shared memory";
        case VGPU_HELLO_VM_ID_IN_USE:
            return "another connection uses this VM id";
        default:
            return "accepted";
    }
}

// Returns the error text for a pool that is not served.
inline std::string pool_error_text(std::uint8_t pool) {
    return is_pool_letter(pool) ? "this mediator does not serve pool " + pool_text(pool)
                                : "the pool is not a letter (byte " + pool_text(pool) + ")";
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
