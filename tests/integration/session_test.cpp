// SPDX-License-Identifier: MIT
//
// Peers that violate the protocol: each connection is closed with one reason, reported once, while
// requests of other connections continue.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <functional>

#include "integration/test_mediator.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using Bytes = std::vector<std::uint8_t>;

struct SessionRules : testing::Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;

    void start(bool immediate = true) {
        mediator = std::make_unique<TestMediator>(settings, immediate);
    }

    // Runs `wrong` on a connection of VM 66 and expects it closed for `reason`, in one event whose
    // text contains `text`; a connection of VM 1 is served before and after.
    void expect_closed(const std::function<void(WirePeer&)>& wrong, CloseReason reason,
                       const std::string& text) {
        WirePeer good = mediator->connect(1);
        expect_served(good);
        WirePeer bad = mediator->connect(66);
        wrong(bad);
        EXPECT_TRUE(bad.wait_closed());
        ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
        expect_served(good);
        const auto closed = mediator->events.of(Kind::kClosed);
        ASSERT_EQ(closed.size(), 1U);
        EXPECT_EQ(closed[0].reason, reason);
        EXPECT_NE(closed[0].text.find(text), std::string::npos) << closed[0].text;
    }

    static void expect_served(WirePeer& peer) {
        peer.send_request(1, make_add(1, 2));
        const auto answer = peer.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->word(0), 3U);
    }
};

Bytes bytes_of(const vgpu_msg_header& header) {
    Bytes bytes(sizeof header);
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

TEST_F(SessionRules, WrongMagic) {
    start();
    expect_closed(
        [](WirePeer& peer) {
            auto header = peer.header(VGPU_MSG_REQUEST, 1);
            header.magic = 0x56475056;
            peer.send_raw(bytes_of(header));
        },
        CloseReason::kProtocolViolation, "magic");
}

TEST_F(SessionRules, UnknownType) {
    start();
    expect_closed([](WirePeer& peer) { peer.send(peer.header(99, 1)); },
                  CloseReason::kProtocolViolation, "unknown message type");
}

TEST_F(SessionRules, ATypeThatOnlyTheMediatorSends) {
    start();
    expect_closed([](WirePeer& peer) { peer.send(peer.header(VGPU_MSG_RESPONSE, 1)); },
                  CloseReason::kProtocolViolation, "is only sent by the mediator");
}

TEST_F(SessionRules, AnExtensionThatVersion1DoesNotKnow) {
    start();
    expect_closed([](WirePeer& peer) { peer.send(peer.header(VGPU_MSG_SHM_RESET_DONE + 1, 1)); },
                  CloseReason::kProtocolViolation, "unknown message type");
}

TEST_F(SessionRules, PayloadOverTheLimit) {
    start();
    expect_closed(
        [](WirePeer& peer) {
            auto header = peer.header(VGPU_MSG_REQUEST, 1);
            header.payload_len = 1025;
            peer.send_raw(bytes_of(header));
        },
        CloseReason::kProtocolViolation, "payload over the limit");
}

TEST_F(SessionRules, AVmIdThatChanges) {
    start();
    expect_closed(
        [](WirePeer& peer) {
            expect_served(peer);
            peer.vm_id = 67;
            peer.send_request(2, make_add(1, 2));
        },
        CloseReason::kVmIdChanged, "the VM id changed");
}

TEST_F(SessionRules, HalfAHeaderAndSilence) {
    settings.message_timeout = std::chrono::milliseconds(50);
    start();
    expect_closed(
        [](WirePeer& peer) {
            Bytes half = bytes_of(peer.header(VGPU_MSG_REQUEST, 1));
            half.resize(10);
            peer.send_raw(half);
        },
        CloseReason::kMessageTimeout, "not completed within 50 ms");
}

TEST_F(SessionRules, AHeaderAndHalfItsPayloadAndSilence) {
    settings.message_timeout = std::chrono::milliseconds(50);
    start();
    expect_closed(
        [](WirePeer& peer) {
            auto header = peer.header(VGPU_MSG_REQUEST, 1);
            header.payload_len = 40;
            Bytes bytes = bytes_of(header);
            bytes.resize(40);
            peer.send_raw(bytes);
        },
        CloseReason::kMessageTimeout, "not completed");
}

TEST_F(SessionRules, SilenceBetweenMessagesIsNoFault) {
    settings.message_timeout = std::chrono::milliseconds(1);
    start();
    WirePeer peer = mediator->connect(1);
    expect_served(peer);
    // Another connection times out; by then this one has been silent for as long.
    WirePeer slow = mediator->connect(2);
    slow.send_raw(Bytes{0x55});
    ASSERT_TRUE(slow.wait_closed());
    expect_served(peer);
}

TEST_F(SessionRules, AMessageInPiecesIsServed) {
    start();
    WirePeer peer = mediator->connect(1);
    auto header = peer.header(VGPU_MSG_REQUEST, 5);
    const Bytes payload = make_add(40, 2);
    header.payload_len = static_cast<std::uint16_t>(payload.size());
    Bytes all = bytes_of(header);
    all.insert(all.end(), payload.begin(), payload.end());
    for (const std::uint8_t byte : all) {
        ASSERT_TRUE(peer.send_raw(Bytes{byte}));
    }
    const auto answer = peer.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 42U);
}

TEST_F(SessionRules, TheLimitIsForEachMessageNotForTheStream) {
    settings.message_timeout = std::chrono::milliseconds(400);
    start();
    WirePeer peer = mediator->connect(1);
    Bytes message = bytes_of(peer.header(VGPU_MSG_PING, 5));
    const auto middle = message.begin() + 10;
    // Each write ends one message and begins the next, so that reads end within a message.
    Bytes rest_and_begin(middle, message.end());
    rest_and_begin.insert(rest_and_begin.end(), message.begin(), middle);
    ASSERT_TRUE(peer.send_raw(Bytes(message.begin(), middle)));
    // Other connections time out to mark the elapsed time: twice, as the limit is per message.
    for (int i = 0; i < 2; ++i) {
        WirePeer silent = mediator->connect(static_cast<std::uint32_t>(2 + i));
        silent.send_raw(Bytes{0x55});
        while (mediator->events.of(Kind::kClosed).size() == static_cast<std::size_t>(i)) {
            ASSERT_TRUE(peer.send_raw(rest_and_begin));
            ASSERT_TRUE(peer.receive()) << "closed, though each message came in time";
        }
    }
    for (const RecordedEvent& closed : mediator->events.of(Kind::kClosed)) {
        EXPECT_EQ(closed.reason, CloseReason::kMessageTimeout);
    }
}

TEST_F(SessionRules, ASecondConnectionWithAVmIdInUse) {
    start();
    WirePeer first = mediator->connect(5);
    expect_served(first);
    WirePeer second = mediator->connect(5);
    // Every request gets the reason; the log gets it once.
    for (std::uint32_t id = 1; id <= 3; ++id) {
        second.send_request(id, make_add(1, 2));
        const auto answer = second.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
        EXPECT_NE(answer->response_text().find("another connection to the mediator has VM id 5"),
                  std::string::npos)
            << answer->response_text();
    }
    EXPECT_EQ(mediator->events.of(Kind::kRefused).size(), 1U);
    expect_served(first);
    // After the first closes, the id is free, and the second is closed so that it can reconnect.
    first.close();
    EXPECT_TRUE(second.wait_closed());
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 2));
    EXPECT_EQ(mediator->events.of(Kind::kClosed)[1].reason, CloseReason::kVmIdInUse);
    WirePeer third = mediator->connect(5);
    expect_served(third);
}

TEST_F(SessionRules, AVmIdOfAnotherUserIsNotServed) {
    settings.vms[5].user = ::getuid() + 1;
    settings.vms[6].user = ::getuid();
    start();
    WirePeer wrong = mediator->connect(5);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        wrong.send_request(id, make_add(1, 2));
        const auto answer = wrong.receive();
        ASSERT_TRUE(answer);
        EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
        EXPECT_NE(answer->response_text().find("may not use VM id 5"), std::string::npos)
            << answer->response_text();
    }
    EXPECT_EQ(mediator->events.of(Kind::kRefused).size(), 1U);
    WirePeer right = mediator->connect(6);
    expect_served(right);
    WirePeer any = mediator->connect(7);
    expect_served(any);
    // The end of another VM's connection does not end this one.
    right.close();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    wrong.send_request(9, make_add(1, 2));
    EXPECT_TRUE(wrong.receive());
}

TEST_F(SessionRules, OnlyRegisteredVmIdsAreServedWhereTheSettingsSaySo) {
    settings.registered_vms_only = true;
    settings.vms[6].user = ::getuid();
    start();
    WirePeer other = mediator->connect(5);
    other.send_request(1, make_add(1, 2));
    const auto answer = other.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->response().status, VGPU_ERR_MEDIATOR_UNAVAILABLE);
    WirePeer registered = mediator->connect(6);
    expect_served(registered);
}

// Each such connection costs processing time.
TEST_F(SessionRules, OnlyAFewConnectionsWithAVmIdInUseStay) {
    start();
    WirePeer first = mediator->connect(5);
    expect_served(first);
    constexpr std::size_t kMany = 100;
    std::vector<WirePeer> others;
    for (std::size_t i = 0; i < kMany; ++i) {
        others.push_back(mediator->connect(5));
        others.back().send(others.back().header(VGPU_MSG_PING, 1));
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, kMany - 64));
    EXPECT_EQ(mediator->events.of(Kind::kClosed).back().reason, CloseReason::kVmIdInUse);
    expect_served(first);
}

TEST_F(SessionRules, AVmIdInUseIsAllowedWhereTheSettingsSaySo) {
    settings.allow_duplicate_vm_id = true;
    start();
    WirePeer first = mediator->connect(5);
    WirePeer second = mediator->connect(5);
    expect_served(first);
    expect_served(second);
    expect_served(first);
}

TEST_F(SessionRules, PingIsAnsweredWithPong) {
    start();
    WirePeer peer = mediator->connect(8, 'B', VGPU_PRIORITY_HIGH);
    peer.send(peer.header(VGPU_MSG_PING, 1234));
    const auto pong = peer.receive();
    ASSERT_TRUE(pong);
    EXPECT_EQ(pong->header.msg_type, VGPU_MSG_PONG);
    EXPECT_EQ(pong->header.request_id, 1234U);
    EXPECT_EQ(pong->header.vm_id, 8U);
    EXPECT_TRUE(pong->payload.empty());
    peer.send(peer.header(VGPU_MSG_PONG, 1));  // no effect
    expect_served(peer);
}

TEST_F(SessionRules, APeerThatNeverReadsItsAnswers) {
    settings.max_unsent_bytes = 4096;
    start();
    WirePeer good = mediator->connect(1);
    expect_served(good);
    WirePeer deaf = mediator->connect(2);
    // Device information has the largest response for the smallest request. The mediator must
    // finally close the connection so that sending fails; otherwise the test times out.
    const Bytes question = make_request(VGPU_OP_GET_DEVICE_INFO);
    auto header = deaf.header(VGPU_MSG_REQUEST, 1);
    header.payload_len = static_cast<std::uint16_t>(question.size());
    Bytes message = bytes_of(header);
    message.insert(message.end(), question.begin(), question.end());
    std::uint32_t id = 0;
    do {
        ++id;
        std::memcpy(message.data() + offsetof(vgpu_msg_header, request_id), &id, sizeof id);
    } while (deaf.send_raw(message));
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator->events.of(Kind::kClosed)[0].reason, CloseReason::kNotReading);
    expect_served(good);
}

TEST_F(SessionRules, ConnectionsOverTheLimitAreClosed) {
    settings.max_connections = 1;
    start();
    WirePeer first = mediator->connect(1);
    expect_served(first);
    WirePeer second = mediator->connect(2);
    EXPECT_TRUE(second.wait_closed());
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator->events.of(Kind::kClosed)[0].reason, CloseReason::kTooManyConnections);
    expect_served(first);
}

// Returns whether a VM whose device runs in another process is served.
bool served_from_another_process(const TestMediator& mediator, std::uint32_t vm_id) {
    const pid_t child = ::fork();
    if (child == 0) {
        WirePeer peer = mediator.connect(vm_id);
        peer.send_request(1, make_add(1, 2));
        const auto answer = peer.receive();
        ::_exit(answer && answer->word(0) == 3U ? 0 : 1);
    }
    int status = 1;
    return child > 0 && ::waitpid(child, &status, 0) == child && status == 0;
}

TEST_F(SessionRules, AProcessHasSoManyConnectionsAndLeavesTheRestToOthers) {
    settings.max_connections_per_process = 2;
    start();
    WirePeer first = mediator->connect(1);
    expect_served(first);
    WirePeer second = mediator->connect(2);
    expect_served(second);
    WirePeer third = mediator->connect(3);
    EXPECT_TRUE(third.wait_closed());
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    const auto closed = mediator->events.of(Kind::kClosed)[0];
    EXPECT_EQ(closed.reason, CloseReason::kTooManyConnections);
    EXPECT_EQ(closed.text, "process " + std::to_string(::getpid()) +
                               " has as many connections as one process may have");
    EXPECT_TRUE(served_from_another_process(*mediator, 3));
    expect_served(first);
    second.close();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 3));
    WirePeer fourth = mediator->connect(4);
    expect_served(fourth);
}

TEST_F(SessionRules, ALimitOfAProcessEndsAtOnceWhereItIsTakenAway) {
    settings.max_connections_per_process = 1;
    start();
    WirePeer first = mediator->connect(1);
    expect_served(first);
    WirePeer second = mediator->connect(2);
    EXPECT_TRUE(second.wait_closed());
    mediator->on_loop([without = settings](Mediator& served) mutable {
        without.max_connections_per_process = 0;
        served.apply(without);
    });
    expect_served(first);
    WirePeer third = mediator->connect(3);
    expect_served(third);
    first.close();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 2));
    expect_served(third);
}

// Independent of the number of VM ids used.
TEST_F(SessionRules, WhatIsRefusedIsCountedForTheProcess) {
    settings.max_connections_per_process = 100;
    start();
    constexpr std::uint32_t kVms = 50;
    constexpr std::uint32_t kEach = 150;  // below a VM's burst
    const std::vector<std::uint8_t> malformed(40, 0xFF);
    std::vector<WirePeer> peers;
    for (std::uint32_t i = 0; i < kVms; ++i) {
        peers.push_back(mediator->connect(100 + i));
    }
    const auto begin = std::chrono::steady_clock::now();
    for (WirePeer& peer : peers) {
        for (std::uint32_t request = 0; request < kEach; ++request) {
            peer.send_request(request, malformed);
        }
    }
    for (WirePeer& peer : peers) {
        for (std::uint32_t request = 0; request < kEach; ++request) {
            ASSERT_TRUE(peer.receive());
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    // Besides the burst, a debt of the same size is allowed.
    EXPECT_GE(took.count(), (kVms * kEach - 2 * HoldBack::kProcess.refusals.burst) /
                                HoldBack::kProcess.refusals.per_second);
}

TEST_F(SessionRules, AThousandPeersThatConnectAndVanish) {
    start();
    WirePeer good = mediator->connect(1);
    for (std::uint32_t i = 0; i < 1000; ++i) {
        WirePeer peer = mediator->connect(100 + i % 3);
        peer.send_request(i, make_add(i, i));
        peer.close();
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1000));
    expect_served(good);
}

TEST_F(SessionRules, AClosedConnectionGetsNoAnswerAndHarmsNobody) {
    start(false);
    WirePeer gone = mediator->connect(1);
    gone.send_request(1, make_add(1, 2));
    ASSERT_TRUE(mediator->hold->wait_submitted(1));
    gone.close();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    mediator->hold->open();
    ASSERT_TRUE(mediator->events.wait_for(Kind::kFinished, 1));
    WirePeer next = mediator->connect(1);
    expect_served(next);
}

}  // namespace
}  // namespace vgpu::test
