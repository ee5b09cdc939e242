// SPDX-License-Identifier: MIT
//
// Decodes what a request asks for: opcode, flags and params, validated as far as the request alone
// allows. Its handles are resolved when it starts (VmMemory), because the requests before it may
// allocate and free.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "executor/job.h"
#include "ipc/request.h"
#include "ring/layout.h"
#include "ring/record.h"

namespace vgpu {

// A range of a buffer that an operation accesses.
struct BufferUse {
    std::uint32_t handle = 0;
    bool in_heap = false;      // no handle: the operand is in shared memory, and was checked
    std::uint64_t offset = 0;  // bytes
    // Length: count elements of `unit` bytes each. Kept separate because the product may not fit
    // into 64 bits.
    std::uint64_t count = 0;
    std::uint64_t unit = 1;
};

struct Operation {
    Job job;  // without buffers
    std::array<BufferUse, 3> uses{};
    std::size_t use_count = 0;  // uses[i] is for job.buffers[i]
    bool async = false;
    std::uint32_t result_words = 0;  // in the reply to a successful queue command
};

// Returns the operation, or the error: VGPU_ERR_UNSUPPORTED_OPERATION for an unknown opcode,
// VGPU_ERR_INVALID_REQUEST for invalid params or a flag that the operation does not support.
Result<Operation, Refusal> decode_operation(const RequestView& request);

// The same for a command from a queue, whose data and operands may be in the heap:
// VGPU_ERR_CUDA_OUT_OF_BOUNDS if they do not lie within it. The caller sets the job's region.
Result<Operation, Refusal> decode_command(const ring::Record& record, const ring::Layout& layout);

// Returns true if a command with this opcode may start on a device before the one ahead of it in
// its queue has ended: it modifies only buffers and the heap.
bool can_follow(std::uint32_t opcode);

}  // namespace vgpu
