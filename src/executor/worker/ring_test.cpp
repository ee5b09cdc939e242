// SPDX-License-Identifier: MIT
//
// The queue between the mediator and a worker, and the contents of its records. Two threads act as
// the two processes.
#include "executor/worker/ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <semaphore>
#include <string>
#include <thread>

#include "executor/worker/records.h"

namespace vgpu::worker {
namespace {

struct Text {
    std::uint32_t number;
    std::uint32_t length;
    std::array<char, 300> bytes;
};
template <std::uint32_t kSlots>
using TextRing = Ring<Text, kSlots>;

// Returns the content of the record with this number.
std::string text_of(std::uint32_t number) {
    std::mt19937 random(number);
    std::string text(random() % 301, '\0');
    for (char& byte : text) {
        byte = static_cast<char>(random());
    }
    return text;
}

template <typename Writer>
bool write(Writer& writer, std::uint32_t number) {
    Text* const record = writer.reserve();
    if (record == nullptr) {
        return false;
    }
    const std::string text = text_of(number);
    record->number = number;
    record->length = static_cast<std::uint32_t>(text.size());
    std::copy(text.begin(), text.end(), record->bytes.begin());
    EXPECT_FALSE(writer.commit()) << "the peer is not asleep";
    return true;
}

void expect_text(const Text& record, std::uint32_t number) {
    ASSERT_EQ(record.number, number);
    ASSERT_EQ(std::string(record.bytes.data(), record.length), text_of(number));
}

TEST(WorkerRing, HoldsWhatFitsAndNoMore) {
    const auto ring = std::make_unique<TextRing<4>>();
    RingWriter writer(*ring);
    RingReader reader(*ring);
    EXPECT_EQ(reader.peek(), nullptr);
    for (std::uint32_t i = 0; i < 4; ++i) {
        ASSERT_TRUE(write(writer, i));
    }
    EXPECT_FALSE(write(writer, 4));
    for (std::uint32_t i = 0; i < 4; ++i) {
        const Text* const record = reader.peek();
        ASSERT_NE(record, nullptr);
        expect_text(*record, i);
        reader.take();
        ASSERT_TRUE(write(writer, 4 + i)) << "a place taken is a place free";
        ASSERT_FALSE(write(writer, 99));
    }
    for (std::uint32_t i = 4; i < 8; ++i) {
        const Text* const record = reader.peek();
        ASSERT_NE(record, nullptr);
        expect_text(*record, i);
        reader.take();
    }
    EXPECT_EQ(reader.peek(), nullptr);
    EXPECT_FALSE(reader.corrupt());
}

// The counts wrap around at 2^32 during the test.
TEST(WorkerRing, CarriesRecordsOfAnySizeInTheirOrder) {
    constexpr std::uint32_t kRecords = 20000;
    const auto ring = std::make_unique<TextRing<8>>();
    ring->written = ring->read = 0U - kRecords / 2;
    std::thread other([&] {
        RingWriter writer(*ring);
        for (std::uint32_t i = 0; i < kRecords; ++i) {
            while (!write(writer, i)) {
                std::this_thread::yield();
            }
        }
    });
    RingReader reader(*ring);
    for (std::uint32_t i = 0; i < kRecords; ++i) {
        const Text* record = nullptr;
        while ((record = reader.peek()) == nullptr) {
            std::this_thread::yield();
        }
        expect_text(*record, i);
        reader.take();
    }
    other.join();
    EXPECT_EQ(reader.peek(), nullptr);
    EXPECT_FALSE(reader.corrupt());
}

TEST(WorkerRing, WakesASleeperAndNobodyElse) {
    const auto ring = std::make_unique<Ring<std::uint32_t, 4>>();
    RingWriter writer(*ring);
    RingReader reader(*ring);
    const auto commit = [&] { return writer.reserve() != nullptr && writer.commit(); };
    EXPECT_FALSE(commit());
    reader.set_sleeping(true);
    EXPECT_NE(reader.peek(), nullptr) << "what came before has to be polled for";
    EXPECT_TRUE(commit());
    EXPECT_FALSE(commit()) << "it has been woken";
    reader.set_sleeping(true);
    reader.set_sleeping(false);
    EXPECT_FALSE(commit());
}

TEST(WorkerRing, LosesNoWake) {
    constexpr std::uint32_t kRecords = 50000;
    // On a busy machine each handover takes a time slice: the test then transfers fewer records.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    const auto ring = std::make_unique<Ring<std::uint32_t, 2>>();
    std::counting_semaphore<kRecords> wakes(0);
    std::atomic<bool> stop = false;
    std::thread other([&] {
        RingWriter writer(*ring);
        for (std::uint32_t i = 0; i < kRecords && !stop;) {
            if (std::uint32_t* const record = writer.reserve()) {
                *record = i++;
                if (writer.commit()) {
                    wakes.release();
                }
            } else {
                std::this_thread::yield();
            }
        }
    });
    RingReader reader(*ring);
    bool lost = false;
    for (std::uint32_t i = 0; i < kRecords && !lost && std::chrono::steady_clock::now() < end;) {
        reader.set_sleeping(true);
        if (reader.peek() == nullptr) {
            lost = !wakes.try_acquire_for(std::chrono::seconds(20));
        }
        reader.set_sleeping(false);
        while (const std::uint32_t* const record = reader.peek()) {
            ASSERT_EQ(*record, i++);
            reader.take();
        }
    }
    EXPECT_FALSE(lost);
    stop = true;
    other.join();
}

TEST(WorkerRing, ACountThatMakesNoSenseEndsIt) {
    const auto ring = std::make_unique<TextRing<4>>();
    RingReader reader(*ring);
    ring->written = 5;
    EXPECT_EQ(reader.peek(), nullptr);
    EXPECT_TRUE(reader.corrupt());
    RingWriter writer(*ring);
    ring->read = 0x80000000;
    for (int i = 0; i < 10; ++i) {
        if (writer.reserve() != nullptr) {
            EXPECT_LT(i, 4);
            static_cast<void>(writer.commit());
        }
    }
    EXPECT_EQ(writer.reserve(), nullptr);
}

TEST(WorkerRecords, CarryAJobWhole) {
    Job job{.token = 0x123456789AU, .opcode = VGPU_OP_MATMUL, .params = {1, 2}};
    job.buffers = {3, 4, 5};
    job.offsets = {6, 7};
    job.length = 8;
    job.copy = VGPU_COPY_WITHIN_DEVICE;
    job.type = VGPU_TYPE_I32;
    job.alpha = 9;
    job.extents = {10, 11, 12};
    job.data = std::string(kDataCapacity, '\0');
    JobRecord record{};
    ASSERT_TRUE(write_job(job, record));
    const auto read = read_job(record);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->token, job.token);
    EXPECT_EQ(read->opcode, job.opcode);
    EXPECT_EQ(read->params, job.params);
    EXPECT_EQ(read->buffers, job.buffers);
    EXPECT_EQ(read->offsets, job.offsets);
    EXPECT_EQ(read->length, job.length);
    EXPECT_EQ(read->copy, job.copy);
    EXPECT_EQ(read->type, job.type);
    EXPECT_EQ(read->alpha, job.alpha);
    EXPECT_EQ(read->extents, job.extents);
    EXPECT_EQ(read->data, job.data);
    job.data.push_back('x');
    EXPECT_FALSE(write_job(job, record));
    record.data_length = kDataCapacity + 1;
    EXPECT_FALSE(read_job(record));
}

TEST(WorkerRecords, CarryACompletionWholeButForTheEndOfALongSentence) {
    Completion completion{.token = 7, .outcome = {}, .change = DeviceChange::kFailed};
    completion.outcome.status = VGPU_ERR_CUDA;
    completion.outcome.exec_time_us = 8;
    completion.outcome.result_count = 2;
    completion.outcome.results = {9, 10};
    completion.outcome.buffer = 11;
    completion.outcome.device_failed = true;
    completion.outcome.data = std::string(kDataCapacity, 'x') + "y";
    CompletionRecord record{};
    write_completion(completion, record);
    const auto read = read_completion(record);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->token, 7U);
    EXPECT_EQ(read->change, DeviceChange::kFailed);
    EXPECT_EQ(read->outcome.status, VGPU_ERR_CUDA);
    EXPECT_EQ(read->outcome.exec_time_us, 8U);
    EXPECT_EQ(read->outcome.result_count, 2U);
    EXPECT_EQ(read->outcome.results, completion.outcome.results);
    EXPECT_EQ(read->outcome.buffer, 11U);
    EXPECT_TRUE(read->outcome.device_failed);
    EXPECT_EQ(read->outcome.data, std::string(kDataCapacity, 'x'));
}

TEST(WorkerRecords, AreHeldAgainstTheirLimits) {
    CompletionRecord record{};
    EXPECT_TRUE(read_completion(record));
    record.data_length = 0xFFFFFFFF;
    EXPECT_FALSE(read_completion(record));
    record.data_length = 0;
    record.result_count = VGPU_INFO_RESULT_COUNT + 1;
    EXPECT_FALSE(read_completion(record));
    record.result_count = 0;
    record.change = 3;
    EXPECT_FALSE(read_completion(record));
    Greeting greeting = greeting_of(DeviceInfo{});
    EXPECT_TRUE(read_greeting(greeting));
    greeting.text_length = kDataCapacity + 1;
    EXPECT_FALSE(read_greeting(greeting));
    greeting.text_length = 0;
    greeting.magic = 0;
    EXPECT_FALSE(read_greeting(greeting));
}

}  // namespace
}  // namespace vgpu::worker
