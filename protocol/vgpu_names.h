/* SPDX-License-Identifier: MIT */
/*
 * vgpu_names.h: the names of the protocol's codes, for logs, the admin API, metrics and programs.
 * Names are part of these interfaces: do not change one. C and C++.
 */
#ifndef VGPU_NAMES_H
#define VGPU_NAMES_H

#include "vgpu_protocol.h"

/* Returns a static text; "unknown" for a status that the protocol does not define. */
static inline const char* vgpu_error_name(uint32_t status) {
    switch (status) {
        case VGPU_ERR_NONE:
            return "ok";
        case VGPU_ERR_INVALID_REQUEST:
            return "invalid-request";
        case VGPU_ERR_REQUEST_TOO_LARGE:
            return "request-too-large";
        case VGPU_ERR_MEDIATOR_UNAVAILABLE:
            return "mediator-unavailable";
        case VGPU_ERR_TIMEOUT:
            return "timeout";
        case VGPU_ERR_CUDA:
            return "cuda-error";
        case VGPU_ERR_INVALID_POOL:
            return "invalid-pool";
        case VGPU_ERR_QUEUE_FULL:
            return "queue-full";
        case VGPU_ERR_UNSUPPORTED_OPERATION:
            return "unsupported-operation";
        case VGPU_ERR_INVALID_LENGTH:
            return "invalid-length";
        case VGPU_ERR_RATE_LIMITED:
            return "rate-limited";
        case VGPU_ERR_QUARANTINED:
            return "quarantined";
        case VGPU_ERR_CUDA_OUT_OF_MEMORY:
            return "cuda-out-of-memory";
        case VGPU_ERR_CUDA_LAUNCH_FAILED:
            return "cuda-launch-failed";
        case VGPU_ERR_CUDA_DEVICE_LOST:
            return "cuda-device-lost";
        case VGPU_ERR_CUDA_MEMORY_QUOTA:
            return "memory-quota";
        case VGPU_ERR_CUDA_INVALID_HANDLE:
            return "invalid-handle";
        case VGPU_ERR_CUDA_OUT_OF_BOUNDS:
            return "out-of-bounds";
        case VGPU_ERR_CUDA_TIME_LIMIT:
            return "time-limit";
        default:
            return status >= VGPU_ERR_CUDA_FIRST && status <= VGPU_ERR_CUDA_LAST ? "cuda-specific"
                                                                                 : "unknown";
    }
}

/* Returns a static text; "other" for an opcode that the protocol does not define. */
static inline const char* vgpu_operation_name(uint32_t opcode) {
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

#endif /* VGPU_NAMES_H */
