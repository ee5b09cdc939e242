// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "sched/hold_back.h"
#include "sched/vm_limits.h"

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Verdict = VmLimits::Verdict;

TEST(VmLimits, WithoutSettingsAllIsAllowed) {
    VmLimits limits({}, seconds(0));
    for (int i = 0; i < 1000; ++i) {
        ASSERT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
        limits.charge(seconds(10), seconds(0));
        ASSERT_FALSE(limits.count_fault());
        ASSERT_FALSE(limits.too_long(seconds(1000)));
    }
}

TEST(VmLimits, RequestsPerSecondAndBurst) {
    VmLimits limits({.requests_per_second = 10, .burst = 3}, seconds(0));
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    }
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kTooManyRequests);
    EXPECT_EQ(limits.admit(milliseconds(99)), Verdict::kTooManyRequests);
    EXPECT_EQ(limits.admit(milliseconds(101)), Verdict::kAllowed);
    EXPECT_EQ(limits.admit(milliseconds(102)), Verdict::kTooManyRequests);
    EXPECT_EQ(limits.may_start(milliseconds(102)), Verdict::kAllowed);
}

TEST(VmLimits, SettingsThatStayLeaveTheBudgetAsItIs) {
    VmLimitSettings settings{.requests_per_second = 1, .burst = 1};
    VmLimits limits(settings, seconds(0));
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    settings.quarantine_after_faults = 5;
    limits.apply(settings, seconds(0));
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kTooManyRequests);
    settings.burst = 2;
    limits.apply(settings, seconds(0));
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    settings.requests_per_second = 0;
    limits.apply(settings, seconds(0));
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    }
}

TEST(VmLimits, GpuTimePerWindowAndItsDebt) {
    VmLimits limits({.gpu_time = milliseconds(100), .gpu_window = seconds(1)}, seconds(0));
    limits.charge(milliseconds(99), seconds(0));
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    limits.charge(milliseconds(51), seconds(0));  // 50 more than available
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kGpuTimeUsed);
    EXPECT_EQ(limits.may_start(milliseconds(499)), Verdict::kGpuTimeUsed);
    EXPECT_EQ(limits.may_start(milliseconds(501)), Verdict::kAllowed);
}

// With constant demand ten windows yield at most eleven times the GPU time, plus one request.
TEST(VmLimits, GpuTimeInTheLongRun) {
    VmLimits limits({.gpu_time = milliseconds(100), .gpu_window = seconds(1)}, seconds(0));
    milliseconds used{0};
    for (milliseconds now{0}; now < seconds(10); now += milliseconds(1)) {
        if (limits.admit(now) == Verdict::kAllowed) {
            used += milliseconds(7);
            now += milliseconds(7);
            limits.charge(milliseconds(7), now);
        }
    }
    EXPECT_LE(used, milliseconds(1107));
    EXPECT_GE(used, milliseconds(1000));
}

TEST(HoldBack, LastsOnlySoLong) {
    for (const auto& rates : {HoldBack::kVm, HoldBack::kProcess}) {
        HoldBack hold(rates, seconds(1));
        for (int i = 0; i < 99; ++i) {
            hold.count_connection(seconds(1));
            hold.count_refusal(seconds(1));
        }
        EXPECT_LE(hold.until(), seconds(1)) << "so much at once is allowed";
        for (int i = 0; i < 1'000'000; ++i) {
            hold.count_refusal(seconds(1));
            hold.count_idle_synchronize(seconds(1));
        }
        EXPECT_GT(hold.until(), seconds(1));
        EXPECT_LE(hold.until(), seconds(1) + milliseconds(101));
        for (int i = 0; i < 10'000; ++i) {
            hold.count_connection(seconds(1));
        }
        // A device gives a handshake 2 s.
        EXPECT_LE(hold.until(), seconds(1) + milliseconds(510));
    }
}

TEST(HoldBack, CountsTheTimeOfItsThrottles) {
    HoldBack hold(HoldBack::kVm, seconds(1));
    hold.count_refusal(seconds(1));
    EXPECT_EQ(hold.total(), seconds(0)) << "so much at once is allowed";
    for (int i = 0; i < 10'000; ++i) {
        hold.count_refusal(seconds(1));
    }
    EXPECT_EQ(hold.total(), hold.until() - seconds(1));
    const auto first = hold.total();
    for (int i = 0; i < 10'000; ++i) {
        hold.count_refusal(seconds(9));
    }
    EXPECT_EQ(hold.total(), first + hold.until() - seconds(9)) << "the time between does not count";
}

TEST(HoldBack, AProcessMayOpenAllItsConnectionsAtOnce) {
    HoldBack hold(HoldBack::of_process(500), seconds(1));
    for (int i = 0; i < 500; ++i) {
        EXPECT_LE(hold.until(), seconds(1)) << i;
        hold.count_connection(seconds(1));
    }
    hold.count_connection(seconds(1));
    EXPECT_GT(hold.until(), seconds(1));
}

TEST(HoldBack, AProcessIsOverdrawnOnceItHasAllItsDebt) {
    const auto rate = HoldBack::kProcess.connections;
    HoldBack hold(HoldBack::kProcess, seconds(1));
    const auto most = static_cast<int>(rate.burst + rate.debt);
    for (int i = 0; i < most - 1; ++i) {
        EXPECT_FALSE(hold.connections_overdrawn(seconds(1))) << i;
        hold.count_connection(seconds(1));
    }
    EXPECT_TRUE(hold.connections_overdrawn(seconds(1)));
    for (int i = 0; i < 1000; ++i) {
        hold.count_connection(seconds(1));
    }
    EXPECT_TRUE(hold.connections_overdrawn(seconds(1)));
    // However many were closed at once, the next is served after as long as the debt allows.
    EXPECT_FALSE(hold.connections_overdrawn(seconds(1) + milliseconds(20)));
}

TEST(HoldBack, AResetCostsByTheQueuesOfTheDevice) {
    HoldBack small(HoldBack::kVm, seconds(1));
    HoldBack large(HoldBack::kVm, seconds(1));
    constexpr int kResets = 12;  // of 64 queues at once
    for (int i = 0; i < kResets; ++i) {
        small.count_reset(seconds(1), 1);
        large.count_reset(seconds(1), 64);
        EXPECT_LE(large.until(), seconds(1)) << i;
    }
    small.count_reset(seconds(1), 1);
    large.count_reset(seconds(1), 64);
    EXPECT_LE(small.until(), seconds(1));
    EXPECT_GT(large.until(), seconds(1));
    for (int i = 0; i < 1000; ++i) {
        large.count_reset(seconds(1), 64);
    }
    EXPECT_LE(large.until(), seconds(1) + milliseconds(101)) << "lasts only so long";
}

TEST(VmLimits, QuarantineFromTheNthFaultUntilReleased) {
    VmLimits limits({.quarantine_after_faults = 3}, seconds(0));
    EXPECT_FALSE(limits.count_fault());
    EXPECT_FALSE(limits.count_fault());
    EXPECT_EQ(limits.admit(seconds(0)), Verdict::kAllowed);
    EXPECT_TRUE(limits.count_fault());
    EXPECT_FALSE(limits.count_fault());  // reported once
    EXPECT_EQ(limits.admit(seconds(1000)), Verdict::kQuarantined);
    EXPECT_EQ(limits.may_start(seconds(1000)), Verdict::kQuarantined);
    limits.faults().release();
    EXPECT_EQ(limits.admit(seconds(1000)), Verdict::kAllowed);
    EXPECT_FALSE(limits.count_fault());
    EXPECT_FALSE(limits.count_fault());
    EXPECT_TRUE(limits.count_fault());
}

TEST(VmLimits, ALongExecutionIsOverTheLimitNotAtIt) {
    const VmLimits limits({.longest_execution = milliseconds(5)}, seconds(0));
    EXPECT_FALSE(limits.too_long(milliseconds(5)));
    EXPECT_TRUE(limits.too_long(milliseconds(6)));
}

}  // namespace
}  // namespace vgpu
