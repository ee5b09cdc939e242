// SPDX-License-Identifier: MIT
//
// What a request asks for: opcode, flags and params, read and checked as far as that needs nothing
// but the request itself. What its handles stand for is looked up when its turn comes (VmMemory),
// because the requests before it may allocate and free.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "executor/operation.h"
#include "ipc/request.h"
#include "ring/layout.h"
#include "ring/record.h"

namespace vgpu {

// A stretch of a buffer that an operation touches.
struct BufferUse {
    std::uint32_t handle = 0;
    bool in_heap = false;  // it is none: the operand lies in shared memory, and has been checked
    std::uint64_t offset = 0;  // bytes
    // How much from there: count elements of `unit` bytes each. Kept apart because the product may
    // not fit into 64 bits.
    std::uint64_t count = 0;
    std::uint64_t unit = 1;
};

struct Operation {
    Job job;  // without its buffers
    std::array<BufferUse, 3> uses{};
    std::size_t use_count = 0;  // uses[i] is for job.buffers[i]
    bool async = false;
    std::uint32_t result_words = 0;  // in the answer to a success; of a queue's command
};

// The operation, or what is wrong with it: VGPU_ERR_UNSUPPORTED_OPERATION for an unknown opcode,
// VGPU_ERR_INVALID_REQUEST for wrong params or a flag that the operation does not take.
std::variant<Operation, Refusal> decode_operation(const RequestView& request);

// The same for a command from a queue, whose data and operands may lie in the heap:
// VGPU_ERR_CUDA_OUT_OF_BOUNDS for what does not. The job's region is left to the caller.
std::variant<Operation, Refusal> decode_command(const ring::Record& record,
                                                const ring::Layout& layout);

// Whether a command of this operation may begin on a device before the one ahead of it in its queue
// has ended: it changes nothing but what lies in buffers and in the heap.
bool can_follow(std::uint32_t opcode);

}  // namespace vgpu
