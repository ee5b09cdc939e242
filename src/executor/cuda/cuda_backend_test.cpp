// SPDX-License-Identifier: MIT
//
// The CUDA backend on a real GPU. Each test is skipped, with the reason, where none answers.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <random>

#include "executor/cuda/cuda_backend.h"
#include "executor/cuda/poll_for.h"
#include "executor/executor.h"

namespace vgpu::cuda {
namespace {

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

struct CudaGpu : testing::Test {
    std::unique_ptr<CudaBackend> backend;

    // The driver keeps descriptors open for the life of the process once it has been used, which
    // is not a leak of the test that happens to use it first.
    static void SetUpTestSuite() {
        const auto api = Api::load();
        if (api) {
            static_cast<void>(CudaBackend::create(*api, 0));
        }
    }

    void SetUp() override {
        const auto api = Api::load();
        if (!api) {
            GTEST_SKIP() << api.error().message;
        }
        auto made = CudaBackend::create(*api, 0);
        if (!made) {
            GTEST_SKIP() << made.error().message;
        }
        backend = std::move(made).value();
    }
};

TEST_F(CudaGpu, NamesItself) {
    EXPECT_FALSE(backend->info().name.empty());
    EXPECT_GE(backend->info().compute_capability, 7U << 16U);
    EXPECT_GE(backend->info().multiprocessors, 1U);
    EXPECT_GT(backend->info().memory_total, 0U);
    backend->attach_thread();
    backend->submit({.token = 5, .opcode = VGPU_OP_GET_DEVICE_INFO, .params = {}});
    const Outcome outcome = poll_for(*backend, 1).at(0).outcome;
    backend->detach_thread();
    EXPECT_EQ(outcome.status, VGPU_ERR_NONE);
    EXPECT_EQ(outcome.results[VGPU_INFO_BACKEND], VGPU_BACKEND_CUDA);
    EXPECT_EQ(outcome.data, backend->info().name);
    RecordProperty("device", backend->info().name);
}

TEST_F(CudaGpu, AddsModulo2To32) {
    backend->attach_thread();
    std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    for (std::uint32_t i = 0; i < 2000; ++i) {
        const auto a = static_cast<std::uint32_t>(random());
        const auto b = static_cast<std::uint32_t>(random());
        backend->submit(add_job(i, a, b));
        const auto ended = poll_for(*backend, 1);
        ASSERT_EQ(ended.at(0).outcome.status, VGPU_ERR_NONE) << ended.at(0).outcome.data;
        ASSERT_EQ(ended.at(0).outcome.results[0], a + b);
        ASSERT_GE(ended.at(0).outcome.exec_time_us, 1U);
    }
    backend->detach_thread();
}

TEST_F(CudaGpu, ManyJobsInFlightEachGetTheirOwnResult) {
    backend->attach_thread();
    for (std::uint32_t i = 0; i < 1000; ++i) {
        backend->submit(add_job(i, i, 7));
    }
    for (const Completion& completion : poll_for(*backend, 1000)) {
        EXPECT_EQ(completion.outcome.results[0], completion.token + 7);
    }
    backend->detach_thread();
}

TEST_F(CudaGpu, WorksBehindTheExecutor) {
    std::mutex mutex;
    std::condition_variable changed;
    bool woken = false;
    Executor executor(std::move(backend), {}, [&] {
        const std::lock_guard lock(mutex);
        woken = true;
        changed.notify_all();
    });
    for (std::uint32_t i = 0; i < 200; ++i) {
        executor.submit(add_job(i, i, i));
        std::vector<Completion> ended;
        while (ended.empty()) {
            executor.set_control_waiting(true);
            if (!executor.has_completions()) {
                std::unique_lock lock(mutex);
                ASSERT_TRUE(
                    changed.wait_for(lock, std::chrono::seconds(20), [&] { return woken; }));
                woken = false;
            }
            executor.set_control_waiting(false);
            executor.take_completions(ended);
        }
        ASSERT_EQ(ended.at(0).outcome.results[0], 2 * i);
    }
}

TEST_F(CudaGpu, CanBeMadeAndDroppedAgainAndAgain) {
    const auto api = Api::load();
    ASSERT_TRUE(api);
    backend.reset();
    for (int i = 0; i < 3; ++i) {
        auto made = CudaBackend::create(*api, 0);
        ASSERT_TRUE(made) << made.error().message;
    }
}

TEST_F(CudaGpu, RefusesADeviceThatIsNotThere) {
    const auto api = Api::load();
    ASSERT_TRUE(api);
    const auto made = CudaBackend::create(*api, 1023);
    ASSERT_FALSE(made);
    EXPECT_NE(made.error().message.find("1023"), std::string::npos);
}

}  // namespace
}  // namespace vgpu::cuda
