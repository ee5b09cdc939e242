// SPDX-License-Identifier: MIT
//
// The kernels as PTX text, made from kernels/*.cu. Defined in files that the build writes.
#pragma once

namespace vgpu::cuda {

extern const char* const kAddPtx;         // see kernels/add.cu
extern const char* const kOperationsPtx;  // see kernels/operations.cu

}  // namespace vgpu::cuda
