// SPDX-License-Identifier: MIT
//
// The kernels as PTX text, made from kernels/*.cu. Defined in a file that the build writes.
#pragma once

namespace vgpu::cuda {

extern const char* const kAddPtx;  // vgpu_add_u32(a, b, result)

}  // namespace vgpu::cuda
