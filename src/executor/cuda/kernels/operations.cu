// SPDX-License-Identifier: MIT
//
// The kernels of the operations on buffers, each for f32 and for i32 (as unsigned, whose arithmetic
// wraps). Vectors use grid-stride loops, so that any grid handles any count. Buffers may be the
// same one, so nothing here is restrict; each element is read before it is written, by the same
// thread. A kernel that is given a cell runs as one block and ends its job itself.
#include "finish.cuh"

using Count = unsigned long long;

namespace {

constexpr unsigned kTile = 16;      // block size of matmul: kTile x kTile threads
constexpr unsigned kThreads = 256;  // block size of reduce

__device__ Count first_index() {
    return Count{blockIdx.x} * blockDim.x + threadIdx.x;
}

__device__ Count stride() {
    return Count{gridDim.x} * blockDim.x;
}

template <typename T>
__device__ void vector_add(T* to, const T* a, const T* b, Count count) {
    for (Count i = first_index(); i < count; i += stride()) {
        to[i] = a[i] + b[i];
    }
}

template <typename T>
__device__ void saxpy(T* y, const T* x, T alpha, Count count) {
    for (Count i = first_index(); i < count; i += stride()) {
        y[i] = alpha * x[i] + y[i];
    }
}

// A block computes the tiles of the result one after another, down its column of tiles.
template <typename T>
__device__ void matmul(T* to, const T* a, const T* b, unsigned m, unsigned n, unsigned k) {
    __shared__ T tile_a[kTile][kTile];
    __shared__ T tile_b[kTile][kTile];
    const Count column = Count{blockIdx.x} * kTile + threadIdx.x;
    for (Count top = Count{blockIdx.y} * kTile; top < m; top += Count{gridDim.y} * kTile) {
        const Count row = top + threadIdx.y;
        T sum{};
        for (Count left = 0; left < k; left += kTile) {
            const Count step_a = left + threadIdx.x;
            const Count step_b = left + threadIdx.y;
            tile_a[threadIdx.y][threadIdx.x] = row < m && step_a < k ? a[row * k + step_a] : T{};
            tile_b[threadIdx.y][threadIdx.x] =
                column < n && step_b < k ? b[step_b * n + column] : T{};
            __syncthreads();
            for (unsigned i = 0; i < kTile; ++i) {
                sum += tile_a[threadIdx.y][i] * tile_b[i][threadIdx.x];
            }
            __syncthreads();
        }
        if (row < m && column < n) {
            to[row * n + column] = sum;
        }
    }
}

// Returns the sum over the block's threads; valid in thread 0 only. Precondition: kThreads threads.
template <typename Sum>
__device__ Sum block_sum(Sum mine) {
    __shared__ Sum sums[kThreads];
    sums[threadIdx.x] = mine;
    for (unsigned half = kThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            sums[threadIdx.x] += sums[threadIdx.x + half];
        }
    }
    return sums[0];
}

template <typename T, typename Sum>
__device__ void reduce(const T* from, Count count, Sum* block_sums) {
    Sum mine{};
    for (Count i = first_index(); i < count; i += stride()) {
        mine += from[i];
    }
    const Sum sum = block_sum(mine);
    if (threadIdx.x == 0) {
        block_sums[blockIdx.x] = sum;
    }
}

template <typename T, typename Sum>
__device__ void reduce_finish(const Sum* block_sums, unsigned blocks, T* result, T* heap_result) {
    Sum mine{};
    for (unsigned i = threadIdx.x; i < blocks; i += kThreads) {
        mine += block_sums[i];
    }
    const Sum sum = block_sum(mine);
    if (threadIdx.x == 0) {
        *result = static_cast<T>(sum);
        if (heap_result != nullptr) {
            *heap_result = static_cast<T>(sum);
        }
    }
}

}  // namespace

extern "C" {

__global__ void vgpu_vector_add_f32(float* to, const float* a, const float* b, Count count,
                                    Finish finish) {
    vector_add(to, a, b, count);
    end_job(finish);
}
__global__ void vgpu_vector_add_i32(unsigned* to, const unsigned* a, const unsigned* b, Count count,
                                    Finish finish) {
    vector_add(to, a, b, count);
    end_job(finish);
}
__global__ void vgpu_saxpy_f32(float* y, const float* x, float alpha, Count count, Finish finish) {
    saxpy(y, x, alpha, count);
    end_job(finish);
}
__global__ void vgpu_saxpy_i32(unsigned* y, const unsigned* x, unsigned alpha, Count count,
                               Finish finish) {
    saxpy(y, x, alpha, count);
    end_job(finish);
}
__global__ void vgpu_matmul_f32(float* to, const float* a, const float* b, unsigned m, unsigned n,
                                unsigned k, Finish finish) {
    matmul(to, a, b, m, n, k);
    end_job(finish);
}
__global__ void vgpu_matmul_i32(unsigned* to, const unsigned* a, const unsigned* b, unsigned m,
                                unsigned n, unsigned k, Finish finish) {
    matmul(to, a, b, m, n, k);
    end_job(finish);
}
__global__ void vgpu_reduce_f32(const float* from, Count count, double* block_sums) {
    reduce(from, count, block_sums);
}
__global__ void vgpu_reduce_i32(const unsigned* from, Count count, unsigned* block_sums) {
    reduce(from, count, block_sums);
}
__global__ void vgpu_reduce_finish_f32(const double* block_sums, unsigned blocks, float* result,
                                       float* heap_result, Finish finish) {
    reduce_finish(block_sums, blocks, result, heap_result);
    end_job(finish);
}
__global__ void vgpu_reduce_finish_i32(const unsigned* block_sums, unsigned blocks,
                                       unsigned* result, unsigned* heap_result, Finish finish) {
    reduce_finish(block_sums, blocks, result, heap_result);
    end_job(finish);
}
// Only ends a job, after the stream's earlier work. Used if the driver cannot write words from a
// stream.
__global__ void vgpu_end_job(Finish finish) {
    end_job(finish);
}

}  // extern "C"
