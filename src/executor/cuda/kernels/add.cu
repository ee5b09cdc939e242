// SPDX-License-Identifier: MIT
//
// The kernel behind CUDA_KERNEL. `cell` is mapped host memory, aligned to 8 bytes: it gets the sum
// (modulo 2^32, as unsigned arithmetic is) in its upper half and `sequence` in its lower one, by
// one 64-bit store, so that whoever sees the sequence number has the sum.
extern "C" __global__ void vgpu_add_u32(unsigned int a, unsigned int b, unsigned int sequence,
                                        volatile unsigned long long* cell) {
    *cell = static_cast<unsigned long long>(a + b) << 32 | sequence;
}
