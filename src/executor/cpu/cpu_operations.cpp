// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_operations.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <vector>

namespace vgpu {
namespace {

// Elements lie in plain memory: calloc's alignment suits them, and offsets are not part of the
// operations on them. u32 stands for i32, whose arithmetic wraps.
template <typename T>
T* elements(const CpuMemory& memory, BufferId buffer) {
    return reinterpret_cast<T*>(memory.bytes(buffer).data());
}

Outcome allocate(const Job& job, CpuMemory& memory) {
    const auto buffer = memory.allocate(job.length);
    if (!buffer) {
        return no_memory_outcome(job.length);
    }
    Outcome outcome;
    outcome.buffer = *buffer;
    return outcome;
}

Outcome copy(const Job& job, const CpuMemory& memory) {
    std::byte* const first = memory.bytes(job.buffers[0]).data() + job.offsets[0];
    Outcome outcome;
    if (job.copy == VGPU_COPY_TO_DEVICE) {
        std::memcpy(first, job.data.data(), job.data.size());
    } else if (job.copy == VGPU_COPY_FROM_DEVICE) {
        outcome.data.assign(reinterpret_cast<const char*>(first), job.length);
    } else {
        std::memmove(first, memory.bytes(job.buffers[1]).data() + job.offsets[1], job.length);
    }
    return outcome;
}

template <typename T>
void vector_add(const Job& job, const CpuMemory& memory) {
    T* const to = elements<T>(memory, job.buffers[0]);
    const T* const a = elements<T>(memory, job.buffers[1]);
    const T* const b = elements<T>(memory, job.buffers[2]);
    for (std::uint64_t i = 0; i < job.length; ++i) {
        to[i] = a[i] + b[i];
    }
}

template <typename T>
void saxpy(const Job& job, const CpuMemory& memory) {
    T* const y = elements<T>(memory, job.buffers[0]);
    const T* const x = elements<T>(memory, job.buffers[1]);
    const T alpha = std::bit_cast<T>(job.alpha);
    for (std::uint64_t i = 0; i < job.length; ++i) {
        y[i] = alpha * x[i] + y[i];
    }
}

// Row by row of the result: all three matrices are then read in the order in which they lie.
template <typename T>
void matmul(const Job& job, const CpuMemory& memory) {
    T* const to = elements<T>(memory, job.buffers[0]);
    const T* const a = elements<T>(memory, job.buffers[1]);
    const T* const b = elements<T>(memory, job.buffers[2]);
    const std::uint64_t rows = job.extents[0];
    const std::uint64_t columns = job.extents[1];
    const std::uint64_t depth = job.extents[2];
    for (std::uint64_t row = 0; row < rows; ++row) {
        T* const out = to + row * columns;
        std::fill_n(out, columns, T{});
        for (std::uint64_t step = 0; step < depth; ++step) {
            const T factor = a[row * depth + step];
            const T* const from = b + step * columns;
            for (std::uint64_t column = 0; column < columns; ++column) {
                out[column] += factor * from[column];
            }
        }
    }
}

// Summed in `Sum`, which is wider where rounding matters.
template <typename T, typename Sum>
Outcome reduce_sum(const Job& job, const CpuMemory& memory) {
    const T* const from = elements<T>(memory, job.buffers[0]);
    Sum sum{};
    for (std::uint64_t i = 0; i < job.length; ++i) {
        sum += static_cast<Sum>(from[i]);
    }
    return word_outcome(std::bit_cast<std::uint32_t>(static_cast<T>(sum)));
}

template <typename T, typename Sum>
Outcome run_on_elements(const Job& job, const CpuMemory& memory) {
    switch (job.opcode) {
        case VGPU_OP_VECTOR_ADD:
            vector_add<T>(job, memory);
            return {};
        case VGPU_OP_SAXPY:
            saxpy<T>(job, memory);
            return {};
        case VGPU_OP_MATMUL:
            matmul<T>(job, memory);
            return {};
        case VGPU_OP_REDUCE_SUM:
            return reduce_sum<T, Sum>(job, memory);
        default:
            return Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION,
                                    "the CPU backend does not know this operation");
    }
}

}  // namespace

Outcome run_on_memory(const Job& job, CpuMemory& memory) {
    if (job.opcode == VGPU_OP_MEMORY_ALLOC) {
        return allocate(job, memory);
    }
    if (job.opcode == VGPU_OP_MEMORY_FREE) {
        memory.release(job.buffers[0]);
        return {};
    }
    for (const BufferId buffer : job.buffers) {
        if (buffer != 0 && memory.bytes(buffer).empty()) {
            return lost_buffer_outcome();
        }
    }
    if (job.opcode == VGPU_OP_MEMORY_COPY) {
        return copy(job, memory);
    }
    return job.type == VGPU_TYPE_F32 ? run_on_elements<float, double>(job, memory)
                                     : run_on_elements<std::uint32_t, std::uint32_t>(job, memory);
}

}  // namespace vgpu
