// SPDX-License-Identifier: MIT
//
// Tests of the queues of the C API against a scripted host: delivery of commands, end of waits, and
// the code reported when the host stops a queue, disconnects, restarts or sends invalid data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/include/vgpu.h"
#include "client/testing/fake_host.h"
#include "client/testing/handles.h"

namespace vgpu::client::test {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kLimit = 10'000;  // ms

class QueueTest : public testing::Test {
  protected:
    // Opening needs a running host, so it runs in a thread meanwhile.
    QueuePtr open(const DevicePtr& device, std::uint32_t index = VGPU_QUEUE_ANY) {
        host.start_thread();
        vgpu_queue* made = nullptr;
        code = vgpu_queue_open(device.get(), index, kLimit, &made, &why);
        host.stop_thread();
        return QueuePtr(made);
    }
    DevicePtr device(const Waiting& waiting = {}, bool interrupts = true) {
        return DevicePtr(make_device(host, waiting, interrupts));
    }

    FakeHost host;
    vgpu_failure why{};
    int code = VGPU_OK;
    DevicePtr gpu = device();
    std::uint64_t point = 0;
};

TEST_F(QueueTest, WhatIsPushedIsSeenWithTheFlush) {
    const QueuePtr queue = open(gpu);
    ASSERT_NE(queue, nullptr) << why.message;
    for (std::uint64_t i = 1; i <= 3; ++i) {
        ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
        EXPECT_EQ(point, i);
    }
    host.step();
    EXPECT_EQ(host.taken, 0U);
    EXPECT_EQ(vgpu_queue_completed(queue.get()), 0U);
    ASSERT_EQ(vgpu_queue_flush(queue.get(), &why), VGPU_OK);
    host.step();
    EXPECT_EQ(host.taken, 3U);
    EXPECT_EQ(vgpu_queue_wait(queue.get(), 3, 0, &why), VGPU_OK);
    EXPECT_EQ(vgpu_queue_completed(queue.get()), 3U);
    EXPECT_EQ(vgpu_queue_submitted(queue.get()), 3U);
}

TEST_F(QueueTest, AWaitFlushesFirst) {
    const QueuePtr queue = open(gpu);
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
    host.start_thread();
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_OK) << why.message;
}

TEST_F(QueueTest, RepliesAreReadWhereTheCommandSaid) {
    const QueuePtr queue = open(gpu);
    vgpu_heap_block block{};
    ASSERT_EQ(vgpu_heap_alloc(gpu.get(), 512, 0, &block, &why), VGPU_OK) << why.message;
    const vgpu_reply_place place{block.offset, 77, 256, 0};
    ASSERT_EQ(vgpu_queue_push_add(queue.get(), 100, 200, &place, &point, &why), VGPU_OK);
    host.start_thread();
    vgpu_reply_view view{};
    ASSERT_EQ(vgpu_queue_finish(queue.get(), point, &place, kLimit, &view, &why), VGPU_OK)
        << why.message;
    ASSERT_EQ(view.result_count, 1U);
    EXPECT_EQ(view.results[0], 300U);
    EXPECT_EQ(view.cookie, 77U);
    EXPECT_EQ(view.exec_time_us, 7U);

    const vgpu_reply_place another{block.offset, 78, 256, 0};
    EXPECT_EQ(vgpu_queue_reply_read(queue.get(), &another, nullptr, &why), VGPU_E_BAD_RESPONSE);
    const vgpu_reply_place outside{0, 77, 256, 0};
    EXPECT_EQ(vgpu_queue_reply_read(queue.get(), &outside, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_heap_free(gpu.get(), &block, &why), VGPU_OK);
}

TEST_F(QueueTest, AFailedCommandGivesItsCodeAndSentence) {
    const QueuePtr queue = open(gpu);
    host.answer = [](const ring::Record&) {
        return FakeHost::Answer{VGPU_ERR_CUDA_INVALID_HANDLE, {}, "there is no \x1b buffer 5\n"};
    };
    host.start_thread();
    EXPECT_EQ(vgpu_queue_free(queue.get(), 5, kLimit, &why), VGPU_ERR_CUDA_INVALID_HANDLE);
    EXPECT_STREQ(why.message, "there is no   buffer 5");
    std::uint32_t handle = 0;
    EXPECT_EQ(vgpu_queue_alloc(queue.get(), 5, kLimit, &handle, nullptr),
              VGPU_ERR_CUDA_INVALID_HANDLE);
}

TEST_F(QueueTest, AFullRingSaysSoAndTakesMoreAfterAWait) {
    const QueuePtr queue = open(gpu);
    std::uint64_t pushed = 0;
    while ((code = vgpu_queue_push_nop(queue.get(), nullptr, &point, &why)) == VGPU_OK) {
        ++pushed;
        ASSERT_LE(pushed * sizeof(vgpu_record), host.layout().ring_size);
    }
    EXPECT_EQ(code, VGPU_E_QUEUE_FULL);
    EXPECT_EQ(pushed, host.layout().ring_size / sizeof(vgpu_record));
    EXPECT_EQ(vgpu_queue_submitted(queue.get()), pushed);
    host.start_thread();
    ASSERT_EQ(vgpu_queue_wait(queue.get(), pushed, kLimit, &why), VGPU_OK) << why.message;
    EXPECT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK) << why.message;
    EXPECT_EQ(point, pushed + 1);
}

TEST_F(QueueTest, CallsGoOnWhereTheRingWraps) {
    const QueuePtr queue = open(gpu);
    std::vector<std::uint32_t> seen;
    host.answer = [&seen](const ring::Record& record) {
        seen.push_back(record.params().empty() ? 0 : record.params().back());
        return FakeHost::Answer{};
    };
    host.start_thread();
    std::uint32_t next = 0;
    for (std::uint32_t i = 0; i != 2000; ++i) {
        std::vector<std::uint32_t> params(i % 700 + 1, 1);
        params.back() = next;
        vgpu_queue_command command{};
        command.params = params.data();
        command.param_count = static_cast<std::uint32_t>(params.size());
        code = vgpu_queue_submit(queue.get(), &command, &point, &why);
        if (code == VGPU_E_QUEUE_FULL) {
            ASSERT_EQ(vgpu_queue_wait(queue.get(), next, kLimit, &why), VGPU_OK) << why.message;
            ASSERT_EQ(vgpu_queue_submit(queue.get(), &command, &point, &why), VGPU_OK);
        }
        ++next;
        ASSERT_EQ(point, next);
    }
    ASSERT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_OK) << why.message;
    host.stop_thread();
    ASSERT_EQ(seen.size(), 2000U);
    for (std::uint32_t i = 0; i != 2000; ++i) {
        ASSERT_EQ(seen[i], i);
    }
}

TEST_F(QueueTest, ACallFindsRoomInAFullRing) {
    const QueuePtr queue = open(gpu);
    while (vgpu_queue_push_nop(queue.get(), nullptr, nullptr, nullptr) == VGPU_OK) {
    }
    host.start_thread();
    std::uint32_t sum = 0;
    EXPECT_EQ(vgpu_queue_add(queue.get(), 0xFFFFFFFF, 2, kLimit, &sum, &why), VGPU_OK)
        << why.message;
    EXPECT_EQ(sum, 1U);
}

TEST_F(QueueTest, ARecordThatIsTooLongIsRefused) {
    const QueuePtr queue = open(gpu);
    const std::vector<std::byte> data(VGPU_RECORD_MAX);
    vgpu_queue_command command{};
    command.inline_data = data.data();
    command.inline_length = VGPU_RECORD_MAX - sizeof(vgpu_record) + 1;
    EXPECT_EQ(vgpu_queue_push(queue.get(), &command, &point, &why), VGPU_E_ARGUMENT);
    command.inline_length = VGPU_RECORD_MAX - sizeof(vgpu_record);
    EXPECT_EQ(vgpu_queue_push(queue.get(), &command, &point, &why), VGPU_OK);
    command.inline_data = nullptr;
    EXPECT_EQ(vgpu_queue_push(queue.get(), &command, &point, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(point, 1U);
}

TEST_F(QueueTest, AWaitEndsAtItsLimitAndMayBeRepeated) {
    const QueuePtr queue = open(gpu);
    host.hold = true;
    host.start_thread();
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, 0, &why), VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, 5, &why), VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point + 1, 5, &why), VGPU_E_ARGUMENT);
    host.hold = false;
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_OK) << why.message;
}

TEST_F(QueueTest, AReplyThatWasNotAwaitedDoesNotLandInTheNextOne) {
    const QueuePtr queue = open(gpu);
    host.hold = true;
    host.start_thread();
    std::uint32_t sum = 0;
    EXPECT_EQ(vgpu_queue_add(queue.get(), 1, 2, 1, &sum, &why), VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(vgpu_queue_add(queue.get(), 3, 4, 1, &sum, &why), VGPU_E_WAIT_TIMEOUT);
    host.hold = false;
    EXPECT_EQ(vgpu_queue_add(queue.get(), 5, 6, kLimit, &sum, &why), VGPU_OK) << why.message;
    EXPECT_EQ(sum, 11U);
}

// Every wait mode, with a slow host.
class WaitingTest : public QueueTest, public testing::WithParamInterface<int> {};

TEST_P(WaitingTest, EndsWhenTheCommandHasCompleted) {
    const std::array ways{
        Waiting{WaitMode::kAuto, Nanoseconds(0)}, Waiting{WaitMode::kAuto, kNever},
        Waiting{WaitMode::kInterrupt, Nanoseconds(0)}, Waiting{WaitMode::kPoll, Nanoseconds(0)},
        Waiting{WaitMode::kPoll, std::chrono::microseconds(50)}};
    for (const bool interrupts : {true, false}) {
        const Waiting& way = ways.at(static_cast<std::size_t>(GetParam()));
        const DevicePtr own = device(way, interrupts);
        const QueuePtr queue = open(own, 1);
        if (way.mode == WaitMode::kInterrupt && !interrupts) {
            EXPECT_EQ(code, VGPU_E_NO_INTERRUPT);
            continue;
        }
        ASSERT_NE(queue, nullptr) << why.message;
        for (int i = 0; i != 20; ++i) {
            host.hold = true;
            host.start_thread();
            ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
            std::thread later([&] {
                while (ring::SharedMemory::load_relaxed(host.control(1).head) !=
                       ring::SharedMemory::load_relaxed(host.control(1).tail)) {
                    std::this_thread::yield();
                }
                host.hold = false;
            });
            EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_OK) << why.message;
            later.join();
            host.stop_thread();
        }
    }
}
INSTANTIATE_TEST_SUITE_P(All, WaitingTest, testing::Range(0, 5));

TEST_F(QueueTest, AnErrorOfTheQueueStopsItAndSaysWhy) {
    const QueuePtr queue = open(gpu);
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
    const std::uint64_t good = point;
    const vgpu_reply_place outside{8, 0, 64, 0};
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), &outside, &point, &why), VGPU_OK);
    host.start_thread();
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_E_QUEUE_STOPPED);
    EXPECT_THAT(why.message, HasSubstr("reply place"));
    EXPECT_THAT(why.message, HasSubstr("before command 2"));
    EXPECT_EQ(vgpu_queue_wait(queue.get(), good, kLimit, &why), VGPU_OK) << why.message;
    host.stop_thread();
}

TEST_F(QueueTest, AQueueThatStoppedCanBeOpenedAnew) {
    QueuePtr queue = open(gpu, 0);
    const vgpu_reply_place outside{8, 0, 64, 0};
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), &outside, &point, &why), VGPU_OK);
    host.start_thread();
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_E_QUEUE_STOPPED);
    queue.reset();
    host.stop_thread();
    queue = open(gpu, 0);
    ASSERT_NE(queue, nullptr) << why.message;
    host.start_thread();
    EXPECT_EQ(vgpu_queue_nop(queue.get(), kLimit, &why), VGPU_OK) << why.message;
}

TEST_F(QueueTest, AMediatorThatIsGoneIsToldOf) {
    for (const auto mode : {WaitMode::kAuto, WaitMode::kPoll, WaitMode::kInterrupt}) {
        host.begin_generation(1);
        const DevicePtr own = device({mode, std::chrono::microseconds(10)});
        const QueuePtr queue = open(own);
        ASSERT_NE(queue, nullptr) << why.message;
        ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
        std::thread later([&] {
            while (ring::SharedMemory::load_relaxed(host.control(0).tail) == 0) {
                std::this_thread::yield();
            }
            host.attached = false;
            host.interrupt_all();
        });
        EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_E_MEDIATOR_LOST);
        later.join();
        EXPECT_EQ(vgpu_generation(own.get()), 0U);
        vgpu_queue* none = nullptr;
        EXPECT_EQ(vgpu_queue_open(own.get(), 1, 10, &none, &why), VGPU_E_NO_QUEUES);
        EXPECT_STREQ(why.message, "no mediator serves it");
    }
}

TEST_F(QueueTest, AnotherGenerationEndsWaitsAndIsOpenedAnew) {
    QueuePtr queue = open(gpu, 0);
    EXPECT_EQ(vgpu_generation(gpu.get()), 1U);
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
    ASSERT_EQ(vgpu_queue_flush(queue.get(), &why), VGPU_OK);
    host.begin_generation(2);
    EXPECT_EQ(vgpu_generation(gpu.get()), 2U);
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_E_MEDIATOR_LOST);
    queue.reset();
    queue = open(gpu, 0);
    ASSERT_NE(queue, nullptr) << why.message;
    host.start_thread();
    EXPECT_EQ(vgpu_queue_nop(queue.get(), kLimit, &why), VGPU_OK) << why.message;
}

TEST_F(QueueTest, WhatCompletedBeforeTheMediatorWentIsReached) {
    const QueuePtr queue = open(gpu);
    ASSERT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_OK);
    ASSERT_EQ(vgpu_queue_flush(queue.get(), &why), VGPU_OK);
    host.step();
    host.attached = false;
    EXPECT_EQ(vgpu_queue_wait(queue.get(), point, kLimit, &why), VGPU_OK);
}

TEST_F(QueueTest, AMediatorThatNeverAnswersTheResetIsATimeout) {
    vgpu_queue* queue = nullptr;
    EXPECT_EQ(vgpu_queue_open(gpu.get(), 0, 5, &queue, &why), VGPU_E_WAIT_TIMEOUT);
    EXPECT_EQ(queue, nullptr);
    // The failed open released the queue.
    EXPECT_NE(open(gpu, 0), nullptr) << why.message;
}

TEST_F(QueueTest, AHostThatTalksNonsenseIsNotFollowed) {
    QueuePtr queue = open(gpu);
    while (vgpu_queue_push_nop(queue.get(), nullptr, &point, &why) == VGPU_OK) {
    }
    ring::SharedMemory::store_release(host.control(0).head, ~std::uint64_t{0});
    EXPECT_EQ(vgpu_queue_push_nop(queue.get(), nullptr, &point, &why), VGPU_E_BAD_RESPONSE);
    host.start_thread();
    queue.reset();
    host.stop_thread();

    queue = open(gpu);
    vgpu_heap_block block{};
    ASSERT_EQ(vgpu_heap_alloc(gpu.get(), 64, 0, &block, &why), VGPU_OK);
    const vgpu_reply_place place{block.offset, 0, 64, 0};
    for (const vgpu_queue_reply& lie :
         {vgpu_queue_reply{0, 0, 64, 9, 0, 0, 0}, vgpu_queue_reply{0, 0, 33, 0, 0, 0, 0},
          vgpu_queue_reply{0, 0, 31, 0, 0xFFFFFFFF, 0, 0},
          vgpu_queue_reply{0, 0, 32, 0x40000000, 0, 0, 0}}) {
        std::memcpy(block.pointer, &lie, sizeof lie);
        EXPECT_EQ(vgpu_queue_reply_read(queue.get(), &place, nullptr, &why), VGPU_E_BAD_RESPONSE);
    }
    const vgpu_queue_reply strange{0, 0x1234, 32, 0, 0, 0, 0};
    std::memcpy(block.pointer, &strange, sizeof strange);
    EXPECT_EQ(vgpu_queue_reply_read(queue.get(), &place, nullptr, &why), VGPU_E_BAD_RESPONSE);
}

TEST_F(QueueTest, AnotherLayoutThanOnesOwnIsNotUsed) {
    reinterpret_cast<vgpu_shm_header*>(host.base())->heap_offset += 4096;
    EXPECT_EQ(open(gpu), nullptr);
    EXPECT_EQ(code, VGPU_E_NO_QUEUES);
    EXPECT_THAT(why.message, HasSubstr("another layout"));
}

TEST_F(QueueTest, QueuesAreTakenByOneAtATime) {
    const DevicePtr other = device();
    const QueuePtr first = open(gpu);
    const QueuePtr second = open(other);
    EXPECT_EQ(vgpu_queue_index(first.get()), 0U);
    EXPECT_EQ(vgpu_queue_index(second.get()), 1U);
    EXPECT_EQ(open(gpu), nullptr);
    EXPECT_EQ(code, VGPU_E_IN_USE);
    EXPECT_EQ(open(other, 0), nullptr);
    EXPECT_EQ(code, VGPU_E_IN_USE);
    EXPECT_EQ(open(gpu, 2), nullptr);
    EXPECT_EQ(code, VGPU_E_ARGUMENT);
    vgpu_shm_info info{};
    ASSERT_EQ(vgpu_get_shm_info(gpu.get(), &info, &why), VGPU_OK);
    EXPECT_EQ(info.size, VGPU_SHM_SIZE_MIN);
    EXPECT_EQ(info.queue_count, 2U);
    EXPECT_EQ(info.free_queues, 0U);
    EXPECT_EQ(info.has_interrupt, 1);
}

TEST_F(QueueTest, WithoutSharedMemoryThereIsACode) {
    const auto none = DevicePtr(new vgpu_device);
    none->why_no_queues = "no memory";
    vgpu_queue* queue = nullptr;
    vgpu_heap_block block{};
    vgpu_heap_info heap{};
    vgpu_shm_info info{};
    EXPECT_EQ(vgpu_queue_open(none.get(), 0, 1, &queue, &why), VGPU_E_NO_QUEUES);
    EXPECT_STREQ(why.message, "no memory");
    EXPECT_EQ(vgpu_heap_alloc(none.get(), 1, 0, &block, nullptr), VGPU_E_NO_QUEUES);
    EXPECT_EQ(vgpu_get_heap_info(none.get(), &heap, nullptr), VGPU_E_NO_QUEUES);
    EXPECT_EQ(vgpu_get_shm_info(none.get(), &info, nullptr), VGPU_OK);
    EXPECT_EQ(info.size, 0U);
    EXPECT_EQ(vgpu_generation(none.get()), 0U);
}

TEST_F(QueueTest, NullPointersAreRefused) {
    EXPECT_EQ(vgpu_queue_open(nullptr, 0, 1, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_push(nullptr, nullptr, &point, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_push_nop(nullptr, nullptr, &point, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_flush(nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_wait(nullptr, 1, 1, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_call(nullptr, nullptr, 1, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_add(nullptr, 1, 2, 1, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_copy_to(nullptr, 1, 0, nullptr, 0, 1, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_reply_read(nullptr, nullptr, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_heap_alloc(nullptr, 1, 0, nullptr, &why), VGPU_E_ARGUMENT);
    EXPECT_EQ(vgpu_queue_completed(nullptr), 0U);
    vgpu_queue_close(nullptr);
}

}  // namespace
}  // namespace vgpu::client::test
