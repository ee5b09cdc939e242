// SPDX-License-Identifier: MIT
//
// The CUDA backend on a fake driver: completions, errors, and loss of the context, without a GPU.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>

#include "executor/cuda/cuda_backend.h"
#include "executor/testing/fake_driver.h"

namespace vgpu::cuda {
namespace {

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

using Changes = std::vector<DeviceChange>;

// Polls until `wanted` jobs have ended; appends the device's state changes to `changes`.
std::vector<Completion> poll_for(Backend& backend, std::size_t wanted, Changes* changes = nullptr) {
    std::vector<Completion> ended;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ended.size() < wanted && std::chrono::steady_clock::now() < deadline) {
        backend.poll(ended);
        std::erase_if(ended, [&](const Completion& one) {
            if (one.change != DeviceChange::kNone && changes != nullptr) {
                changes->push_back(one.change);
            }
            return one.change != DeviceChange::kNone;
        });
    }
    EXPECT_EQ(ended.size(), wanted);
    return ended;
}

struct CudaLogic : testing::Test {
    FakeDriver driver;
    std::unique_ptr<CudaBackend> backend;

    void start() {
        auto made = CudaBackend::create(driver.api(), 0);
        ASSERT_TRUE(made) << made.error().message;
        backend = std::move(made).value();
        backend->attach_thread();
    }
    // Members are destroyed in reverse order: the backend before its driver.
};

TEST_F(CudaLogic, AddsAndMeasures) {
    start();
    backend->submit(add_job(9, 0xFFFFFFFF, 2));
    const auto ended = poll_for(*backend, 1);
    EXPECT_EQ(ended.at(0).token, 9U);
    EXPECT_EQ(ended.at(0).outcome.status, VGPU_ERR_NONE);
    EXPECT_EQ(ended.at(0).outcome.results[0], 1U);
    EXPECT_GE(ended.at(0).outcome.exec_time_us, 1U);
}

TEST_F(CudaLogic, SubmitDoesNotWaitAndPollGivesNothingBeforeTheEnd) {
    start();
    driver.hold_streams = true;
    backend->submit(add_job(1, 1, 2));
    std::vector<Completion> ended;
    for (int i = 0; i < 1000; ++i) {
        backend->poll(ended);
    }
    EXPECT_TRUE(ended.empty());
    driver.run_streams();
    EXPECT_EQ(poll_for(*backend, 1).at(0).outcome.results[0], 3U);
}

TEST_F(CudaLogic, MoreJobsThanLanesAllEndWithTheirOwnResults) {
    start();
    driver.hold_streams = true;
    constexpr std::uint32_t kJobs = 3 * CudaContext::kLanes;
    for (std::uint32_t i = 0; i < kJobs; ++i) {
        backend->submit(add_job(i, i, 1000));
    }
    std::vector<Completion> ended;
    while (ended.size() < kJobs) {
        driver.run_streams();
        const std::size_t before = ended.size();
        backend->poll(ended);
        ASSERT_GT(ended.size(), before);
    }
    for (const Completion& completion : ended) {
        EXPECT_EQ(completion.outcome.results[0], completion.token + 1000);
    }
}

TEST_F(CudaLogic, DescribesTheGpu) {
    start();
    EXPECT_EQ(backend->info().name, "Fake GPU");
    backend->submit({.token = 1, .opcode = VGPU_OP_GET_DEVICE_INFO, .params = {}});
    const Outcome outcome = poll_for(*backend, 1).at(0).outcome;
    EXPECT_EQ(outcome.results[VGPU_INFO_BACKEND], VGPU_BACKEND_CUDA);
    EXPECT_EQ(outcome.results[VGPU_INFO_COMPUTE_CAPABILITY], 9U << 16U | 9U);
    EXPECT_EQ(outcome.results[VGPU_INFO_MULTIPROCESSORS], 132U);
    EXPECT_EQ(outcome.results[VGPU_INFO_DRIVER_VERSION], 13000U);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_TOTAL_HI], 5U);
    EXPECT_EQ(outcome.results[VGPU_INFO_MEMORY_FREE_HI], 3U);
    EXPECT_EQ(outcome.data, "Fake GPU");
}

TEST_F(CudaLogic, AFailedLaunchFailsThatJobAlone) {
    start();
    driver.next_launch = 701;  // out of resources: the context stays valid
    backend->submit(add_job(1, 1, 1));
    backend->submit(add_job(2, 2, 2));
    const auto ended = poll_for(*backend, 2);
    EXPECT_EQ(ended.at(0).outcome.status, VGPU_ERR_CUDA);
    EXPECT_NE(ended.at(0).outcome.data.find("FAKE_ERROR"), std::string::npos);
    EXPECT_EQ(ended.at(1).outcome.status, VGPU_ERR_NONE);
    EXPECT_FALSE(backend->lost());
}

TEST_F(CudaLogic, AStickyErrorFailsWhatRunsAndAllThatComesAfter) {
    start();
    driver.hold_streams = true;
    backend->submit(add_job(1, 1, 1));
    backend->submit(add_job(2, 2, 2));
    driver.sticky = 700;  // illegal address
    driver.hold_streams = false;
    Changes changes;
    const auto failed = poll_for(*backend, 2, &changes);
    for (const Completion& completion : failed) {
        EXPECT_EQ(completion.outcome.status, VGPU_ERR_CUDA);
        EXPECT_TRUE(completion.outcome.device_failed) << "it may have been the other one";
    }
    EXPECT_EQ(changes, (Changes{DeviceChange::kFailed}));
    EXPECT_TRUE(backend->lost());
    EXPECT_FALSE(backend->recovering());
    backend->submit(add_job(3, 3, 3));
    const auto after = poll_for(*backend, 1, &changes);
    EXPECT_EQ(after.at(0).outcome.status, VGPU_ERR_CUDA);
    EXPECT_TRUE(after.at(0).outcome.device_failed);
    EXPECT_NE(after.at(0).outcome.data.find("FAKE_ERROR"), std::string::npos);
    EXPECT_EQ(changes, (Changes{DeviceChange::kFailed}));
}

// A driver that has lost a GPU may never return from a call.
TEST_F(CudaLogic, ALostContextIsLeftToTheEndOfTheProcess) {
    start();
    driver.sticky = 719;
    backend->submit(add_job(1, 1, 1));
    poll_for(*backend, 1);
    ASSERT_TRUE(backend->lost());
    const int held = driver.live_objects();
    EXPECT_GT(held, 0);
    backend->detach_thread();
    backend.reset();
    EXPECT_EQ(driver.live_objects(), held);
    EXPECT_EQ(driver.retained, 1);
}

TEST_F(CudaLogic, AFaultOfTheOnlyJobIsThatJobs) {
    start();
    driver.hold_streams = true;
    backend->submit(add_job(1, 1, 1));
    driver.sticky = 719;  // launch failed
    const auto failed = poll_for(*backend, 1);
    EXPECT_EQ(failed.at(0).outcome.status, VGPU_ERR_CUDA);
    EXPECT_FALSE(failed.at(0).outcome.device_failed);
}

TEST_F(CudaLogic, ALossOfTheGpuIsNoJobsFault) {
    start();
    driver.sticky = 999;
    backend->submit(add_job(1, 1, 1));
    const auto failed = poll_for(*backend, 1);
    EXPECT_EQ(failed.at(0).outcome.status, VGPU_ERR_CUDA);
    EXPECT_TRUE(failed.at(0).outcome.device_failed);
}

TEST_F(CudaLogic, JobsThatWaitForALaneFailWithTheGpu) {
    start();
    driver.hold_streams = true;
    constexpr std::uint32_t kJobs = CudaContext::kLanes + 5;
    for (std::uint32_t i = 0; i < kJobs; ++i) {
        backend->submit(add_job(i, i, i));
    }
    driver.sticky = 700;
    for (const Completion& completion : poll_for(*backend, kJobs)) {
        EXPECT_EQ(completion.outcome.status, VGPU_ERR_CUDA);
    }
}

TEST_F(CudaLogic, AGpuThatIsLostAnswersWithErrors) {
    start();
    driver.sticky = 999;
    backend->submit(add_job(1, 1, 1));
    backend->submit(add_job(2, 2, 2));
    backend->submit({.token = 3, .opcode = VGPU_OP_GET_DEVICE_INFO, .params = {}});
    const auto ended = poll_for(*backend, 3);
    for (const Completion& completion : ended) {
        EXPECT_EQ(completion.outcome.status, VGPU_ERR_CUDA);
        EXPECT_TRUE(completion.outcome.device_failed);
        EXPECT_FALSE(completion.outcome.data.empty());
    }
}

struct CudaMemoryJobs : CudaLogic {
    BufferId allocate(std::uint64_t size) {
        Job job{.token = 100, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        job.length = size;
        backend->submit(job);
        return poll_for(*backend, 1).at(0).outcome.buffer;
    }
    static Job release_job(std::uint64_t token, BufferId buffer) {
        Job job{.token = token, .opcode = VGPU_OP_MEMORY_FREE, .params = {}};
        job.buffers[0] = buffer;
        return job;
    }
    std::vector<std::uint64_t> ended() {
        std::vector<Completion> all;
        backend->poll(all);
        std::vector<std::uint64_t> tokens;
        for (const Completion& one : all) {
            EXPECT_EQ(one.outcome.status, VGPU_ERR_NONE) << one.outcome.data;
            tokens.push_back(one.token);
        }
        return tokens;
    }
    using Tokens = std::vector<std::uint64_t>;
};

// Freeing with cuMemFree() would wait for the whole device.
TEST_F(CudaMemoryJobs, MemoryIsFreedWhileAnothersJobRuns) {
    start();
    const BufferId buffer = allocate(64);
    driver.hold_streams = true;
    backend->submit(add_job(1, 1, 1));
    backend->submit(release_job(2, buffer));
    EXPECT_EQ(ended(), Tokens{2});
    EXPECT_GT(driver.held_work(), 0U) << "it waited for the other job";
    driver.run_streams();
    EXPECT_EQ(ended(), Tokens{1});
}

TEST_F(CudaMemoryJobs, MemoryThatAJobUsesIsFreedWhenItHasEnded) {
    start();
    const BufferId buffer = allocate(64);
    const std::size_t left = driver.memory_left;
    driver.hold_streams = true;
    Job use{.token = 1, .opcode = VGPU_OP_VECTOR_ADD, .params = {}};
    use.type = VGPU_TYPE_I32;
    use.buffers = {buffer, buffer, buffer};
    use.length = 1;
    backend->submit(use);
    backend->submit(release_job(2, buffer));
    EXPECT_EQ(ended(), Tokens{});
    EXPECT_EQ(driver.memory_left, left);
    driver.run_streams();
    EXPECT_EQ(ended(), (Tokens{1, 2}));
    EXPECT_EQ(driver.memory_left, left + 64);
}

TEST_F(CudaMemoryJobs, ACopyThatOverlapsEndsWhileAnothersJobRuns) {
    start();
    const BufferId buffer = allocate(64);
    driver.hold_streams = true;
    backend->submit(add_job(1, 1, 1));
    Job copy{.token = 2, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
    copy.copy = VGPU_COPY_WITHIN_DEVICE;
    copy.buffers = {buffer, buffer, 0};
    copy.offsets = {8, 0};
    copy.length = 32;
    backend->submit(copy);
    Tokens done;
    while (done.empty() && driver.run_one(true)) {
        done = ended();
    }
    EXPECT_EQ(done, Tokens{2});
    EXPECT_GT(driver.held_work(), 0U) << "it waited for the other job";
    driver.run_streams();
    EXPECT_EQ(ended(), Tokens{1});
}

TEST_F(CudaMemoryJobs, ADriverWithoutPoolsFreesAsItCan) {
    driver.has_pools = false;
    start();
    const BufferId buffer = allocate(64);
    backend->submit(release_job(2, buffer));
    EXPECT_EQ(ended(), Tokens{2});
}

TEST_F(CudaLogic, ErrorsAreNamedByKind) {
    EXPECT_EQ(error_of(2), VGPU_ERR_CUDA_OUT_OF_MEMORY);
    EXPECT_FALSE(loses_context(2));
    EXPECT_EQ(error_of(719), VGPU_ERR_CUDA);
    EXPECT_TRUE(loses_context(719));
    EXPECT_EQ(error_of(999), VGPU_ERR_CUDA);
    EXPECT_TRUE(loses_context(999));
    EXPECT_EQ(error_of(1), VGPU_ERR_CUDA);
    EXPECT_FALSE(loses_context(1));
}

TEST_F(CudaLogic, SaysWhyThereIsNoGpu) {
    driver.device_count = 0;
    const auto none = CudaBackend::create(driver.api(), 0);
    ASSERT_FALSE(none);
    EXPECT_NE(none.error().message.find("there is no CUDA device 0"), std::string::npos);
    driver.init_status = 100;
    const auto dead = CudaBackend::create(driver.api(), 0);
    ASSERT_FALSE(dead);
    EXPECT_NE(dead.error().message.find("FAKE_ERROR"), std::string::npos);
}

TEST(CudaKernels, TheCommittedPtxIsWhatTheCompilerMakes) {
    const std::string made_folder = VGPU_MADE_PTX;
    if (made_folder.empty()) {
        GTEST_SKIP() << "nvcc was not found when this was configured";
    }
    const auto text_of = [](const std::string& path) {
        std::ifstream file(path);
        EXPECT_TRUE(file) << path;
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    for (const char* const name : {"/add.ptx", "/operations.ptx"}) {
        EXPECT_EQ(text_of(std::string(VGPU_COMMITTED_PTX) + name), text_of(made_folder + name))
            << "copy " << made_folder << name << " to " << VGPU_COMMITTED_PTX;
    }
}

}  // namespace
}  // namespace vgpu::cuda
