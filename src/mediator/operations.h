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

namespace vgpu {

// A stretch of a buffer that an operation touches.
struct BufferUse {
    std::uint32_t handle = 0;
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
};

// The operation, or what is wrong with it: VGPU_ERR_UNSUPPORTED_OPERATION for an unknown opcode,
// VGPU_ERR_INVALID_REQUEST for wrong params or a flag that the operation does not take.
std::variant<Operation, Refusal> decode_operation(const RequestView& request);

}  // namespace vgpu
