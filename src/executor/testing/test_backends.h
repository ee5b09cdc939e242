// SPDX-License-Identifier: MIT
//
// All backends, for tests that apply to each: the CPU, CUDA on a fake driver (without the real
// kernels, which tests the code around them), CUDA on a real GPU, skipped if there is none, and the
// first and the last of these in a worker process.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "executor/cpu/cpu_backend.h"
#include "executor/cuda/cuda_backend.h"
#include "executor/testing/fake_driver.h"
#include "executor/testing/mischief.h"
#include "executor/worker/worker_backend.h"

namespace vgpu::test {

enum class Kind { kCpu, kFakeCuda, kCuda, kWorkerCpu, kWorkerCuda };

inline std::string kind_name(const testing::TestParamInfo<Kind>& info) {
    constexpr std::array kNames{"Cpu", "FakeCuda", "Cuda", "WorkerCpu", "WorkerCuda"};
    return kNames.at(static_cast<std::size_t>(info.param));
}

inline auto every_kind() {
    return testing::Values(Kind::kCpu, Kind::kFakeCuda, Kind::kCuda, Kind::kWorkerCpu,
                           Kind::kWorkerCuda);
}

inline Job job_of(std::uint32_t opcode) {
    Job job;
    job.opcode = opcode;
    return job;
}

class EveryBackend : public testing::TestWithParam<Kind> {
  protected:
    // Once used, the driver keeps descriptors open for the life of the process, which is not a leak
    // of the first test that uses it.
    static void SetUpTestSuite() {
        if (const auto api = cuda::Api::load()) {
            static_cast<void>(cuda::CudaBackend::create(*api, 0));
        }
    }

    void SetUp() override {
        auto made = make();
        if (!made && (GetParam() == Kind::kCuda || GetParam() == Kind::kWorkerCuda)) {
            GTEST_SKIP() << made.error().message;
        }
        ASSERT_TRUE(made) << made.error().message;
        backend_ = std::move(made).value();
        backend_->attach_thread();
    }
    void TearDown() override {
        if (backend_) {
            backend_->detach_thread();
        }
    }

    // Polls until `count` jobs have ended.
    std::vector<Completion> take(std::size_t count) {
        std::vector<Completion> ended;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (ended.size() < count && std::chrono::steady_clock::now() < deadline) {
            backend_->poll(ended);
        }
        EXPECT_EQ(ended.size(), count);
        return ended;
    }
    Outcome run(const Job& job) {
        backend_->submit(job);
        const auto ended = take(1);
        return ended.empty() ? Outcome::failure(VGPU_ERR_TIMEOUT, "no answer") : ended[0].outcome;
    }
    // Expects success.
    Outcome done(const Job& job) {
        Outcome outcome = run(job);
        EXPECT_EQ(outcome.status, VGPU_ERR_NONE) << outcome.data;
        return outcome;
    }
    BufferId alloc(std::uint64_t size) {
        Job job = job_of(VGPU_OP_MEMORY_ALLOC);
        job.length = size;
        return done(job).buffer;
    }
    void free(BufferId buffer) {
        Job job = job_of(VGPU_OP_MEMORY_FREE);
        job.buffers[0] = buffer;
        done(job);
    }

    std::unique_ptr<cuda::FakeDriver> driver_;
    std::unique_ptr<Backend> backend_;

  private:
    Result<std::unique_ptr<Backend>> make() {
        const auto as_backend = [](auto made) -> Result<std::unique_ptr<Backend>> {
            if (!made) {
                return std::move(made).error();
            }
            return std::unique_ptr<Backend>(std::move(made).value());
        };
        switch (GetParam()) {
            case Kind::kCpu:
                return std::unique_ptr<Backend>(std::make_unique<CpuBackend>());
            case Kind::kWorkerCpu:
                return as_backend(
                    worker::WorkerBackend::create({.command = worker::test_worker({"cpu"})}));
            case Kind::kWorkerCuda:
                return as_backend(
                    worker::WorkerBackend::create({.command = worker::test_worker({"cuda", "0"})}));
            case Kind::kFakeCuda:
                driver_ = std::make_unique<cuda::FakeDriver>();
                return as_backend(cuda::CudaBackend::create(driver_->api(), 0));
            case Kind::kCuda:
                break;
        }
        const auto api = cuda::Api::load();
        return api ? as_backend(cuda::CudaBackend::create(*api, 0)) : api.error();
    }
};

}  // namespace vgpu::test
