// SPDX-License-Identifier: MIT
//
// ASYNC and SYNCHRONIZE: the order of responses, and which request reports which failure.
#include <gtest/gtest.h>

#include <array>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Ids = std::vector<std::uint32_t>;
using Kind = RecordedEvent::Kind;
using Words = std::vector<std::uint32_t>;

std::vector<std::uint8_t> async_add() {
    return make_request(VGPU_OP_CUDA_KERNEL, Words{1, 2}, {}, VGPU_FLAG_ASYNC);
}

std::vector<std::uint8_t> synchronize() {
    return make_request(VGPU_OP_SYNCHRONIZE);
}

// Expects the next response to belong to this request, with this status.
void expect_answer(WirePeer& peer, std::uint32_t id, std::uint32_t status) {
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, id);
    EXPECT_EQ(answer->response().status, status);
}

TEST(Async, IsAnsweredOnceQueuedAndSynchronizeWhenAllIsDone) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        peer.send_request(id, async_add());
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.request_id, id);
        EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
        EXPECT_EQ(answer->response().result_count, 0U);
    }
    peer.send_request(4, synchronize());
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    mediator.hold->release(2);
    ASSERT_TRUE(mediator.hold->wait_submitted(3));
    EXPECT_EQ(mediator.events.request_ids(Kind::kFinished), (Ids{1, 2}));
    mediator.hold->open();
    expect_answer(peer, 4, VGPU_ERR_NONE);
    EXPECT_EQ(mediator.events.request_ids(Kind::kFinished), (Ids{1, 2, 3, 4}));
    EXPECT_FALSE(peer.receive(std::chrono::milliseconds(0))) << "an answer too many";
}

TEST(Async, SynchronizeTellsTheFirstFailureOnce) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    mediator.hold->fail_next(VGPU_ERR_CUDA_LAUNCH_FAILED);
    peer.send_request(1, async_add());
    expect_answer(peer, 1, VGPU_ERR_NONE);
    peer.send_request(2, make_request(VGPU_OP_MEMORY_FREE, Words{77}, {}, VGPU_FLAG_ASYNC));
    expect_answer(peer, 2, VGPU_ERR_NONE);
    peer.send_request(3, synchronize());
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.hold->open();
    const auto told = peer.receive();
    ASSERT_TRUE(told);
    EXPECT_EQ(told->header.request_id, 3U);
    EXPECT_EQ(told->response().status, VGPU_ERR_CUDA_LAUNCH_FAILED);
    EXPECT_EQ(told->response_text(), "this job was made to fail");
    const auto finished = mediator.events.of(Kind::kFinished);
    ASSERT_EQ(finished.size(), 3U);
    EXPECT_EQ(finished[1].status, VGPU_ERR_CUDA_INVALID_HANDLE);
    peer.send_request(4, synchronize());
    expect_answer(peer, 4, VGPU_ERR_NONE);
}

TEST(Async, AFailureThatWasAnsweredIsNotToldAgain) {
    TestMediator mediator({}, true);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_request(VGPU_OP_MEMORY_FREE, Words{77}));
    expect_answer(peer, 1, VGPU_ERR_CUDA_INVALID_HANDLE);
    peer.send_request(2, synchronize());
    expect_answer(peer, 2, VGPU_ERR_NONE);
}

TEST(Async, SynchronizeConcernsItsOwnVmAlone) {
    TestMediator mediator;
    WirePeer busy = mediator.connect(1);
    WirePeer idle = mediator.connect(2);
    busy.send_request(1, async_add());
    expect_answer(busy, 1, VGPU_ERR_NONE);
    idle.send_request(2, synchronize());
    expect_answer(idle, 2, VGPU_ERR_NONE);
    mediator.hold->open();
}

TEST(Async, WorkThatIsSentAheadIsDoneInOrder) {
    TestMediator mediator({}, true);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, Words{8, 0}));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    const std::uint32_t handle = answer->word(0).value_or(0);
    const std::vector<std::uint8_t> first{1, 2, 3, 4};
    const std::vector<std::uint8_t> second{5, 6};
    peer.send_request(
        2, make_request(VGPU_OP_MEMORY_COPY, Words{0, handle, 0, 0}, first, VGPU_FLAG_ASYNC));
    peer.send_request(
        3, make_request(VGPU_OP_MEMORY_COPY, Words{0, handle, 2, 0}, second, VGPU_FLAG_ASYNC));
    peer.send_request(
        4, make_request(VGPU_OP_MEMORY_COPY, Words{2, handle, 4, 0, handle, 0, 0, 4, 0}, {},
                        VGPU_FLAG_ASYNC));
    peer.send_request(5, make_request(VGPU_OP_MEMORY_COPY, Words{1, handle, 0, 0, 8}));
    for (const std::uint32_t id : {2U, 3U, 4U}) {
        expect_answer(peer, id, VGPU_ERR_NONE);
    }
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response_text(), std::string({1, 2, 5, 6, 1, 2, 5, 6}));
}

TEST(Async, NotEveryOperationCanBe) {
    TestMediator mediator({}, true);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1,
                      make_request(VGPU_OP_MEMORY_COPY, Words{1, 1, 0, 0, 8}, {}, VGPU_FLAG_ASYNC));
    expect_answer(peer, 1, VGPU_ERR_INVALID_REQUEST);
    peer.send_request(2, make_request(VGPU_OP_NOP, {}, {}, VGPU_FLAG_ASYNC));
    expect_answer(peer, 2, VGPU_ERR_NONE);
}

TEST(Async, OnlySoManySynchronizesWait) {
    Settings settings;
    settings.queue = {.per_pool = 10, .per_vm = 2};
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_add(1, 2));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    for (std::uint32_t id = 2; id <= 4; ++id) {
        peer.send_request(id, synchronize());
    }
    expect_answer(peer, 4, VGPU_ERR_QUEUE_FULL);
    mediator.hold->open();
    for (const std::uint32_t id : {1U, 2U, 3U}) {
        expect_answer(peer, id, VGPU_ERR_NONE);
    }
}

TEST(Async, AMediatorThatGivesUpAnswersSynchronize) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, async_add());
    expect_answer(peer, 1, VGPU_ERR_NONE);
    peer.send_request(2, synchronize());
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2));
    mediator.begin_shutdown();
    mediator.begin_shutdown();
    expect_answer(peer, 2, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    mediator.join();
}

}  // namespace
}  // namespace vgpu::test
