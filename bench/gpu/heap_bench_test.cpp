// SPDX-License-Identifier: MIT
//
// The benchmark on a fake driver: checks that it works. Its figures mean nothing there.
#include "gpu/heap_bench.h"

#include <gtest/gtest.h>

#include "executor/cpu/cpu_backend.h"
#include "executor/cuda/cuda_backend.h"
#include "executor/testing/fake_driver.h"

namespace vgpu::cuda {
namespace {

constexpr HeapBenchOptions kFew{
    .largest = std::uint64_t{4} << 20U, .large_copies = 3, .small_copies = 10, .adds = 100};

TEST(HeapBench, MeasuresTheDriverAlone) {
    const FakeDriver driver;
    const auto figures = measure_native(driver.api(), 0, kFew);
    ASSERT_TRUE(figures) << figures.error().message;
    EXPECT_GE(figures->size(), 10U);
    for (const Figure& figure : *figures) {
        EXPECT_GT(figure.value, 0) << figure.name;
    }
}

TEST(HeapBench, SaysWhatFailed) {
    FakeDriver driver;
    driver.next_register = 2;
    const auto figures = measure_native(driver.api(), 0, kFew);
    ASSERT_FALSE(figures);
    EXPECT_NE(figures.error().message.find("cuMemHostRegister"), std::string::npos);
}

TEST(HeapBench, MeasuresABackend) {
    const FakeDriver driver;
    auto backend = CudaBackend::create(driver.api(), 0);
    ASSERT_TRUE(backend);
    const auto figures = measure_backend(**backend, "fake", kFew);
    ASSERT_TRUE(figures) << figures.error().message;
    EXPECT_NE(as_table(*figures).find("add n=1, fake, on the timeline"), std::string::npos);
    EXPECT_NE(as_json("Fake GPU", *figures).find(R"("unit": "GB/s")"), std::string::npos);
    CpuBackend cpu;
    EXPECT_TRUE(measure_backend(cpu, "cpu", kFew));
}

}  // namespace
}  // namespace vgpu::cuda
