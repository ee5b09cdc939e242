// SPDX-License-Identifier: MIT
//
// The order in which requests run, and the routing of responses. Queues are filled behind a request
// that the test holds, so nothing depends on timing.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using Ids = std::vector<std::uint32_t>;

TEST(Order, HighBeforeMediumBeforeLowAndFirstComeFirstServedWithin) {
    TestMediator mediator;
    WirePeer blocker = mediator.connect(9);
    WirePeer low = mediator.connect(1, 'A', VGPU_PRIORITY_LOW);
    WirePeer medium = mediator.connect(2, 'A', VGPU_PRIORITY_MEDIUM);
    WirePeer high = mediator.connect(3, 'A', VGPU_PRIORITY_HIGH);
    blocker.send_request(100, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    std::size_t accepted = 1;
    const auto send = [&](WirePeer& peer, std::uint32_t id) {
        peer.send_request(id, make_add(id, 1000));
        ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++accepted));
    };
    send(low, 1);
    send(medium, 2);
    send(high, 3);
    send(low, 4);
    send(high, 5);
    send(medium, 6);
    mediator.hold->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 7));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{100, 3, 5, 2, 6, 1, 4}));
    EXPECT_EQ(mediator.events.request_ids(Kind::kFinished), (Ids{100, 3, 5, 2, 6, 1, 4}));
    for (const std::uint32_t id : {1U, 4U}) {
        const auto answer = low.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.request_id, id);
        EXPECT_EQ(answer->word(0), id + 1000);
    }
}

TEST(Order, ALateHighRequestOvertakesWhatWaits) {
    TestMediator mediator;
    WirePeer low = mediator.connect(1, 'A', VGPU_PRIORITY_LOW);
    WirePeer high = mediator.connect(2, 'A', VGPU_PRIORITY_HIGH);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        low.send_request(id, make_add(0, 0));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.hold->release(1);
    ASSERT_TRUE(mediator.hold->wait_submitted(2));
    high.send_request(10, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    mediator.hold->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 4));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 2, 10, 3}));
}

TEST(Order, PoolsOnOneDeviceTakeTurns) {
    TestMediator mediator;
    WirePeer a = mediator.connect(1, 'A');
    WirePeer b = mediator.connect(2, 'B');
    a.send_request(1, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    for (std::uint32_t id = 2; id <= 4; ++id) {
        a.send_request(id, make_add(0, 0));
        b.send_request(id + 10, make_add(0, 0));
        ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2 * id - 1));
    }
    mediator.hold->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 7));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 12, 2, 13, 3, 14, 4}));
}

TEST(Order, SlotsSayHowManyRunAtOnceAndAVmHasOneOfThem) {
    Settings settings;
    settings.slots = 2;
    TestMediator mediator(settings);
    WirePeer first = mediator.connect(1);
    WirePeer second = mediator.connect(2);
    WirePeer third = mediator.connect(3);
    first.send_request(1, make_add(0, 0));
    first.send_request(2, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2));
    second.send_request(3, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    third.send_request(4, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, 2));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 3}));
    mediator.hold->release(1);
    ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, 3));
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 3, 2}));
    mediator.hold->open();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kFinished, 4));
}

TEST(Answers, GoToTheConnectionThatAskedWithItsOwnIds) {
    Settings settings;
    settings.allow_duplicate_vm_id = true;
    TestMediator mediator(settings, true);
    constexpr std::uint32_t kPeers = 7;
    constexpr std::uint32_t kRounds = 50;
    std::vector<WirePeer> peers;
    for (std::uint32_t i = 0; i < kPeers; ++i) {
        // The first two share a VM id, yet each connection gets its own responses.
        peers.push_back(mediator.connect(i < 2 ? 1 : i, i % 2 == 0 ? 'A' : 'B',
                                         static_cast<std::uint8_t>(i % 3)));
    }
    for (std::uint32_t round = 0; round < kRounds; ++round) {
        for (std::uint32_t i = 0; i < kPeers; ++i) {
            peers[i].send_request(round, make_add(i * 1000, round));
        }
        for (std::uint32_t i = 0; i < kPeers; ++i) {
            const auto answer = peers[i].receive();
            ASSERT_TRUE(answer);
            EXPECT_EQ(answer->header.msg_type, VGPU_MSG_RESPONSE);
            EXPECT_EQ(answer->header.request_id, round);
            EXPECT_EQ(answer->header.vm_id, peers[i].vm_id);
            EXPECT_EQ(answer->header.pool_id, peers[i].pool);
            EXPECT_EQ(answer->header.priority, peers[i].priority);
            EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
            EXPECT_EQ(answer->word(0), i * 1000 + round);
        }
    }
}

TEST(Answers, SameIdRequestsOfOneConnectionAreAnsweredInOrder) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t i = 0; i < 5; ++i) {
        peer.send_request(77, make_add(i, 0));
    }
    mediator.hold->open();
    for (std::uint32_t i = 0; i < 5; ++i) {
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.request_id, 77U);
        EXPECT_EQ(answer->word(0), i);
    }
}

// A rejection is known at once, but must not overtake an earlier request with the same id.
TEST(Answers, ARefusalWaitsForAnEarlierRequestWithItsIdAndForNoOther) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    peer.send_request(5, make_add(1, 1));
    peer.send_request(5, make_request(0x4242));
    peer.send_request(5, make_add(2, 2));
    peer.send_request(6, make_request(0x4242));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kRefused, 2));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 6U);
    mediator.hold->open();
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 5U);
    EXPECT_EQ(answer->word(0), 2U);
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_UNSUPPORTED_OPERATION);
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 4U);
}

TEST(Answers, KeptBackAnswersDoNotPileUpWithoutEnd) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    peer.send_request(5, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    const auto bad = make_request(0x4242);
    const auto header = peer.header(VGPU_MSG_REQUEST, 5);
    std::vector<std::uint8_t> message(sizeof header);
    std::memcpy(message.data(), &header, sizeof header);
    message[offsetof(vgpu_msg_header, payload_len)] = static_cast<std::uint8_t>(bad.size());
    message.insert(message.end(), bad.begin(), bad.end());
    while (peer.send_raw(message)) {
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator.events.of(Kind::kClosed)[0].reason, CloseReason::kProtocolViolation);
}

// Many messages sent one by one and received together, ending within a message, are not throttled
// like a stream of single bytes.
TEST(Answers, ManySmallMessagesAreReadAtFullSpeed) {
    TestMediator mediator({}, true);
    WirePeer peer = mediator.connect(1);
    constexpr std::uint32_t kMany = 2000;
    std::thread sender([&] {
        for (std::uint32_t i = 0; i < kMany; ++i) {
            peer.send_request(i, make_add(i, 1));
        }
    });
    for (std::uint32_t i = 0; i < kMany; ++i) {
        if (!peer.receive(std::chrono::seconds(5))) {
            ADD_FAILURE() << "no answer to request " << i;
            break;
        }
    }
    sender.join();
}

TEST(Answers, ABackendsFailureReachesTheGuestWithItsSentence) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    mediator.hold->fail_next(VGPU_ERR_CUDA_LAUNCH_FAILED);
    mediator.hold->open();
    peer.send_request(1, make_add(1, 2));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_CUDA_LAUNCH_FAILED);
    EXPECT_EQ(answer->response().result_count, 0U);
    EXPECT_EQ(answer->response_text(), "this job was made to fail");
    peer.send_request(2, make_add(1, 2));
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 3U);
}

TEST(QueueFull, IsAnsweredAtOnceWhileTheQueuedOnesStillRun) {
    Settings settings;
    settings.queue = {.per_pool = 3, .per_vm = 2};
    TestMediator mediator(settings);
    WirePeer first = mediator.connect(1);
    WirePeer second = mediator.connect(2);
    first.send_request(1, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    for (std::uint32_t id = 2; id <= 4; ++id) {
        first.send_request(id, make_add(id, 0));  // two fit, the third exceeds the VM's quota
    }
    auto refused = first.receive();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->header.request_id, 4U);
    EXPECT_EQ(refused->response().status, VGPU_ERR_QUEUE_FULL);
    EXPECT_NE(refused->response_text().find("this VM"), std::string::npos);
    second.send_request(5, make_add(5, 0));
    second.send_request(6, make_add(6, 0));  // exceeds the pool's quota
    refused = second.receive();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->header.request_id, 6U);
    EXPECT_EQ(refused->response().status, VGPU_ERR_QUEUE_FULL);
    mediator.hold->open();
    for (const std::uint32_t id : {1U, 2U, 3U}) {
        const auto answer = first.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.request_id, id);
        EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    }
    const auto answer = second.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 5U);
}

TEST(Disconnect, DropsWhatIsQueuedAndTheOthersGoOn) {
    TestMediator mediator;
    WirePeer gone = mediator.connect(1);
    WirePeer stays = mediator.connect(2);
    gone.send_request(1, make_add(0, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    gone.send_request(2, make_add(0, 0));
    gone.send_request(3, make_add(0, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    stays.send_request(4, make_add(4, 0));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    gone.close();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kDropped, 2));
    EXPECT_EQ(mediator.events.request_ids(Kind::kDropped), (Ids{2, 3}));
    mediator.hold->open();
    const auto answer = stays.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 4U);
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 4}));
}

}  // namespace
}  // namespace vgpu::test
