// SPDX-License-Identifier: MIT
//
// Shared memory, chains and timelines of the CUDA backend on a fake driver whose streams run when
// the test requests it: what is submitted to the GPU when, in which stream, and what happens when
// the driver fails.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "executor/cuda/cuda_backend.h"
#include "executor/testing/fake_driver.h"
#include "executor/testing/test_region.h"

namespace vgpu::cuda {
namespace {

constexpr RegionId kRegion = 3;
constexpr std::uint64_t kTimeline = 64;
constexpr std::uint64_t kHeap = 4096;

struct CudaRegions : testing::Test {
    FakeDriver driver;
    test::TestRegion memory;
    std::unique_ptr<CudaBackend> backend;
    // Members are destroyed in reverse order: the backend before its driver.

    void start() {
        auto made = CudaBackend::create(driver.api(), 0);
        ASSERT_TRUE(made) << made.error().message;
        backend = std::move(made).value();
        backend->attach_thread();
        backend->attach_region(1, kRegion, memory.fd(), memory.size());
        const auto ended = poll();
        ASSERT_EQ(ended.size(), 1U);
        ASSERT_EQ(ended[0].outcome.status, VGPU_ERR_NONE) << ended[0].outcome.data;
    }
    std::vector<Completion> poll() {
        std::vector<Completion> ended;
        backend->poll(ended);
        return ended;
    }
    BufferId allocate(std::uint64_t bytes) {
        Job job{.token = 1, .opcode = VGPU_OP_MEMORY_ALLOC, .params = {}};
        job.length = bytes;
        backend->submit(job);
        return poll().at(0).outcome.buffer;
    }
    // heap[0] += heap[1]
    static Job step(std::uint64_t token, std::uint64_t chain) {
        Job job{.token = token, .opcode = VGPU_OP_VECTOR_ADD, .params = {}};
        job.region = kRegion;
        job.type = VGPU_TYPE_I32;
        job.heap_operands = 0b111;
        job.heap = {kHeap, kHeap, kHeap + 4};
        job.length = 1;
        job.chain = chain;
        job.timeline = kTimeline;
        job.timeline_value = token;
        return job;
    }
};

TEST_F(CudaRegions, AreRegisteredOnceAndGivenBack) {
    start();
    EXPECT_EQ(driver.registered(), 1U);
    for (std::uint64_t i = 1; i <= 10; ++i) {
        backend->submit(step(i, 1));
    }
    EXPECT_EQ(driver.registered(), 1U);
    EXPECT_EQ(poll().size(), 10U);
    backend->detach_region(2, kRegion);
    EXPECT_EQ(poll().size(), 1U);
    EXPECT_EQ(driver.registered(), 0U);
    backend->detach_region(2, kRegion);  // no longer attached
    EXPECT_EQ(poll().size(), 1U);
    // The backend's destructor unregisters it too.
    backend->attach_region(1, kRegion + 1, memory.fd(), memory.size());
    EXPECT_EQ(driver.registered(), 1U);
    backend.reset();
    EXPECT_EQ(driver.registered(), 0U);
}

TEST_F(CudaRegions, ADriverThatDoesNotTakeOneLeavesTheRestAlone) {
    start();
    driver.next_register = 2;  // out of memory
    backend->attach_region(5, kRegion + 1, memory.fd(), memory.size());
    const auto refused = poll();
    ASSERT_EQ(refused.size(), 1U);
    EXPECT_EQ(refused[0].token, 5U);
    EXPECT_EQ(refused[0].outcome.status, VGPU_ERR_CUDA);
    EXPECT_NE(refused[0].outcome.data.find("FAKE_ERROR"), std::string::npos);
    Job job = step(6, 1);
    job.region = kRegion + 1;
    backend->submit(job);
    EXPECT_EQ(poll().at(0).outcome.status, VGPU_ERR_CUDA);
    backend->submit(step(7, 1));
    EXPECT_EQ(poll().at(0).outcome.status, VGPU_ERR_NONE);
    EXPECT_FALSE(backend->lost());
}

TEST_F(CudaRegions, AChainIsStartedAheadInOneStream) {
    start();
    driver.hold_streams = true;
    constexpr std::uint64_t kJobs = 3 * CudaContext::kDepth + 5;
    *memory.at<std::uint32_t>(kHeap + 4) = 1;
    for (std::uint64_t i = 1; i <= kJobs; ++i) {
        backend->submit(step(i, 1));
    }
    EXPECT_EQ(driver.held_work(), CudaContext::kDepth) << "one launch each, and no more than fit";
    std::set<Stream> streams;
    for (const auto& item : driver.work) {
        streams.insert(item.stream);
    }
    EXPECT_EQ(streams.size(), 1U);
    std::uint64_t done = 0;
    while (done < kJobs) {
        driver.run_some(7);
        const std::uint64_t reached = memory.word(kTimeline);
        EXPECT_EQ(*memory.at<std::uint32_t>(kHeap), reached);
        for (const Completion& completion : poll()) {
            ASSERT_EQ(completion.token, ++done);
            ASSERT_TRUE(completion.outcome.timeline_written);
        }
        ASSERT_EQ(done, reached);
    }
}

TEST_F(CudaRegions, ChainsHaveStreamsOfTheirOwnWhileTheyHaveJobs) {
    start();
    driver.hold_streams = true;
    const auto streams = [this](std::uint64_t first_chain, std::uint64_t count) {
        std::set<Stream> found;
        for (std::uint64_t i = 0; i < 3 * count; ++i) {
            Job job = step(1, first_chain + i % count);
            job.timeline = 0;
            backend->submit(job);
        }
        for (const auto& item : driver.work) {
            found.insert(item.stream);
        }
        driver.run_streams();
        EXPECT_EQ(poll().size(), 3 * count);
        return found.size();
    };
    EXPECT_EQ(streams(1, CudaContext::kLanes), CudaContext::kLanes);
    // Later chains find the lanes free; more chains than lanes share them.
    EXPECT_EQ(streams(1000, 2), 2U);
    EXPECT_EQ(streams(2000, 3 * CudaContext::kLanes), CudaContext::kLanes);
}

TEST_F(CudaRegions, AChainThatNeverEndsKeepsNobodyOut) {
    start();
    driver.hold_streams = true;
    for (std::uint64_t chain = 1; chain <= CudaContext::kLanes; ++chain) {
        backend->submit(step(chain, chain));
    }
    backend->submit({.token = 500, .opcode = VGPU_OP_CUDA_KERNEL, .params = {20, 22}});
    driver.run_streams();
    bool answered = false;
    for (const Completion& completion : poll()) {
        answered = answered || (completion.token == 500 && completion.outcome.results[0] == 42);
    }
    EXPECT_TRUE(answered);
}

TEST_F(CudaRegions, WhatTheProcessorDoesKeepsItsPlaceInTheChain) {
    start();
    const BufferId buffer = allocate(64);
    driver.hold_streams = true;
    backend->submit(step(2, 1));
    Job release{.token = 3, .opcode = VGPU_OP_MEMORY_FREE, .params = {}};
    release.buffers[0] = buffer;
    release.chain = 1;
    backend->submit(release);
    backend->submit(step(4, 1));
    EXPECT_EQ(driver.held_work(), 1U) << "what follows has to wait as well";
    EXPECT_TRUE(poll().empty());
    driver.run_streams();
    EXPECT_EQ(poll().size(), 2U);  // the first, and the release
    EXPECT_EQ(driver.held_work(), 1U);
    driver.run_streams();
    EXPECT_EQ(poll().at(0).token, 4U);
}

TEST_F(CudaRegions, SmallWorkIsOneLaunchAndLargeWorkEndsWithItsStream) {
    start();
    driver.hold_streams = true;
    backend->submit(step(1, 1));
    EXPECT_EQ(driver.held_work(), 1U);
    Job large = step(2, 1);
    large.length = 10000;
    large.heap = {kHeap, kHeap, kHeap};
    backend->submit(large);
    EXPECT_EQ(driver.held_work(), 4U) << "the kernel, the timeline, the number";
    driver.run_some(2);
    EXPECT_EQ(memory.word(kTimeline), 1U);
    driver.run_some(1);
    EXPECT_EQ(memory.word(kTimeline), 2U);
    EXPECT_EQ(poll().size(), 1U);
    driver.run_some(1);
    EXPECT_EQ(poll().size(), 1U);
}

// Consecutive copies leave their stream to copies. The timeline stays in order whichever stream is
// slow, and never gets ahead of the copies.
TEST_F(CudaRegions, WordsOfCopiesThatFollowAreStoredAside) {
    start();
    const BufferId buffer = allocate(4096);
    for (const bool words_first : {true, false}) {
        *memory.at<std::uint64_t>(kTimeline) = 0;
        *memory.at<std::uint32_t>(kHeap) = 0;
        *memory.at<std::uint32_t>(kHeap + 4) = 1;
        driver.hold_streams = true;
        // Copies and kernels: a kernel adds 1 to the word, and a copy copies it to its own place.
        constexpr std::uint64_t kJobs = 24;
        const auto is_kernel = [](std::uint64_t number) { return number % 5 == 1; };
        std::uint64_t copies = 0;
        std::set<Stream> streams;
        for (std::uint64_t i = 1; i <= kJobs; ++i) {
            Job job = step(i, 1);
            if (!is_kernel(i)) {
                job = Job{.token = i, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
                job.copy = VGPU_COPY_TO_DEVICE;
                job.buffers[0] = buffer;
                job.offsets[0] = 4 * ++copies;
                job.region = kRegion;
                job.heap_data = kHeap;
                job.length = 4;
                job.chain = 1;
                job.timeline = kTimeline;
                job.timeline_value = i;
            }
            backend->submit(job);
        }
        for (const auto& item : driver.work) {
            streams.insert(item.stream);
        }
        EXPECT_EQ(streams.size(), 2U);
        std::uint64_t reached = 0;
        std::uint64_t answered = 0;
        while (driver.run_one(words_first)) {
            const std::uint64_t now = memory.word(kTimeline);
            ASSERT_TRUE(now == reached || now == reached + 1)
                << "from " << reached << " to " << now;
            reached = now;
            for (const Completion& completion : poll()) {
                ASSERT_EQ(completion.token, ++answered);
                ASSERT_TRUE(completion.outcome.timeline_written);
            }
            ASSERT_LE(answered, reached);
        }
        EXPECT_EQ(reached, kJobs);
        EXPECT_EQ(answered, kJobs);
        EXPECT_EQ(driver.held_work(), 0U);
        // The value that each copy found: the number of kernels before it.
        driver.hold_streams = false;
        Job back{.token = 99, .opcode = VGPU_OP_MEMORY_COPY, .params = {}};
        back.copy = VGPU_COPY_FROM_DEVICE;
        back.buffers[0] = buffer;
        back.length = 4 * (copies + 1);
        backend->submit(back);
        const auto ended = poll();
        ASSERT_EQ(ended.size(), 1U);
        std::vector<std::uint32_t> found(copies + 1);
        std::memcpy(found.data(), ended[0].outcome.data.data(), back.length);
        std::uint32_t kernels = 0;
        std::size_t copy = 0;
        for (std::uint64_t i = 1; i <= kJobs; ++i) {
            if (is_kernel(i)) {
                ++kernels;
            } else {
                EXPECT_EQ(found.at(++copy), kernels);
            }
        }
    }
}

TEST_F(CudaRegions, AKernelStoresTheWordsWhereTheDriverDoesNot) {
    for (const bool there : {false, true}) {
        driver.can_write_words = there;
        driver.words_arrive = false;
        ASSERT_NO_FATAL_FAILURE(start());
        Job large = step(9, 1);
        large.length = 10000;
        large.heap = {kHeap, kHeap, kHeap};
        backend->submit(large);
        const auto ended = poll();
        ASSERT_EQ(ended.size(), 1U);
        EXPECT_TRUE(ended[0].outcome.timeline_written);
        EXPECT_EQ(memory.word(kTimeline), 9U);
        *memory.at<std::uint64_t>(kTimeline) = 0;
        backend.reset();
    }
}

// Its kernel is in flight and will write: the job cannot complete before the process has ended.
TEST_F(CudaRegions, WorkWhoseEndCannotBeStartedLosesTheContext) {
    start();
    driver.hold_streams = true;
    Job large = step(1, 1);
    large.length = 10000;
    large.heap = {kHeap, kHeap, kHeap};
    driver.next_word = 1;
    backend->submit(large);
    EXPECT_TRUE(backend->lost());
    const auto ended = poll();
    ASSERT_EQ(ended.size(), 2U);
    EXPECT_EQ(ended[0].change, DeviceChange::kFailed);
    EXPECT_TRUE(ended[1].outcome.device_failed);
    EXPECT_FALSE(ended[1].outcome.timeline_written);
    driver.sticky = 999;  // its resources are freed with the process
}

TEST_F(CudaRegions, AStickyErrorTakesAllOfAChain) {
    start();
    driver.hold_streams = true;
    constexpr std::uint64_t kJobs = CudaContext::kDepth + 10;
    for (std::uint64_t i = 1; i <= kJobs; ++i) {
        backend->submit(step(i, 1));
    }
    driver.run_some(3);
    driver.sticky = 700;
    std::size_t failed = 0;
    std::size_t done = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (done + failed < kJobs && std::chrono::steady_clock::now() < deadline) {
        for (const Completion& completion : poll()) {
            if (completion.change == DeviceChange::kNone) {
                ++(completion.outcome.status == VGPU_ERR_NONE ? done : failed);
                EXPECT_EQ(completion.outcome.timeline_written,
                          completion.outcome.status == VGPU_ERR_NONE);
            }
        }
    }
    EXPECT_EQ(done, 3U);
    EXPECT_EQ(failed, kJobs - 3);
    EXPECT_TRUE(backend->lost());
    backend->attach_region(1, kRegion + 1, memory.fd(), memory.size());
    EXPECT_EQ(poll().at(0).outcome.status, VGPU_ERR_CUDA);
    backend->detach_region(2, kRegion);
    EXPECT_EQ(poll().at(0).token, 2U);
}

TEST_F(CudaRegions, TimeIsCountedFromWhenTheStreamWasFree) {
    start();
    driver.hold_streams = true;
    backend->submit(step(1, 1));
    backend->submit(step(2, 1));
    const auto began = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - began < std::chrono::milliseconds(5)) {
    }
    driver.run_some(1);
    const auto first = poll();
    driver.run_some(1);
    const auto second = poll();
    ASSERT_EQ(first.size(), 1U);
    ASSERT_EQ(second.size(), 1U);
    EXPECT_GE(first[0].outcome.exec_time_us, 5000U);
    EXPECT_GE(second[0].outcome.exec_time_us, 1U);
    EXPECT_LT(second[0].outcome.exec_time_us, first[0].outcome.exec_time_us);
}

}  // namespace
}  // namespace vgpu::cuda
