// SPDX-License-Identifier: MIT
//
// The kernel of CUDA_KERNEL. The job's cell is mapped host memory, aligned to 8 bytes. One 64-bit
// store writes the sum (modulo 2^32, as in unsigned arithmetic) to its upper half and the sequence
// number to its lower half, so an observed sequence number implies the sum. If the sum goes nowhere
// else and there is no timeline, this is the only store.
#include "finish.cuh"

extern "C" __global__ void vgpu_add_u32(unsigned int a, unsigned int b,
                                        volatile unsigned int* heap_result, Finish finish) {
    const unsigned int sum = a + b;
    if (heap_result != nullptr) {
        *heap_result = sum;
    }
    if (heap_result != nullptr || finish.timeline != nullptr) {
        store_timeline(finish);
    }
    *reinterpret_cast<volatile unsigned long long*>(finish.cell) =
        static_cast<unsigned long long>(sum) << 32 | static_cast<unsigned int>(finish.sequence);
}
