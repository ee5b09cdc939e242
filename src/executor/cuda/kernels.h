// SPDX-License-Identifier: MIT
//
// The kernels as PTX text, made from kernels/*.cu. Defined in files that the build writes.
#pragma once

namespace vgpu::cuda {

extern const char* const kAddPtx;         // vgpu_add_u32(a, b, sequence, cell)
extern const char* const kOperationsPtx;  // see kernels/operations.cu

}  // namespace vgpu::cuda
