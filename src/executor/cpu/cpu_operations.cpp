// SPDX-License-Identifier: MIT
#include "executor/cpu/cpu_operations.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <vector>

namespace vgpu {
namespace {

// A job and the memory that it refers to.
struct Work {
    const Job& job;
    const CpuMemory& memory;
    std::byte* region;
    const std::atomic<bool>& abandoned;

    // Elements are in plain, aligned memory: calloc's alignment suffices, and offsets into shared
    // memory are multiples of 4. u32 is used for i32, whose arithmetic wraps.
    template <typename T>
    [[nodiscard]] T* operand(std::size_t index) const {
        return reinterpret_cast<T*>((job.heap_operands >> index & 1U) != 0
                                        ? region + job.heap.at(index)
                                        : memory.bytes(job.buffers.at(index)).data());
    }
};

// Calls visit(i) for each element of a vector, until the work is abandoned.
template <typename Visit>
void for_each_element(const Work& work, const Visit& visit) {
    constexpr std::uint64_t kBlock = std::uint64_t{1} << 20U;
    for (std::uint64_t begin = 0; begin < work.job.length && !work.abandoned; begin += kBlock) {
        const std::uint64_t end = std::min(begin + kBlock, work.job.length);
        for (std::uint64_t i = begin; i < end; ++i) {
            visit(i);
        }
    }
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

Outcome copy(const Work& work) {
    const Job& job = work.job;
    std::byte* const first = work.memory.bytes(job.buffers[0]).data() + job.offsets[0];
    Outcome outcome;
    if (job.heap_data != 0) {
        std::byte* const shared = work.region + job.heap_data;
        const bool to_device = job.copy == VGPU_COPY_TO_DEVICE;
        std::memcpy(to_device ? first : shared, to_device ? shared : first, job.length);
    } else if (job.copy == VGPU_COPY_TO_DEVICE) {
        std::memcpy(first, job.data.data(), job.data.size());
    } else if (job.copy == VGPU_COPY_FROM_DEVICE) {
        outcome.data.assign(reinterpret_cast<const char*>(first), job.length);
    } else {
        std::memmove(first, work.memory.bytes(job.buffers[1]).data() + job.offsets[1], job.length);
    }
    return outcome;
}

template <typename T>
void vector_add(const Work& work) {
    T* const to = work.operand<T>(0);
    const T* const a = work.operand<T>(1);
    const T* const b = work.operand<T>(2);
    for_each_element(work, [=](std::uint64_t i) { to[i] = a[i] + b[i]; });
}

template <typename T>
void saxpy(const Work& work) {
    T* const y = work.operand<T>(0);
    const T* const x = work.operand<T>(1);
    const T alpha = std::bit_cast<T>(work.job.alpha);
    for_each_element(work, [=](std::uint64_t i) { y[i] = alpha * x[i] + y[i]; });
}

// Computes the result row by row, so that all three matrices are accessed in memory order.
template <typename T>
void matmul(const Work& work) {
    T* const to = work.operand<T>(0);
    const T* const a = work.operand<T>(1);
    const T* const b = work.operand<T>(2);
    const std::uint64_t rows = work.job.extents[0];
    const std::uint64_t columns = work.job.extents[1];
    const std::uint64_t depth = work.job.extents[2];
    if (columns == 0) {
        return;  // no elements, whatever the number of rows
    }
    for (std::uint64_t row = 0; row < rows && !work.abandoned; ++row) {
        T* const out = to + row * columns;
        std::fill_n(out, columns, T{});
        for (std::uint64_t step = 0; step < depth && !work.abandoned; ++step) {
            const T factor = a[row * depth + step];
            const T* const from = b + step * columns;
            for (std::uint64_t column = 0; column < columns; ++column) {
                out[column] += factor * from[column];
            }
        }
    }
}

// Accumulates in `Sum`, which is wider where rounding matters.
template <typename T, typename Sum>
Outcome reduce_sum(const Work& work) {
    const T* const from = work.operand<T>(0);
    Sum sum{};
    for_each_element(work, [&](std::uint64_t i) { sum += static_cast<Sum>(from[i]); });
    return word_outcome(std::bit_cast<std::uint32_t>(static_cast<T>(sum)));
}

template <typename T, typename Sum>
Outcome run_on_elements(const Work& work) {
    switch (work.job.opcode) {
        case VGPU_OP_VECTOR_ADD:
            vector_add<T>(work);
            return {};
        case VGPU_OP_SAXPY:
            saxpy<T>(work);
            return {};
        case VGPU_OP_MATMUL:
            matmul<T>(work);
            return {};
        case VGPU_OP_REDUCE_SUM:
            return reduce_sum<T, Sum>(work);
        default:
            return Outcome::failure(VGPU_ERR_UNSUPPORTED_OPERATION,
                                    "the CPU backend does not know this operation");
    }
}

}  // namespace

Outcome run_on_memory(const Job& job, CpuMemory& memory, std::byte* region,
                      const std::atomic<bool>& abandoned) {
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
    const Work work{.job = job, .memory = memory, .region = region, .abandoned = abandoned};
    if (job.opcode == VGPU_OP_MEMORY_COPY) {
        return copy(work);
    }
    Outcome outcome = job.type == VGPU_TYPE_F32
                          ? run_on_elements<float, double>(work)
                          : run_on_elements<std::uint32_t, std::uint32_t>(work);
    return abandoned ? failed_device_outcome("the mediator stops") : outcome;
}

}  // namespace vgpu
