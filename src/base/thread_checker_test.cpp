// SPDX-License-Identifier: MIT
#if !defined(VGPU_THREAD_CHECKS)
#define VGPU_THREAD_CHECKS
#endif
#include "base/thread_checker.h"

#include <gtest/gtest.h>

#include <thread>

namespace vgpu {
namespace {

TEST(ThreadChecker, BelongsToTheThreadOfTheFirstCheck) {
    const ThreadChecker checker;
    std::thread([&] {
        checker.check("an object");
        checker.check("an object");
    }).join();
    const ThreadChecker other;
    other.check("another one");
    other.check("another one");
}

TEST(ThreadCheckerDeathTest, AbortsOnAnotherThread) {
    EXPECT_DEATH(
        {
            const ThreadChecker checker;
            std::thread([&] { checker.check("an object: control loop only"); }).join();
            checker.check("an object: control loop only");
        },
        "called on a wrong thread: an object: control loop only");
}

}  // namespace
}  // namespace vgpu
