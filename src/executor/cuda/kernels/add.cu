// SPDX-License-Identifier: MIT
//
// The kernel behind CUDA_KERNEL. `result` may be device memory or mapped host memory; a single
// 32-bit store goes to either. The sum is modulo 2^32, as unsigned arithmetic is.
extern "C" __global__ void vgpu_add_u32(unsigned int a, unsigned int b, unsigned int* result) {
    *result = a + b;
}
