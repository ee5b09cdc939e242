// SPDX-License-Identifier: MIT
#include "mediator/session/processes.h"

#include <gtest/gtest.h>

#include <chrono>

namespace vgpu {
namespace {

constexpr std::chrono::nanoseconds kNow{1};

TEST(Processes, OneThatConnectsAgainHasTheBudgetItHad) {
    const Disposer disposer;
    Processes processes(disposer);
    for (int i = 0; i < 500; ++i) {
        const auto process = processes.of(7, 64, kNow);
        ++process->connections;
        process->hold.count_connection(kNow);
        processes.closed(7);
    }
    EXPECT_GT(processes.of(7, 64, kNow)->hold.until(), kNow);
    EXPECT_LE(processes.of(8, 64, kNow)->hold.until(), kNow);
}

TEST(Processes, ThoseThatHaveGoneAreForgottenAtLast) {
    const Disposer disposer;
    Processes processes(disposer);
    const auto stays = processes.of(1, 64, kNow);
    ++stays->connections;
    for (pid_t pid = 2; pid < 5000; ++pid) {
        ++processes.of(pid, 64, kNow)->connections;
        processes.closed(pid);
    }
    EXPECT_EQ(processes.size(), 1 + Processes::kMostIdle);
    EXPECT_EQ(processes.of(1, 64, kNow), stays);
    processes.closed(1);
}

TEST(Processes, ThoseThatWereTurnedAwayAreForgotten) {
    const Disposer disposer;
    Processes processes(disposer);
    for (pid_t pid = 1; pid < 5000; ++pid) {
        EXPECT_NE(processes.of(pid, 64, kNow), nullptr);
    }
    EXPECT_EQ(processes.size(), Processes::kMostIdle);
}

// A process that reconnects repeatedly is listed once.
TEST(Processes, OneThatComesAndGoesPushesOutNoOther) {
    const Disposer disposer;
    Processes processes(disposer);
    const auto other = processes.of(1, 64, kNow);
    ++other->connections;
    other->hold.count_connection(kNow);
    processes.closed(1);
    for (int i = 0; i < 1000; ++i) {
        ++processes.of(2, 64, kNow)->connections;
        processes.closed(2);
    }
    EXPECT_EQ(processes.of(1, 64, kNow), other);
    EXPECT_EQ(processes.size(), 2U);
}

}  // namespace
}  // namespace vgpu
