// SPDX-License-Identifier: MIT
//
// Names of the protocol's codes, as used by the admin API and the metrics.
#pragma once

#include <cstdint>
#include <string_view>

#include "vgpu_protocol.h"

namespace vgpu {

// Returns "unknown" for a status that the protocol does not define.
inline std::string_view error_name(std::uint32_t status) {
    switch (status) {
        case VGPU_ERR_NONE:
            return "none";
        case VGPU_ERR_INVALID_REQUEST:
            return "invalid_request";
        case VGPU_ERR_REQUEST_TOO_LARGE:
            return "request_too_large";
        case VGPU_ERR_MEDIATOR_UNAVAILABLE:
            return "mediator_unavailable";
        case VGPU_ERR_TIMEOUT:
            return "timeout";
        case VGPU_ERR_CUDA:
            return "cuda";
        case VGPU_ERR_INVALID_POOL:
            return "invalid_pool";
        case VGPU_ERR_QUEUE_FULL:
            return "queue_full";
        case VGPU_ERR_UNSUPPORTED_OPERATION:
            return "unsupported_operation";
        case VGPU_ERR_INVALID_LENGTH:
            return "invalid_length";
        case VGPU_ERR_RATE_LIMITED:
            return "rate_limited";
        case VGPU_ERR_QUARANTINED:
            return "quarantined";
        case VGPU_ERR_CUDA_OUT_OF_MEMORY:
            return "out_of_memory";
        case VGPU_ERR_CUDA_LAUNCH_FAILED:
            return "launch_failed";
        case VGPU_ERR_CUDA_DEVICE_LOST:
            return "device_lost";
        case VGPU_ERR_CUDA_MEMORY_QUOTA:
            return "memory_quota";
        case VGPU_ERR_CUDA_INVALID_HANDLE:
            return "invalid_handle";
        case VGPU_ERR_CUDA_OUT_OF_BOUNDS:
            return "out_of_bounds";
        case VGPU_ERR_CUDA_TIME_LIMIT:
            return "time_limit";
        default:
            return "unknown";
    }
}

// Returns "other" for an opcode that the protocol does not define.
inline std::string_view operation_name(std::uint32_t opcode) {
    switch (opcode) {
        case VGPU_OP_NOP:
            return "nop";
        case VGPU_OP_CUDA_KERNEL:
            return "cuda_kernel";
        case VGPU_OP_MEMORY_ALLOC:
            return "memory_alloc";
        case VGPU_OP_MEMORY_FREE:
            return "memory_free";
        case VGPU_OP_MEMORY_COPY:
            return "memory_copy";
        case VGPU_OP_GET_DEVICE_INFO:
            return "get_device_info";
        case VGPU_OP_SYNCHRONIZE:
            return "synchronize";
        case VGPU_OP_VECTOR_ADD:
            return "vector_add";
        case VGPU_OP_SAXPY:
            return "saxpy";
        case VGPU_OP_MATMUL:
            return "matmul";
        case VGPU_OP_REDUCE_SUM:
            return "reduce_sum";
        default:
            return "other";
    }
}

}  // namespace vgpu
