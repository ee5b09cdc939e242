// SPDX-License-Identifier: MIT
//
// The checks of `vgpu selftest --gpu`: every operation on GPU memory, compared with results
// computed on the CPU: i32 exactly, f32 within the bounds of docs/protocol.md.
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cli/vgpu/selftest.h"

namespace vgpu::cli {
namespace {

constexpr double kEpsilon = 1.0 / (1 << 24);
constexpr std::size_t kCount =
    3000;  // elements: more than fit into one request; whole blocks and a partial one
const char* const kGroup = "gpu";

using Words = std::vector<std::uint32_t>;
using Floats = std::vector<float>;

// Pseudo-random numbers, the same each time.
Words some_words(std::size_t count, std::uint32_t seed) {
    Words words(count);
    for (std::uint32_t& word : words) {
        seed = seed * 1664525U + 1013904223U;
        word = seed ^ seed >> 15U;
    }
    return words;
}

Floats some_floats(std::size_t count, std::uint32_t seed) {
    Floats floats;
    for (const std::uint32_t word : some_words(count, seed)) {
        floats.push_back(static_cast<float>(static_cast<std::int32_t>(word)) / 65536.0F);
    }
    return floats;
}

// Ends a check with an error text.
struct Stopped {
    std::string complaint;
};

// The device; its failures end the check. Frees what it allocated.
class Gpu {
  public:
    explicit Gpu(SelfTest& test) : device_(test.device()), limit_(test.settings().timeout) {}
    Gpu(const Gpu&) = delete;
    Gpu& operator=(const Gpu&) = delete;
    ~Gpu() {
        for (const std::uint32_t handle : handles_) {
            (void)device_.free(handle, limit_);
        }
    }

    std::uint32_t alloc(std::uint64_t size) {
        const auto handle = device_.alloc(size, limit_);
        if (!handle) {
            throw Stopped{handle.failure().message};
        }
        handles_.push_back(*handle);
        return *handle;
    }
    template <typename T>
    std::uint32_t upload(const std::vector<T>& values) {
        const std::uint32_t handle = alloc(values.size() * sizeof(T));
        need(device_.copy_to(handle, 0, std::as_bytes(std::span(values)), limit_));
        return handle;
    }
    template <typename T>
    std::vector<T> download(std::uint32_t handle, std::size_t count) {
        std::vector<T> values(count);
        need(device_.copy_from(handle, 0, std::as_writable_bytes(std::span(values)), limit_));
        return values;
    }
    static void need(const Expected<void>& done) {
        if (!done) {
            throw Stopped{done.failure().message};
        }
    }
    Device& device() { return device_; }
    [[nodiscard]] std::chrono::nanoseconds limit() const { return limit_; }

  private:
    Device& device_;
    std::chrono::nanoseconds limit_;
    std::vector<std::uint32_t> handles_;
};

void check(SelfTest& test, const char* name, const std::function<Complaint(Gpu&)>& body) {
    test.check(kGroup, name, [&]() -> Complaint {
        try {
            Gpu gpu(test);
            return body(gpu);
        } catch (const Stopped& stopped) {
            return stopped.complaint;
        }
    });
}

Complaint expect_same(const Words& got, const Words& expected) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (got.at(i) != expected[i]) {
            return expect_equal("element " + std::to_string(i), got[i], expected[i]);
        }
    }
    return std::nullopt;
}

Complaint expect_near(std::size_t i, double got, double exact, double bound) {
    if (std::abs(got - exact) <= bound) {
        return std::nullopt;
    }
    return "element " + std::to_string(i) + " is " + std::to_string(got) + ", expected " +
           std::to_string(exact) + " within " + std::to_string(bound);
}

Complaint expect_code(const char* what, const Expected<void>& done, int expected) {
    return expect_equal(what, static_cast<std::uint64_t>(done ? 0 : done.failure().code),
                        static_cast<std::uint64_t>(expected));
}

Complaint memory_is_zero(Gpu& gpu) {
    return expect_same(gpu.download<std::uint32_t>(gpu.alloc(4 * kCount), kCount), Words(kCount));
}

Complaint copies_come_back(Gpu& gpu) {
    const Words words = some_words(kCount, 1);
    return expect_same(gpu.download<std::uint32_t>(gpu.upload(words), kCount), words);
}

Complaint copies_overlap(Gpu& gpu) {
    Words words = some_words(kCount, 2);
    const std::uint32_t handle = gpu.upload(words);
    Gpu::need(gpu.device().copy_within(handle, 40, handle, 0, 4 * kCount - 40, gpu.limit()));
    std::memmove(words.data() + 10, words.data(), 4 * kCount - 40);
    return expect_same(gpu.download<std::uint32_t>(handle, kCount), words);
}

Complaint adds_i32(Gpu& gpu) {
    const Words a = some_words(kCount, 3);
    const Words b = some_words(kCount, 4);
    Words sums(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        sums[i] = a[i] + b[i];
    }
    const std::uint32_t to = gpu.alloc(4 * kCount);
    Gpu::need(gpu.device().vector_add(VGPU_TYPE_I32, to, gpu.upload(a), gpu.upload(b), kCount,
                                      gpu.limit()));
    return expect_same(gpu.download<std::uint32_t>(to, kCount), sums);
}

Complaint adds_f32(Gpu& gpu) {
    const Floats a = some_floats(kCount, 5);
    const Floats b = some_floats(kCount, 6);
    const std::uint32_t to = gpu.alloc(4 * kCount);
    Gpu::need(gpu.device().vector_add(VGPU_TYPE_F32, to, gpu.upload(a), gpu.upload(b), kCount,
                                      gpu.limit()));
    const Floats sums = gpu.download<float>(to, kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        const double exact = double{a[i]} + double{b[i]};
        if (auto complaint = expect_near(i, sums[i], exact, kEpsilon * std::abs(exact))) {
            return complaint;
        }
    }
    return std::nullopt;
}

Complaint saxpy_i32(Gpu& gpu) {
    const Words x = some_words(kCount, 7);
    Words y = some_words(kCount, 8);
    const std::uint32_t handle = gpu.upload(y);
    Gpu::need(gpu.device().saxpy(VGPU_TYPE_I32, handle, gpu.upload(x), 77777, kCount, gpu.limit()));
    for (std::size_t i = 0; i < kCount; ++i) {
        y[i] += 77777 * x[i];
    }
    return expect_same(gpu.download<std::uint32_t>(handle, kCount), y);
}

Complaint saxpy_f32(Gpu& gpu) {
    const Floats x = some_floats(kCount, 9);
    const Floats y = some_floats(kCount, 10);
    const float alpha = 1.7F;
    const std::uint32_t handle = gpu.upload(y);
    Gpu::need(gpu.device().saxpy(VGPU_TYPE_F32, handle, gpu.upload(x),
                                 std::bit_cast<std::uint32_t>(alpha), kCount, gpu.limit()));
    const Floats got = gpu.download<float>(handle, kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        const double product = double{alpha} * double{x[i]};
        const double exact = product + double{y[i]};
        const double bound = kEpsilon * (std::abs(product) + std::abs(exact)) * (1 + 2 * kEpsilon);
        if (auto complaint = expect_near(i, got[i], exact, bound)) {
            return complaint;
        }
    }
    return std::nullopt;
}

// Extents that are not multiples of a tile.
constexpr std::uint32_t kRows = 21;
constexpr std::uint32_t kColumns = 19;
constexpr std::uint32_t kDepth = 37;

Complaint matmul_i32(Gpu& gpu) {
    const Words a = some_words(std::size_t{kRows} * kDepth, 11);
    const Words b = some_words(std::size_t{kDepth} * kColumns, 12);
    Words product(std::size_t{kRows} * kColumns);
    for (std::size_t i = 0; i < product.size(); ++i) {
        for (std::size_t k = 0; k < kDepth; ++k) {
            product[i] += a[i / kColumns * kDepth + k] * b[k * kColumns + i % kColumns];
        }
    }
    const std::uint32_t to = gpu.alloc(4 * product.size());
    Gpu::need(gpu.device().matmul(VGPU_TYPE_I32, to, gpu.upload(a), gpu.upload(b), kRows, kColumns,
                                  kDepth, gpu.limit()));
    return expect_same(gpu.download<std::uint32_t>(to, product.size()), product);
}

Complaint matmul_f32(Gpu& gpu) {
    const Floats a = some_floats(std::size_t{kRows} * kDepth, 13);
    const Floats b = some_floats(std::size_t{kDepth} * kColumns, 14);
    constexpr std::size_t kSize = std::size_t{kRows} * kColumns;
    const std::uint32_t to = gpu.alloc(4 * kSize);
    Gpu::need(gpu.device().matmul(VGPU_TYPE_F32, to, gpu.upload(a), gpu.upload(b), kRows, kColumns,
                                  kDepth, gpu.limit()));
    const Floats got = gpu.download<float>(to, kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
        double exact = 0;
        double size = 0;
        for (std::size_t k = 0; k < kDepth; ++k) {
            const double term =
                double{a[i / kColumns * kDepth + k]} * double{b[k * kColumns + i % kColumns]};
            exact += term;
            size += std::abs(term);
        }
        if (auto complaint = expect_near(i, got[i], exact, (kDepth + 2) * kEpsilon * size)) {
            return complaint;
        }
    }
    return std::nullopt;
}

std::uint32_t sum_bits(Gpu& gpu, vgpu_type type, std::uint32_t handle) {
    const auto bits = gpu.device().reduce_sum(type, handle, kCount, gpu.limit());
    if (!bits) {
        throw Stopped{bits.failure().message};
    }
    return *bits;
}

Complaint sums_i32(Gpu& gpu) {
    const Words words = some_words(kCount, 15);
    std::uint32_t sum = 0;
    for (const std::uint32_t word : words) {
        sum += word;
    }
    return expect_equal("the sum", sum_bits(gpu, VGPU_TYPE_I32, gpu.upload(words)), sum);
}

Complaint sums_f32(Gpu& gpu) {
    const Floats values = some_floats(kCount, 16);
    double exact = 0;
    double size = 0;
    for (const float value : values) {
        exact += double{value};
        size += std::abs(double{value});
    }
    const auto got = std::bit_cast<float>(sum_bits(gpu, VGPU_TYPE_F32, gpu.upload(values)));
    return expect_near(0, got, exact, (64 + std::log2(kCount)) * kEpsilon * size);
}

Complaint asynchronous(Gpu& gpu) {
    Words words = some_words(kCount, 17);
    const std::uint32_t handle = gpu.upload(words);
    for (int i = 0; i < 3; ++i) {
        Gpu::need(gpu.device().vector_add(VGPU_TYPE_I32, handle, handle, handle, kCount,
                                          gpu.limit(), VGPU_FLAG_ASYNC));
    }
    Gpu::need(gpu.device().synchronize(gpu.limit()));
    for (std::uint32_t& word : words) {
        word *= 8;
    }
    if (auto complaint = expect_same(gpu.download<std::uint32_t>(handle, kCount), words)) {
        return complaint;
    }
    Gpu::need(gpu.device().vector_add(VGPU_TYPE_I32, handle, handle, handle, kCount + 1,
                                      gpu.limit(), VGPU_FLAG_ASYNC));
    if (auto complaint =
            expect_code("SYNCHRONIZE after a failure", gpu.device().synchronize(gpu.limit()),
                        VGPU_ERR_CUDA_OUT_OF_BOUNDS)) {
        return complaint;
    }
    return expect_code("the next SYNCHRONIZE", gpu.device().synchronize(gpu.limit()), VGPU_OK);
}

Complaint refusals(Gpu& gpu) {
    const std::uint32_t handle = gpu.alloc(16);
    std::vector<std::byte> bytes(17);
    Device& device = gpu.device();
    if (auto complaint =
            expect_code("17 bytes into 16", device.copy_to(handle, 0, bytes, gpu.limit()),
                        VGPU_ERR_CUDA_OUT_OF_BOUNDS)) {
        return complaint;
    }
    const auto nothing = device.alloc(0, gpu.limit());
    if (nothing || nothing.failure().code != VGPU_ERR_INVALID_REQUEST) {
        return "an allocation of 0 bytes was not rejected as an invalid request";
    }
    const auto freed = device.alloc(16, gpu.limit());
    if (!freed) {
        return freed.failure().message;
    }
    Gpu::need(device.free(*freed, gpu.limit()));
    return expect_code("a freed handle", device.free(*freed, gpu.limit()),
                       VGPU_ERR_CUDA_INVALID_HANDLE);
}

}  // namespace

void check_gpu(SelfTest& test) {
    check(test, "allocated memory is zero", memory_is_zero);
    check(test, "12000 bytes are copied to the device and back", copies_come_back);
    check(test, "a copy within a buffer may overlap", copies_overlap);
    check(test, "VECTOR_ADD of i32", adds_i32);
    check(test, "VECTOR_ADD of f32", adds_f32);
    check(test, "SAXPY of i32", saxpy_i32);
    check(test, "SAXPY of f32", saxpy_f32);
    check(test, "MATMUL of i32", matmul_i32);
    check(test, "MATMUL of f32", matmul_f32);
    check(test, "REDUCE_SUM of i32", sums_i32);
    check(test, "REDUCE_SUM of f32", sums_f32);
    check(test, "ASYNC runs in order and SYNCHRONIZE reports its failure", asynchronous);
    check(test, "invalid handles, bounds and sizes are rejected", refusals);
}

}  // namespace vgpu::cli
