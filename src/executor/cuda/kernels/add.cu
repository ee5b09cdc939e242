// SPDX-License-Identifier: MIT
//
// The kernel behind CUDA_KERNEL. The job's cell is mapped host memory, aligned to 8 bytes: it gets
// the sum (modulo 2^32, as unsigned arithmetic is) in its upper half and the sequence number in its
// lower one, by one 64-bit store, so that whoever sees the sequence number has the sum. Where the
// sum goes nowhere else and there is no timeline, that store is all.
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
