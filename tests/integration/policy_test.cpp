// SPDX-License-Identifier: MIT
//
// Policies and limits through the whole mediator: a VM's limits, the responses when it exceeds
// them, and the order of a mixed load. Queues are filled behind a request that the test holds, and
// the order is read from the events.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "integration/test_mediator.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using Ids = std::vector<std::uint32_t>;

Settings with_policy(Policy policy,
                     std::chrono::milliseconds aging = std::chrono::milliseconds(0)) {
    Settings settings;
    settings.pools = {{.id = 'A', .devices = {0}, .policy = {.policy = policy, .aging = aging}}};
    return settings;
}

// Sends requests that are accepted in this order behind a running one.
struct Load {
    TestMediator& mediator;
    WirePeer blocker;
    std::size_t accepted = 1;

    explicit Load(TestMediator& with) : mediator(with), blocker(with.connect(99)) {
        blocker.send_request(100, make_add(0, 0));
        EXPECT_TRUE(mediator.hold->wait_submitted(1));
    }
    void send(WirePeer& peer, std::uint32_t id) {
        peer.send_request(id, make_add(id, 0));
        ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++accepted));
    }
    Ids run() {
        mediator.hold->open();
        EXPECT_TRUE(mediator.events.wait_for(Kind::kFinished, accepted));
        return mediator.events.request_ids(Kind::kStarted);
    }
};

TEST(Policies, StrictRunsLevelsInTurnAndEachInTheOrderOfArrival) {
    TestMediator mediator(with_policy(Policy::kStrict));
    WirePeer low = mediator.connect(1, 'A', VGPU_PRIORITY_LOW);
    WirePeer medium = mediator.connect(2, 'A', VGPU_PRIORITY_MEDIUM);
    WirePeer also_medium = mediator.connect(3, 'A', VGPU_PRIORITY_MEDIUM);
    WirePeer high = mediator.connect(4, 'A', VGPU_PRIORITY_HIGH);
    Load load(mediator);
    load.send(low, 1);
    load.send(medium, 2);
    load.send(medium, 3);
    load.send(also_medium, 4);
    load.send(high, 5);
    load.send(low, 6);
    load.send(high, 7);
    EXPECT_EQ(load.run(), (Ids{100, 5, 7, 2, 3, 4, 1, 6}));
}

TEST(Policies, FairRunsWhoeverHasUsedLeastByWeight) {
    Settings settings = with_policy(Policy::kFair);
    settings.vms[2].weight = 2.5;
    TestMediator mediator(settings);
    mediator.hold->set_exec_time(100);
    WirePeer one = mediator.connect(1);
    WirePeer two = mediator.connect(2);
    Load load(mediator);
    for (const std::uint32_t id : {1U, 2U, 3U}) {
        load.send(one, id);
    }
    for (const std::uint32_t id : {11U, 12U, 13U, 14U, 15U}) {
        load.send(two, id);
    }
    // Each request of `one` costs 50, each of `two` 20.
    EXPECT_EQ(load.run(), (Ids{100, 1, 11, 12, 13, 2, 14, 15, 3}));
}

TEST(Policies, FairChargesAHighRequestLess) {
    TestMediator mediator(with_policy(Policy::kFair));
    mediator.hold->set_exec_time(100);
    WirePeer low = mediator.connect(1, 'A', VGPU_PRIORITY_LOW);
    WirePeer high = mediator.connect(2, 'A', VGPU_PRIORITY_HIGH);
    Load load(mediator);
    load.send(low, 1);
    load.send(low, 2);
    for (const std::uint32_t id : {11U, 12U, 13U}) {
        load.send(high, id);
    }
    EXPECT_EQ(load.run(), (Ids{100, 1, 11, 12, 13, 2}));
}

TEST(Policies, AFloodAtLowFromFiveVmsDelaysAHighRequestByWhatRunsOnly) {
    TestMediator mediator(with_policy(Policy::kStrict, std::chrono::hours(1)));
    std::vector<WirePeer> flood;
    for (std::uint32_t vm = 1; vm <= 5; ++vm) {
        flood.push_back(mediator.connect(vm, 'A', VGPU_PRIORITY_LOW));
    }
    WirePeer high = mediator.connect(6, 'A', VGPU_PRIORITY_HIGH);
    std::size_t accepted = 0;
    for (std::uint32_t id = 1; id <= 100; ++id) {
        for (WirePeer& peer : flood) {
            peer.send_request(id, make_add(id, 0));
            ++accepted;
        }
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, accepted));
    std::size_t started = 1;
    ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, started));
    for (std::uint32_t round = 0; round < 50; ++round) {
        // While a request of the flood runs, the next one to start is always the high one.
        high.send_request(1000 + round, make_add(round, 1));
        ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++accepted));
        mediator.hold->release(1);
        ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, ++started));
        EXPECT_EQ(mediator.events.of(Kind::kStarted).back().vm_id, 6U);
        mediator.hold->release(1);
        ASSERT_TRUE(mediator.events.wait_for(Kind::kStarted, ++started));
        EXPECT_NE(mediator.events.of(Kind::kStarted).back().vm_id, 6U);
    }
}

TEST(Boost, RaisesByOneLevelWhereTheVmMay) {
    Settings settings = with_policy(Policy::kStrict);
    settings.vms[2].boost = true;
    TestMediator mediator(settings);
    WirePeer may_not = mediator.connect(1);
    WirePeer may = mediator.connect(2);
    Load load(mediator);
    const auto boosted = make_request(VGPU_OP_NOP, {}, {}, VGPU_FLAG_BOOST);
    load.send(may, 1);
    may_not.send_request(2, boosted);
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++load.accepted));
    may.send_request(3, boosted);
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++load.accepted));
    EXPECT_EQ(load.run(), (Ids{100, 3, 1, 2}));
}

void expect_refusal(WirePeer& peer, std::uint32_t request_id, std::uint32_t status) {
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.msg_type, VGPU_MSG_RESPONSE);
    EXPECT_EQ(answer->header.request_id, request_id);
    EXPECT_EQ(answer->header.vm_id, peer.vm_id);
    EXPECT_EQ(answer->response().status, status);
    EXPECT_FALSE(answer->response_text().empty());
}

void expect_served(WirePeer& peer, std::uint32_t request_id) {
    peer.send_request(request_id, make_add(request_id, 5));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.msg_type, VGPU_MSG_RESPONSE);
    EXPECT_EQ(answer->word(0), request_id + 5);
}

TEST(Limits, OverTheRateTheAnswerIsBusyAndOthersNoticeNothing) {
    Settings settings;
    settings.vms[1].limits = {.requests_per_second = 0.001, .burst = 3};
    TestMediator mediator(settings, true);
    WirePeer limited = mediator.connect(1);
    WirePeer other = mediator.connect(2);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        expect_served(limited, id);
    }
    limited.send_request(4, make_add(1, 1));
    expect_refusal(limited, 4, VGPU_ERR_RATE_LIMITED);
    for (std::uint32_t id = 1; id <= 20; ++id) {
        expect_served(other, id);
    }
    // Reconnecting does not reset the budget.
    limited.close();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, 1));
    WirePeer again = mediator.connect(1);
    again.send_request(5, make_add(1, 1));
    expect_refusal(again, 5, VGPU_ERR_RATE_LIMITED);
    EXPECT_EQ(mediator.events.of(Kind::kRefused).front().status, VGPU_ERR_RATE_LIMITED);
    mediator.begin_shutdown();
    mediator.join();
    EXPECT_EQ(mediator.counters().vm(1).limited, 2U);
    EXPECT_EQ(mediator.counters().vm(2).limited, 0U);
}

TEST(Limits, WhoHasUsedItsGpuTimeIsBusyAlsoWithWhatItHadQueued) {
    Settings settings;
    settings.vms[1].limits = {.gpu_time = std::chrono::milliseconds(1),
                              .gpu_window = std::chrono::hours(1)};
    TestMediator mediator(settings);
    mediator.hold->set_exec_time(700);
    WirePeer peer = mediator.connect(1);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        peer.send_request(id, make_add(id, 0));
    }
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    mediator.hold->open();
    ASSERT_TRUE(peer.receive());
    ASSERT_TRUE(peer.receive());
    expect_refusal(peer, 3, VGPU_ERR_RATE_LIMITED);
    peer.send_request(4, make_add(1, 1));
    expect_refusal(peer, 4, VGPU_ERR_RATE_LIMITED);
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), (Ids{1, 2}));
    EXPECT_EQ(mediator.events.request_ids(Kind::kDropped), Ids{3});
}

// A device that has sent a HELLO knows the messages BUSY and QUARANTINED. Any other may not, and
// gets a response.
TEST(Limits, ADeviceWithAHandshakeGetsTheirMessages) {
    Settings settings;
    settings.vms[1].limits = {.requests_per_second = 0.001, .burst = 1};
    TestMediator mediator(settings);
    mediator.hold->open();
    MemoryPeer peer({.vm_id = 1});
    ASSERT_TRUE(peer.attach(mediator.path()));
    expect_served(peer.wire(), 1);
    peer.wire().send_request(2, make_add(1, 1));
    const auto answer = peer.wire().receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.msg_type, VGPU_MSG_BUSY);
    EXPECT_EQ(answer->header.request_id, 2U);
    EXPECT_TRUE(answer->payload.empty());
}

// An ASYNC request is answered when queued; SYNCHRONIZE reports its outcome.
TEST(Limits, SynchronizeReportsAnAsynchronousRequestThatWasHeldBack) {
    Settings settings;
    settings.vms[1].limits = {.gpu_time = std::chrono::milliseconds(1),
                              .gpu_window = std::chrono::hours(1)};
    TestMediator mediator(settings);
    mediator.hold->set_exec_time(1500);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_add(1, 0));
    peer.send_request(2, make_request(VGPU_OP_NOP, {}, {}, VGPU_FLAG_ASYNC));
    peer.send_request(3, make_request(VGPU_OP_SYNCHRONIZE));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 3));
    auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 2U);
    EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    mediator.hold->open();
    answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 1U);
    expect_refusal(peer, 3, VGPU_ERR_RATE_LIMITED);
    EXPECT_EQ(mediator.events.request_ids(Kind::kDropped), Ids{2});
}

TEST(Limits, AVmMayQueueFewerThanTheOthers) {
    Settings settings;
    settings.vms[1].queue_depth = 1;
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    peer.send_request(1, make_add(1, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    peer.send_request(2, make_add(2, 0));
    peer.send_request(3, make_add(3, 0));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->header.request_id, 3U);
    EXPECT_EQ(answer->response().status, VGPU_ERR_QUEUE_FULL);
}

TEST(Limits, ALongExecutionIsReported) {
    Settings settings;
    settings.vm_default.limits.longest_execution = std::chrono::milliseconds(1);
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    peer.send_request(7, make_add(1, 0));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    // Wait until the limit is exceeded.
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
    while (std::chrono::steady_clock::now() < end) {
    }
    mediator.hold->open();
    ASSERT_TRUE(peer.receive());
    ASSERT_TRUE(mediator.events.wait_for(Kind::kOverran, 1));
    EXPECT_EQ(mediator.events.request_ids(Kind::kOverran), Ids{7});
}

TEST(Limits, ALongExecutionIsStoppedWhereTheOperatorSaysSo) {
    Settings settings;
    settings.slots = 2;
    settings.kill_overrun = true;
    settings.vms[1].limits.longest_execution = std::chrono::milliseconds(1);
    settings.vms[1].limits.quarantine_after_faults = 1;
    TestMediator mediator(settings);
    WirePeer other = mediator.connect(2);
    other.send_request(1, make_add(1, 1));
    ASSERT_TRUE(mediator.hold->wait_submitted(1));
    WirePeer peer = mediator.connect(1);
    peer.send_request(2, make_add(1, 1));
    const auto stopped = peer.receive();
    ASSERT_TRUE(stopped);
    EXPECT_EQ(stopped->response().status, VGPU_ERR_CUDA_TIME_LIMIT);
    const auto lost = other.receive();
    ASSERT_TRUE(lost);
    EXPECT_EQ(lost->response().status, VGPU_ERR_CUDA);
    EXPECT_EQ(mediator.events.request_ids(Kind::kOverran), Ids{2});
    // The fault is attributed to the first VM only.
    peer.send_request(3, make_add(1, 1));
    expect_refusal(peer, 3, VGPU_ERR_QUARANTINED);
    mediator.hold->open();
    expect_served(other, 4);
}

TEST(Quarantine, AfterSoManyFaultsUntilReleased) {
    Settings settings;
    settings.vm_default.limits.quarantine_after_faults = 2;
    TestMediator mediator(settings);
    mediator.hold->open();
    WirePeer bad = mediator.connect(1);
    WirePeer good = mediator.connect(2);
    bad.send_request(1, make_add(1, 1));
    ASSERT_TRUE(bad.receive());
    // A kernel that faults, then a malformed request.
    mediator.hold->fail_next(VGPU_ERR_CUDA_LAUNCH_FAILED);
    bad.send_request(2, make_add(1, 1));
    ASSERT_TRUE(bad.receive());
    expect_served(bad, 3);
    bad.send_request(4, std::vector<std::uint8_t>{1, 2, 3});
    ASSERT_TRUE(bad.receive());
    ASSERT_TRUE(mediator.events.wait_for(Kind::kQuarantined, 1));
    EXPECT_EQ(mediator.events.of(Kind::kQuarantined)[0].vm_id, 1U);
    bad.send_request(5, make_add(1, 1));
    expect_refusal(bad, 5, VGPU_ERR_QUARANTINED);
    expect_served(good, 6);
    // Reconnecting does not help.
    bad.close();
    ASSERT_TRUE(mediator.events.wait_for(Kind::kClosed, 1));
    WirePeer again = mediator.connect(1);
    again.send_request(7, make_add(1, 1));
    expect_refusal(again, 7, VGPU_ERR_QUARANTINED);
    mediator.on_loop([](Mediator& m) { m.release(1); });
    ASSERT_TRUE(mediator.events.wait_for(Kind::kReleased, 1));
    expect_served(again, 8);
}

TEST(Quarantine, WhatWasQueuedIsNotRun) {
    Settings settings;
    settings.vm_default.limits.quarantine_after_faults = 1;
    TestMediator mediator(settings);
    WirePeer peer = mediator.connect(1);
    mediator.hold->fail_next(VGPU_ERR_CUDA_LAUNCH_FAILED);
    peer.send_request(1, make_add(1, 1));
    peer.send_request(2, make_add(1, 1));
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, 2));
    mediator.hold->open();
    ASSERT_TRUE(peer.receive());
    expect_refusal(peer, 2, VGPU_ERR_QUARANTINED);
    EXPECT_EQ(mediator.events.request_ids(Kind::kStarted), Ids{1});
}

TEST(Reload, NewPoliciesAndLimitsHoldForWhatIsQueuedToo) {
    Settings settings = with_policy(Policy::kStrict);
    TestMediator mediator(settings);
    WirePeer low = mediator.connect(1, 'A', VGPU_PRIORITY_LOW);
    WirePeer high = mediator.connect(2, 'A', VGPU_PRIORITY_HIGH);
    mediator.hold->set_exec_time(100);
    Load load(mediator);
    load.send(high, 11);
    load.send(high, 12);
    load.send(low, 1);
    settings.pools[0].policy.policy = Policy::kFair;
    settings.vms[2].limits = {.requests_per_second = 0.001, .burst = 1};
    mediator.on_loop([=](Mediator& m) { m.apply(settings); });
    high.send_request(13, make_add(0, 0));  // one more, within the burst
    ASSERT_TRUE(mediator.events.wait_for(Kind::kAccepted, ++load.accepted));
    high.send_request(14, make_add(0, 0));
    expect_refusal(high, 14, VGPU_ERR_RATE_LIMITED);
    // The high request accepted first, then the VM without any use.
    EXPECT_EQ(load.run(), (Ids{100, 11, 1, 12, 13}));
}

}  // namespace
}  // namespace vgpu::test
