// SPDX-License-Identifier: MIT
//
// The kernels as PTX text, compiled from kernels/*.cu. Defined in generated files.
#pragma once

namespace vgpu::cuda {

extern const char* const kAddPtx;         // see kernels/add.cu
extern const char* const kOperationsPtx;  // see kernels/operations.cu

}  // namespace vgpu::cuda
