// SPDX-License-Identifier: MIT
//
// The host's end against a hostile guest: an invalid word or record stops its queue with the right
// code, nothing outside the ring is read, nothing is read twice, and every call does a bounded
// amount of work.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "ring/testing/test_memory.h"

namespace vgpu::ring {
namespace {

constexpr std::uint32_t kHeader = sizeof(vgpu_record);

// Writes to the queue as a guest without a Producer could.
struct RawGuest {
    explicit RawGuest(const QueueView& where) : queue(where) {}

    // Writes a record's header at the count `at`, without any checks.
    void put(std::uint64_t at, const vgpu_record& header) const {
        auto* const ring = reinterpret_cast<std::byte*>(queue.ring);
        const std::uint64_t position = at % queue.ring_size;
        const std::size_t room = queue.ring_size - position;
        std::memcpy(ring + position, &header, std::min(sizeof header, room));
    }
    void set_tail(std::uint64_t tail) const {
        SharedMemory::store_release(queue.control->tail, tail);
    }
    void ask_for_reset(std::uint32_t number) const {
        SharedMemory::store_release(queue.control->reset_request, number);
    }

    QueueView queue;
};

vgpu_record sized(std::uint32_t size, std::uint32_t opcode = VGPU_OP_NOP) {
    vgpu_record header{};
    header.size = size;
    header.opcode = opcode;
    return header;
}

struct Attack {
    const char* name;
    // The guest's write, at count `begin`; everything before `begin` has been taken.
    std::uint64_t begin;
    void (*strike)(const RawGuest& guest, std::uint64_t begin);
    vgpu_queue_error error;
};

class AttackTest : public testing::TestWithParam<Attack> {};

TEST_P(AttackTest, StopsTheQueueWithACodeAndNoOther) {
    const Attack& attack = GetParam();
    const TestMemory memory;
    RunningQueue<> queue(memory);
    RunningQueue<> other(memory, 1);
    Record record;
    while (memory.queue().control->tail != attack.begin) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    }
    const std::uint64_t good = queue.consumer.taken();
    const RawGuest guest(memory.queue());
    attack.strike(guest, attack.begin);

    EXPECT_EQ(queue.consumer.take(record), Take::kStopped);
    EXPECT_EQ(queue.consumer.take(record), Take::kStopped) << "and stays so";
    EXPECT_EQ(queue.consumer.error(), attack.error);
    EXPECT_EQ(queue.consumer.taken(), good);
    const QueueStatus status = queue.producer.status();
    EXPECT_EQ(status.state, VGPU_QUEUE_STOPPED);
    EXPECT_EQ(status.error, attack.error);
    EXPECT_EQ(status.error_index, good + 1);

    ASSERT_EQ(other.producer.push(nop(), {}, {}), Push::kDone);
    static_cast<void>(other.producer.publish());
    EXPECT_EQ(other.consumer.take(record), Take::kRecord) << "another queue has to go on";

    static_cast<void>(queue.consumer.complete(good));
    static_cast<void>(queue.producer.request_reset());
    ASSERT_EQ(queue.consumer.take(record), Take::kReset);
    static_cast<void>(queue.consumer.finish_reset());
    ASSERT_EQ(queue.producer.reset_progress(), Reset::kRunning);
    ASSERT_EQ(queue.producer.push(nop(9), {}, {}), Push::kDone);
    static_cast<void>(queue.producer.publish());
    ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    EXPECT_EQ(record.header().cookie, 9U);
}

// Submits a record with this header, followed by enough bytes.
void submit(const RawGuest& guest, std::uint64_t at, const vgpu_record& header,
            std::uint64_t bytes = 2UL * VGPU_RECORD_MAX) {
    guest.put(at, header);
    guest.set_tail(at + bytes);
}
template <std::uint32_t kSize>
void submit_sized(const RawGuest& guest, std::uint64_t at) {
    submit(guest, at, sized(kSize));
}
template <std::uint32_t kParams, std::uint32_t kInline>
void submit_parts(const RawGuest& guest, std::uint64_t at) {
    vgpu_record header = sized(kHeader + 16);
    header.param_count = kParams;
    header.inline_length = kInline;
    submit(guest, at, header);
}
// Layout of TestMemory.
const Layout kLayout = *Layout::compute(VGPU_SHM_SIZE_MIN, 2);
void submit_reply(const RawGuest& guest, std::uint64_t at, std::uint64_t offset,
                  std::uint32_t capacity) {
    vgpu_record header = sized(kHeader);
    header.reply_offset = offset;
    header.reply_capacity = capacity;
    submit(guest, at, header);
}

// 585 records of 56 bytes leave 8 bytes of a ring of 32 KiB, 584 leave 64.
constexpr std::uint64_t kNearEnd = 584UL * kHeader;
constexpr std::uint64_t kAtEnd = 585UL * kHeader;
static_assert(kNearEnd + 64 == VGPU_RING_SIZE_MAX);

const Attack kAttacks[] = {
    {"TailUnaligned", kHeader, [](auto& guest, auto begin) { guest.set_tail(begin + 4); },
     VGPU_QUEUE_ERR_TAIL_UNALIGNED},
    {"TailFurtherAheadThanTheRing", kHeader,
     [](auto& guest, auto begin) { guest.set_tail(begin + VGPU_RING_SIZE_MAX + 8); },
     VGPU_QUEUE_ERR_TAIL_RANGE},
    {"TailBehindHead", kHeader, [](auto& guest, auto begin) { guest.set_tail(begin - 8); },
     VGPU_QUEUE_ERR_TAIL_RANGE},
    {"TailAtTheEndOfCounting", kHeader, [](auto& guest, auto) { guest.set_tail(UINT64_MAX - 7); },
     VGPU_QUEUE_ERR_TAIL_RANGE},
    {"SizeZero", 0, submit_sized<0>, VGPU_QUEUE_ERR_RECORD_SIZE},
    {"SizeBelowTheHeader", 0, submit_sized<kHeader - 8>, VGPU_QUEUE_ERR_RECORD_SIZE},
    {"SizeUnaligned", 0, submit_sized<kHeader + 4>, VGPU_QUEUE_ERR_RECORD_SIZE},
    {"SizeOverTheLargest", 0, submit_sized<VGPU_RECORD_MAX + 8>, VGPU_QUEUE_ERR_RECORD_SIZE},
    {"SizeThatWraps", 0, submit_sized<0xFFFFFFF8U>, VGPU_QUEUE_ERR_RECORD_SIZE},
    {"PastTail", 0,
     [](auto& guest, auto begin) { submit(guest, begin, sized(kHeader + 8), kHeader); },
     VGPU_QUEUE_ERR_RECORD_PAST_TAIL},
    {"HeaderPastTail", 0, [](auto& guest, auto begin) { submit(guest, begin, sized(kHeader), 8); },
     VGPU_QUEUE_ERR_RECORD_PAST_TAIL},
    {"SplitInItsBody", kNearEnd, submit_sized<72>, VGPU_QUEUE_ERR_RECORD_SPLIT},
    {"SplitInItsHeader", kAtEnd, submit_sized<kHeader>, VGPU_QUEUE_ERR_RECORD_SPLIT},
    {"PaddingAtTheBeginning", 0,
     [](auto& guest, auto begin) {
         submit(guest, begin, sized(VGPU_RING_SIZE_MAX, VGPU_OP_PADDING), VGPU_RING_SIZE_MAX);
     },
     VGPU_QUEUE_ERR_PADDING},
    {"PaddingBeforeTheEnd", kNearEnd,
     [](auto& guest, auto begin) { submit(guest, begin, sized(56, VGPU_OP_PADDING)); },
     VGPU_QUEUE_ERR_PADDING},
    {"PaddingOverTheEnd", kNearEnd,
     [](auto& guest, auto begin) { submit(guest, begin, sized(72, VGPU_OP_PADDING)); },
     VGPU_QUEUE_ERR_PADDING},
    {"PaddingOfNothing", kNearEnd,
     [](auto& guest, auto begin) { submit(guest, begin, sized(0, VGPU_OP_PADDING)); },
     VGPU_QUEUE_ERR_PADDING},
    {"PaddingLongerThanAnyRecord", kHeader,
     [](auto& guest, auto begin) {
         submit(guest, begin, sized(VGPU_RING_SIZE_MAX - kHeader, VGPU_OP_PADDING),
                VGPU_RING_SIZE_MAX);
     },
     VGPU_QUEUE_ERR_PADDING},
    {"PaddingPastTail", kNearEnd,
     [](auto& guest, auto begin) { submit(guest, begin, sized(64, VGPU_OP_PADDING), 56); },
     VGPU_QUEUE_ERR_RECORD_PAST_TAIL},
    {"PaddingTwice", kNearEnd,
     [](auto& guest, auto begin) {
         guest.put(begin, sized(64, VGPU_OP_PADDING));
         submit(guest, begin + 64, sized(64, VGPU_OP_PADDING), 128);
         guest.set_tail(begin + 128);
     },
     VGPU_QUEUE_ERR_PADDING},
    {"PartsTooFew", 0, submit_parts<2, 0>, VGPU_QUEUE_ERR_RECORD_PARTS},
    {"PartsTooMany", 0, submit_parts<2, 9>, VGPU_QUEUE_ERR_RECORD_PARTS},
    {"ParamsThatWrap", 0, submit_parts<0x40000004U, 0>, VGPU_QUEUE_ERR_RECORD_PARTS},
    {"PartsThatWrap", 0, submit_parts<0xFFFFFFFFU, 0xFFFFFFFFU>, VGPU_QUEUE_ERR_RECORD_PARTS},
    {"InlineThatWraps", 0, submit_parts<0, 0xFFFFFFF9U>, VGPU_QUEUE_ERR_RECORD_PARTS},
    {"ReplyUnaligned", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, kLayout.heap_offset + 4, 32); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyOverTheQueues", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, kLayout.heap_offset - 8, 40); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyOverTheHeader", 0, [](auto& guest, auto begin) { submit_reply(guest, begin, 8, 32); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyAtNothing", 0, [](auto& guest, auto begin) { submit_reply(guest, begin, 0, 32); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyTooSmall", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, kLayout.heap_offset, 31); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyWithoutRoom", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, kLayout.heap_offset, 0); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyOverTheEnd", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, kLayout.size - 32, 40); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
    {"ReplyThatWraps", 0,
     [](auto& guest, auto begin) { submit_reply(guest, begin, UINT64_MAX - 7, 0xFFFFFFFFU); },
     VGPU_QUEUE_ERR_REPLY_PLACE},
};
INSTANTIATE_TEST_SUITE_P(All, AttackTest, testing::ValuesIn(kAttacks),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Hostile, PaddingAloneIsNothingToTake) {
    const TestMemory memory;
    RunningQueue<> queue(memory);
    Record record;
    while (memory.queue().control->tail != kNearEnd) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
    }
    submit(RawGuest(memory.queue()), kNearEnd, sized(64, VGPU_OP_PADDING), 64);
    EXPECT_EQ(queue.consumer.take(record), Take::kEmpty);
    EXPECT_EQ(memory.queue().control->head, VGPU_RING_SIZE_MAX);
}

TEST(Hostile, ResetWithATailThatMakesNoSenseEndsStopped) {
    const TestMemory memory;
    RunningQueue<> queue(memory);
    const RawGuest guest(memory.queue());
    Record record;
    guest.set_tail(13);
    guest.ask_for_reset(77);
    ASSERT_EQ(queue.consumer.take(record), Take::kReset);
    static_cast<void>(queue.consumer.finish_reset());
    EXPECT_EQ(queue.consumer.take(record), Take::kStopped);
    EXPECT_EQ(memory.queue().control->reset_ack, 77U);
    EXPECT_EQ(queue.producer.status().error, VGPU_QUEUE_ERR_TAIL_UNALIGNED);
    // A producer corrects the tail that it finds.
    Producer next(memory.queue());
    static_cast<void>(next.request_reset());
    ASSERT_EQ(queue.consumer.take(record), Take::kReset);
    static_cast<void>(queue.consumer.finish_reset());
    EXPECT_EQ(next.reset_progress(), Reset::kRunning);
    EXPECT_EQ(memory.queue().control->tail, 16U);
}

TEST(Hostile, CountsMayWrapAround) {
    const TestMemory memory;
    RunningQueue<> queue(memory);
    const RawGuest guest(memory.queue());
    Record record;
    guest.set_tail(UINT64_MAX - 63);
    Producer producer(memory.queue());
    static_cast<void>(producer.request_reset());
    ASSERT_EQ(queue.consumer.take(record), Take::kReset);
    static_cast<void>(queue.consumer.finish_reset());
    ASSERT_EQ(producer.reset_progress(), Reset::kRunning);
    for (std::uint64_t i = 1; i != 5; ++i) {
        ASSERT_EQ(producer.push(nop(i), {}, {}), Push::kDone);
        static_cast<void>(producer.publish());
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
        ASSERT_EQ(record.header().cookie, i);
    }
}

TEST(Hostile, AtMostOneInterruptForEachCompletion) {
    const TestMemory memory;
    RunningQueue<> queue(memory);
    Record record;
    int interrupts = 0;
    for (int i = 0; i != 100; ++i) {
        ASSERT_EQ(queue.producer.push(nop(), {}, {}), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
        SharedMemory::store_release<std::uint64_t>(memory.queue().control->wake_at, 1);
        interrupts += queue.consumer.complete(1) ? 1 : 0;
    }
    EXPECT_EQ(interrupts, 1) << "a value that stands there is interrupted for once";
}

// The host's memory policy with a worst-case guest: every word of a record changes as soon as it
// has been read.
struct FlippingMemory : SharedMemory {
    static std::uint64_t read(std::uint64_t& word) {
        const std::uint64_t value = SharedMemory::read(word);
        SharedMemory::write(word, ~value);
        return value;
    }
};

TEST(Hostile, WhatChangesAfterTheCopyDoesNotMatter) {
    const TestMemory memory;
    RunningQueue<FlippingMemory> queue(memory);
    Record record;
    const std::array<std::uint32_t, 3> params{1, 2, 3};
    const std::array<std::byte, 3> data{std::byte{4}, std::byte{5}, std::byte{6}};
    for (std::uint64_t i = 0; i != 2000; ++i) {
        ASSERT_EQ(queue.producer.push(nop(i), params, data), Push::kDone);
        static_cast<void>(queue.producer.publish());
        ASSERT_EQ(queue.consumer.take(record), Take::kRecord);
        ASSERT_EQ(record.header().cookie, i);
        ASSERT_EQ(record.header().size, kHeader + 16 + 8);
        ASSERT_TRUE(std::ranges::equal(record.params(), params));
        ASSERT_TRUE(std::ranges::equal(record.inline_data(), data));
    }
}

// Records which words are read, to check that they lie in the ring and how often they are read.
struct WatchedMemory : SharedMemory {
    static inline std::map<const std::uint64_t*, int> reads;
    static inline int control_loads = 0;

    static std::uint64_t read(std::uint64_t& word) {
        ++reads[&word];
        return SharedMemory::read(word);
    }
    template <typename Word>
    static Word load_acquire(Word& word) {
        ++control_loads;
        return SharedMemory::load_acquire(word);
    }
    template <typename Word>
    static Word load_relaxed(Word& word) {
        ++control_loads;
        return SharedMemory::load_relaxed(word);
    }
};

TEST(Hostile, RandomMemoryIsNeverReadOutsideTheRingNorTwiceNorWithoutEnd) {
    const TestMemory memory;
    RunningQueue<WatchedMemory> queue(memory);
    const QueueView view = memory.queue();
    const RawGuest guest(view);
    std::mt19937 random(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same each time
    Record record;
    std::map<Take, int> seen;
    std::map<vgpu_queue_error, int> errors;
    std::uint64_t tail = 0;
    std::uint32_t resets = 1;
    const auto pick = [&](auto... values) {
        const std::array<std::uint64_t, sizeof...(values)> all{
            static_cast<std::uint64_t>(values)...};
        return all[random() % all.size()];
    };
    for (int round = 0; round != 100'000; ++round) {
        vgpu_record header{};
        header.param_count = static_cast<std::uint32_t>(pick(0, 2, 4, random() % 1100, random()));
        header.inline_length = static_cast<std::uint32_t>(pick(0, 8, random() % 4100, random()));
        header.size = static_cast<std::uint32_t>(
            pick(record_size(header.param_count, header.inline_length), kHeader, random() % 4200,
                 view.ring_size - tail % view.ring_size, random()));
        header.opcode = static_cast<std::uint32_t>(pick(VGPU_OP_NOP, VGPU_OP_PADDING, random()));
        header.reply_offset = pick(0, 0, kLayout.heap_offset, kLayout.size - 64, random());
        header.reply_capacity = static_cast<std::uint32_t>(
            header.reply_offset == 0 ? pick(0, 0, 32) : pick(32, 64, random()));
        guest.put(tail, header);
        tail += pick(header.size, header.size, 8, 64, random() % view.ring_size, random());
        guest.set_tail(tail);
        if (random() % 8 == 0) {
            guest.ask_for_reset(++resets);
        }
        SharedMemory::store_release<std::uint64_t>(view.control->wake_at, random() % 3);
        for (int call = 0; call != 3; ++call) {
            WatchedMemory::reads.clear();
            WatchedMemory::control_loads = 0;
            const Take took = queue.consumer.take(record);
            ++seen[took];
            ASSERT_LE(WatchedMemory::reads.size(), 1 + VGPU_RECORD_MAX / 8);
            ASSERT_LE(WatchedMemory::control_loads, 3);
            for (const auto& [word, times] : WatchedMemory::reads) {
                ASSERT_EQ(times, 1);
                ASSERT_GE(word, view.ring);
                ASSERT_LT(word, view.ring + view.ring_size / 8);
            }
            if (took == Take::kRecord) {
                const vgpu_record& taken = record.header();
                ASSERT_LE(taken.size, VGPU_RECORD_MAX);
                ASSERT_EQ(record.params().size(), taken.param_count);
                ASSERT_EQ(record.inline_data().size(), taken.inline_length);
                ASSERT_LE(kHeader + record.params().size_bytes() + record.inline_data().size(),
                          taken.size);
                ASSERT_TRUE(taken.reply_offset == 0 ||
                            kLayout.in_heap(taken.reply_offset, taken.reply_capacity));
                static_cast<void>(queue.consumer.complete(1));
            } else if (took == Take::kReset) {
                static_cast<void>(queue.consumer.finish_reset());
                tail -= tail % 8;
            } else if (took == Take::kStopped) {
                ++errors[queue.consumer.error()];
                // The guest requests a reset, so that the queue is not stopped for the rest of the
                // test.
                tail = view.control->tail & ~std::uint64_t{7};
                guest.set_tail(tail);
                guest.ask_for_reset(++resets);
            }
        }
    }
    // Verifies the coverage of the test.
    EXPECT_GT(seen[Take::kRecord], 1000);
    EXPECT_GT(seen[Take::kReset], 1000);
    EXPECT_GT(seen[Take::kStopped], 1000);
    for (const vgpu_queue_error error :
         {VGPU_QUEUE_ERR_TAIL_UNALIGNED, VGPU_QUEUE_ERR_TAIL_RANGE, VGPU_QUEUE_ERR_RECORD_SIZE,
          VGPU_QUEUE_ERR_RECORD_PAST_TAIL, VGPU_QUEUE_ERR_RECORD_SPLIT, VGPU_QUEUE_ERR_PADDING,
          VGPU_QUEUE_ERR_RECORD_PARTS, VGPU_QUEUE_ERR_REPLY_PLACE}) {
        EXPECT_GT(errors[error], 10) << "error " << error;
    }
}

}  // namespace
}  // namespace vgpu::ring
