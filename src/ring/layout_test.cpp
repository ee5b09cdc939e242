// SPDX-License-Identifier: MIT
//
// The layout of BAR2: its values for given numbers, and that its parts fit for all numbers.
#include "ring/layout.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <functional>
#include <vector>

#include "ring/testing/test_memory.h"

namespace vgpu::ring {
namespace {

constexpr std::uint64_t kMiB = 1U << 20U;
constexpr std::uint64_t kMax = UINT64_MAX;

TEST(Layout, HasTheNumbersOfTheSpecification) {
    constexpr Layout kDefault = *Layout::compute(64 * kMiB, 8);
    EXPECT_EQ(kDefault.size, 64 * kMiB);
    EXPECT_EQ(kDefault.queue_count, 8U);
    EXPECT_EQ(kDefault.ring_size, 32U * 1024);
    EXPECT_EQ(kDefault.queue_stride, 36U * 1024);
    EXPECT_EQ(kDefault.control_offset(0), 4096U);
    EXPECT_EQ(kDefault.ring_offset(0), 8192U);
    EXPECT_EQ(kDefault.control_offset(7), 4096U + 7 * 36 * 1024);
    EXPECT_EQ(kDefault.heap_offset, 4096U + 8 * 36 * 1024);
    EXPECT_EQ(kDefault.heap_offset + kDefault.heap_size, 64 * kMiB);
}

TEST(Layout, ShrinksTheRingsWhereQueuesAreManyAndMemoryIsSmall) {
    EXPECT_EQ(Layout::compute(1 * kMiB, 14)->ring_size, 32U * 1024);
    EXPECT_EQ(Layout::compute(1 * kMiB, 15)->ring_size, 16U * 1024);
    EXPECT_EQ(Layout::compute(1 * kMiB, 25)->ring_size, 16U * 1024);
    EXPECT_EQ(Layout::compute(1 * kMiB, 26)->ring_size, 8U * 1024);
    EXPECT_EQ(Layout::compute(1 * kMiB, 32)->ring_size, 8U * 1024);
    EXPECT_FALSE(Layout::compute(1 * kMiB, 33));
    EXPECT_EQ(Layout::compute(2 * kMiB, 64)->ring_size, 8U * 1024);
    EXPECT_EQ(Layout::compute(8 * kMiB, 64)->ring_size, 32U * 1024);
}

TEST(Layout, RefusesWhatIsOutOfRange) {
    EXPECT_FALSE(Layout::compute(0, 1));
    EXPECT_FALSE(Layout::compute(kMiB / 2, 1));
    EXPECT_FALSE(Layout::compute(3 * kMiB, 1));
    EXPECT_FALSE(Layout::compute(64 * kMiB + 4096, 1));
    EXPECT_FALSE(Layout::compute(2 * VGPU_SHM_SIZE_MAX, 1));
    EXPECT_FALSE(Layout::compute(kMax, 1));
    EXPECT_FALSE(Layout::compute(64 * kMiB, 0));
    EXPECT_FALSE(Layout::compute(64 * kMiB, VGPU_QUEUES_MAX + 1));
    EXPECT_FALSE(Layout::compute(64 * kMiB, UINT32_MAX));
    EXPECT_TRUE(Layout::compute(VGPU_SHM_SIZE_MAX, VGPU_QUEUES_MAX));
}

TEST(Layout, PartsFollowEachOtherForAllSizesAndQueues) {
    for (std::uint64_t size = VGPU_SHM_SIZE_MIN; size <= VGPU_SHM_SIZE_MAX; size *= 2) {
        for (std::uint32_t queues = 1; queues <= VGPU_QUEUES_MAX; ++queues) {
            const auto layout = Layout::compute(size, queues);
            ASSERT_EQ(layout.has_value(), queues <= size / VGPU_SHM_BYTES_PER_QUEUE);
            if (!layout) {
                continue;
            }
            SCOPED_TRACE(testing::Message() << size << " bytes, " << queues << " queues");
            ASSERT_TRUE(std::has_single_bit(layout->ring_size));
            ASSERT_GE(layout->ring_size, 2 * VGPU_RECORD_MAX);
            std::uint64_t end = sizeof(vgpu_shm_header);
            for (std::uint32_t queue = 0; queue != queues; ++queue) {
                ASSERT_GE(layout->control_offset(queue), end);
                ASSERT_EQ(layout->control_offset(queue) % 4096, 0U);
                ASSERT_GE(layout->ring_offset(queue),
                          layout->control_offset(queue) + sizeof(vgpu_queue_control));
                end = layout->ring_offset(queue) + layout->ring_size;
            }
            ASSERT_EQ(layout->heap_offset, end);
            ASSERT_EQ(layout->heap_offset % 4096, 0U);
            ASSERT_EQ(layout->heap_offset + layout->heap_size, size);
            ASSERT_GE(layout->heap_size, size / 2 - 4096);
        }
    }
}

TEST(Layout, KnowsWhatLiesInTheHeap) {
    constexpr Layout kLayout = *Layout::compute(VGPU_SHM_SIZE_MAX, 8);
    const std::uint64_t begin = kLayout.heap_offset;
    const std::uint64_t end = kLayout.size;
    EXPECT_TRUE(kLayout.in_heap(begin, kLayout.heap_size));
    EXPECT_TRUE(kLayout.in_heap(end - 1, 1));
    EXPECT_TRUE(kLayout.in_heap(begin, 0));
    EXPECT_TRUE(kLayout.in_heap(end, 0));
    EXPECT_FALSE(kLayout.in_heap(0, 0));
    EXPECT_FALSE(kLayout.in_heap(begin - 1, 1));
    EXPECT_FALSE(kLayout.in_heap(begin, kLayout.heap_size + 1));
    EXPECT_FALSE(kLayout.in_heap(end, 1));
    EXPECT_FALSE(kLayout.in_heap(end + 1, 0));
    EXPECT_FALSE(kLayout.in_heap(begin, kMax));
    EXPECT_FALSE(kLayout.in_heap(kMax, kMax));
    EXPECT_FALSE(kLayout.in_heap(kMax, 1));
    EXPECT_FALSE(kLayout.in_heap(kMax - begin + 1, 2 * begin)) << "the sum wraps around";
}

TEST(Layout, HeaderSaysTheGenerationToWhoHasTheSameLayout) {
    const TestMemory memory(4 * kMiB, 3);
    EXPECT_EQ(memory.layout().read_generation(memory.base()), 0U) << "no mediator yet";
    memory.layout().write_header(memory.base(), 7);
    EXPECT_EQ(memory.layout().read_generation(memory.base()), 7U);
    EXPECT_EQ(Layout::compute(4 * kMiB, 4)->read_generation(memory.base()), 0U);
    EXPECT_EQ(Layout::compute(2 * kMiB, 3)->read_generation(memory.base()), 0U);

    const std::vector<std::function<void(vgpu_shm_header&)>> changes{
        [](auto& header) { ++header.magic; },        [](auto& header) { ++header.layout_version; },
        [](auto& header) { ++header.size; },         [](auto& header) { ++header.queue_count; },
        [](auto& header) { ++header.queue_stride; }, [](auto& header) { ++header.ring_size; },
        [](auto& header) { ++header.heap_offset; },  [](auto& header) { ++header.heap_size; },
    };
    for (std::size_t i = 0; i != changes.size(); ++i) {
        memory.layout().write_header(memory.base(), 8 + i);
        ASSERT_EQ(memory.layout().read_generation(memory.base()), 8 + i);
        changes[i](*reinterpret_cast<vgpu_shm_header*>(memory.base()));
        EXPECT_EQ(memory.layout().read_generation(memory.base()), 0U) << "change " << i;
    }
}

}  // namespace
}  // namespace vgpu::ring
