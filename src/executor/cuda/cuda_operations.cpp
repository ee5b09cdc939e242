// SPDX-License-Identifier: MIT
#include "executor/cuda/cuda_operations.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace vgpu::cuda {
namespace {

constexpr std::uint64_t kThreads = 256;  // of a block; reduce in kernels/operations.cu relies on it
constexpr std::uint64_t kTile = 16;      // matmul in kernels/operations.cu relies on it
constexpr std::uint64_t kMostTilesDown = 65535;  // CUDA's limit of a grid's second extent
// An overlapping copy goes through a piece of memory of its own, of at most this size.
constexpr std::uint64_t kMostAside = std::uint64_t{16} << 20U;

struct Work {
    const Api& api;
    CudaContext& context;
    CudaMemory& memory;
    std::size_t lane;
    const Job& job;

    [[nodiscard]] DeviceAddress address(std::size_t index) const {
        return memory.address(job.buffers.at(index));
    }
    [[nodiscard]] Stream stream() const { return context.stream(lane); }
    [[nodiscard]] bool is_f32() const { return job.type == VGPU_TYPE_F32; }
    Status launch(Kernel kernel, std::array<unsigned, 2> grid, std::array<unsigned, 2> block,
                  void** params) const {
        return api.launch_kernel(context.function(kernel), grid[0], grid[1], 1, block[0], block[1],
                                 1, 0, stream(), params, nullptr);
    }
};

unsigned blocks_for(std::uint64_t count) {
    const std::uint64_t wanted = (count + kThreads - 1) / kThreads;
    return static_cast<unsigned>(
        std::clamp<std::uint64_t>(wanted, 1, CudaContext::kMostReduceBlocks));
}

Started alloc(const Work& work) {
    Started started;
    started.status = work.memory.allocate(work.job.length, started.buffer);
    if (started.status == kSuccess) {
        started.status = work.api.memset_d8_async(work.memory.address(started.buffer), 0,
                                                  work.job.length, work.stream());
    }
    return started;
}

// Piece by piece through memory aside, from the side on which the source is not yet overwritten.
Started copy_overlapping(const Work& work, DeviceAddress to, DeviceAddress from) {
    Started started;
    const std::uint64_t length = work.job.length;
    const std::uint64_t piece = std::min(length, kMostAside);
    started.status = work.memory.allocate(piece, started.temporary);
    const DeviceAddress aside = work.memory.address(started.temporary);
    for (std::uint64_t done = 0; done < length && started.status == kSuccess;) {
        const std::uint64_t now = std::min(piece, length - done);
        const std::uint64_t at = to < from ? done : length - done - now;
        started.status = work.api.memcpy_dtod_async(aside, from + at, now, work.stream());
        if (started.status == kSuccess) {
            started.status = work.api.memcpy_dtod_async(to + at, aside, now, work.stream());
        }
        done += now;
    }
    return started;
}

Started copy(const Work& work) {
    const Job& job = work.job;
    if (job.length == 0) {
        return {};
    }
    const DeviceAddress first = work.address(0) + job.offsets[0];
    void* const staging = work.context.staging(work.lane);
    if (job.copy == VGPU_COPY_TO_DEVICE) {
        std::memcpy(staging, job.data.data(), job.data.size());
        return {.status = work.api.memcpy_htod_async(first, staging, job.length, work.stream())};
    }
    if (job.copy == VGPU_COPY_FROM_DEVICE) {
        return {.status = work.api.memcpy_dtoh_async(staging, first, job.length, work.stream())};
    }
    const DeviceAddress from = work.address(1) + job.offsets[1];
    if (first < from + job.length && from < first + job.length && first != from) {
        return copy_overlapping(work, first, from);
    }
    return {.status = work.api.memcpy_dtod_async(first, from, job.length, work.stream())};
}

Started vector_add(const Work& work) {
    DeviceAddress to = work.address(0);
    DeviceAddress a = work.address(1);
    DeviceAddress b = work.address(2);
    std::uint64_t count = work.job.length;
    std::array<void*, 4> params{&to, &a, &b, &count};
    return {.status = work.launch(work.is_f32() ? Kernel::kVectorAddF32 : Kernel::kVectorAddI32,
                                  {blocks_for(count), 1}, {kThreads, 1}, params.data())};
}

Started saxpy(const Work& work) {
    DeviceAddress y = work.address(0);
    DeviceAddress x = work.address(1);
    std::uint32_t alpha = work.job.alpha;
    std::uint64_t count = work.job.length;
    std::array<void*, 4> params{&y, &x, &alpha, &count};
    return {.status = work.launch(work.is_f32() ? Kernel::kSaxpyF32 : Kernel::kSaxpyI32,
                                  {blocks_for(count), 1}, {kThreads, 1}, params.data())};
}

Started matmul(const Work& work) {
    std::uint32_t m = work.job.extents[0];
    std::uint32_t n = work.job.extents[1];
    std::uint32_t k = work.job.extents[2];
    if (m == 0 || n == 0) {
        return {};
    }
    DeviceAddress to = work.address(0);
    DeviceAddress a = work.address(1);
    DeviceAddress b = work.address(2);
    std::array<void*, 6> params{&to, &a, &b, &m, &n, &k};
    const auto across = static_cast<unsigned>((n + kTile - 1) / kTile);
    const auto down = static_cast<unsigned>(std::min((m + kTile - 1) / kTile, kMostTilesDown));
    return {.status = work.launch(work.is_f32() ? Kernel::kMatmulF32 : Kernel::kMatmulI32,
                                  {across, down}, {kTile, kTile}, params.data())};
}

Started reduce_sum(const Work& work) {
    DeviceAddress from = work.address(0);
    std::uint64_t count = work.job.length;
    DeviceAddress sums = work.context.scratch(work.lane);
    unsigned blocks = blocks_for(count);
    std::array<void*, 3> params{&from, &count, &sums};
    const Status status = work.launch(work.is_f32() ? Kernel::kReduceF32 : Kernel::kReduceI32,
                                      {blocks, 1}, {kThreads, 1}, params.data());
    if (status != kSuccess) {
        return {.status = status};
    }
    DeviceAddress result = work.context.result_address(work.lane);
    std::array<void*, 3> finish_params{&sums, &blocks, &result};
    return {.status =
                work.launch(work.is_f32() ? Kernel::kReduceFinishF32 : Kernel::kReduceFinishI32,
                            {1, 1}, {kThreads, 1}, finish_params.data())};
}

Started start(const Work& work) {
    switch (work.job.opcode) {
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
    return opcode == VGPU_OP_MEMORY_ALLOC || opcode == VGPU_OP_MEMORY_COPY ||
           (opcode >= VGPU_OP_VECTOR_ADD && opcode <= VGPU_OP_REDUCE_SUM);
}

Started start_operation(const Api& api, CudaContext& context, CudaMemory& memory, std::size_t lane,
                        const Job& job) {
    Started started =
        start({.api = api, .context = context, .memory = memory, .lane = lane, .job = job});
    if (started.status == kSuccess) {
        started.status = context.mark(lane);
    }
    if (started.status != kSuccess) {
        memory.release(started.buffer);
        memory.release(started.temporary);
    }
    return started;
}

}  // namespace vgpu::cuda
