// SPDX-License-Identifier: MIT
//
// Submits the operations to a lane's stream. Never blocks; the work is done when the job's number
// arrives in its cell.
#pragma once

#include <cstddef>

#include "executor/cuda/cuda_context.h"
#include "executor/cuda/cuda_memory.h"
#include "executor/job.h"

namespace vgpu::cuda {

struct Started {
    Status status = kSuccess;
    BufferId buffer = 0;     // MEMORY_ALLOC: the new buffer
    BufferId temporary = 0;  // to be released when the job is done; 0: none
    // The last piece of work is a kernel that ends the job.
    bool ended = false;
    // If status is not kSuccess: part of the work was submitted nevertheless and will execute.
    bool begun = false;
};

// A VM's shared memory, as seen by the CPU and by the GPU.
struct SharedRegion {
    std::byte* host = nullptr;
    DeviceAddress device = 0;
};

// Whether start_operation() supports the opcode.
bool is_stream_operation(std::uint32_t opcode);

// Starts CUDA_KERNEL, MEMORY_ALLOC, MEMORY_COPY or a vendor operation, followed by the job's end;
// `timeline` is where that stores a value; `follows` indicates that other jobs are in flight in its
// lane. If status is not kSuccess nothing is left allocated. Preconditions: the place is the lane's
// next; the job's buffers exist, and it lies within them and within `region`, if it has one.
Started start_operation(const Api& api, CudaContext& context, CudaMemory& memory,
                        const CudaContext::Place& place, const Job& job, const SharedRegion& region,
                        const Timeline& timeline, bool follows);

}  // namespace vgpu::cuda
