// SPDX-License-Identifier: MIT
//
// The kernels of kernels/*.cu for FakeDriver: same launch parameters and effects, implemented as
// plain loops on the host.
#pragma once

#include <functional>

namespace vgpu::cuda {

struct FakeKernel {
    const char* name;
    // Reads the params immediately and returns the work to run later.
    std::function<void()> (*bind)(void** params);
};

// Fails the test if there is no such kernel.
const FakeKernel* find_kernel(const char* name);

}  // namespace vgpu::cuda
