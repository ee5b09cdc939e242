// SPDX-License-Identifier: MIT
//
// Commands from shared-memory queues, on the CPU backend and on one that the test holds: every
// operation, order, inline batches and chains, sleeping and doorbells, backpressure.
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>

#include "integration/test_mediator.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;

struct Queues : testing::Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;

    void start(bool immediate = true) {
        mediator = std::make_unique<TestMediator>(settings, immediate);
    }
    // Attaches a peer with shared memory and a running queue 0.
    std::unique_ptr<MemoryPeer> attach(const MemoryPeer::Options& options) {
        auto peer = std::make_unique<MemoryPeer>(options);
        const auto reply = peer->attach(mediator->path());
        EXPECT_TRUE(reply);
        EXPECT_EQ(reply->status, VGPU_HELLO_TAKEN);
        EXPECT_TRUE(peer->start());
        return peer;
    }
    std::unique_ptr<MemoryPeer> attach() { return attach(MemoryPeer::Options{}); }
};

TEST_F(Queues, HelloIsAnsweredAndTheMemoryLaidOut) {
    start();
    MemoryPeer peer({.vm_id = 7});
    const auto reply = peer.attach(mediator->path());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, VGPU_HELLO_TAKEN);
    EXPECT_EQ(reply->layout_version, VGPU_SHM_LAYOUT_VERSION);
    EXPECT_EQ(reply->features, VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES);
    EXPECT_NE(reply->generation, 0U);
    EXPECT_EQ(peer.layout().read_generation(peer.base()), reply->generation);
    EXPECT_EQ(peer.control().state, VGPU_QUEUE_STOPPED);
    EXPECT_EQ(peer.control().error, VGPU_QUEUE_ERR_NOT_STARTED);
}

TEST_F(Queues, NopAddAndInfo) {
    start();
    const auto peer = attach();
    auto index = peer->submit(peer->command(VGPU_OP_NOP));
    ASSERT_TRUE(index);
    ASSERT_TRUE(peer->wait(*index));
    ASSERT_TRUE(peer->reply());
    EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_NONE);
    EXPECT_EQ(peer->reply()->header.cookie, 1000U);

    index = peer->submit(peer->command(VGPU_OP_CUDA_KERNEL, 1), {100, 200});
    ASSERT_TRUE(peer->wait(*index));
    EXPECT_EQ(peer->reply(1)->result(0), 300U);

    index = peer->submit(peer->command(VGPU_OP_GET_DEVICE_INFO, 2));
    ASSERT_TRUE(peer->wait(*index));
    EXPECT_EQ(peer->reply(2)->header.result_count, VGPU_INFO_RESULT_COUNT);
    EXPECT_GT(peer->reply(2)->data.size(), 2U);
}

TEST_F(Queues, CopiesAndOperandsInTheHeap) {
    start();
    const auto peer = attach();
    constexpr std::uint32_t kCount = 10000;
    constexpr std::uint32_t kBytes = kCount * 4;
    const std::uint64_t place = peer->data_offset();
    const auto sent = peer->words<std::uint32_t>(place, kCount);
    const auto back = peer->words<std::uint32_t>(place + kBytes, kCount);
    std::iota(sent.begin(), sent.end(), 5U);

    auto index = peer->submit(peer->command(VGPU_OP_MEMORY_ALLOC), {kBytes, 0});
    ASSERT_TRUE(peer->wait(*index));
    const std::uint32_t handle = peer->reply()->result(0);
    vgpu_record copy = peer->command(VGPU_OP_MEMORY_COPY, 1);
    copy.data_offset = place;
    copy.data_length = kBytes;
    ASSERT_TRUE(peer->submit(copy, {VGPU_COPY_TO_DEVICE, handle, 0, 0}));
    // handle += heap, then back.
    const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
    vgpu_record add = peer->command(VGPU_OP_VECTOR_ADD, 2);
    add.flags = VGPU_FLAG_HEAP_OPERANDS;
    ASSERT_TRUE(peer->submit(
        add, {VGPU_TYPE_I32, handle, 0, handle, 0, low(place), VGPU_OPERAND_HI_HEAP, kCount, 0}));
    copy = peer->command(VGPU_OP_MEMORY_COPY, 3);
    copy.data_offset = place + kBytes;
    copy.data_length = kBytes;
    ASSERT_TRUE(peer->submit(copy, {VGPU_COPY_FROM_DEVICE, handle, 0, 0}));
    vgpu_record sum = peer->command(VGPU_OP_REDUCE_SUM, 4);
    sum.flags = VGPU_FLAG_HEAP_OPERANDS;
    ASSERT_TRUE(peer->submit(sum, {VGPU_TYPE_I32, low(place), VGPU_OPERAND_HI_HEAP, kCount, 0}));
    index = peer->submit(peer->command(VGPU_OP_MEMORY_FREE, 5), {handle});
    ASSERT_TRUE(peer->wait(*index));
    for (std::uint64_t n = 0; n <= 5; ++n) {
        ASSERT_TRUE(peer->reply(n)) << n;
        EXPECT_EQ(peer->reply(n)->header.status, VGPU_ERR_NONE) << n;
    }
    for (std::uint32_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(back[i], 2 * sent[i]) << i;
    }
    EXPECT_EQ(peer->reply(4)->result(0),
              std::accumulate(sent.begin(), sent.end(), std::uint32_t{0}));
}

TEST_F(Queues, MemoryThatADeviceCannotTakeIsReportedOnceAndTriedAgain) {
    settings.vm_default.limits.quarantine_after_faults = 1;
    mediator = std::make_unique<TestMediator>(settings);
    mediator->hold->open();
    mediator->hold->fail_attaches(2);
    const auto peer = attach();
    const std::uint64_t place = peer->data_offset();
    *peer->words<std::uint32_t>(place, 1).data() = 41;
    const auto sum = [&] {
        vgpu_record record = peer->command(VGPU_OP_REDUCE_SUM);
        record.flags = VGPU_FLAG_HEAP_OPERANDS;
        const auto index = peer->submit(
            record, {VGPU_TYPE_I32, static_cast<std::uint32_t>(place), VGPU_OPERAND_HI_HEAP, 1, 0});
        EXPECT_TRUE(index && peer->wait(*index));
        return peer->reply();
    };
    EXPECT_EQ(sum()->header.status, VGPU_ERR_CUDA);
    // It fails during the whole back-off and does not count as a fault of the VM.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    auto reply = sum();
    while (reply->header.status == VGPU_ERR_CUDA && std::chrono::steady_clock::now() < deadline) {
        reply = sum();
    }
    EXPECT_EQ(reply->header.status, VGPU_ERR_NONE);
    EXPECT_EQ(reply->result(0), 41U);
    const auto notices = mediator->events.of(Kind::kNotice);
    ASSERT_EQ(notices.size(), 1U);
    EXPECT_NE(notices[0].text.find("could not map the shared memory of VM 1"), std::string::npos)
        << notices[0].text;
}

TEST_F(Queues, ManyNopsInOrderWithoutReplies) {
    start();
    const auto peer = attach();
    constexpr std::uint64_t kCommands = 100000;
    std::uint64_t submitted = 0;
    vgpu_record nop{};
    nop.opcode = VGPU_OP_NOP;
    while (submitted < kCommands) {
        const auto index = peer->submit(nop);
        if (!index) {
            ASSERT_TRUE(peer->wait(peer->queue().submitted()));
            continue;
        }
        submitted = *index;
    }
    ASSERT_TRUE(peer->wait(submitted));
    EXPECT_EQ(peer->control().completed, kCommands);
}

TEST_F(Queues, ASleeperIsWokenEitherWay) {
    settings.spin = std::chrono::microseconds(0);
    start();
    const auto peer = attach();
    for (int i = 0; i < 200; ++i) {
        const auto index = peer->submit(peer->command(VGPU_OP_NOP));
        ASSERT_TRUE(index);
        if (!peer->queue().prepare_sleep(*index)) {
            continue;
        }
        pollfd entry{.fd = peer->interrupt(), .events = POLLIN, .revents = 0};
        ASSERT_EQ(::poll(&entry, 1, 20000), 1) << i;
        std::uint64_t count = 0;
        ASSERT_EQ(::read(peer->interrupt(), &count, sizeof count), 8);
        peer->queue().wake();
        ASSERT_EQ(peer->queue().poll(*index), ring::Progress::kReached) << i;
    }
}

TEST_F(Queues, RegistersAndQueuesAtOnce) {
    start();
    const auto peer = attach();
    for (std::uint32_t i = 0; i < 100; ++i) {
        peer->wire().send_request(i, make_add(i, 1));
        const auto index = peer->submit(peer->command(VGPU_OP_CUDA_KERNEL), {i, 2});
        const auto answer = peer->wire().receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->word(0), i + 1);
        ASSERT_TRUE(peer->wait(*index));
        EXPECT_EQ(peer->reply()->result(0), i + 2);
    }
}

// A flood by queue or by socket must not starve others.
TEST_F(Queues, AFloodOnEitherWayLeavesTheOtherItsTurn) {
    start();
    const auto flooder = attach({.vm_id = 66});
    const auto good = attach({.vm_id = 1});
    std::atomic<bool> stop{false};
    std::thread by_queue([&] {
        vgpu_record nop{};
        while (!stop.load()) {
            static_cast<void>(flooder->queue().push(nop, {}, {}));
            if (flooder->queue().publish()) {
                flooder->ring();
            }
        }
    });
    for (std::uint32_t i = 0; i < 200; ++i) {
        good->wire().send_request(i, make_add(i, 3));
        const auto answer = good->wire().receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->word(0), i + 3);
    }
    stop = true;
    by_queue.join();

    stop = false;
    WirePeer talker = mediator->connect(67);
    std::thread by_socket([&] {
        // Keep more than one turn's work in flight.
        std::uint32_t sent = 0;
        for (; sent < 100; ++sent) {
            talker.send_request(sent, make_request(VGPU_OP_NOP));
        }
        while (!stop.load() && talker.receive()) {
            talker.send_request(sent++, make_request(VGPU_OP_NOP));
        }
    });
    for (std::uint32_t i = 0; i < 200; ++i) {
        const auto index = good->submit(good->command(VGPU_OP_CUDA_KERNEL), {i, 4});
        ASSERT_TRUE(index && good->wait(*index));
        EXPECT_EQ(good->reply()->result(0), i + 4);
    }
    stop = true;
    by_socket.join();
}

TEST_F(Queues, WhatACommandCannotDoIsSaid) {
    start();
    const auto peer = attach();
    const auto status_of = [&](vgpu_record command,
                               std::initializer_list<std::uint32_t> params) -> std::uint32_t {
        const auto index = peer->submit(command, params);
        EXPECT_TRUE(index && peer->wait(*index));
        const auto reply = peer->reply();
        EXPECT_TRUE(reply);
        EXPECT_FALSE(reply->data.empty()) << "the error text names the cause";
        return reply->header.status;
    };
    vgpu_record command = peer->command(0x0FFF);
    EXPECT_EQ(status_of(command, {}), VGPU_ERR_UNSUPPORTED_OPERATION);
    command = peer->command(VGPU_OP_NOP);
    command.flags = 1U << 9U;
    EXPECT_EQ(status_of(command, {}), VGPU_ERR_INVALID_REQUEST);
    command = peer->command(VGPU_OP_NOP);
    command.flags = VGPU_FLAG_HEAP_OPERANDS;
    EXPECT_EQ(status_of(command, {}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status_of(peer->command(VGPU_OP_CUDA_KERNEL), {1}), VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status_of(peer->command(VGPU_OP_MEMORY_FREE), {77}), VGPU_ERR_CUDA_INVALID_HANDLE);
    command = peer->command(VGPU_OP_MEMORY_COPY);
    command.data_offset = peer->layout().size - 4;
    command.data_length = 8;
    EXPECT_EQ(status_of(command, {VGPU_COPY_TO_DEVICE, 1, 0, 0}), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    command.data_offset = 0;
    EXPECT_EQ(status_of(command, {VGPU_COPY_TO_DEVICE, 1, 0, 0}), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    command.data_offset = UINT64_MAX - 3;
    EXPECT_EQ(status_of(command, {VGPU_COPY_FROM_DEVICE, 1, 0, 0}), VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    command = peer->command(VGPU_OP_REDUCE_SUM);
    command.flags = VGPU_FLAG_HEAP_OPERANDS;
    const auto place = static_cast<std::uint32_t>(peer->data_offset());
    EXPECT_EQ(status_of(command, {0, place, VGPU_OPERAND_HI_HEAP, 0, 0x40000000}),
              VGPU_ERR_CUDA_OUT_OF_BOUNDS);
    EXPECT_EQ(status_of(command, {0, 64, VGPU_OPERAND_HI_HEAP, 1, 0}), VGPU_ERR_CUDA_OUT_OF_BOUNDS)
        << "the header is not the heap";
    EXPECT_EQ(status_of(command, {0, place + 2, VGPU_OPERAND_HI_HEAP, 1, 0}),
              VGPU_ERR_INVALID_REQUEST);
    EXPECT_EQ(status_of(command, {0, 1, 7, 1, 0}), VGPU_ERR_CUDA_INVALID_HANDLE);
    const auto index = peer->submit(peer->command(VGPU_OP_NOP));
    EXPECT_TRUE(peer->wait(*index)) << "the queue continues";
}

TEST_F(Queues, SynchronizeTellsOfAFailureWithoutReply) {
    start();
    const auto peer = attach();
    vgpu_record silent{};
    silent.opcode = VGPU_OP_MEMORY_FREE;
    ASSERT_TRUE(peer->submit(silent, {99}));
    auto index = peer->submit(peer->command(VGPU_OP_SYNCHRONIZE));
    ASSERT_TRUE(peer->wait(*index));
    EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_CUDA_INVALID_HANDLE);
    index = peer->submit(peer->command(VGPU_OP_SYNCHRONIZE));
    ASSERT_TRUE(peer->wait(*index));
    EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_NONE);
}

}  // namespace
}  // namespace vgpu::test
