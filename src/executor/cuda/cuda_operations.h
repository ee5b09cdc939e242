// SPDX-License-Identifier: MIT
//
// The operations as work for a lane's stream. Nothing here waits; when the job's number arrives in
// its cell, what was started is done.
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
    // The last piece of work is a kernel that ends the job.
    bool ended = false;
    // Where status is not kSuccess: some of the work is on its way all the same, and will be done.
    bool begun = false;
};

// A VM's shared memory, as the processor and as the GPU see it.
struct SharedRegion {
    std::byte* host = nullptr;
    DeviceAddress device = 0;
};

// Whether start_operation() knows it.
bool is_stream_operation(std::uint32_t opcode);

// Starts CUDA_KERNEL, MEMORY_ALLOC, MEMORY_COPY or a vendor operation, and the job's end after it;
// `timeline` is where that stores a value, and `follows` says that other jobs are under way in its
// lane. Where the status is not kSuccess nothing is left allocated. Preconditions: the place is the
// lane's next; the job's buffers are there, and it lies within them and within `region`, if it has
// one.
Started start_operation(const Api& api, CudaContext& context, CudaMemory& memory,
                        const CudaContext::Place& place, const Job& job, const SharedRegion& region,
                        const Timeline& timeline, bool follows);

}  // namespace vgpu::cuda
