// SPDX-License-Identifier: MIT
//
// Shutdown: queued and running requests complete, new ones are rejected, and it ends.
#include <gtest/gtest.h>

#include <filesystem>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;

TEST(Shutdown, RunsWhatIsQueuedThenEnds) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t id = 1; id <= 4; ++id) {
        peer.send_request(id, make_add(id, 10));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 4));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    mediator.begin_shutdown();
    peer.send_request(5, make_add(0, 0));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 5U);
    EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    EXPECT_FALSE(std::filesystem::exists(mediator.path()));
    mediator.hold->open();
    for (std::uint32_t id = 1; id <= 4; ++id) {
        answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->header.request_id, id);
        EXPECT_EQ(answer->word(0), id + 10);
    }
    EXPECT_TRUE(peer.wait_closed());
    mediator.join();
    EXPECT_EQ(mediator.counters().total().done, 4U);
    EXPECT_EQ(mediator.counters().total().refused, 1U);
    EXPECT_EQ(mediator.counters().connections(), 0U);
}

void expect_the_rest_answered_with_unavailable(TestMediator& mediator, WirePeer& peer) {
    for (int i = 0; i < 3; ++i) {
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
        EXPECT_FALSE(answer->response_text().empty());
    }
    EXPECT_TRUE(peer.wait_closed());
    mediator.join();
    EXPECT_EQ(mediator.counters().total().dropped, 3U);
    EXPECT_EQ(mediator.counters().total().open(), 0U);
}

TEST(Shutdown, TheSecondRequestToStopAnswersTheRestWithAnError) {
    TestMediator mediator;
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        peer.send_request(id, make_add(id, 10));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.begin_shutdown();
    mediator.begin_shutdown();
    expect_the_rest_answered_with_unavailable(mediator, peer);
}

TEST(Shutdown, TheDeadlineAnswersTheRestWithAnError) {
    Settings settings;
    settings.drain_timeout = std::chrono::milliseconds(20);
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        peer.send_request(id, make_add(id, 10));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.begin_shutdown();
    expect_the_rest_answered_with_unavailable(mediator, peer);
}

TEST(Shutdown, EndsAtOnceWhenThereIsNothingToDo) {
    TestMediator mediator;
    WirePeer idle = mediator.connect(1);
    mediator.begin_shutdown();
    mediator.join();
    EXPECT_TRUE(idle.wait_closed());
}

}  // namespace
}  // namespace vgpu::test
