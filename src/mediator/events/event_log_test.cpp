// SPDX-License-Identifier: MIT
#include "mediator/events/event_log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <algorithm>
#include <memory>
#include <sstream>

#include "mediator/events/counters.h"
#include "sched/token_bucket.h"

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ManualClock final : public Clock {
  public:
    [[nodiscard]] std::chrono::nanoseconds now() const override { return time; }
    std::chrono::nanoseconds time{0};
};

TEST(TokenBucket, AllowsTheBurstThenTheRate) {
    TokenBucket bucket(2.0, 3.0, seconds(0));
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(bucket.take(seconds(0)));
    }
    EXPECT_FALSE(bucket.take(seconds(0)));
    EXPECT_FALSE(bucket.take(milliseconds(400)));
    EXPECT_TRUE(bucket.take(milliseconds(500)));
    EXPECT_FALSE(bucket.take(milliseconds(501)));
}

TEST(TokenBucket, NeverHoldsMoreThanTheBurst) {
    TokenBucket bucket(1000.0, 2.0, seconds(0));
    EXPECT_TRUE(bucket.take(seconds(100)));
    EXPECT_TRUE(bucket.take(seconds(100)));
    EXPECT_FALSE(bucket.take(seconds(100)));
}

struct EventLogTest : testing::Test {
    ManualClock clock;
    std::ostringstream out;
    std::unique_ptr<EventLog> log;

    EventLogTest() {
        auto logger = std::make_shared<spdlog::logger>(
            "test", std::make_shared<spdlog::sinks::ostream_sink_st>(out));
        logger->set_pattern("%l: %v");
        log = std::make_unique<EventLog>(std::move(logger),
                                         LogLimits{.lines_per_second = 1, .burst = 2}, clock);
    }
    void refuse(std::uint32_t vm_id, std::uint32_t request_id) {
        const RequestInfo info{.session = 4,
                               .vm_id = vm_id,
                               .request_id = request_id,
                               .pool = 'Z',
                               .priority = 1,
                               .opcode = 9};
        log->on_event(RequestRefused{.request = info, .status = 6, .message = "no such pool"});
    }
    std::string take() {
        std::string text = out.str();
        out.str({});
        return text;
    }
};

TEST_F(EventLogTest, SaysWhenAGpuFailsAndWorksAgain) {
    log->on_event(GpuState{
        .gpu = 1, .change = GpuState::Change::kFailed, .why = "it fell off", .down_for = {}});
    log->on_event(GpuState{
        .gpu = 1, .change = GpuState::Change::kRecovered, .why = {}, .down_for = milliseconds(3)});
    EXPECT_EQ(take(),
              "error: gpu=1 failed and is being reset: it fell off\n"
              "warning: gpu=1 recovered after 3000 us\n");
}

TEST_F(EventLogTest, ALineNamesConnectionVmAndRequest) {
    refuse(7, 31);
    EXPECT_EQ(take(),
              "warning: conn=4 vm=7 req=31 pool=Z prio=1 op=9 refused with error 0x06: no such "
              "pool\n");
    log->on_event(SessionClosed{.session = 4,
                                .vm_id = 7,
                                .reason = CloseReason::kVmIdChanged,
                                .detail = "the VM id changed"});
    EXPECT_EQ(take(), "warning: conn=4 vm=7 closed: the VM id changed\n");
    log->on_event(SessionClosed{.session = 5,
                                .vm_id = std::nullopt,
                                .reason = CloseReason::kPeerClosed,
                                .detail = "the peer closed"});
    EXPECT_EQ(take(), "info: conn=5 closed: the peer closed\n");
}

TEST_F(EventLogTest, WhateverATextHoldsALineIsOneLineOfPrintableCharacters) {
    log->on_event(SessionClosed{.session = 4,
                                .vm_id = 7,
                                .reason = CloseReason::kProtocolViolation,
                                .detail = "x\nerror: forged\r\x1b[2J\x7f\xc2\x9b"});
    log->on_event(Notice{.text = "a\nb"});
    EXPECT_EQ(take(),
              "warning: conn=4 vm=7 closed: x\\x0aerror: forged\\x0d\\x1b[2J\\x7f\\xc2\\x9b\n"
              "warning: a\\x0ab\n");
}

TEST_F(EventLogTest, OneVmsFloodIsCutAndCountedAndLeavesTheOthersAlone) {
    for (std::uint32_t i = 0; i < 100; ++i) {
        refuse(7, i);
    }
    const std::string flood = take();
    EXPECT_EQ(std::count(flood.begin(), flood.end(), '\n'), 2);
    refuse(8, 1);
    EXPECT_NE(take().find("vm=8"), std::string::npos);
    clock.time = seconds(1);
    refuse(7, 200);
    EXPECT_EQ(take().substr(0, 33), "warning: vm=7: suppressed 98 line");
}

TEST_F(EventLogTest, AVmThatComesAfterManyOthersHasABudgetOfItsOwn) {
    clock.time = seconds(1);
    for (std::uint32_t vm = 0; vm < 10'000; ++vm) {
        refuse(vm, 1);
        refuse(vm, 2);
    }
    take();
    clock.time = seconds(10);
    for (std::uint32_t vm = 20'000; vm < 20'003; ++vm) {
        refuse(vm, 1);
        refuse(vm, 2);
    }
    const std::string lines = take();
    EXPECT_NE(lines.find("other VMs: suppressed"), std::string::npos) << lines;
    for (const char* const vm : {"vm=20000 req=2", "vm=20001 req=2", "vm=20002 req=2"}) {
        EXPECT_NE(lines.find(vm), std::string::npos) << lines;
    }
}

TEST_F(EventLogTest, WhatWasLeftOutIsSaidAtTheEnd) {
    for (std::uint32_t i = 0; i < 5; ++i) {
        refuse(7, i);
    }
    take();
    log.reset();
    EXPECT_EQ(take(), "warning: vm=7: suppressed 3 lines\n");
}

TEST_F(EventLogTest, APoolByteThatIsNoCharacterIsWrittenAsANumber) {
    const RequestInfo info{
        .session = 1, .vm_id = 1, .request_id = 1, .pool = 0x1b, .priority = 0, .opcode = 0};
    log->on_event(RequestRefused{.request = info, .status = 6, .message = "x"});
    EXPECT_NE(take().find("pool=0x1b"), std::string::npos);
}

TEST(Counters, CountByPoolVmAndPriority) {
    Counters counters;
    const RequestInfo first{
        .session = 1, .vm_id = 5, .request_id = 1, .pool = 'A', .priority = 2, .opcode = 1};
    const RequestInfo second{
        .session = 2, .vm_id = 6, .request_id = 1, .pool = 'B', .priority = 0, .opcode = 1};
    counters.on_event(SessionOpened{});
    counters.on_event(SessionOpened{});
    for (const RequestInfo& info : {first, first, second}) {
        counters.on_event(RequestAccepted{.request = info});
    }
    counters.on_event(RequestStarted{.request = first, .waited = milliseconds(3)});
    counters.on_event(RequestFinished{.request = first,
                                      .status = 0,
                                      .message = {},
                                      .waited = milliseconds(3),
                                      .ran = milliseconds(1),
                                      .exec_time_us = 40,
                                      .delivered = true});
    counters.on_event(RequestFinished{.request = second,
                                      .status = 5,
                                      .message = "x",
                                      .waited = {},
                                      .ran = {},
                                      .exec_time_us = 2,
                                      .delivered = true});
    counters.on_event(RequestRefused{.request = second, .status = 1, .message = {}});
    counters.on_event(
        SessionClosed{.session = 2, .vm_id = 6, .reason = CloseReason::kNotReading, .detail = {}});
    EXPECT_EQ(counters.pool('A').accepted, 2U);
    EXPECT_EQ(counters.pool('A').done, 1U);
    EXPECT_EQ(counters.pool('A').open(), 1U);
    EXPECT_EQ(counters.pool('A').gpu_us, 40U);
    EXPECT_EQ(counters.vm(5).longest_wait, milliseconds(3));
    EXPECT_EQ(counters.vm(6).failed, 1U);
    EXPECT_EQ(counters.vm(6).refused, 1U);
    EXPECT_EQ(counters.priority(2).accepted, 2U);
    EXPECT_EQ(counters.priority(1).accepted, 0U);
    EXPECT_EQ(counters.total().accepted, 3U);
    EXPECT_EQ(counters.connections(), 1U);
}

TEST(Counters, AVmBeyondTheMostTakesThePlaceOfOneWithoutAConnection) {
    Counters counters;
    const auto serve = [&](std::uint32_t vm, bool leaves) {
        counters.on_event(SessionIdentified{.session = vm, .vm_id = vm});
        const RequestInfo request{.session = vm, .vm_id = vm, .pool = 'A', .priority = 1};
        counters.on_event(RequestAccepted{.request = request});
        if (leaves) {
            counters.on_event(SessionClosed{.session = vm,
                                            .vm_id = vm,
                                            .identified = true,
                                            .reason = CloseReason::kPeerClosed,
                                            .detail = ""});
        }
    };
    serve(0, false);
    serve(1, true);
    constexpr std::uint32_t kMany = 3 * Counters::kMostVms;
    for (std::uint32_t vm = 2; vm < kMany; ++vm) {
        serve(vm, true);
    }
    EXPECT_EQ(counters.vms().size(), Counters::kMostVms);
    EXPECT_EQ(counters.vm(0).accepted, 1U) << "it is connected";
    EXPECT_EQ(counters.vm(1).accepted, 0U);
    EXPECT_EQ(counters.vm(kMany - 1).accepted, 1U);
    EXPECT_EQ(counters.vms().at(kMany - 1).pool, 'A');
    EXPECT_EQ(counters.total().accepted, kMany);
    // A request that ends late does not wrap the number in flight below zero.
    const RequestInfo late{.session = 1, .vm_id = 1, .pool = 'A', .priority = 1};
    counters.on_event(RequestDropped{.request = late, .why = "", .answered = false});
    EXPECT_EQ(counters.vm(1).open(), 0U);
}

TEST(Counters, APoolThatIsNoLetterDoesNotReachTheTable) {
    Counters counters;
    const RequestInfo info{
        .session = 1, .vm_id = 1, .request_id = 1, .pool = '\n', .priority = 200, .opcode = 0};
    counters.on_event(RequestRefused{.request = info, .status = 6, .message = {}});
    EXPECT_EQ(counters.pool('?').refused, 1U);
    EXPECT_NE(counters.table().find("pool ?"), std::string::npos);
}

}  // namespace
}  // namespace vgpu
