// SPDX-License-Identifier: MIT
#include "executor/executor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "executor/cpu/cpu_backend.h"
#include "executor/thread_backend.h"
#include "integration/held_backend.h"
#include "support/control_loop.h"

namespace vgpu {
namespace {

using test::ControlLoop;
using test::HeldBackend;
using test::Hold;

constexpr std::chrono::microseconds kNoSpin{0};
constexpr std::chrono::microseconds kSpin{100};

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

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
    EXPECT_FALSE(backend.immediate({.token = 1, .opcode = 0x0FFF, .params = {}}));
    EXPECT_EQ(backend.run({.token = 1, .opcode = 0x0FFF, .params = {}}).status,
              VGPU_ERR_UNSUPPORTED_OPERATION);
}

// Without abandon(), the end of the executor would wait for minutes of work: the test's time limit.
TEST(CpuBackend, TheEndDoesNotWaitForLongWork) {
    constexpr std::uint32_t kSide = 12'000;
    ControlLoop loop(std::make_unique<CpuBackend>(), kNoSpin);
    std::array<BufferId, 2> buffers{};
    for (BufferId& buffer : buffers) {
        Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        alloc.length = std::uint64_t{kSide} * kSide * 4;
        loop.executor().submit(alloc);
        const auto ended = loop.take(1);
        ASSERT_EQ(ended.size(), 1U);
        buffer = ended[0].outcome.buffer;
        if (buffer == 0) {
            GTEST_SKIP() << "there is not enough memory for two matrices of 576 MB";
        }
    }
    Job matmul{.token = 2, .opcode = VGPU_OP_MATMUL, .params = {}};
    matmul.buffers = {buffers[0], buffers[1], buffers[1]};
    matmul.extents = {kSide, kSide, kSide};
    loop.executor().submit(matmul);
}

// With a backend whose jobs end when the test requests it, directly and behind a thread.
class Executors : public testing::TestWithParam<const char*> {
  protected:
    void start(std::chrono::microseconds spin) {
        std::unique_ptr<Backend> backend = std::make_unique<HeldBackend>(hold_);
        if (GetParam() == std::string_view("Thread")) {
            backend = std::make_unique<ThreadBackend>(std::move(backend), spin);
        }
        loop_.emplace(std::move(backend), spin);
    }

    std::shared_ptr<Hold> hold_ = std::make_shared<Hold>();
    std::optional<ControlLoop> loop_;
};

INSTANTIATE_TEST_SUITE_P(On, Executors, testing::Values("Thread", "Direct"),
                         [](const auto& kind) { return kind.param; });

TEST_P(Executors, WakeASleepingControlLoop) {
    hold_->open();
    start(kNoSpin);
    for (std::uint32_t i = 0; i < 500; ++i) {
        loop_->executor().submit(add_job(i, i, 1));
        const auto ended = loop_->take(1);
        ASSERT_EQ(ended.size(), 1U);
        ASSERT_EQ(ended[0].token, i);
        ASSERT_EQ(ended[0].outcome.results[0], i + 1);
    }
}

TEST_P(Executors, GiveCompletionsToALoopThatPolls) {
    hold_->open();
    start(kSpin);
    std::vector<Completion> ended;
    for (std::uint32_t i = 0; i < 100; ++i) {
        loop_->executor().submit(add_job(i, i, i));
    }
    while (ended.size() < 100) {
        loop_->executor().take_completions(ended);
    }
    for (std::uint32_t i = 0; i < 100; ++i) {
        ASSERT_EQ(ended[i].outcome.results[0], 2 * i);
    }
}

TEST_P(Executors, TakeMoreJobsWhileOneRuns) {
    start(kNoSpin);
    loop_->executor().submit(add_job(1, 1, 1));
    ASSERT_TRUE(hold_->wait_submitted(1));
    loop_->executor().submit(add_job(2, 2, 2));
    ASSERT_TRUE(hold_->wait_submitted(2));
    EXPECT_FALSE(loop_->executor().has_completions());
    hold_->release(2);
    const auto ended = loop_->take(2);
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[1].token, 2U);
}

TEST_P(Executors, EndWithAJobStillRunning) {
    start(kSpin);
    loop_->executor().submit(add_job(1, 1, 1));
    ASSERT_TRUE(hold_->wait_submitted(1));
}

// A device that rejects a region after it has recovered, while a job runs.
class AttachesAgain final : public Backend {
  public:
    [[nodiscard]] const DeviceInfo& info() const override { return cpu_.info(); }
    [[nodiscard]] bool immediate(const Job& /*job*/) const override { return false; }
    Outcome run(const Job& job) override { return cpu_.run(job); }
    void attach_thread() override {}
    void submit(const Job& job) override { cpu_.submit(job); }
    void poll(std::vector<Completion>& ended) override {
        if (std::exchange(told_, true)) {
            cpu_.poll(ended);
        } else {
            ended.push_back(
                {.token = 7, .outcome = failed_device_outcome("it is full"), .again = true});
        }
    }
    void attach_region(std::uint64_t /*token*/, RegionId /*region*/, int /*fd*/,
                       std::uint64_t /*size*/) override {}
    void detach_region(std::uint64_t /*token*/, RegionId /*region*/) override {}
    [[nodiscard]] int wake_descriptor() const override { return STDIN_FILENO; }
    void detach_thread() override {}

  private:
    CpuBackend cpu_;
    bool told_ = false;
};

TEST(Executor, KeepsPollingForAJobAfterASecondCompletionOfAnAttach) {
    Executor executor(std::make_unique<AttachesAgain>(), kSpin);
    executor.submit(add_job(1, 40, 2));
    std::vector<Completion> ended;
    executor.take_completions(ended);
    ASSERT_EQ(ended.size(), 1U);
    EXPECT_EQ(ended[0].token, 7U);
    executor.take_completions(ended);
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[1].outcome.results[0], 42U);
}

TEST(Executor, HasAJobStopped) {
    const auto hold = std::make_shared<Hold>();
    ControlLoop loop(std::make_unique<HeldBackend>(hold));
    Executor& executor = loop.executor();
    executor.stop(1);  // no such job
    executor.submit(add_job(1, 1, 1));
    EXPECT_FALSE(executor.has_completions());
    // A stop applies only to jobs submitted before it.
    executor.stop(1);
    executor.submit(add_job(1, 20, 22));
    std::vector<std::uint32_t> statuses;
    while (statuses.empty()) {
        for (const Completion& one : loop.take(1)) {
            if (one.change == DeviceChange::kNone) {
                statuses.push_back(one.outcome.status);
            }
        }
    }
    EXPECT_EQ(statuses, std::vector<std::uint32_t>{VGPU_ERR_CUDA_TIME_LIMIT});
    hold->open();
    const auto ended = loop.take(1);
    ASSERT_FALSE(ended.empty());
    EXPECT_EQ(ended.back().outcome.results[0], 42U);
}

// The control loop must be notified although nothing was submitted.
TEST(Executor, TellsOfADeviceThatFailsWhileNobodyAsks) {
    const auto hold = std::make_shared<Hold>();
    ControlLoop loop(std::make_unique<HeldBackend>(hold));
    EXPECT_FALSE(loop.executor().has_completions());
    hold->break_device();
    const auto failed = loop.take(1);
    ASSERT_EQ(failed.size(), 1U);
    EXPECT_EQ(failed[0].change, DeviceChange::kFailed);
    EXPECT_TRUE(loop.executor().needs_polling());
    hold->repair_device();
    const auto recovered = loop.take(1);
    ASSERT_EQ(recovered.size(), 1U);
    EXPECT_EQ(recovered[0].change, DeviceChange::kRecovered);
    EXPECT_FALSE(loop.executor().needs_polling());
}

}  // namespace
}  // namespace vgpu
