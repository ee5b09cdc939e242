// SPDX-License-Identifier: MIT
//
// The kernels of kernels/*.cu for FakeDriver: their params as they are launched with, and what they
// do, in plain loops on the host.
#pragma once

#include <functional>

namespace vgpu::cuda {

struct FakeKernel {
    const char* name;
    // Reads the params, now, and gives the work, for later.
    std::function<void()> (*bind)(void** params);
};

// Fails the test if there is none.
const FakeKernel* find_kernel(const char* name);

}  // namespace vgpu::cuda
