// SPDX-License-Identifier: MIT
//
// Device addresses are integers to the driver API and pointers here.
// NOLINTBEGIN(performance-no-int-to-ptr)
#include "executor/testing/fake_kernels.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "executor/cuda/cuda_context.h"

namespace vgpu::cuda {
namespace {

template <typename T>
T param(void** params, std::size_t index) {
    T value{};
    std::memcpy(&value, params[index], sizeof value);
    return value;
}

using Work = std::function<void()>;

// The end of a kernel, see kernels/finish.cuh.
void store_timeline(const Finish& finish) {
    if (finish.timeline != 0) {
        __atomic_store_n(reinterpret_cast<std::uint64_t*>(finish.timeline), finish.value,
                         __ATOMIC_RELEASE);
    }
}
void end_job(const Finish& finish) {
    if (finish.cell != 0) {
        store_timeline(finish);
        __atomic_store_n(reinterpret_cast<std::uint32_t*>(finish.cell),
                         static_cast<std::uint32_t>(finish.sequence), __ATOMIC_RELEASE);
    }
}

Work add(void** params) {
    const std::uint32_t sum = param<std::uint32_t>(params, 0) + param<std::uint32_t>(params, 1);
    auto* const heap_result = param<std::uint32_t*>(params, 2);
    const auto finish = param<Finish>(params, 3);
    return [=] {
        if (heap_result != nullptr) {
            *heap_result = sum;
        }
        store_timeline(finish);
        __atomic_store_n(reinterpret_cast<std::uint64_t*>(finish.cell),
                         std::uint64_t{sum} << 32U | static_cast<std::uint32_t>(finish.sequence),
                         __ATOMIC_RELEASE);
    };
}

template <typename T>
Work vector_add(void** params) {
    auto* const to = param<T*>(params, 0);
    const auto* const a = param<const T*>(params, 1);
    const auto* const b = param<const T*>(params, 2);
    const auto count = param<std::uint64_t>(params, 3);
    const auto finish = param<Finish>(params, 4);
    return [=] {
        for (std::uint64_t i = 0; i < count; ++i) {
            to[i] = a[i] + b[i];
        }
        end_job(finish);
    };
}

template <typename T>
Work saxpy(void** params) {
    auto* const y = param<T*>(params, 0);
    const auto* const x = param<const T*>(params, 1);
    const auto alpha = param<T>(params, 2);
    const auto count = param<std::uint64_t>(params, 3);
    const auto finish = param<Finish>(params, 4);
    return [=] {
        for (std::uint64_t i = 0; i < count; ++i) {
            y[i] = alpha * x[i] + y[i];
        }
        end_job(finish);
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
    const auto finish = param<Finish>(params, 6);
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
        end_job(finish);
    };
}

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
    auto* const heap_result = param<T*>(params, 3);
    const auto finish = param<Finish>(params, 4);
    return [=] {
        *to = static_cast<T>(sums[0]);
        if (heap_result != nullptr) {
            *heap_result = *to;
        }
        end_job(finish);
    };
}

Work only_end_job(void** params) {
    const auto finish = param<Finish>(params, 0);
    return [=] { end_job(finish); };
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
    FakeKernel{"vgpu_end_job", only_end_job},
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
// NOLINTEND(performance-no-int-to-ptr)
