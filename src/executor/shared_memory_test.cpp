// SPDX-License-Identifier: MIT
//
// Jobs on a VM's shared memory, the same tests on every backend.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "executor/testing/test_backends.h"
#include "executor/testing/test_region.h"

namespace vgpu {
namespace {

using test::job_of;
using test::Kind;
using test::TestRegion;

constexpr RegionId kRegion = 7;
constexpr std::uint64_t kTimeline = 64;  // as in a queue's control block
constexpr std::uint64_t kHeap = 4096;
constexpr std::uint64_t kChain = 5;

class SharedMemory : public test::EveryBackend {
  protected:
    Outcome attach(RegionId region, int fd, std::uint64_t size) {
        backend_->attach_region(99, region, fd, size);
        const auto ended = take(1);
        return ended.empty() ? Outcome::failure(VGPU_ERR_TIMEOUT, "no answer") : ended[0].outcome;
    }
    void attach(const TestRegion& memory, RegionId region = kRegion) {
        const Outcome outcome = attach(region, memory.fd(), memory.size());
        ASSERT_EQ(outcome.status, VGPU_ERR_NONE) << outcome.data;
    }
    void detach(RegionId region = kRegion) {
        backend_->detach_region(98, region);
        const auto ended = take(1);
        ASSERT_EQ(ended.size(), 1U);
        EXPECT_EQ(ended[0].token, 98U);
        EXPECT_EQ(ended[0].outcome.status, VGPU_ERR_NONE) << ended[0].outcome.data;
    }
    static Job copy(BufferId buffer, std::uint32_t direction, std::uint64_t offset,
                    std::uint64_t heap, std::uint64_t length) {
        Job job = job_of(VGPU_OP_MEMORY_COPY);
        job.region = kRegion;
        job.copy = direction;
        job.buffers[0] = buffer;
        job.offsets[0] = offset;
        job.heap_data = heap;
        job.length = length;
        return job;
    }
    // Adds vectors of u32 in the heap.
    static Job add_in_heap(std::uint64_t to, std::uint64_t a, std::uint64_t b,
                           std::uint64_t count) {
        Job job = job_of(VGPU_OP_VECTOR_ADD);
        job.region = kRegion;
        job.type = VGPU_TYPE_I32;
        job.heap_operands = 0b111;
        job.heap = {to, a, b};
        job.length = count;
        return job;
    }
    void fill(const TestRegion& memory, std::uint64_t offset, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            memory.at<std::uint32_t>(offset)[i] = static_cast<std::uint32_t>(random_());
        }
    }
    [[nodiscard]] bool on_a_gpu() const {
        return GetParam() != Kind::kCpu && GetParam() != Kind::kWorkerCpu;
    }

    std::mt19937 random_{11};  // NOLINT(cert-msc32-c,cert-msc51-cpp): same each time
};

TEST_P(SharedMemory, IsCopiedBothWays) {
    const TestRegion memory(std::uint64_t{16} << 20U);
    attach(memory);
    constexpr std::size_t kMost = (std::size_t{4} << 20U) + 3;
    const BufferId buffer = alloc(kMost + 100);
    const std::uint64_t back = kHeap + (std::uint64_t{8} << 20U);
    std::uint64_t bytes = 0;
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{1024},
                                     std::size_t{5000}, std::size_t{1} << 20U, kMost}) {
        fill(memory, kHeap, length / 4 + 1);
        std::memset(memory.at<char>(back), 0x5A, length + 1);
        const Outcome sent = done(copy(buffer, VGPU_COPY_TO_DEVICE, 50, kHeap, length));
        EXPECT_EQ(sent.data, "");
        const Outcome read = done(copy(buffer, VGPU_COPY_FROM_DEVICE, 50, back, length));
        EXPECT_EQ(read.data, "");
        ASSERT_EQ(std::memcmp(memory.at<char>(kHeap), memory.at<char>(back), length), 0) << length;
        EXPECT_EQ(memory.at<char>(back)[length], 0x5A) << "written beyond the end";
        bytes += 2 * length;
    }
    EXPECT_EQ(backend_->bytes_copied_by_processor(), on_a_gpu() ? 0 : bytes);
    detach();
}

TEST_P(SharedMemory, VectorsAreAddedInPlace) {
    const TestRegion memory(std::uint64_t{4} << 20U);
    attach(memory);
    for (const std::size_t count : {0U, 1U, 32U, 33U, 256U, 257U, 100000U}) {
        const std::uint64_t a = kHeap + 4;
        const std::uint64_t b = a + 4 * count;
        const std::uint64_t to = b + 4 * count;
        fill(memory, a, 2 * count);
        memory.at<std::uint32_t>(to)[count] = 77;
        done(add_in_heap(to, a, b, count));
        for (std::size_t i = 0; i < count; ++i) {
            ASSERT_EQ(memory.at<std::uint32_t>(to)[i],
                      memory.at<std::uint32_t>(a)[i] + memory.at<std::uint32_t>(b)[i]);
        }
        EXPECT_EQ(memory.at<std::uint32_t>(to)[count], 77U) << "written beyond the end";
    }
    EXPECT_EQ(backend_->bytes_copied_by_processor(), 0U);
    detach();
}

TEST_P(SharedMemory, BuffersAndTheHeapStandInOneCommand) {
    const TestRegion memory;
    attach(memory);
    constexpr std::size_t kCount = 1000;
    const BufferId buffer = alloc(4 * kCount);
    const std::uint64_t a = kHeap;
    const std::uint64_t to = kHeap + 4 * kCount;
    fill(memory, a, kCount);
    done(copy(buffer, VGPU_COPY_TO_DEVICE, 0, a, 4 * kCount));
    Job job = add_in_heap(to, a, 0, kCount);
    job.heap_operands = 0b011;
    job.buffers = {0, 0, buffer};
    done(job);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(memory.at<std::uint32_t>(to)[i], 2 * memory.at<std::uint32_t>(a)[i]);
    }
    job = job_of(VGPU_OP_SAXPY);
    job.region = kRegion;
    job.type = VGPU_TYPE_I32;
    job.alpha = 3;
    job.length = kCount;
    job.heap_operands = 0b10;
    job.heap = {0, a, 0};
    job.buffers = {buffer, 0, 0};
    done(job);
    done(copy(buffer, VGPU_COPY_FROM_DEVICE, 0, to, 4 * kCount));
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(memory.at<std::uint32_t>(to)[i], 4 * memory.at<std::uint32_t>(a)[i]);
    }
    detach();
}

TEST_P(SharedMemory, MatricesAreMultipliedInPlace) {
    const TestRegion memory;
    attach(memory);
    for (const std::uint32_t side : {3U, 16U, 40U}) {
        const std::uint64_t bytes = std::uint64_t{4} * side * side;
        fill(memory, kHeap, std::size_t{2} * side * side);
        Job job = job_of(VGPU_OP_MATMUL);
        job.region = kRegion;
        job.type = VGPU_TYPE_I32;
        job.extents = {side, side, side};
        job.heap_operands = 0b111;
        job.heap = {kHeap + 2 * bytes, kHeap, kHeap + bytes};
        job.timeline = kTimeline;
        job.timeline_value = side;
        EXPECT_TRUE(done(job).timeline_written);
        EXPECT_EQ(memory.word(kTimeline), side);
        const auto* const a = memory.at<std::uint32_t>(kHeap);
        const auto* const b = memory.at<std::uint32_t>(kHeap + bytes);
        const auto* const product = memory.at<std::uint32_t>(kHeap + 2 * bytes);
        for (std::size_t row = 0; row < side; ++row) {
            for (std::size_t column = 0; column < side; ++column) {
                std::uint32_t sum = 0;
                for (std::size_t i = 0; i < side; ++i) {
                    sum += a[row * side + i] * b[i * side + column];
                }
                ASSERT_EQ(product[row * side + column], sum);
            }
        }
    }
    detach();
}

TEST_P(SharedMemory, ResultsGoThereToo) {
    const TestRegion memory;
    attach(memory);
    constexpr std::uint64_t kResult = kHeap + 8;
    Job add = job_of(VGPU_OP_CUDA_KERNEL);
    add.region = kRegion;
    add.params = {0xFFFFFFFF, 43};
    add.heap_result = kResult;
    EXPECT_EQ(done(add).results[0], 42U);
    EXPECT_EQ(memory.half_word(kResult), 42U);
    add.params = {1, 2};
    add.timeline = kTimeline;
    add.timeline_value = 6;
    const Outcome sum = done(add);
    EXPECT_TRUE(sum.timeline_written);
    EXPECT_EQ(sum.results[0], 3U);
    EXPECT_EQ(memory.half_word(kResult), 3U);
    EXPECT_EQ(memory.word(kTimeline), 6U);
    for (const std::uint32_t count : {0U, 1U, 5000U}) {
        std::uint32_t expected = 0;
        fill(memory, kHeap + 64, count);
        for (std::uint32_t i = 0; i < count; ++i) {
            expected += memory.at<std::uint32_t>(kHeap + 64)[i];
        }
        Job reduce = job_of(VGPU_OP_REDUCE_SUM);
        reduce.region = kRegion;
        reduce.type = VGPU_TYPE_I32;
        reduce.length = count;
        reduce.heap_operands = 1;
        reduce.heap[0] = kHeap + 64;
        reduce.heap_result = kResult;
        reduce.timeline = kTimeline;
        reduce.timeline_value = 100 + count;
        const Outcome outcome = done(reduce);
        EXPECT_EQ(outcome.results[0], expected);
        EXPECT_TRUE(outcome.timeline_written);
        EXPECT_EQ(memory.half_word(kResult), expected);
        EXPECT_EQ(memory.word(kTimeline), 100U + count);
    }
    detach();
}

TEST_P(SharedMemory, AThousandOfAChainGoOneAfterTheOther) {
    constexpr std::uint32_t kJobs = 1000;
    const TestRegion memory;
    attach(memory);
    ASSERT_TRUE(backend_->writes_timeline());
    constexpr std::uint64_t kSum = kHeap;
    constexpr std::uint64_t kStep = kHeap + 4;
    *memory.at<std::uint32_t>(kStep) = 3;
    for (std::uint32_t i = 1; i <= kJobs; ++i) {
        Job job = add_in_heap(kSum, kSum, kStep, 1);
        job.token = i;
        job.chain = kChain;
        job.timeline = kTimeline;
        job.timeline_value = i;
        backend_->submit(job);
    }
    std::vector<Completion> ended;
    std::uint64_t last = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ended.size() < kJobs && std::chrono::steady_clock::now() < deadline) {
        backend_->poll(ended);
        const std::uint64_t now = memory.word(kTimeline);
        ASSERT_GE(now, last) << "the timeline went back";
        ASSERT_GE(memory.half_word(kSum), 3 * now) << "the timeline was ahead of the data";
        ASSERT_GE(memory.word(kTimeline), ended.size()) << "the completion was ahead of both";
        last = now;
    }
    ASSERT_EQ(ended.size(), kJobs);
    for (std::uint32_t i = 0; i < kJobs; ++i) {
        ASSERT_EQ(ended[i].token, i + 1);
        ASSERT_EQ(ended[i].outcome.status, VGPU_ERR_NONE) << ended[i].outcome.data;
        ASSERT_TRUE(ended[i].outcome.timeline_written);
    }
    EXPECT_EQ(memory.word(kTimeline), kJobs);
    EXPECT_EQ(memory.half_word(kSum), 3 * kJobs);
    detach();
}

// Copies and kernels of one chain depend on each other: only their order makes the results correct.
TEST_P(SharedMemory, AChainMayMixWhatItDoes) {
    constexpr std::uint32_t kRounds = 100;
    constexpr std::size_t kCount = 3000;  // more than one block
    const TestRegion memory(std::uint64_t{4} << 20U);
    attach(memory);
    const BufferId buffer = alloc(4 * kCount);
    const std::uint64_t from = kHeap;
    const std::uint64_t to = kHeap + 4 * kCount;
    fill(memory, from, kCount);
    const std::vector<std::uint32_t> first(memory.at<std::uint32_t>(from),
                                           memory.at<std::uint32_t>(from) + kCount);
    std::uint64_t value = 0;
    const auto submit = [&](Job job) {
        job.chain = kChain;
        job.timeline = kTimeline;
        job.timeline_value = ++value;
        backend_->submit(job);
    };
    for (std::uint32_t round = 0; round < kRounds; ++round) {
        submit(copy(buffer, VGPU_COPY_TO_DEVICE, 0, from, 4 * kCount));
        Job twice = job_of(VGPU_OP_VECTOR_ADD);
        twice.region = kRegion;
        twice.type = VGPU_TYPE_I32;
        twice.buffers = {buffer, buffer, buffer};
        twice.length = kCount;
        submit(twice);
        submit(copy(buffer, VGPU_COPY_FROM_DEVICE, 0, to, 4 * kCount));
        submit(add_in_heap(from, from, to, kCount));  // three times the previous value
    }
    for (const Completion& completion : take(std::size_t{4} * kRounds)) {
        ASSERT_EQ(completion.outcome.status, VGPU_ERR_NONE) << completion.outcome.data;
        ASSERT_TRUE(completion.outcome.timeline_written);
    }
    EXPECT_EQ(memory.word(kTimeline), value);
    std::uint32_t power = 1;
    for (std::uint32_t round = 0; round < kRounds; ++round) {
        power *= 3;
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(memory.at<std::uint32_t>(from)[i], power * first[i]);
    }
    detach();
}

TEST_P(SharedMemory, MemoryIsFreedAfterWhatUsedItAndBeforeWhatFollows) {
    const TestRegion memory(std::uint64_t{4} << 20U);
    attach(memory);
    constexpr std::uint64_t kBytes = std::uint64_t{1} << 20U;
    const BufferId buffer = alloc(kBytes);
    fill(memory, kHeap, kBytes / 4);
    Job write = copy(buffer, VGPU_COPY_TO_DEVICE, 0, kHeap, kBytes);
    Job read = copy(buffer, VGPU_COPY_FROM_DEVICE, 0, kHeap + kBytes, kBytes);
    Job free_it = job_of(VGPU_OP_MEMORY_FREE);
    free_it.buffers[0] = buffer;
    Job late = copy(buffer, VGPU_COPY_FROM_DEVICE, 0, kHeap, 4);
    std::uint64_t token = 0;
    for (Job* const job : {&write, &read, &free_it, &late}) {
        job->token = token++;
        job->chain = kChain;
        backend_->submit(*job);
    }
    for (const Completion& completion : take(4)) {
        EXPECT_EQ(completion.outcome.status,
                  completion.token == 3 ? VGPU_ERR_CUDA_INVALID_HANDLE : VGPU_ERR_NONE)
            << completion.token << ": " << completion.outcome.data;
    }
    EXPECT_EQ(std::memcmp(memory.at<char>(kHeap), memory.at<char>(kHeap + kBytes), kBytes), 0);
    detach();
}

TEST_P(SharedMemory, AFailureKeepsTheTimelineOfThoseBehindIt) {
    const TestRegion memory;
    attach(memory);
    const auto submit = [&](std::uint64_t value, std::uint32_t run, bool good) {
        Job job = add_in_heap(kHeap, kHeap, kHeap + 4, 1);
        if (!good) {
            job.heap_operands = 0b110;
            job.buffers[0] = BufferId{1} << 39U;  // never allocated
        }
        job.token = value;
        job.chain = kChain;
        job.timeline = kTimeline;
        job.timeline_value = value;
        job.timeline_run = run;
        backend_->submit(job);
    };
    submit(1, 4, true);
    submit(2, 4, false);
    submit(3, 4, true);
    submit(4, 3, true);
    for (const Completion& completion : take(4)) {
        EXPECT_EQ(completion.outcome.status == VGPU_ERR_NONE, completion.token != 2);
        EXPECT_EQ(completion.outcome.timeline_written, completion.token == 1) << completion.token;
    }
    EXPECT_EQ(memory.word(kTimeline), 1U);
    submit(5, 5, true);
    EXPECT_TRUE(take(1).at(0).outcome.timeline_written);
    EXPECT_EQ(memory.word(kTimeline), 5U);
    detach();
}

TEST_P(SharedMemory, TwoRegionsAreTwoMemories) {
    const TestRegion one;
    const TestRegion other;
    attach(one, 1);
    attach(other, 2);
    const auto add = [&](RegionId region, const TestRegion& memory, std::uint32_t value) {
        *memory.at<std::uint32_t>(kHeap) = value;
        Job job = add_in_heap(kHeap + 8, kHeap, kHeap, 1);
        job.region = region;
        const Outcome outcome = run(job);
        if (outcome.status == VGPU_ERR_NONE) {
            EXPECT_EQ(*memory.at<std::uint32_t>(kHeap + 8), 2 * value);
        }
        return outcome.status;
    };
    EXPECT_EQ(add(1, one, 20), VGPU_ERR_NONE);
    EXPECT_EQ(add(2, other, 30), VGPU_ERR_NONE);
    EXPECT_EQ(*one.at<std::uint32_t>(kHeap + 8), 40U);
    detach(1);
    EXPECT_EQ(add(1, one, 50), VGPU_ERR_CUDA);
    EXPECT_EQ(*one.at<std::uint32_t>(kHeap + 8), 40U) << "written after it was detached";
    EXPECT_EQ(add(2, other, 60), VGPU_ERR_NONE);
    detach(2);
}

TEST_P(SharedMemory, IsAttachedAndDetachedAgainAndAgain) {
    for (RegionId region = 1; region <= 100; ++region) {
        const TestRegion memory;
        attach(memory, region);
        *memory.at<std::uint32_t>(kHeap) = static_cast<std::uint32_t>(region);
        Job job = add_in_heap(kHeap, kHeap, kHeap, 1);
        job.region = region;
        done(job);
        EXPECT_EQ(*memory.at<std::uint32_t>(kHeap), 2 * region);
        detach(region);
    }
}

TEST_P(SharedMemory, WhatIsNoSealedMemoryOfThatSizeIsRefused) {
    constexpr std::uint64_t kSize = 1 << 20U;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const Fd reading(ends[0]);
    const Fd writing(ends[1]);
    const Fd open_ended = test::memory_file(kSize, F_SEAL_GROW);
    const Fd growing = test::memory_file(kSize, F_SEAL_SHRINK);
    const TestRegion memory(kSize);
    struct Case {
        int fd;
        std::uint64_t size;
    };
    for (const Case& bad :
         {Case{-1, kSize}, Case{reading.get(), kSize}, Case{open_ended.get(), kSize},
          Case{growing.get(), kSize}, Case{memory.fd(), kSize / 2}, Case{memory.fd(), 2 * kSize},
          Case{memory.fd(), 0}, Case{memory.fd(), UINT64_MAX}}) {
        const Outcome outcome = attach(kRegion, bad.fd, bad.size);
        EXPECT_EQ(outcome.status, VGPU_ERR_CUDA) << bad.size;
        EXPECT_NE(outcome.data, "");
        EXPECT_TRUE(outcome.device_failed) << "it is no fault of a VM's";
        EXPECT_EQ(run(add_in_heap(kHeap, kHeap, kHeap, 1)).status, VGPU_ERR_CUDA);
    }
    attach(memory);
    done(add_in_heap(kHeap, kHeap, kHeap, 1));
    detach();
}

INSTANTIATE_TEST_SUITE_P(On, SharedMemory, test::every_kind(), test::kind_name);

}  // namespace
}  // namespace vgpu
