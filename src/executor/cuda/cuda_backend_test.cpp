// SPDX-License-Identifier: MIT
//
// The CUDA backend on a real GPU, in this process and in a worker process. If no GPU is available,
// each test is skipped with the reason.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "executor/cuda/cuda_backend.h"
#include "executor/testing/mischief.h"
#include "executor/testing/test_region.h"
#include "executor/worker/worker_backend.h"
#include "support/control_loop.h"

namespace vgpu::cuda {
namespace {

Job add_job(std::uint64_t token, std::uint32_t a, std::uint32_t b) {
    return {.token = token, .opcode = VGPU_OP_CUDA_KERNEL, .params = {a, b}};
}

struct CudaGpu : testing::Test {
    std::unique_ptr<CudaBackend> backend;

    // Once used, the driver keeps descriptors open for the life of the process, which is not a leak
    // of the first test that uses it.
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

// Polls until `wanted` jobs have ended; `changes` counts the device's state changes meanwhile.
struct Changes {
    int failed = 0;
    int recovered = 0;
};
std::vector<Completion> poll_for(Backend& backend, std::size_t wanted, Changes* changes = nullptr) {
    std::vector<Completion> ended;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ended.size() < wanted && std::chrono::steady_clock::now() < deadline) {
        backend.poll(ended);
        std::erase_if(ended, [&](const Completion& one) {
            if (changes != nullptr) {
                changes->failed += one.change == DeviceChange::kFailed ? 1 : 0;
                changes->recovered += one.change == DeviceChange::kRecovered ? 1 : 0;
            }
            return one.change != DeviceChange::kNone;
        });
    }
    EXPECT_EQ(ended.size(), wanted);
    return ended;
}

Outcome run_on(Backend& backend, const Job& job, Changes* changes = nullptr) {
    backend.submit(job);
    const auto ended = poll_for(backend, 1, changes);
    return ended.empty() ? Outcome{} : ended.front().outcome;
}

using worker::Mischief;
using worker::WorkerBackend;

// A GPU driven by the test worker; null, with the reason in `why`, if there is none.
std::unique_ptr<WorkerBackend> worker_for(const char* index, std::string& why) {
    auto made = WorkerBackend::create({.command = worker::test_worker({"cuda", index})});
    if (!made) {
        why = made.error().message;
        return nullptr;
    }
    return std::move(made).value();
}

// The job fails, and with it the GPU and every buffer on it; then the GPU works again.
void fail_and_recover(Backend& backend, Mischief mischief) {
    Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
    alloc.length = std::uint64_t{1} << 20U;
    const Outcome allocated = run_on(backend, alloc);
    ASSERT_EQ(allocated.status, VGPU_ERR_NONE) << allocated.data;
    Changes changes;
    Outcome outcome = run_on(backend, worker::mischief_job(2, mischief), &changes);
    // The fault is asynchronous: jobs before it may still succeed.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (outcome.status == VGPU_ERR_NONE && std::chrono::steady_clock::now() < deadline) {
        outcome = run_on(backend, add_job(2, 1, 1), &changes);
    }
    EXPECT_EQ(outcome.status, VGPU_ERR_CUDA);
    EXPECT_NE(outcome.data.find("CUDA_ERROR"), std::string::npos) << outcome.data;
    std::vector<Completion> none;
    while (changes.recovered == 0 && std::chrono::steady_clock::now() < deadline) {
        backend.poll(none);
        for (const Completion& one : none) {
            changes.failed += one.change == DeviceChange::kFailed ? 1 : 0;
            changes.recovered += one.change == DeviceChange::kRecovered ? 1 : 0;
        }
        none.clear();
    }
    EXPECT_EQ(changes.failed, 1);
    ASSERT_EQ(changes.recovered, 1);
    outcome = run_on(backend, add_job(3, 40, 2), &changes);
    ASSERT_EQ(outcome.status, VGPU_ERR_NONE) << outcome.data;
    EXPECT_EQ(outcome.results[0], 42U);
    Job read{.token = 4, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
    read.buffers[0] = allocated.buffer;
    read.length = 4;
    read.copy = VGPU_COPY_FROM_DEVICE;
    EXPECT_EQ(run_on(backend, read).status, VGPU_ERR_CUDA_INVALID_HANDLE);
    read.buffers[0] = run_on(backend, alloc).buffer;
    outcome = run_on(backend, read);
    EXPECT_EQ(outcome.status, VGPU_ERR_NONE) << outcome.data;
    EXPECT_EQ(outcome.data, std::string(4, '\0'));
}

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
    test::ControlLoop loop(std::move(backend), std::chrono::microseconds(100));
    for (std::uint32_t i = 0; i < 200; ++i) {
        loop.executor().submit(add_job(i, i, i));
        const auto ended = loop.take(1);
        ASSERT_EQ(ended.size(), 1U);
        ASSERT_EQ(ended[0].outcome.results[0], 2 * i);
    }
}

// A process with a sticky error gets no further context: another process must replace it.
TEST(CudaWorker, RecoversFromAStickyErrorAgainAndAgain) {
    std::string why;
    const auto backend = worker_for("0", why);
    if (!backend) {
        GTEST_SKIP() << why;
    }
    for (int round = 0; round < 3; ++round) {
        ASSERT_NO_FATAL_FAILURE(fail_and_recover(*backend, Mischief::kStoreToNowhere));
        ASSERT_NO_FATAL_FAILURE(fail_and_recover(*backend, Mischief::kTrap));
    }
    backend->detach_thread();
}

// Jobs on shared memory. Once one has failed nothing writes there, although the GPU failed in the
// middle of them; the next worker gets the memory.
TEST(CudaWorker, JobsInSharedMemoryAreAnsweredWhenTheWorkerHasEnded) {
    constexpr RegionId kRegion = 1;
    constexpr std::uint64_t kHeap = 4096;
    constexpr std::uint64_t kJobs = 200;
    std::string why;
    const auto backend = worker_for("0", why);
    if (!backend) {
        GTEST_SKIP() << why;
    }
    const test::TestRegion memory;
    backend->attach_region(1, kRegion, memory.fd(), memory.size());
    ASSERT_EQ(poll_for(*backend, 1).at(0).outcome.status, VGPU_ERR_NONE);
    const auto add = [&](std::uint64_t token) {
        Job job{.token = token, .opcode = VGPU_OP_VECTOR_ADD, .params = {}};
        job.region = kRegion;
        job.type = VGPU_TYPE_I32;
        job.heap_operands = 0b111;
        job.heap = {kHeap, kHeap, kHeap + 4};
        job.length = 1;
        job.chain = 1;
        return job;
    };
    *memory.at<std::uint32_t>(kHeap + 4) = 1;
    for (int round = 0; round < 3; ++round) {
        const pid_t worker = backend->pid();
        Changes changes;
        backend->submit(worker::mischief_job(1, Mischief::kStoreToNowhere));
        for (std::uint64_t i = 1; i <= kJobs; ++i) {
            backend->submit(add(i + 1));
        }
        std::vector<Completion> ended;
        std::optional<std::uint32_t> last;
        std::uint64_t answered = 0;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (answered < kJobs + 1 && std::chrono::steady_clock::now() < deadline) {
            backend->poll(ended);
            for (const Completion& one : ended) {
                answered += one.change == DeviceChange::kNone ? 1 : 0;
                changes.recovered += one.change == DeviceChange::kRecovered ? 1 : 0;
                if (one.change == DeviceChange::kNone && one.token != 1 &&
                    one.outcome.status != VGPU_ERR_NONE) {
                    EXPECT_EQ(::kill(worker, 0), -1) << "the process is still there";
                    const std::uint32_t now = memory.half_word(kHeap);
                    EXPECT_EQ(last.value_or(now), now) << "written after the answer";
                    last = now;
                }
            }
            ended.clear();
        }
        ASSERT_EQ(answered, kJobs + 1);
        while (backend->recovering() && std::chrono::steady_clock::now() < deadline) {
            backend->poll(ended);
        }
        ASSERT_FALSE(backend->recovering());
        EXPECT_EQ(last.value_or(memory.half_word(kHeap)), memory.half_word(kHeap));
        const std::uint32_t before = memory.half_word(kHeap);
        const Outcome after = run_on(*backend, add(5));
        EXPECT_EQ(after.status, VGPU_ERR_NONE) << after.data;
        EXPECT_EQ(memory.half_word(kHeap), before + 1);
    }
    EXPECT_EQ(backend->bytes_copied_by_processor(), 0U);
    backend->detach_thread();
}

// Two GPUs, each driven by its own thread as in the mediator: one fails, the other keeps working.
TEST(CudaWorker, AFailureOfOneGpuLeavesTheOtherAlone) {
    std::string why;
    const auto backend = worker_for("0", why);
    const auto other = worker_for("1", why);
    if (!backend || !other) {
        GTEST_SKIP() << "two GPUs are needed: " << why;
    }
    std::atomic<bool> stop = false;
    std::uint64_t done = 0;
    std::thread thread([&] {
        other->attach_thread();
        Job alloc{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        alloc.length = 4;
        Job read{.token = 2, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
        read.buffers[0] = run_on(*other, alloc).buffer;
        read.length = 4;
        read.copy = VGPU_COPY_FROM_DEVICE;
        Changes changes;
        for (; !stop; ++done) {
            const Outcome sum = run_on(*other, add_job(3, 20, 22), &changes);
            ASSERT_EQ(sum.status, VGPU_ERR_NONE) << sum.data;
            ASSERT_EQ(sum.results[0], 42U);
            ASSERT_EQ(run_on(*other, read, &changes).status, VGPU_ERR_NONE);
        }
        EXPECT_EQ(changes.failed, 0);
        other->detach_thread();
    });
    backend->attach_thread();
    fail_and_recover(*backend, Mischief::kStoreToNowhere);
    backend->detach_thread();
    stop = true;
    thread.join();
    EXPECT_GT(done, 0U);
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
