// SPDX-License-Identifier: MIT
//
// Tests of the heap: blocks within a process, chunks between processes, and the recovery of both,
// and of queues, when a process dies with commands in flight.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "client/queue/heap_map.h"
#include "client/queue/region.h"
#include "client/testing/fake_host.h"

namespace vgpu::client::test {
namespace {

TEST(HeapMap, BlocksNeitherOverlapNorLeaveWhatThereIs) {
    HeapMap map;
    map.add(4096, 1 << 20);
    map.add(4096 + (2 << 20), 1 << 20);
    std::minstd_rand random(7);
    std::map<std::uint64_t, std::uint64_t> blocks;
    std::uint64_t allocated = 0;
    for (int i = 0; i != 20'000; ++i) {
        if (random() % 2 == 0 || blocks.empty()) {
            const std::uint64_t size = 64 * (random() % 300 + 1);
            const std::uint64_t alignment = std::uint64_t{64} << random() % 7;
            const auto at = map.take(size, alignment);
            if (!at) {
                continue;
            }
            ASSERT_EQ(*at % alignment, 0U);
            const bool first = *at >= 4096 && *at + size <= 4096 + (1 << 20);
            const bool second = *at >= 4096 + (2 << 20) && *at + size <= 4096 + (3 << 20);
            ASSERT_TRUE(first || second);
            const auto next = blocks.lower_bound(*at);
            ASSERT_TRUE(next == blocks.end() || next->first >= *at + size);
            ASSERT_TRUE(next == blocks.begin() ||
                        std::prev(next)->first + std::prev(next)->second <= *at);
            blocks[*at] = size;
            allocated += size;
        } else {
            const auto block =
                std::next(blocks.begin(),
                          static_cast<long>(random() % std::min<std::size_t>(blocks.size(), 20)));
            ASSERT_EQ(map.give_back(block->first), block->second);
            ASSERT_EQ(map.give_back(block->first), std::nullopt);
            allocated -= block->second;
            blocks.erase(block);
        }
        ASSERT_EQ(map.allocated(), allocated);
    }
    for (const auto& [offset, size] : blocks) {
        ASSERT_TRUE(map.give_back(offset));
    }
    // All free ranges are merged again.
    EXPECT_EQ(map.take(1 << 20, 64), 4096U);
    EXPECT_EQ(map.take(1 << 20, 64), 4096U + (2 << 20));
    EXPECT_EQ(map.take(1, 1), std::nullopt);
}

TEST(HeapMap, TakesOutOnlyWhatIsFree) {
    HeapMap map;
    map.add(0, 1000);
    ASSERT_EQ(map.take(100, 1), 0U);
    EXPECT_FALSE(map.remove(50, 100));
    EXPECT_FALSE(map.remove(900, 101));
    EXPECT_TRUE(map.remove(500, 100));
    EXPECT_FALSE(map.remove(500, 1));
    EXPECT_EQ(map.total(), 900U);
    EXPECT_EQ(map.take(500, 1), std::nullopt);
    EXPECT_EQ(map.take(400, 1), 100U);
    EXPECT_EQ(map.take(400, 1), 600U);
}

class HeapTest : public testing::Test {
  protected:
    static constexpr std::uint64_t kSize = 4 << 20;

    std::unique_ptr<Region> region() {
        return std::make_unique<Region>(std::make_unique<FakePort>(host), system_clock());
    }
    // Runs `body` in a child process, which then exits (how == 0) or dies of signal `how`.
    static void in_child(const std::function<void()>& body, int how) {
        const pid_t child = ::fork();
        if (child == 0) {
            body();
            if (how != 0) {
                (void)::raise(how);
            }
            ::_exit(0);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_EQ(how == 0 ? WIFEXITED(status) : WIFSIGNALED(status), true) << status;
        if (how == 0) {
            ASSERT_EQ(WEXITSTATUS(status), 0);
        }
    }

    FakeHost host{kSize, 2};
    const ring::Layout layout = host.layout();
};

TEST_F(HeapTest, GivesAlignedBlocksOfTheHeap) {
    const auto one = region();
    for (const std::uint64_t alignment : {0, 1, 8, 64, 256, 4096}) {
        const auto block = one->alloc(100, alignment);
        ASSERT_TRUE(block) << block.failure().message;
        EXPECT_TRUE(layout.in_heap(block->offset, block->size));
        EXPECT_GE(block->size, 100U);
        EXPECT_EQ(block->offset % (alignment == 0 ? 64 : alignment), 0U);
        EXPECT_EQ(
            reinterpret_cast<std::uintptr_t>(block->pointer) % (alignment == 0 ? 64 : alignment),
            0U);
        std::memset(block->pointer, 0x5A, block->size);
        EXPECT_EQ(host.base()[block->offset + 99], std::byte{0x5A});
    }
    EXPECT_EQ(one->alloc(0, 0).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(one->alloc(1, 3).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(one->alloc(1, 8192).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(one->alloc(kSize, 0).failure().code, VGPU_E_NO_MEMORY);
    EXPECT_EQ(one->alloc(~std::uint64_t{0}, 0).failure().code, VGPU_E_NO_MEMORY);
}

TEST_F(HeapTest, ABlockIsFreedOnce) {
    const auto one = region();
    const auto block = one->alloc(100, 0);
    ASSERT_TRUE(block);
    EXPECT_TRUE(one->free_block(*block));
    EXPECT_EQ(one->free_block(*block).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(one->free_block({block->offset + 64, 64, nullptr}).failure().code, VGPU_E_ARGUMENT);
    EXPECT_EQ(one->heap_info().allocated, 0U);
}

TEST_F(HeapTest, AllOfItCanBeHad) {
    const auto one = region();
    const auto all = one->alloc(layout.heap_size, 4096);
    ASSERT_TRUE(all) << all.failure().message;
    EXPECT_EQ(all->offset, layout.heap_offset);
    EXPECT_EQ(one->alloc(1, 0).failure().code, VGPU_E_NO_MEMORY);
    EXPECT_EQ(one->heap_info().available, 0U);
    EXPECT_TRUE(one->free_block(*all));
    EXPECT_TRUE(one->alloc(layout.heap_size, 0));
}

TEST_F(HeapTest, ProcessesDoNotGetTheSameBytes) {
    const auto one = region();
    const auto two = region();
    std::vector<vgpu_heap_block> blocks;
    std::uint64_t total = 0;
    for (bool more = true; more;) {
        more = false;
        for (const auto* const who : {&one, &two}) {
            if (const auto block = (*who)->alloc(100'000, 0)) {
                for (const auto& other : blocks) {
                    ASSERT_TRUE(other.offset + other.size <= block->offset ||
                                block->offset + block->size <= other.offset);
                }
                blocks.push_back(*block);
                total += block->size;
                more = true;
            }
        }
    }
    EXPECT_GT(total, layout.heap_size / 2);
}

TEST_F(HeapTest, WhatIsFreeAgainGoesToOthers) {
    const auto one = region();
    const auto two = region();
    const auto most = one->alloc(layout.heap_size - (100 << 10), 0);
    ASSERT_TRUE(most);
    EXPECT_EQ(two->alloc(1 << 20, 0).failure().code, VGPU_E_NO_MEMORY);
    EXPECT_TRUE(one->free_block(*most));
    // A reserve is kept.
    EXPECT_LE(one->heap_info().taken, std::max(layout.heap_size / 16, 4 * std::uint64_t{65536}));
    const auto block = two->alloc(layout.heap_size / 2, 0);
    EXPECT_TRUE(block);
    const vgpu_heap_info info = two->heap_info();
    EXPECT_EQ(info.size, layout.heap_size);
    EXPECT_EQ(info.available + info.taken + one->heap_info().taken, layout.heap_size);
}

TEST_F(HeapTest, ADeadProcessLeavesNothingBehind) {
    host.start_thread();
    for (const int how : {0, SIGKILL}) {
        in_child(
            [this, how] {
                // The host's thread runs in the parent; only the memory is shared.
                const auto own = region();
                if (!own->claim_queue(0, kNever) || !own->alloc(layout.heap_size, 0)) {
                    ::_exit(1);
                }
                // Runs no destructors.
                (void)::raise(how);
                ::_exit(0);
            },
            how);
        const auto one = region();
        const auto queue = one->claim_queue(0, system_clock().now() + std::chrono::seconds(5));
        EXPECT_TRUE(queue) << queue.failure().message;
        EXPECT_TRUE(one->alloc(layout.heap_size, 0));
    }
}

TEST_F(HeapTest, MemoryIsNotGivenOnWhileWorkOfTheDeadGoesOn) {
    host.hold = true;
    host.start_thread();
    in_child(
        [this] {
            vgpu_device* const device = make_device(host);
            vgpu_queue* queue = nullptr;
            vgpu_heap_block block{};
            std::uint64_t point = 0;
            if (vgpu_queue_open(device, 1, 5000, &queue, nullptr) != VGPU_OK ||
                vgpu_heap_alloc(device, layout.heap_size, 0, &block, nullptr) != VGPU_OK) {
                ::_exit(1);
            }
            const vgpu_reply_place place{block.offset + 4096, 1, 64, 0};
            if (vgpu_queue_push_nop(queue, &place, &point, nullptr) != VGPU_OK ||
                vgpu_queue_flush(queue, nullptr) != VGPU_OK) {
                ::_exit(2);
            }
            while (ring::SharedMemory::load_relaxed(host.control(1).head) == 0) {
                std::this_thread::yield();
            }
        },
        SIGKILL);
    const auto one = region();
    std::atomic<bool> given{false};
    std::thread taker([&] {
        EXPECT_TRUE(one->alloc(layout.heap_size, 0));
        given = true;
    });
    // alloc() requests the reset and waits: the command is still in flight.
    while (ring::SharedMemory::load_acquire(host.control(1).state) != VGPU_QUEUE_RESETTING) {
        std::this_thread::yield();
    }
    EXPECT_FALSE(given);
    EXPECT_EQ(ring::SharedMemory::load_acquire(host.control(1).completed), 0U);
    host.hold = false;
    taker.join();
    EXPECT_EQ(ring::SharedMemory::load_acquire(host.control(1).completed), 1U);
    // The queue has no owner.
    EXPECT_EQ(one->info().free_queues, 2U);
}

TEST_F(HeapTest, ANewOwnersResetIsWaitedForToo) {
    host.hold = true;
    host.start_thread();
    in_child(
        [this] {
            vgpu_device* const device = make_device(host);
            vgpu_queue* queue = nullptr;
            if (vgpu_queue_open(device, 0, 5000, &queue, nullptr) != VGPU_OK ||
                vgpu_queue_push_nop(queue, nullptr, nullptr, nullptr) != VGPU_OK ||
                vgpu_queue_flush(queue, nullptr) != VGPU_OK) {
                ::_exit(1);
            }
            while (ring::SharedMemory::load_relaxed(host.control(0).head) == 0) {
                std::this_thread::yield();
            }
        },
        SIGKILL);
    const auto owner = region();
    auto claimed = owner->claim_queue(0, kNever);
    ASSERT_TRUE(claimed);
    const auto other = region();
    std::atomic<bool> given{false};
    std::thread taker([&] {
        EXPECT_TRUE(other->alloc(100, 0));
        given = true;
    });
    while (ring::SharedMemory::load_acquire(host.control(0).state) != VGPU_QUEUE_RESETTING) {
        std::this_thread::yield();
    }
    EXPECT_FALSE(given);
    host.hold = false;
    taker.join();
    EXPECT_TRUE(owner->await_reset(claimed->producer, kNever));
}

TEST_F(HeapTest, WithoutAMediatorNothingIsWaitedFor) {
    host.attached = false;
    const auto one = region();
    EXPECT_TRUE(one->alloc(100, 0));
    EXPECT_EQ(one->info().generation, 0U);
}

TEST_F(HeapTest, ThreadsOfOneProcessShareIt) {
    const auto one = region();
    host.start_thread();
    std::vector<std::thread> threads;
    for (int thread = 0; thread != 4; ++thread) {
        threads.emplace_back([&one, thread] {
            std::minstd_rand random(static_cast<unsigned>(thread) + 1);
            for (int i = 0; i != 300; ++i) {
                const std::uint64_t size = random() % 200'000 + 1;
                const auto block = one->alloc(size, 0);
                if (!block) {
                    continue;
                }
                std::memset(block->pointer, thread, size);
                std::this_thread::yield();
                const auto* const bytes = static_cast<const unsigned char*>(block->pointer);
                EXPECT_EQ(bytes[0], thread);
                EXPECT_EQ(bytes[size - 1], thread);
                EXPECT_TRUE(one->free_block(*block));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(one->heap_info().allocated, 0U);
}

}  // namespace
}  // namespace vgpu::client::test
