// SPDX-License-Identifier: MIT
//
// How a single-block kernel ends its job: it makes all stores of its threads visible to all CPUs
// and devices, then stores the job's timeline value, and once that is visible too, stores the job's
// sequence number in the cell that the host polls. A separate command in the stream would have the
// same effect, but would cost more than an entire small kernel.
#pragma once

// Same layout as Finish in executor/cuda/cuda_context.h.
struct Finish {
    volatile unsigned long long* timeline;  // null: the job stores no timeline value
    unsigned long long value;
    volatile unsigned* cell;  // null: this kernel does not end the job
    unsigned long long sequence;
};

// System-scope acquire-release fence. __threadfence_system() is sequentially consistent on top of
// that, and slower.
__device__ inline void fence_system() {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

// Called by thread 0 after all stores of the job have been made or observed by it.
__device__ inline void store_timeline(const Finish& finish) {
    fence_system();
    if (finish.timeline != nullptr) {
        *finish.timeline = finish.value;
        fence_system();
    }
}

// Called by all threads of the single block.
__device__ inline void end_job(const Finish& finish) {
    if (finish.cell == nullptr) {
        return;
    }
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        store_timeline(finish);
        *finish.cell = static_cast<unsigned>(finish.sequence);
    }
}
