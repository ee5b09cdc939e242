// SPDX-License-Identifier: MIT
//
// Guests that write invalid data into shared memory: their queue stops with an error code, other
// queues continue, and the mediator does no more work for them than for others.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "integration/test_mediator.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using SM = ring::SharedMemory;

struct QueueAttack : testing::Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;
    std::unique_ptr<MemoryPeer> peer;
    std::unique_ptr<MemoryPeer> good;

    void start(bool immediate = true) {
        mediator = std::make_unique<TestMediator>(settings, immediate);
        peer = std::make_unique<MemoryPeer>(MemoryPeer::Options{.vm_id = 66});
        good = std::make_unique<MemoryPeer>(MemoryPeer::Options{.vm_id = 1});
        ASSERT_TRUE(peer->attach(mediator->path()));
        ASSERT_TRUE(good->attach(mediator->path()));
        for (const std::uint32_t queue : {0U, 1U}) {
            ASSERT_TRUE(peer->start(queue));
        }
        ASSERT_TRUE(good->start());
    }
    void expect_others_go_on() {
        const auto mine = peer->submit(peer->command(VGPU_OP_CUDA_KERNEL, 9), {1, 2}, 1);
        const auto other = good->submit(good->command(VGPU_OP_CUDA_KERNEL), {3, 4});
        ASSERT_TRUE(mine && peer->wait(*mine, 1));
        EXPECT_EQ(peer->reply(9)->result(0), 3U);
        ASSERT_TRUE(other && good->wait(*other));
        EXPECT_EQ(good->reply()->result(0), 7U);
    }
    // Writes `record` at the tail of queue 0's ring and advances the tail by `bytes`.
    void write_record(const vgpu_record& record, std::uint64_t bytes) {
        const auto queue = peer->layout().queue(peer->base(), 0);
        const std::uint64_t tail = SM::load_relaxed(queue.control->tail);
        std::memcpy(reinterpret_cast<std::byte*>(queue.ring) + tail % queue.ring_size, &record,
                    sizeof record);
        SM::store_release(queue.control->tail, tail + bytes);
        peer->ring();
    }
    void expect_stopped(std::uint32_t error) {
        ASSERT_TRUE(peer->wait_state(VGPU_QUEUE_STOPPED));
        EXPECT_EQ(peer->control().error, error);
        expect_others_go_on();
        ASSERT_TRUE(peer->start()) << "a reset makes it usable again";
        const auto index = peer->submit(peer->command(VGPU_OP_NOP));
        ASSERT_TRUE(index && peer->wait(*index));
    }
    [[nodiscard]] vgpu_record nop() const {
        vgpu_record record{};
        record.size = sizeof record;
        return record;
    }
};

TEST_F(QueueAttack, EachThatMakesNoSenseStopsTheQueueWithItsCode) {
    start();
    vgpu_record record = nop();
    record.size = 8;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_SIZE);
    record.size = 0;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_SIZE);
    record.size = UINT32_MAX & ~7U;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_SIZE);
    record.size = 128;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_PAST_TAIL);
    record = nop();
    record.param_count = UINT32_MAX;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_PARTS);
    record = nop();
    record.inline_length = 1;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_RECORD_PARTS);
    record = nop();
    record.reply_offset = 64;
    record.reply_capacity = 64;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_REPLY_PLACE);
    record.reply_offset = UINT64_MAX - 31;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_REPLY_PLACE);
    record.reply_offset = peer->layout().size - 32;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_REPLY_PLACE);
    record = nop();
    record.opcode = VGPU_OP_PADDING;
    write_record(record, sizeof record);
    expect_stopped(VGPU_QUEUE_ERR_PADDING);
}

TEST_F(QueueAttack, ATailThatCannotBe) {
    start();
    auto& control = peer->control();
    SM::store_release(control.tail, SM::load_relaxed(control.tail) + 3);
    peer->ring();
    expect_stopped(VGPU_QUEUE_ERR_TAIL_UNALIGNED);
    SM::store_release(control.tail, SM::load_relaxed(control.tail) + peer->layout().ring_size + 8);
    peer->ring();
    expect_stopped(VGPU_QUEUE_ERR_TAIL_RANGE);
    SM::store_release(control.tail, SM::load_relaxed(control.tail) - 8);
    peer->ring();
    expect_stopped(VGPU_QUEUE_ERR_TAIL_RANGE);
}

TEST_F(QueueAttack, StoppingIsAFaultAndTooManyPutTheVmIntoQuarantine) {
    settings.vm_default.limits.quarantine_after_faults = 3;
    start();
    for (int i = 0; i < 3; ++i) {
        write_record(vgpu_record{}, 56);
        ASSERT_TRUE(peer->wait_state(VGPU_QUEUE_STOPPED));
        ASSERT_TRUE(peer->start());
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kQuarantined, 1));
    const auto index = peer->submit(peer->command(VGPU_OP_NOP));
    ASSERT_TRUE(index && peer->wait(*index));
    EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_QUARANTINED);
    const auto other = good->submit(good->command(VGPU_OP_NOP));
    ASSERT_TRUE(other && good->wait(*other));
    EXPECT_EQ(good->reply()->header.status, VGPU_ERR_NONE);
}

// The guest can overwrite the words that the mediator writes.
TEST_F(QueueAttack, WhatTheMediatorWroteIsNotReadBack) {
    start();
    auto& control = peer->control();
    for (int i = 0; i < 1000; ++i) {
        SM::store_relaxed(control.head, std::uint64_t{0xDEADBEEF} * i);
        SM::store_relaxed(control.state, static_cast<std::uint32_t>(i));
        SM::store_relaxed(control.doorbell_wanted, ~std::uint64_t{0});
        SM::store_relaxed(control.error_index, std::uint64_t{0});
        SM::store_relaxed(control.wake_at, static_cast<std::uint64_t>(i));
        vgpu_record record = peer->command(VGPU_OP_NOP);
        record.size = sizeof record;
        const std::uint64_t before = SM::load_acquire(control.completed);
        const auto queue = peer->layout().queue(peer->base(), 0);
        const std::uint64_t tail = SM::load_relaxed(control.tail);
        if (tail % queue.ring_size + sizeof record > queue.ring_size) {
            break;
        }
        write_record(record, sizeof record);
        while (SM::load_acquire(control.completed) == before) {
            std::this_thread::yield();
        }
    }
    expect_others_go_on();
    std::memset(peer->base(), 0xFF, 4096);
    expect_others_go_on();
}

// A guest overwrites all of its memory while it is served: nothing outside it is touched (verified
// by sanitizers), and the other VM is still served.
TEST_F(QueueAttack, MemoryThatChangesAllTheTime) {
    start();
    std::atomic<bool> stop{false};
    std::thread scribbler([&] {
        std::mt19937_64 random(1);
        const std::uint64_t words = peer->layout().heap_offset / 8;
        auto* const memory = reinterpret_cast<std::uint64_t*>(peer->base());
        const auto queue = peer->layout().queue(peer->base(), 0);
        while (!stop.load()) {
            for (int i = 0; i < 64; ++i) {
                SM::store_relaxed(memory[512 + random() % (words - 512)],
                                  random() % 3 == 0 ? random() : random() % 4096);
            }
            SM::store_release(queue.control->tail,
                              SM::load_relaxed(queue.control->head) + random() % 512 * 8);
            SM::store_release(queue.control->reset_request,
                              static_cast<std::uint32_t>(random() % 8));
            peer->ring(0);
            peer->ring(1);
        }
    });
    for (std::uint32_t i = 0; i < 500; ++i) {
        const auto index = good->submit(good->command(VGPU_OP_CUDA_KERNEL), {i, 1});
        if (!index || !good->wait(*index)) {
            ADD_FAILURE() << "the other VM is not served any more";
            break;
        }
        EXPECT_EQ(good->reply()->result(0), i + 1);
    }
    stop = true;
    scribbler.join();
}

// The peer shares the descriptor: it can make it blocking, and fill it. The mediator neither waits
// nor fails.
TEST_F(QueueAttack, AnInterruptThatWouldBlockIsNotWaitedFor) {
    start();
    const int interrupt = peer->interrupt();
    eventfd_t count = 0;
    ::eventfd_read(interrupt, &count);
    ASSERT_EQ(::eventfd_write(interrupt, UINT64_MAX - 1), 0);
    ASSERT_EQ(::fcntl(interrupt, F_SETFL, 0), 0);
    SM::store_relaxed(peer->control().wake_at, peer->queue().submitted() + 1);
    SM::fence();
    const auto index = peer->submit(peer->command(VGPU_OP_NOP));
    ASSERT_TRUE(index && peer->wait(*index));
    expect_others_go_on();
    eventfd_t full = 0;
    ASSERT_EQ(::eventfd_read(interrupt, &full), 0);
    EXPECT_GE(full, UINT64_MAX - 1);
    // It works again after it has been read.
    SM::store_relaxed(peer->control().wake_at, peer->queue().submitted() + 1);
    SM::fence();
    ASSERT_TRUE(peer->submit(peer->command(VGPU_OP_NOP)));
    ASSERT_EQ(::eventfd_read(interrupt, &full), 0);
    EXPECT_EQ(full, 1U);
    const auto other = good->submit(good->command(VGPU_OP_CUDA_KERNEL), {3, 4});
    ASSERT_TRUE(other && good->wait(*other));
    EXPECT_EQ(good->reply()->result(0), 7U);
}

// However many records a ring holds, an inline batch is bounded before others get their turn. Each
// inline batch is one event.
class LongestRun final : public EventSink {
  public:
    void on_event(const Event& event) override {
        if (const auto* const run = std::get_if<RequestRun>(&event)) {
            longest = std::max(longest, run->count);
            total += run->count;
        }
    }
    std::uint64_t longest = 0;
    std::uint64_t total = 0;
};

TEST(QueueBounds, RecordsPerTurn) {
    constexpr std::uint64_t kBound = 256;
    constexpr std::uint64_t kCommands = 500;
    TempDir dir;
    boost::asio::io_context io(1);
    LongestRun events;
    SteadyClock clock;
    std::vector<std::unique_ptr<Backend>> backends;
    backends.push_back(std::make_unique<CpuBackend>());
    Mediator mediator(io, Settings{}, std::move(backends), events, clock);
    mediator.add_listener(UnixListener::create(dir.file("s")).value());
    std::thread loop([&] { mediator.run(); });
    {
        MemoryPeer peer({});
        ASSERT_TRUE(peer.attach(dir.file("s")));
        ASSERT_TRUE(peer.start());
        vgpu_record nop{};
        // Publish all at once with one store.
        for (std::uint64_t i = 0; i < kCommands; ++i) {
            ASSERT_EQ(peer.queue().push(nop, {}, {}), ring::Push::kDone);
        }
        if (peer.queue().publish()) {
            peer.ring();
        }
        ASSERT_TRUE(peer.wait(kCommands));
    }
    boost::asio::post(io, [&] {
        mediator.begin_shutdown();
        mediator.begin_shutdown();
    });
    loop.join();
    EXPECT_EQ(events.total, kCommands);
    EXPECT_LE(events.longest, kBound);
    EXPECT_GT(events.longest, 1U) << "and more than one is done at a time";
}

}  // namespace
}  // namespace vgpu::test
