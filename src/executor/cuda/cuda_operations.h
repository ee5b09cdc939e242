// SPDX-License-Identifier: MIT
//
// The operations on buffers as work for a lane's stream. Nothing here waits; when the lane's mark
// arrives, what was started is done.
#pragma once

#include <cstddef>

#include "executor/cuda/cuda_context.h"
#include "executor/cuda/cuda_memory.h"
#include "executor/operation.h"

namespace vgpu::cuda {

struct Started {
    Status status = kSuccess;
    BufferId buffer = 0;     // MEMORY_ALLOC: the new one
    BufferId temporary = 0;  // to be released when the job is done; 0: none
};

// Whether start_operation() knows it.
bool is_stream_operation(std::uint32_t opcode);

// Starts MEMORY_ALLOC, MEMORY_COPY or a vendor operation and the lane's mark after it. Where the
// status is not kSuccess nothing is left allocated.
// Preconditions: the lane is free; the job's buffers are there and it lies within them.
Started start_operation(const Api& api, CudaContext& context, CudaMemory& memory, std::size_t lane,
                        const Job& job);

}  // namespace vgpu::cuda
