// SPDX-License-Identifier: MIT
//
// Scheduling of queue commands along with requests of sessions: commands in flight on a device,
// behind those in a chain, and cancelled. The test holds the backend.
#include <gtest/gtest.h>

#include <algorithm>

#include "integration/test_mediator.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using testing::Test;

struct QueueOrder : Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;

    void start() { mediator = std::make_unique<TestMediator>(settings, false); }
    std::unique_ptr<MemoryPeer> attach(std::uint32_t vm_id,
                                       std::uint8_t priority = VGPU_PRIORITY_MEDIUM) {
        auto peer =
            std::make_unique<MemoryPeer>(MemoryPeer::Options{.vm_id = vm_id, .priority = priority});
        EXPECT_TRUE(peer->attach(mediator->path()));
        EXPECT_TRUE(peer->start());
        return peer;
    }
    static vgpu_record add(const MemoryPeer& peer, std::uint64_t n) {
        return peer.command(VGPU_OP_CUDA_KERNEL, n);
    }
};

TEST_F(QueueOrder, HighBeforeMediumBeforeLow) {
    start();
    const auto first = attach(10);
    const auto low = attach(1, VGPU_PRIORITY_LOW);
    const auto medium = attach(2, VGPU_PRIORITY_MEDIUM);
    const auto high = attach(3, VGPU_PRIORITY_HIGH);
    // The device is busy while the others are accepted, the low one first.
    const auto busy = first->submit(add(*first, 0), {1, 1});
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    std::size_t accepted = 1;
    for (MemoryPeer* const peer : {low.get(), medium.get(), high.get()}) {
        ASSERT_TRUE(peer->submit(add(*peer, 0), {2, 2}));
        ASSERT_TRUE(mediator->events.wait_for(Kind::kAccepted, ++accepted));
    }
    for (std::size_t i = 1; i <= 4; ++i) {
        ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, i));
        mediator->hold->release(1);
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kFinished, 4));
    std::vector<std::uint32_t> order;
    for (const auto& event : mediator->events.of(Kind::kStarted)) {
        order.push_back(event.vm_id);
    }
    EXPECT_EQ(order, (std::vector<std::uint32_t>{10, 3, 2, 1}));
    EXPECT_TRUE(first->wait(*busy));
}

TEST_F(QueueOrder, AQueueAloneFillsThePipelineAndNoMore) {
    settings.queues_pipeline = 4;
    start();
    const auto peer = attach(1);
    std::uint64_t last = 0;
    for (std::uint64_t n = 0; n < 10; ++n) {
        last = *peer->submit(add(*peer, n), {static_cast<std::uint32_t>(n), 1});
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 4));
    // Commands beyond the pipeline stay in the ring.
    peer->wire().send(peer->wire().header(VGPU_MSG_PING, 1));
    ASSERT_TRUE(peer->wire().receive());
    EXPECT_EQ(mediator->events.of(Kind::kStarted).size(), 4U);
    mediator->hold->release(10);
    ASSERT_TRUE(peer->wait(last));
    for (std::uint64_t n = 0; n < 10; ++n) {
        EXPECT_EQ(peer->reply(n)->result(0), n + 1);
    }
}

TEST_F(QueueOrder, AChainIsNotExtendedWhileAnotherWaits) {
    start();
    const auto one = attach(1);
    const auto two = attach(2);
    ASSERT_TRUE(one->submit(add(*one, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    ASSERT_TRUE(two->submit(add(*two, 0), {2, 2}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kAccepted, 2));
    const auto later = one->submit(add(*one, 1), {3, 3});
    ASSERT_TRUE(mediator->events.wait_for(Kind::kAccepted, 3));
    for (std::size_t i = 1; i <= 3; ++i) {
        ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, i));
        mediator->hold->release(1);
    }
    ASSERT_TRUE(one->wait(*later));
    std::vector<std::uint32_t> order;
    for (const auto& event : mediator->events.of(Kind::kStarted)) {
        order.push_back(event.vm_id);
    }
    EXPECT_EQ(order, (std::vector<std::uint32_t>{1, 2, 1}));
}

TEST_F(QueueOrder, AResetWaitsForWhatIsUnderWay) {
    start();
    const auto peer = attach(1);
    ASSERT_TRUE(peer->submit(add(*peer, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    if (peer->queue().request_reset()) {
        peer->ring();
    }
    ASSERT_TRUE(peer->wait_state(VGPU_QUEUE_RESETTING));
    EXPECT_EQ(peer->queue().reset_progress(), ring::Reset::kPending);
    mediator->hold->release(1);
    ASSERT_TRUE(peer->wait_state(VGPU_QUEUE_RUNNING));
    EXPECT_EQ(peer->queue().reset_progress(), ring::Reset::kRunning);
    EXPECT_EQ(peer->control().completed, 1U) << "the timeline stays";
}

TEST_F(QueueOrder, ADeviceResetWaitsForWhatIsUnderWay) {
    start();
    const auto peer = attach(1);
    ASSERT_TRUE(peer->submit(add(*peer, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    peer->send_reset();
    peer->wire().send(peer->wire().header(VGPU_MSG_PING, 1));
    const auto pong = peer->wire().receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG) << "not answered before";
    mediator->hold->release(1);
    ASSERT_TRUE(peer->receive_reply(VGPU_MSG_SHM_RESET_DONE));
    ASSERT_TRUE(peer->start());
}

TEST_F(QueueOrder, MemoryIsTakenAgainOnlyWhenNothingOfBeforeIsUnderWay) {
    start();
    const auto peer = attach(1);
    ASSERT_TRUE(peer->submit(add(*peer, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    peer->disconnect();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    peer->connect(mediator->path());
    peer->send_hello(peer->hello(), std::array{peer->memory()});
    for (std::uint32_t i = 0; i < 2; ++i) {
        peer->send_hello_queue(i, std::array{peer->doorbell(i), peer->interrupt(i)});
    }
    peer->wire().send(peer->wire().header(VGPU_MSG_PING, 1));
    const auto pong = peer->wire().receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    mediator->hold->release(1);
    const auto reply = peer->receive_reply();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, VGPU_HELLO_TAKEN);
    EXPECT_EQ(peer->control().completed, 0U);
    ASSERT_TRUE(peer->start());
    mediator->hold->release(1);
    const auto index = peer->submit(add(*peer, 1), {2, 3});
    ASSERT_TRUE(peer->wait(*index));
    EXPECT_EQ(peer->reply(1)->result(0), 5U);
}

TEST_F(QueueOrder, WhatWaitsWhenTheConnectionGoesIsDropped) {
    start();
    const auto holder = attach(9);
    const auto peer = attach(1);
    ASSERT_TRUE(holder->submit(add(*holder, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    ASSERT_TRUE(peer->submit(add(*peer, 0), {1, 1}));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kAccepted, 2));
    peer->disconnect();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kDropped, 1));
    mediator->hold->release(5);
    ASSERT_TRUE(holder->wait(1));
    const auto next = holder->submit(add(*holder, 1), {2, 2});
    ASSERT_TRUE(holder->wait(*next));
}

TEST_F(QueueOrder, AFullPoolMakesAQueueWaitInsteadOfFailing) {
    settings.queue.per_pool = 1;
    start();
    const auto one = attach(1);
    const auto two = attach(2);
    const auto three = attach(3);
    std::vector<std::pair<MemoryPeer*, std::uint64_t>> submitted;
    for (MemoryPeer* const peer : {one.get(), two.get(), three.get()}) {
        submitted.emplace_back(peer, *peer->submit(add(*peer, 0), {20, 3}));
    }
    mediator->hold->release(3);
    for (const auto& [peer, index] : submitted) {
        ASSERT_TRUE(peer->wait(index));
        EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_NONE);
        EXPECT_EQ(peer->reply()->result(0), 23U);
    }
}

TEST_F(QueueOrder, LimitsHoldForQueues) {
    settings.vm_default.limits.requests_per_second = 1e-6;
    settings.vm_default.limits.burst = 3;
    start();
    const auto peer = attach(1);
    mediator->hold->release(10);
    std::size_t done = 0;
    std::size_t limited = 0;
    for (std::uint64_t n = 0; n < 6; ++n) {
        const auto index = peer->submit(peer->command(VGPU_OP_NOP, n));
        ASSERT_TRUE(index && peer->wait(*index));
        const auto status = peer->reply(n)->header.status;
        done += status == VGPU_ERR_NONE ? 1 : 0;
        limited += status == VGPU_ERR_RATE_LIMITED ? 1 : 0;
    }
    EXPECT_EQ(done, 3U);
    EXPECT_EQ(limited, 3U);
}

TEST_F(QueueOrder, ASecondStopAnswersWhatIsUnderWay) {
    start();
    const auto peer = attach(1);
    const auto index = peer->submit(add(*peer, 0), {1, 1});
    ASSERT_TRUE(mediator->events.wait_for(Kind::kStarted, 1));
    mediator->begin_shutdown();
    const auto refused = peer->submit(peer->command(VGPU_OP_NOP, 1));
    mediator->begin_shutdown();
    mediator->join();
    EXPECT_EQ(peer->queue().poll(*index), ring::Progress::kReached);
    EXPECT_EQ(peer->reply()->header.status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_NE(peer->queue().poll(*refused), ring::Progress::kPending);
}

}  // namespace
}  // namespace vgpu::test
