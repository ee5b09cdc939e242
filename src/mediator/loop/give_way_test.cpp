// SPDX-License-Identifier: MIT
#include "mediator/loop/give_way.h"

#include <gtest/gtest.h>

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Context switches as a test sets them.
ContextSwitches switches;

class GiveWayTest : public testing::Test {
  protected:
    GiveWayTest() { switches = {}; }

    // Calls due() after one more wake-up, `step` later.
    bool due_after_waking(nanoseconds step = GiveWay::kApart) {
        now += step;
        return give_way.due(++woken, now);
    }
    // The loop wakes peers and is preempted until its core counts as contended.
    void contend() {
        for (unsigned window = 0; window <= GiveWay::kWindows; ++window) {
            switches.involuntary += GiveWay::kPreemptions;
            static_cast<void>(due_after_waking(GiveWay::kWindow));
        }
    }

    GiveWay give_way{[] { return switches; }};
    std::uint64_t woken = 0;
    nanoseconds now = std::chrono::seconds(1);
};

TEST_F(GiveWayTest, DoesNotNapOnACoreOfItsOwn) {
    for (int i = 0; i < 1000; ++i) {
        ASSERT_FALSE(due_after_waking());
    }
}

TEST_F(GiveWayTest, NapsOnAContendedCoreAfterWaking) {
    contend();
    EXPECT_TRUE(due_after_waking());
    EXPECT_FALSE(due_after_waking(GiveWay::kApart / 2));
    EXPECT_TRUE(due_after_waking(GiveWay::kApart));
}

TEST_F(GiveWayTest, DoesNotNapLongAfterTheLastWakeUp) {
    contend();
    ASSERT_TRUE(due_after_waking());
    now += GiveWay::kAfterWaking;
    EXPECT_FALSE(give_way.due(woken, now));
}

TEST_F(GiveWayTest, PreemptionsForAllWakeUpsReplaceANap) {
    contend();
    // Start without wake-ups from before.
    now += GiveWay::kAfterWaking;
    ASSERT_FALSE(give_way.due(woken, now));
    switches.involuntary += 1;
    EXPECT_FALSE(due_after_waking());
    EXPECT_TRUE(due_after_waking());
}

TEST_F(GiveWayTest, ASleepThatBlockedSettlesTheWakeUpsBeforeIt) {
    contend();
    now += GiveWay::kApart;
    ++woken;
    give_way.sleeping(woken, now);
    ++switches.voluntary;
    EXPECT_TRUE(give_way.slept());
    ++switches.involuntary;
    EXPECT_FALSE(give_way.due(woken, now));
}

TEST_F(GiveWayTest, AWaitThatFoundEventsReadySettlesNothing) {
    contend();
    now += GiveWay::kAfterWaking;
    ASSERT_FALSE(give_way.due(woken, now));
    woken += 2;
    give_way.sleeping(woken, now);
    EXPECT_FALSE(give_way.slept());
    ++switches.involuntary;  // one of the two peers
    EXPECT_TRUE(give_way.due(woken, now));
}

TEST_F(GiveWayTest, WakeUpsOfTheHandlerAfterTheSleepAreNotSettled) {
    contend();
    now += GiveWay::kApart;
    give_way.sleeping(woken, now);
    ++switches.voluntary;
    woken += 2;
    EXPECT_TRUE(give_way.slept());
    ++switches.involuntary;
    EXPECT_TRUE(give_way.due(woken, now));
}

TEST_F(GiveWayTest, TheFindingExpires) {
    contend();
    now += GiveWay::kContended;
    EXPECT_FALSE(due_after_waking(milliseconds(1)));
}

}  // namespace
}  // namespace vgpu
