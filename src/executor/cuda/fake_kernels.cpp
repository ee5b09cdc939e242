// SPDX-License-Identifier: MIT
#include "executor/cuda/fake_kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace vgpu::cuda {
namespace {

template <typename T>
T param(void** params, std::size_t index) {
    T value{};
    std::memcpy(&value, params[index], sizeof value);
    return value;
}

using Work = std::function<void()>;

Work add(void** params) {
    const std::uint64_t sum = param<std::uint32_t>(params, 0) + param<std::uint32_t>(params, 1);
    const auto sequence = param<std::uint32_t>(params, 2);
    auto* const cell = param<std::uint64_t*>(params, 3);
    return [=] { *cell = sum << 32U | sequence; };
}

template <typename T>
Work vector_add(void** params) {
    auto* const to = param<T*>(params, 0);
    const auto* const a = param<const T*>(params, 1);
    const auto* const b = param<const T*>(params, 2);
    const auto count = param<std::uint64_t>(params, 3);
    return [=] {
        for (std::uint64_t i = 0; i < count; ++i) {
            to[i] = a[i] + b[i];
        }
    };
}

template <typename T>
Work saxpy(void** params) {
    auto* const y = param<T*>(params, 0);
    const auto* const x = param<const T*>(params, 1);
    const auto alpha = param<T>(params, 2);
    const auto count = param<std::uint64_t>(params, 3);
    return [=] {
        for (std::uint64_t i = 0; i < count; ++i) {
            y[i] = alpha * x[i] + y[i];
        }
    };
}

template <typename T>
Work matmul(void** params) {
    auto* const to = param<T*>(params, 0);
    const auto* const a = param<const T*>(params, 1);
    const auto* const b = param<const T*>(params, 2);
    const std::uint64_t m = param<std::uint32_t>(params, 3);
    const std::uint64_t n = param<std::uint32_t>(params, 4);
    const std::uint64_t k = param<std::uint32_t>(params, 5);
    return [=] {
        for (std::uint64_t row = 0; row < m; ++row) {
            for (std::uint64_t column = 0; column < n; ++column) {
                T sum{};
                for (std::uint64_t i = 0; i < k; ++i) {
                    sum += a[row * k + i] * b[i * n + column];
                }
                to[row * n + column] = sum;
            }
        }
    };
}

// One sum for all blocks: the first place has it, as if the others had nothing to add.
template <typename T, typename Sum>
Work reduce(void** params) {
    const auto* const from = param<const T*>(params, 0);
    const auto count = param<std::uint64_t>(params, 1);
    auto* const sums = param<Sum*>(params, 2);
    return [=] {
        Sum sum{};
        for (std::uint64_t i = 0; i < count; ++i) {
            sum += static_cast<Sum>(from[i]);
        }
        sums[0] = sum;
    };
}

template <typename T, typename Sum>
Work reduce_finish(void** params) {
    const auto* const sums = param<const Sum*>(params, 0);
    auto* const to = param<T*>(params, 2);
    return [=] { *to = static_cast<T>(sums[0]); };
}

using U32 = std::uint32_t;
constexpr std::array kKernels{
    FakeKernel{"vgpu_add_u32", add},
    FakeKernel{"vgpu_vector_add_f32", vector_add<float>},
    FakeKernel{"vgpu_vector_add_i32", vector_add<U32>},
    FakeKernel{"vgpu_saxpy_f32", saxpy<float>},
    FakeKernel{"vgpu_saxpy_i32", saxpy<U32>},
    FakeKernel{"vgpu_matmul_f32", matmul<float>},
    FakeKernel{"vgpu_matmul_i32", matmul<U32>},
    FakeKernel{"vgpu_reduce_f32", reduce<float, double>},
    FakeKernel{"vgpu_reduce_i32", reduce<U32, U32>},
    FakeKernel{"vgpu_reduce_finish_f32", reduce_finish<float, double>},
    FakeKernel{"vgpu_reduce_finish_i32", reduce_finish<U32, U32>},
};

}  // namespace

const FakeKernel* find_kernel(const char* name) {
    for (const FakeKernel& kernel : kKernels) {
        if (std::strcmp(kernel.name, name) == 0) {
            return &kernel;
        }
    }
    ADD_FAILURE() << "there is no kernel " << name;
    return nullptr;
}

}  // namespace vgpu::cuda
