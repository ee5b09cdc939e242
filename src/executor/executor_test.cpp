// SPDX-License-Identifier: MIT
#include "executor/executor.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "executor/cpu/cpu_backend.h"
#include "integration/held_backend.h"

namespace vgpu {
namespace {

using test::HeldBackend;
using test::Hold;

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

// What the control loop does when it sleeps: waits to be woken.
class Waker {
  public:
    std::function<void()> callback() {
        return [this] {
            const std::lock_guard lock(mutex_);
            ++woken_;
            changed_.notify_all();
        };
    }
    // Sleeps until `wanted` completions have been taken.
    std::vector<Completion> take(Executor& executor, std::size_t wanted) {
        std::vector<Completion> ended;
        while (ended.size() < wanted) {
            executor.set_control_waiting(true);
            if (!executor.has_completions()) {
                std::unique_lock lock(mutex_);
                if (!changed_.wait_for(lock, std::chrono::seconds(20),
                                       [&] { return woken_ > seen_; })) {
                    ADD_FAILURE() << "never woken";
                    break;
                }
                seen_ = woken_;
            }
            executor.set_control_waiting(false);
            executor.take_completions(ended);
        }
        return ended;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int woken_ = 0;
    int seen_ = 0;
};

TEST(CpuBackend, AddsModulo2To32) {
    CpuBackend backend;
    const Outcome outcome = backend.run(add_job(1, 0xFFFFFFFF, 3));
    EXPECT_EQ(outcome.status, VGPU_ERR_NONE);
    ASSERT_EQ(outcome.result_words().size(), 1U);
    EXPECT_EQ(outcome.results[0], 2U);
    EXPECT_GE(outcome.exec_time_us, 1U);
}

TEST(CpuBackend, DescribesItself) {
    CpuBackend backend;
    const Outcome outcome =
        backend.run({.token = 1, .opcode = VGPU_OP_GET_DEVICE_INFO, .params = {}});
    ASSERT_EQ(outcome.result_count, VGPU_INFO_RESULT_COUNT);
    EXPECT_EQ(outcome.results[VGPU_INFO_BACKEND], VGPU_BACKEND_CPU);
    EXPECT_EQ(outcome.results[VGPU_INFO_COMPUTE_CAPABILITY], 0U);
    EXPECT_GE(outcome.results[VGPU_INFO_MULTIPROCESSORS], 1U);
    const auto total = std::uint64_t{outcome.results[VGPU_INFO_MEMORY_TOTAL_HI]} << 32U |
                       outcome.results[VGPU_INFO_MEMORY_TOTAL_LO];
    EXPECT_EQ(total, backend.info().memory_total);
    EXPECT_EQ(outcome.data, backend.info().name);
}

TEST(CpuBackend, RefusesWhatItDoesNotKnow) {
    CpuBackend backend;
    EXPECT_FALSE(backend.immediate(0x0FFF));
    EXPECT_EQ(backend.run({.token = 1, .opcode = 0x0FFF, .params = {}}).status,
              VGPU_ERR_UNSUPPORTED_OPERATION);
}

TEST(Executor, DoesJobsOnItsThreadAndWakesASleepingControlLoop) {
    Waker waker;
    const auto hold = std::make_shared<Hold>();
    hold->open();
    Executor executor(std::make_unique<HeldBackend>(hold), {.spin = std::chrono::microseconds(0)},
                      waker.callback());
    for (std::uint32_t i = 0; i < 500; ++i) {
        executor.submit(add_job(i, i, 1));
        const auto ended = waker.take(executor, 1);
        ASSERT_EQ(ended.size(), 1U);
        ASSERT_EQ(ended[0].token, i);
        ASSERT_EQ(ended[0].outcome.results[0], i + 1);
    }
}

TEST(Executor, GivesCompletionsToALoopThatLooks) {
    Waker waker;
    const auto hold = std::make_shared<Hold>();
    hold->open();
    Executor executor(std::make_unique<HeldBackend>(hold), {}, waker.callback());
    std::vector<Completion> ended;
    for (std::uint32_t i = 0; i < 100; ++i) {
        executor.submit(add_job(i, i, i));
    }
    while (ended.size() < 100) {
        executor.take_completions(ended);
    }
    for (std::uint32_t i = 0; i < 100; ++i) {
        ASSERT_EQ(ended[i].outcome.results[0], 2 * i);
    }
}

TEST(Executor, TakesMoreJobsWhileOneRuns) {
    Waker waker;
    const auto hold = std::make_shared<Hold>();
    Executor executor(std::make_unique<HeldBackend>(hold), {.spin = std::chrono::microseconds(0)},
                      waker.callback());
    executor.submit(add_job(1, 1, 1));
    ASSERT_TRUE(hold->wait_submitted(1));
    executor.submit(add_job(2, 2, 2));
    ASSERT_TRUE(hold->wait_submitted(2));
    EXPECT_FALSE(executor.has_completions());
    hold->release(2);
    const auto ended = waker.take(executor, 2);
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[1].token, 2U);
}

TEST(Executor, HasAJobStopped) {
    Waker waker;
    const auto hold = std::make_shared<Hold>();
    Executor executor(std::make_unique<HeldBackend>(hold), {.spin = std::chrono::microseconds(0)},
                      waker.callback());
    executor.stop(1);  // there is none
    executor.submit(add_job(1, 1, 1));
    ASSERT_TRUE(hold->wait_submitted(1));
    EXPECT_FALSE(executor.has_completions());
    // Each stop is for what was submitted before it.
    executor.stop(1);
    executor.submit(add_job(1, 20, 22));
    std::vector<std::uint32_t> statuses;
    while (statuses.empty()) {
        for (const Completion& one : waker.take(executor, 1)) {
            if (one.change == DeviceChange::kNone) {
                statuses.push_back(one.outcome.status);
            }
        }
    }
    EXPECT_EQ(statuses, std::vector<std::uint32_t>{VGPU_ERR_CUDA_TIME_LIMIT});
    ASSERT_TRUE(hold->wait_submitted(2));
    hold->open();
    const auto ended = waker.take(executor, 1);
    ASSERT_FALSE(ended.empty());
    EXPECT_EQ(ended.back().outcome.results[0], 42U);
}

TEST(Executor, EndsWithAJobStillRunning) {
    Waker waker;
    const auto hold = std::make_shared<Hold>();
    {
        Executor executor(std::make_unique<HeldBackend>(hold), {}, waker.callback());
        executor.submit(add_job(1, 1, 1));
        ASSERT_TRUE(hold->wait_submitted(1));
    }
    SUCCEED();
}

}  // namespace
}  // namespace vgpu
