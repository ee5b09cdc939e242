// SPDX-License-Identifier: MIT
//
// A queue whose two ends follow the protocol: what is pushed is taken, only sleepers are woken, and
// a stopped queue can be restarted.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "ring/testing/test_memory.h"

namespace vgpu::ring {
namespace {

class QueueTest : public testing::Test {
  protected:
    // Takes and completes all records; returns their number.
    std::size_t drain() {
        std::size_t count = 0;
        while (queue.consumer.take(record) == Take::kRecord) {
            static_cast<void>(queue.consumer.complete(1));
            ++count;
        }
        return count;
    }
    // Guest's part of a reset, host's part, guest's part.
    Reset reset(Producer& producer) {
        static_cast<void>(producer.request_reset());
        EXPECT_EQ(queue.consumer.take(record), Take::kReset);
        static_cast<void>(queue.consumer.finish_reset());
        return producer.reset_progress();
    }

    TestMemory memory;
    RunningQueue<> queue{memory};
    Record record;
};

TEST_F(QueueTest, IsStoppedUntilTheGuestStartsIt) {
    Consumer consumer(memory.queue(1), memory.layout());
    Producer producer(memory.queue(1));
    EXPECT_EQ(consumer.take(record), Take::kStopped);
    EXPECT_EQ(producer.push(nop(), {}, {}), Push::kNotRunning);
    const QueueStatus status = producer.status();
    EXPECT_EQ(status.state, VGPU_QUEUE_STOPPED);
    EXPECT_EQ(status.error, VGPU_QUEUE_ERR_NOT_STARTED);
    EXPECT_EQ(status.error_index, 1U);
    EXPECT_EQ(producer.poll(1), Progress::kNever);

    EXPECT_FALSE(producer.request_reset());
    EXPECT_EQ(producer.reset_progress(), Reset::kPending);
    EXPECT_EQ(producer.push(nop(), {}, {}), Push::kNotRunning);
    EXPECT_EQ(consumer.take(record), Take::kReset);
    EXPECT_EQ(producer.status().state, VGPU_QUEUE_RESETTING);
    EXPECT_FALSE(consumer.finish_reset());
    EXPECT_EQ(producer.reset_progress(), Reset::kRunning);
    EXPECT_EQ(producer.status().state, VGPU_QUEUE_RUNNING);
    EXPECT_EQ(producer.push(nop(), {}, {}), Push::kDone);
}

TEST_F(QueueTest, CarriesAllPartsOfARecord) {
    const std::array<std::uint32_t, 3> params{1, 0xFFFFFFFFU, 3};
    const std::array<std::byte, 5> data{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                        std::byte{5}};
    vgpu_record command{};
    command.opcode = VGPU_OP_VECTOR_ADD;
    command.flags = VGPU_FLAG_BOOST;
    command.data_offset = 1;
    command.data_length = UINT64_MAX;
    command.reply_offset = memory.layout().heap_offset;
    command.reply_capacity = 64;
    command.cookie = 0x0123456789ABCDEFU;
    ASSERT_EQ(queue.producer.push(command, params, data), Push::kDone);
    ASSERT_EQ(queue.consumer.take(record), Take::kEmpty) << "visible before it is published";
    EXPECT_FALSE(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().size, sizeof(vgpu_record) + 16 + 8);
    EXPECT_EQ(record.header().opcode, command.opcode);
    EXPECT_EQ(record.header().flags, command.flags);
    EXPECT_EQ(record.header().data_offset, command.data_offset);
    EXPECT_EQ(record.header().data_length, command.data_length);
    EXPECT_EQ(record.header().reply_offset, command.reply_offset);
    EXPECT_EQ(record.header().reply_capacity, command.reply_capacity);
    EXPECT_EQ(record.header().cookie, command.cookie);
    EXPECT_TRUE(std::ranges::equal(record.params(), params));
    EXPECT_TRUE(std::ranges::equal(record.inline_data(), data));
    EXPECT_EQ(queue.consumer.take(record), Take::kEmpty);
}

TEST_F(QueueTest, KeepsOrderAndContentsOverManyLaps) {
    std::mt19937 random(1);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    std::uint64_t pushed = 0;
    std::uint64_t taken = 0;
    std::vector<std::uint32_t> params;
    std::vector<std::byte> data;
    const auto fill = [&](std::uint64_t cookie) {
        std::mt19937 contents(static_cast<std::uint32_t>(cookie));
        params.resize(contents() % 400);
        data.resize(contents() % 2000);
        std::ranges::generate(params, std::ref(contents));
        std::ranges::generate(data, [&] { return static_cast<std::byte>(contents()); });
    };
    while (taken < 5000) {
        for (auto burst = random() % 20; burst != 0; --burst) {
            fill(pushed);
            const Push result = queue.producer.push(nop(pushed), params, data);
            if (result == Push::kFull) {
                break;
            }
            ASSERT_EQ(result, Push::kDone);
            ++pushed;
            ASSERT_EQ(queue.producer.submitted(), pushed);
        }
        static_cast<void>(queue.producer.publish());
        for (auto burst = random() % 20; burst != 0; --burst) {
            const Take result = queue.consumer.take(record);
            if (result == Take::kEmpty) {
                break;
            }
            ASSERT_EQ(result, Take::kRecord);
            fill(taken);
            ASSERT_EQ(record.header().cookie, taken);
            ASSERT_TRUE(std::ranges::equal(record.params(), params));
            ASSERT_TRUE(std::ranges::equal(record.inline_data(), data));
            static_cast<void>(queue.consumer.complete(1));
            ++taken;
            ASSERT_EQ(queue.consumer.taken(), taken);
        }
    }
}

TEST_F(QueueTest, RefusesWhatIsTooLargeAndTakesTheLargest) {
    const std::vector<std::byte> largest(VGPU_RECORD_MAX - sizeof(vgpu_record));
    const std::vector<std::byte> larger(largest.size() + 1);
    const std::vector<std::uint32_t> params(VGPU_RECORD_MAX / 4);
    EXPECT_EQ(queue.producer.push(nop(), {}, larger), Push::kTooLarge);
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kTooLarge);
    EXPECT_EQ(queue.producer.push(nop(), params, largest), Push::kTooLarge);
    ASSERT_EQ(queue.producer.push(nop(5), {}, largest), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.inline_data().size(), largest.size());
}

TEST_F(QueueTest, IsFullWhenTheRingIsAndHasRoomAgainOnceARecordIsTaken) {
    // 64 bytes each fill the ring completely.
    const std::array<std::uint32_t, 2> params{};
    for (std::uint32_t i = 0; i != memory.layout().ring_size / 64; ++i) {
        ASSERT_EQ(queue.producer.push(nop(i), params, {}), Push::kDone);
    }
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kFull);
    static_cast<void>(queue.producer.publish());
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kFull);
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kDone);
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kFull);
}

TEST_F(QueueTest, LargestRecordFitsFromAnyPositionOnceTheRingIsEmpty) {
    const std::vector<std::byte> largest(VGPU_RECORD_MAX - sizeof(vgpu_record));
    for (std::uint32_t i = 0; i != memory.layout().ring_size / 24; ++i) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(drain(), 1U);
        ASSERT_EQ(queue.producer.push(nop(), {}, largest), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(drain(), 1U);
    }
}

TEST_F(QueueTest, DoorbellIsForASleeperAndOnceForEachSleep) {
    ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
    EXPECT_FALSE(queue.producer.publish()) << "the peer is not asleep";
    EXPECT_FALSE(queue.consumer.prepare_sleep()) << "there is a record";
    ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
    EXPECT_FALSE(queue.producer.publish()) << "the peer is not asleep";
    ASSERT_EQ(drain(), 2U);
    for (int sleep = 0; sleep != 3; ++sleep) {
        EXPECT_TRUE(queue.consumer.prepare_sleep());
        EXPECT_FALSE(queue.producer.publish()) << "nothing was pushed";
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        EXPECT_TRUE(queue.producer.publish());
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        EXPECT_FALSE(queue.producer.publish()) << "a second doorbell for one sleep";
        queue.consumer.wake();
        ASSERT_EQ(drain(), 3U);
    }
}

TEST_F(QueueTest, InterruptIsForASleeperAndOnceForEachValue) {
    for (int i = 0; i != 6; ++i) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
    }
    static_cast<void>(queue.producer.publish());
    for (int i = 0; i != 6; ++i) {
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    }
    EXPECT_FALSE(queue.consumer.complete(1)) << "the peer is not asleep";
    EXPECT_FALSE(queue.producer.prepare_sleep(1)) << "it is complete";
    EXPECT_FALSE(queue.consumer.complete(1)) << "the guest stayed awake";
    EXPECT_EQ(queue.producer.poll(2), Progress::kReached);
    EXPECT_EQ(queue.producer.poll(3), Progress::kPending);
    ASSERT_TRUE(queue.producer.prepare_sleep(4));
    EXPECT_FALSE(queue.consumer.complete(1)) << "not what the guest waits for";
    EXPECT_TRUE(queue.consumer.complete(1));
    EXPECT_FALSE(queue.consumer.complete(1)) << "a second interrupt for one value";
    queue.producer.wake();
    ASSERT_TRUE(queue.producer.prepare_sleep(6));
    EXPECT_TRUE(queue.consumer.complete(1));
    EXPECT_EQ(queue.producer.poll(6), Progress::kReached);
    EXPECT_EQ(queue.consumer.in_flight(), 0U);
}

TEST_F(QueueTest, TimelineThatTheGpuWritesInterruptsTheSameWay) {
    ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    ASSERT_TRUE(queue.producer.prepare_sleep(1));
    SharedMemory::store_release<std::uint64_t>(memory.queue().control->completed, 1);
    EXPECT_EQ(queue.producer.poll(1), Progress::kReached);
    EXPECT_TRUE(queue.consumer.note_completed(1));
    EXPECT_EQ(queue.consumer.in_flight(), 0U);
}

TEST_F(QueueTest, CommandsTakenBeforeAStopStillComplete) {
    for (int i = 0; i != 3; ++i) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
    }
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    ASSERT_TRUE(queue.producer.prepare_sleep(2));
    EXPECT_TRUE(queue.consumer.stop(VGPU_QUEUE_ERR_CLOSED)) << "a sleeper has to be told";
    EXPECT_EQ(queue.consumer.take(record), Take::kStopped);
    EXPECT_EQ(queue.producer.poll(1), Progress::kPending);
    EXPECT_EQ(queue.producer.poll(2), Progress::kNever);
    EXPECT_EQ(queue.producer.status().error, VGPU_QUEUE_ERR_CLOSED);
    EXPECT_EQ(queue.producer.status().error_index, 2U);
    EXPECT_FALSE(queue.consumer.complete(1)) << "not what the guest waits for";
    EXPECT_EQ(queue.producer.poll(1), Progress::kReached);
    EXPECT_FALSE(queue.consumer.stop(VGPU_QUEUE_ERR_RESET)) << "stopped twice";
    EXPECT_EQ(queue.producer.status().error, VGPU_QUEUE_ERR_CLOSED);
}

TEST_F(QueueTest, ResetWaitsForWhatIsInFlightAndDropsTheRest) {
    for (std::uint64_t i = 1; i <= 3; ++i) {
        ASSERT_EQ(queue.producer.push(nop(i), {}, {}), Push::kDone);
    }
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    static_cast<void>(queue.producer.request_reset());
    // Records seen before the request are still taken.
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(queue.consumer.take(record), Take::kReset);
    EXPECT_EQ(queue.consumer.state(), VGPU_QUEUE_RESETTING);
    EXPECT_FALSE(queue.consumer.finish_reset());
    EXPECT_EQ(queue.producer.reset_progress(), Reset::kPending);
    static_cast<void>(queue.consumer.complete(3));
    EXPECT_EQ(queue.consumer.take(record), Take::kReset);
    ASSERT_TRUE(queue.producer.prepare_sleep_for_reset());
    EXPECT_TRUE(queue.consumer.finish_reset());
    queue.producer.wake();
    EXPECT_EQ(queue.producer.reset_progress(), Reset::kRunning);
    EXPECT_EQ(queue.producer.submitted(), 3U) << "the timeline continues";
    EXPECT_FALSE(queue.producer.prepare_sleep_for_reset());
}

TEST_F(QueueTest, ResetDropsWhatWasNotTaken) {
    for (std::uint64_t i = 1; i <= 3; ++i) {
        ASSERT_EQ(queue.producer.push(nop(i), {}, {}), Push::kDone);
        if (i == 2) {
            static_cast<void>(queue.producer.publish());
        }
    }
    EXPECT_EQ(reset(queue.producer), Reset::kRunning);
    EXPECT_EQ(queue.consumer.take(record), Take::kEmpty);
    ASSERT_EQ(queue.producer.push(nop(4), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().cookie, 4U);
    EXPECT_EQ(queue.producer.submitted(), 1U);
}

TEST_F(QueueTest, ResetRingsForASleeper) {
    ASSERT_TRUE(queue.consumer.prepare_sleep());
    EXPECT_TRUE(queue.producer.request_reset());
    queue.consumer.wake();
    EXPECT_FALSE(queue.consumer.prepare_sleep()) << "a reset is asked for";
    ASSERT_EQ(queue.consumer.take(record), Take::kReset);
    EXPECT_TRUE(queue.consumer.prepare_sleep()) << "until what is in flight has ended";
    static_cast<void>(queue.producer.request_reset());
    EXPECT_FALSE(queue.consumer.prepare_sleep()) << "another reset is asked for";
}

TEST_F(QueueTest, AnotherProcessTakesTheQueueOver) {
    ASSERT_EQ(queue.producer.push(nop(1), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(drain(), 1U);
    ASSERT_EQ(queue.producer.push(nop(2), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.producer.push(nop(3), {}, {}), Push::kDone);
    // The guest process ends here.
    Producer next(memory.queue());
    EXPECT_EQ(next.push(nop(), {}, {}), Push::kNotRunning);
    ASSERT_EQ(reset(next), Reset::kRunning);
    EXPECT_EQ(next.submitted(), 1U);
    ASSERT_EQ(next.push(nop(4), {}, {}), Push::kDone);
    static_cast<void>(next.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().cookie, 4U);
}

TEST_F(QueueTest, AnotherMediatorBeginsAnewAndTheGuestNotices) {
    ASSERT_EQ(queue.producer.push(nop(1), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(drain(), 1U);
    ASSERT_EQ(queue.producer.push(nop(2), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_TRUE(queue.producer.prepare_sleep(2));
    // The mediator restarts and interrupts every queue.
    queue.consumer = Consumer(memory.queue(), memory.layout());
    EXPECT_EQ(queue.consumer.take(record), Take::kStopped)
        << "takes what was meant for the last one";
    EXPECT_EQ(queue.producer.poll(2), Progress::kNever);
    EXPECT_EQ(queue.producer.status().error, VGPU_QUEUE_ERR_NOT_STARTED);
    queue.producer.wake();
    ASSERT_EQ(reset(queue.producer), Reset::kRunning);
    EXPECT_EQ(queue.producer.submitted(), 0U);
    ASSERT_EQ(queue.producer.push(nop(3), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().cookie, 3U);
}

TEST_F(QueueTest, ResetAskedOfTheLastMediatorIsNotTheNextOnes) {
    static_cast<void>(queue.producer.request_reset());
    queue.consumer = Consumer(memory.queue(), memory.layout());
    EXPECT_EQ(queue.consumer.take(record), Take::kStopped);
    EXPECT_EQ(queue.producer.reset_progress(), Reset::kStopped) << "ask again";
    EXPECT_EQ(reset(queue.producer), Reset::kRunning);
}

TEST_F(QueueTest, HostThatTakesMoreThanThereIsBreaksTheGuestNotItsMemory) {
    const std::array<std::uint32_t, 2> params{};
    for (std::uint32_t i = 0; i != memory.layout().ring_size / 64; ++i) {
        ASSERT_EQ(queue.producer.push(nop(i), params, {}), Push::kDone);
    }
    std::uint64_t& head = memory.queue().control->head;
    for (const std::uint64_t wrong : {std::uint64_t{memory.layout().ring_size} + 8, UINT64_MAX}) {
        SharedMemory::store_release(head, wrong);
        EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kBroken);
    }
    SharedMemory::store_release<std::uint64_t>(head, 64);
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kDone);
    SharedMemory::store_release<std::uint64_t>(head, 640);
    EXPECT_EQ(queue.producer.push(nop(), params, {}), Push::kDone);
    SharedMemory::store_release<std::uint64_t>(head, 600);
    const std::vector<std::byte> larger(1000);
    EXPECT_EQ(queue.producer.push(nop(), {}, larger), Push::kBroken) << "it has gone back";
}

TEST_F(QueueTest, QueuesDoNotTouchEachOther) {
    RunningQueue<> other(memory, 1);
    ASSERT_EQ(queue.producer.push(nop(1), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    EXPECT_EQ(other.consumer.take(record), Take::kEmpty);
    static_cast<void>(queue.consumer.stop(VGPU_QUEUE_ERR_CLOSED));
    ASSERT_EQ(other.producer.push(nop(2), {}, {}), Push::kDone);
    static_cast<void>(other.producer.publish());
    ASSERT_EQ(other.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().cookie, 2U);
}

}  // namespace
}  // namespace vgpu::ring
