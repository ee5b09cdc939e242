// SPDX-License-Identifier: MIT
//
// The operations on buffers, the same tests on every backend. f32 results are compared with a
// double reference within the bounds of docs/protocol.md, i32 results must match exactly.
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "executor/testing/test_backends.h"

namespace vgpu {
namespace {

using test::job_of;
using test::Kind;

constexpr double kEpsilon = 1.0 / (1 << 24);

class Operations : public test::EveryBackend {
  protected:
    void write(BufferId buffer, const std::string& bytes) {
        for (std::size_t at = 0; at < bytes.size(); at += VGPU_COPY_MAX_LENGTH) {
            Job job = job_of(VGPU_OP_MEMORY_COPY);
            job.copy = VGPU_COPY_TO_DEVICE;
            job.buffers[0] = buffer;
            job.offsets[0] = at;
            job.data = bytes.substr(at, VGPU_COPY_MAX_LENGTH);
            job.length = job.data.size();
            done(job);
        }
    }
    std::string read(BufferId buffer, std::size_t size, std::size_t from = 0) {
        std::string bytes;
        while (bytes.size() < size) {
            Job job = job_of(VGPU_OP_MEMORY_COPY);
            job.copy = VGPU_COPY_FROM_DEVICE;
            job.buffers[0] = buffer;
            job.offsets[0] = from + bytes.size();
            job.length = std::min<std::size_t>(VGPU_COPY_MAX_LENGTH, size - bytes.size());
            const Outcome outcome = done(job);
            if (outcome.data.size() != job.length) {
                ADD_FAILURE() << "got " << outcome.data.size() << " bytes of " << job.length;
                break;
            }
            bytes += outcome.data;
        }
        return bytes;
    }
    template <typename T>
    BufferId upload(const std::vector<T>& values) {
        const BufferId buffer = alloc(std::max<std::size_t>(values.size(), 1) * sizeof(T));
        write(buffer, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)});
        return buffer;
    }
    template <typename T>
    std::vector<T> download(BufferId buffer, std::size_t count) {
        const std::string bytes = read(buffer, count * sizeof(T));
        std::vector<T> values(count);
        if (!bytes.empty()) {
            std::memcpy(values.data(), bytes.data(), bytes.size());
        }
        return values;
    }
    std::vector<float> floats(std::size_t count) {
        std::uniform_real_distribution<float> range(-1000.0F, 1000.0F);
        std::vector<float> values(count);
        for (float& value : values) {
            value = range(random_);
        }
        return values;
    }
    std::vector<std::uint32_t> words(std::size_t count) {
        std::vector<std::uint32_t> values(count);
        for (std::uint32_t& value : values) {
            value = static_cast<std::uint32_t>(random_());
        }
        return values;
    }
    std::uint64_t memory_free() {
        const Outcome info = backend_->immediate(job_of(VGPU_OP_GET_DEVICE_INFO))
                                 ? backend_->run(job_of(VGPU_OP_GET_DEVICE_INFO))
                                 : run(job_of(VGPU_OP_GET_DEVICE_INFO));
        return std::uint64_t{info.results[VGPU_INFO_MEMORY_FREE_HI]} << 32U |
               info.results[VGPU_INFO_MEMORY_FREE_LO];
    }

    std::mt19937 random_{7};  // NOLINT(cert-msc32-c,cert-msc51-cpp): same each time
};

TEST_P(Operations, MemoryIsZeroAtFirstAndAfterItWasUsed) {
    for (int round = 0; round < 5; ++round) {
        const BufferId buffer = alloc(3000);
        ASSERT_EQ(read(buffer, 3000), std::string(3000, '\0'));
        write(buffer, std::string(3000, 'x'));
        free(buffer);
    }
}

TEST_P(Operations, CopiesKeepTheirPlaces) {
    const BufferId buffer = alloc(4000);
    std::string bytes(4000, '\0');
    for (char& byte : bytes) {
        byte = static_cast<char>(random_());
    }
    write(buffer, bytes);
    EXPECT_EQ(read(buffer, 4000), bytes);
    EXPECT_EQ(read(buffer, 7, 1993), bytes.substr(1993, 7));
    EXPECT_EQ(read(buffer, 0, 4000), "");
}

TEST_P(Operations, CopiesWithinTheDeviceMayOverlap) {
    constexpr std::size_t kSize = 3000;
    std::string bytes(kSize, '\0');
    for (char& byte : bytes) {
        byte = static_cast<char>(random_());
    }
    struct Case {
        std::size_t to, from, length;
    };
    for (const Case& one :
         {Case{0, 1000, 1000}, Case{0, 1, 2999}, Case{1, 0, 2999}, Case{500, 0, 2500},
          Case{0, 500, 2500}, Case{5, 5, 100}, Case{3000, 0, 0}}) {
        const BufferId buffer = alloc(kSize);
        write(buffer, bytes);
        Job job = job_of(VGPU_OP_MEMORY_COPY);
        job.copy = VGPU_COPY_WITHIN_DEVICE;
        job.buffers = {buffer, buffer, 0};
        job.offsets = {one.to, one.from};
        job.length = one.length;
        done(job);
        std::string expected = bytes;
        expected.replace(one.to, one.length, bytes.substr(one.from, one.length));
        EXPECT_EQ(read(buffer, kSize), expected) << one.to << " from " << one.from;
        free(buffer);
    }
}

TEST_P(Operations, ALargeOverlappingCopyIsRightFromEitherSide) {
    // More than one piece of the intermediate buffer, which is 16 MiB.
    constexpr std::size_t kSize = (std::size_t{20} << 20U) + 12;
    const BufferId buffer = alloc(kSize);
    // Marks where pieces meet; the rest is zero.
    const auto shifted = [&](std::size_t to, std::size_t from) {
        Job job = job_of(VGPU_OP_MEMORY_COPY);
        job.copy = VGPU_COPY_WITHIN_DEVICE;
        job.buffers = {buffer, buffer, 0};
        job.offsets = {to, from};
        job.length = kSize - 8;
        done(job);
    };
    const std::size_t middle = std::size_t{16} << 20U;
    const auto put = [&](std::size_t at) {
        Job job = job_of(VGPU_OP_MEMORY_COPY);
        job.copy = VGPU_COPY_TO_DEVICE;
        job.buffers[0] = buffer;
        job.offsets[0] = at;
        job.data = "0123456789abcdef";
        job.length = job.data.size();
        done(job);
    };
    put(middle - 8);
    put(std::size_t{4} << 20U);
    shifted(8, 0);
    EXPECT_EQ(read(buffer, 16, middle), "0123456789abcdef");
    EXPECT_EQ(read(buffer, 16, (std::size_t{4} << 20U) + 8), "0123456789abcdef");
    shifted(0, 8);
    EXPECT_EQ(read(buffer, 16, middle - 8), "0123456789abcdef");
    EXPECT_EQ(read(buffer, 16, std::size_t{4} << 20U), "0123456789abcdef");
}

TEST_P(Operations, TooMuchMemoryIsAnErrorAndTheNextRequestIsServed) {
    Job job = job_of(VGPU_OP_MEMORY_ALLOC);
    for (const std::uint64_t size : {std::uint64_t{1} << 46U, UINT64_MAX - 4095, UINT64_MAX}) {
        job.length = size;
        EXPECT_EQ(run(job).status, VGPU_ERR_CUDA_OUT_OF_MEMORY) << size;
    }
    EXPECT_NE(alloc(10), 0U);
}

TEST_P(Operations, ABufferThatIsGoneIsAnInvalidHandle) {
    const BufferId buffer = alloc(100);
    free(buffer);
    Job job = job_of(VGPU_OP_REDUCE_SUM);
    job.buffers[0] = buffer;
    job.length = 4;
    EXPECT_EQ(run(job).status, VGPU_ERR_CUDA_INVALID_HANDLE);
    free(buffer);  // no effect
}

TEST_P(Operations, AThousandCyclesLeaveTheSameMemoryFree) {
    if (GetParam() == Kind::kFakeCuda) {
        GTEST_SKIP() << "the fake driver does not tell what is free";
    }
    free(alloc(std::uint64_t{1} << 20U));
    const std::uint64_t before = memory_free();
    for (int cycle = 0; cycle < 1000; ++cycle) {
        const BufferId a = alloc(std::uint64_t{4} << 20U);
        const BufferId b = alloc(100);
        free(a);
        free(b);
    }
    EXPECT_EQ(memory_free(), before);
}

TEST_P(Operations, AddsVectors) {
    for (const std::size_t count : {0U, 1U, 255U, 257U, 1000U, 40000U}) {
        const auto a = floats(count);
        const auto b = floats(count);
        const auto i = words(count);
        const auto j = words(count);
        const BufferId buffer_a = upload(a);
        Job job = job_of(VGPU_OP_VECTOR_ADD);
        job.type = VGPU_TYPE_F32;
        job.length = count;
        job.buffers = {alloc(4 * count + 4), buffer_a, upload(b)};
        done(job);
        const auto sums = download<float>(job.buffers[0], count);
        for (std::size_t at = 0; at < count; ++at) {
            const double exact = double{a[at]} + double{b[at]};
            ASSERT_LE(std::abs(sums[at] - exact), kEpsilon * std::abs(exact)) << at;
        }
        EXPECT_EQ(read(job.buffers[0], 4, 4 * count), std::string(4, '\0'));
        job.buffers = {buffer_a, buffer_a, buffer_a};
        done(job);
        const auto doubled = download<float>(buffer_a, count);
        for (std::size_t at = 0; at < count; ++at) {
            ASSERT_EQ(doubled[at], a[at] + a[at]);
        }
        job.type = VGPU_TYPE_I32;
        job.buffers = {alloc(4 * count + 4), upload(i), upload(j)};
        done(job);
        const auto wrapped = download<std::uint32_t>(job.buffers[0], count);
        for (std::size_t at = 0; at < count; ++at) {
            ASSERT_EQ(wrapped[at], i[at] + j[at]);
        }
    }
}

TEST_P(Operations, Saxpy) {
    constexpr std::size_t kCount = 5000;
    const auto x = floats(kCount);
    const auto y = floats(kCount);
    const float alpha = -3.7F;
    Job job = job_of(VGPU_OP_SAXPY);
    job.type = VGPU_TYPE_F32;
    job.length = kCount;
    job.alpha = std::bit_cast<std::uint32_t>(alpha);
    job.buffers = {upload(y), upload(x), 0};
    done(job);
    const auto result = download<float>(job.buffers[0], kCount);
    for (std::size_t at = 0; at < kCount; ++at) {
        const double product = double{alpha} * double{x[at]};
        const double exact = product + double{y[at]};
        // The second rounding applies to the result of the first, hence the factor.
        ASSERT_LE(std::abs(result[at] - exact),
                  kEpsilon * (std::abs(product) + std::abs(exact)) * (1 + 2 * kEpsilon))
            << at;
    }
    const auto i = words(kCount);
    const auto j = words(kCount);
    job.type = VGPU_TYPE_I32;
    job.alpha = 0x9E3779B9;
    job.buffers = {upload(i), upload(j), 0};
    done(job);
    const auto wrapped = download<std::uint32_t>(job.buffers[0], kCount);
    for (std::size_t at = 0; at < kCount; ++at) {
        ASSERT_EQ(wrapped[at], job.alpha * j[at] + i[at]);
    }
}

TEST_P(Operations, MultipliesMatrices) {
    struct Shape {
        std::uint32_t m, n, k;
    };
    for (const Shape& shape :
         {Shape{1, 1, 1}, Shape{2, 3, 4}, Shape{16, 16, 16}, Shape{17, 33, 19}, Shape{1, 50, 300},
          Shape{64, 1, 70}, Shape{3, 5, 0}, Shape{0, 5, 5}, Shape{5, 0, 5}}) {
        const auto [m, n, k] = shape;
        const auto a = floats(std::size_t{m} * k);
        const auto b = floats(std::size_t{k} * n);
        Job job = job_of(VGPU_OP_MATMUL);
        job.type = VGPU_TYPE_F32;
        job.extents = {m, n, k};
        const BufferId result = upload(std::vector<float>(std::size_t{m} * n + 1, 99.0F));
        job.buffers = {result, upload(a), upload(b)};
        done(job);
        const auto product = download<float>(result, std::size_t{m} * n + 1);
        EXPECT_EQ(product.back(), 99.0F) << "written beyond the end";
        const auto i = words(std::size_t{m} * k);
        const auto j = words(std::size_t{k} * n);
        job.type = VGPU_TYPE_I32;
        job.buffers = {result, upload(i), upload(j)};
        done(job);
        const auto wrapped = download<std::uint32_t>(result, std::size_t{m} * n);
        for (std::size_t row = 0; row < m; ++row) {
            for (std::size_t column = 0; column < n; ++column) {
                double exact = 0;
                double size = 0;
                std::uint32_t whole = 0;
                for (std::size_t at = 0; at < k; ++at) {
                    const double term = double{a[row * k + at]} * double{b[at * n + column]};
                    exact += term;
                    size += std::abs(term);
                    whole += i[row * k + at] * j[at * n + column];
                }
                ASSERT_LE(std::abs(product[row * n + column] - exact), (k + 2) * kEpsilon * size);
                ASSERT_EQ(wrapped[row * n + column], whole);
            }
        }
    }
}

TEST_P(Operations, Sums) {
    for (const std::size_t count : {0U, 1U, 31U, 256U, 257U, 3000U, 300000U}) {
        const auto values = floats(count);
        const auto whole = words(count);
        Job job = job_of(VGPU_OP_REDUCE_SUM);
        job.type = VGPU_TYPE_F32;
        job.length = count;
        job.buffers[0] = upload(values);
        const Outcome outcome = done(job);
        ASSERT_EQ(outcome.result_count, 1U);
        double exact = 0;
        double size = 0;
        for (const float value : values) {
            exact += value;
            size += std::abs(double{value});
        }
        const double steps = 64 + std::log2(std::max<double>(1, static_cast<double>(count)));
        EXPECT_LE(std::abs(std::bit_cast<float>(outcome.results[0]) - exact),
                  steps * kEpsilon * size);
        job.type = VGPU_TYPE_I32;
        job.buffers[0] = upload(whole);
        std::uint32_t sum = 0;
        for (const std::uint32_t value : whole) {
            sum += value;
        }
        EXPECT_EQ(done(job).results[0], sum) << count;
    }
}

INSTANTIATE_TEST_SUITE_P(On, Operations, test::every_kind(), test::kind_name);

}  // namespace
}  // namespace vgpu
