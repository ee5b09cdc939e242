// SPDX-License-Identifier: MIT
//
// How a kernel of a single block ends the job that it does: everything that its threads have stored
// is made visible to all processors and devices, then the job's timeline value, and then, after
// that too is visible, the job's sequence number in the cell that the host watches. A command of
// its own in the stream would do the same, and cost more than the whole of a small kernel.
#pragma once

// As Finish in executor/cuda/cuda_context.h.
struct Finish {
    volatile unsigned long long* timeline;  // null: the job stores no timeline value
    unsigned long long value;
    volatile unsigned* cell;  // null: this kernel does not end the job
    unsigned long long sequence;
};

// Release and acquire for all processors and devices; __threadfence_system() is sequentially
// consistent on top of that, and slower.
__device__ inline void fence_system() {
    asm volatile("fence.acq_rel.sys;" ::: "memory");
}

// Thread 0, after all stores of the job have been made, or seen by it.
__device__ inline void store_timeline(const Finish& finish) {
    fence_system();
    if (finish.timeline != nullptr) {
        *finish.timeline = finish.value;
        fence_system();
    }
}

// All threads of the one block.
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
