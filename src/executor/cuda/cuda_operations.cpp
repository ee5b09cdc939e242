// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_operations.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace vgpu::cuda {
namespace {

constexpr unsigned kThreads = 256;  // per block; reduce in kernels/operations.cu relies on it
constexpr unsigned kWarp = 32;
constexpr std::uint64_t kTile = 16;              // matmul in kernels/operations.cu relies on it
constexpr std::uint64_t kMostTilesDown = 65535;  // CUDA's limit of a grid's y dimension
// Maximum size of the intermediate buffer of an overlapping copy.
constexpr std::uint64_t kMostAside = std::uint64_t{16} << 20U;

struct Work {
    const Api& api;
    CudaContext& context;
    CudaMemory& memory;
    const CudaContext::Place& place;
    const Job& job;
    const SharedRegion& region;
    const Timeline& timeline;

    [[nodiscard]] DeviceAddress operand(std::size_t index) const {
        return (job.heap_operands >> index & 1U) != 0 ? region.device + job.heap.at(index)
                                                      : memory.address(job.buffers.at(index));
    }
    [[nodiscard]] DeviceAddress heap_result() const {
        return job.heap_result != 0 ? region.device + job.heap_result : 0;
    }
    [[nodiscard]] Stream stream() const { return context.stream(place); }
    [[nodiscard]] bool is_f32() const { return job.type == VGPU_TYPE_F32; }
    Status launch(Kernel kernel, std::array<unsigned, 2> grid, std::array<unsigned, 2> block,
                  void** params) const {
        return api.launch_kernel(context.function(kernel), grid[0], grid[1], 1, block[0], block[1],
                                 1, 0, stream(), params, nullptr);
    }
    // Launches the job's last kernel, whose last param is reserved for a Finish. A single-block
    // kernel ends the job itself.
    template <std::size_t kCount>
    Started launch_last(Kernel kernel, std::array<unsigned, 2> grid, std::array<unsigned, 2> block,
                        std::array<void*, kCount> params) const {
        Started started;
        started.ended = grid[0] == 1 && grid[1] == 1;
        Finish finish = started.ended ? context.finish(place, timeline) : Finish{};
        params.back() = &finish;
        started.status = launch(kernel, grid, block, params.data());
        started.begun = started.status == kSuccess;
        return started;
    }
};

unsigned blocks_for(std::uint64_t count) {
    const std::uint64_t wanted = (count + kThreads - 1) / kThreads;
    return static_cast<unsigned>(
        std::clamp<std::uint64_t>(wanted, 1, CudaContext::kMostReduceBlocks));
}

// Few elements do not justify a whole block, whose threads synchronize at its end.
unsigned threads_for(std::uint64_t count) {
    return count <= kWarp ? kWarp : kThreads;
}

Started add(const Work& work) {
    std::uint32_t a = work.job.params[0];
    std::uint32_t b = work.job.params[1];
    DeviceAddress heap_result = work.heap_result();
    return work.launch_last<4>(Kernel::kAdd, {1, 1}, {1, 1}, {&a, &b, &heap_result});
}

Started alloc(const Work& work) {
    Started started;
    started.status = work.memory.allocate(work.job.length, work.stream(), started.buffer);
    if (started.status == kSuccess) {
        started.status = work.api.memset_d8_async(work.memory.address(started.buffer), 0,
                                                  work.job.length, work.stream());
        started.begun = started.status == kSuccess;
    }
    return started;
}

// Copies in pieces through an intermediate buffer, in the order that overwrites no unread source.
Started copy_overlapping(const Work& work, DeviceAddress to, DeviceAddress from) {
    Started started;
    const std::uint64_t length = work.job.length;
    const std::uint64_t piece = std::min(length, kMostAside);
    started.status = work.memory.allocate(piece, work.stream(), started.temporary);
    const DeviceAddress aside = work.memory.address(started.temporary);
    for (std::uint64_t done = 0; done < length && started.status == kSuccess;) {
        const std::uint64_t now = std::min(piece, length - done);
        const std::uint64_t at = to < from ? done : length - done - now;
        started.status = work.api.memcpy_dtod_async(aside, from + at, now, work.stream());
        if (started.status == kSuccess) {
            started.begun = true;
            started.status = work.api.memcpy_dtod_async(to + at, aside, now, work.stream());
        }
        done += now;
    }
    return started;
}

// A single piece of work, except for overlapping copies.
Started copy(const Work& work) {
    const Job& job = work.job;
    if (job.length == 0) {
        return {};
    }
    const auto one = [](Status status) {
        return Started{.status = status, .begun = status == kSuccess};
    };
    const DeviceAddress first = work.memory.address(job.buffers[0]) + job.offsets[0];
    // Shared memory is registered with the driver, which copies from and to it without the CPU.
    void* const host = job.heap_data != 0 ? static_cast<void*>(work.region.host + job.heap_data)
                                          : static_cast<void*>(work.context.staging(work.place));
    if (job.copy == VGPU_COPY_TO_DEVICE) {
        if (job.heap_data == 0) {
            std::memcpy(host, job.data.data(), job.data.size());
        }
        return one(work.api.memcpy_htod_async(first, host, job.length, work.stream()));
    }
    if (job.copy == VGPU_COPY_FROM_DEVICE) {
        return one(work.api.memcpy_dtoh_async(host, first, job.length, work.stream()));
    }
    const DeviceAddress from = work.memory.address(job.buffers[1]) + job.offsets[1];
    if (first < from + job.length && from < first + job.length && first != from) {
        return copy_overlapping(work, first, from);
    }
    return one(work.api.memcpy_dtod_async(first, from, job.length, work.stream()));
}

Started vector_add(const Work& work) {
    DeviceAddress to = work.operand(0);
    DeviceAddress a = work.operand(1);
    DeviceAddress b = work.operand(2);
    std::uint64_t count = work.job.length;
    return work.launch_last<5>(work.is_f32() ? Kernel::kVectorAddF32 : Kernel::kVectorAddI32,
                               {blocks_for(count), 1}, {threads_for(count), 1},
                               {&to, &a, &b, &count});
}

Started saxpy(const Work& work) {
    DeviceAddress y = work.operand(0);
    DeviceAddress x = work.operand(1);
    std::uint32_t alpha = work.job.alpha;
    std::uint64_t count = work.job.length;
    return work.launch_last<5>(work.is_f32() ? Kernel::kSaxpyF32 : Kernel::kSaxpyI32,
                               {blocks_for(count), 1}, {threads_for(count), 1},
                               {&y, &x, &alpha, &count});
}

Started matmul(const Work& work) {
    std::uint32_t m = work.job.extents[0];
    std::uint32_t n = work.job.extents[1];
    std::uint32_t k = work.job.extents[2];
    if (m == 0 || n == 0) {
        return {};
    }
    DeviceAddress to = work.operand(0);
    DeviceAddress a = work.operand(1);
    DeviceAddress b = work.operand(2);
    const auto across = static_cast<unsigned>((n + kTile - 1) / kTile);
    const auto down = static_cast<unsigned>(std::min((m + kTile - 1) / kTile, kMostTilesDown));
    return work.launch_last<7>(work.is_f32() ? Kernel::kMatmulF32 : Kernel::kMatmulI32,
                               {across, down}, {kTile, kTile}, {&to, &a, &b, &m, &n, &k});
}

Started reduce_sum(const Work& work) {
    DeviceAddress from = work.operand(0);
    std::uint64_t count = work.job.length;
    DeviceAddress sums = work.context.scratch(work.place);
    unsigned blocks = blocks_for(count);
    std::array<void*, 3> params{&from, &count, &sums};
    const Status status = work.launch(work.is_f32() ? Kernel::kReduceF32 : Kernel::kReduceI32,
                                      {blocks, 1}, {kThreads, 1}, params.data());
    if (status != kSuccess) {
        return {.status = status};
    }
    DeviceAddress result = work.context.result_address(work.place);
    DeviceAddress heap_result = work.heap_result();
    Started started =
        work.launch_last<5>(work.is_f32() ? Kernel::kReduceFinishF32 : Kernel::kReduceFinishI32,
                            {1, 1}, {kThreads, 1}, {&sums, &blocks, &result, &heap_result});
    started.begun = true;
    return started;
}

Started start(const Work& work) {
    switch (work.job.opcode) {
        case VGPU_OP_CUDA_KERNEL:
            return add(work);
        case VGPU_OP_MEMORY_ALLOC:
            return alloc(work);
        case VGPU_OP_MEMORY_COPY:
            return copy(work);
        case VGPU_OP_VECTOR_ADD:
            return vector_add(work);
        case VGPU_OP_SAXPY:
            return saxpy(work);
        case VGPU_OP_MATMUL:
            return matmul(work);
        default:
            return reduce_sum(work);
    }
}

}  // namespace

bool is_stream_operation(std::uint32_t opcode) {
    return opcode == VGPU_OP_CUDA_KERNEL || opcode == VGPU_OP_MEMORY_ALLOC ||
           opcode == VGPU_OP_MEMORY_COPY ||
           (opcode >= VGPU_OP_VECTOR_ADD && opcode <= VGPU_OP_REDUCE_SUM);
}

Started start_operation(const Api& api, CudaContext& context, CudaMemory& memory,
                        const CudaContext::Place& place, const Job& job, const SharedRegion& region,
                        const Timeline& timeline, bool follows) {
    const bool aside =
        follows && job.opcode == VGPU_OP_MEMORY_COPY && job.length > 0 && context.stores_aside();
    if (!aside) {
        if (const Status status = context.join(place, follows); status != kSuccess) {
            return {.status = status};
        }
    }
    Started started = start({.api = api,
                             .context = context,
                             .memory = memory,
                             .place = place,
                             .job = job,
                             .region = region,
                             .timeline = timeline});
    if (started.status == kSuccess && !started.ended) {
        started.status =
            aside ? context.mark_aside(place, timeline) : context.mark(place, timeline);
        started.begun = true;
    }
    if (started.status != kSuccess) {
        memory.release(started.buffer);
        memory.release(started.temporary);
    }
    return started;
}

}  // namespace vgpu::cuda
