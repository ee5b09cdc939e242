// SPDX-License-Identifier: MIT
//
// Tests what the control loop measures about itself: intervals between polls, and whose memory
// blocked it.
#include "mediator/loop/loop_latency.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <chrono>
#include <cstddef>

#include "mediator/shm/touch_watch.h"

namespace vgpu {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr auto kQueues = static_cast<std::size_t>(LoopSource::kQueues);
constexpr auto kEvents = static_cast<std::size_t>(LoopSource::kEvents);

TEST(LoopLatency, IsTheLongestTimeBetweenTwoPollsOfASource) {
    LoopLatency latency;
    latency.slept(seconds(1));
    EXPECT_EQ(latency.polled(LoopSource::kQueues, seconds(1) + milliseconds(3)), milliseconds(3));
    EXPECT_EQ(latency.polled(LoopSource::kQueues, seconds(1) + milliseconds(4)), milliseconds(1));
    EXPECT_EQ(latency.polled(LoopSource::kEvents, seconds(1) + milliseconds(5)), milliseconds(5));
    EXPECT_EQ(latency.longest(kQueues, seconds(2)), milliseconds(3));
    EXPECT_EQ(latency.longest(kEvents, seconds(2)), milliseconds(5));
}

TEST(LoopLatency, SleepDoesNotCount) {
    LoopLatency latency;
    latency.slept(seconds(1));
    latency.slept(seconds(9));
    latency.polled(LoopSource::kQueues, seconds(9) + milliseconds(2));
    EXPECT_EQ(latency.longest(kQueues, seconds(10)), milliseconds(2));
}

TEST(LoopLatency, IsForgottenAfterAWhile) {
    LoopLatency latency;
    auto now = nanoseconds(LoopLatency::kWindow);
    latency.slept(now);
    latency.polled(LoopSource::kQueues, now += milliseconds(50));
    latency.slept(now += LoopLatency::kWindow);
    latency.polled(LoopSource::kQueues, now += milliseconds(1));
    EXPECT_EQ(latency.longest(kQueues, now), milliseconds(50))
        << "the window before counts as well";
    latency.slept(now += LoopLatency::kWindow);
    latency.polled(LoopSource::kQueues, now += milliseconds(1));
    EXPECT_EQ(latency.longest(kQueues, now), milliseconds(1));
}

TEST(LoopLatency, IsForgottenByALoopThatOnlySleeps) {
    LoopLatency latency;
    const auto begin = nanoseconds(LoopLatency::kWindow);
    latency.slept(begin);
    latency.polled(LoopSource::kQueues, begin + milliseconds(50));
    EXPECT_EQ(latency.longest(kQueues, begin + LoopLatency::kWindow), milliseconds(50));
    const auto later = begin + 2 * LoopLatency::kWindow + milliseconds(50);
    EXPECT_EQ(latency.longest(kQueues, later), nanoseconds(0));
    latency.slept(later);
    latency.polled(LoopSource::kQueues, later + milliseconds(1));
    EXPECT_EQ(latency.longest(kQueues, later + milliseconds(1)), milliseconds(1));
}

// Blocks until a timer expires: one voluntary context switch.
void block_for_a_moment() {
    EXPECT_EQ(::poll(nullptr, 0, 1), 0);
}

// Causes a page fault.
void touch_a_new_page() {
    constexpr std::size_t kPage = 4096;
    void* const page =
        ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    *static_cast<volatile char*>(page) = 1;
    ASSERT_EQ(::munmap(page, kPage), 0);
}

TEST(TouchWatch, BlamesATouchThatTookLongAndWaitedForAPage) {
    TouchWatch watch;
    EXPECT_FALSE(watch.suspicious());
    watch.late_by(TouchWatch::kLate - nanoseconds(1), seconds(1));
    EXPECT_FALSE(watch.suspicious());
    watch.late_by(TouchWatch::kLate, seconds(1));
    ASSERT_TRUE(watch.suspicious());
    watch.begin(seconds(1));
    auto now = nanoseconds(seconds(1));
    block_for_a_moment();
    touch_a_new_page();
    EXPECT_TRUE(watch.blames(now += TouchWatch::kSlow));
    block_for_a_moment();
    touch_a_new_page();
    EXPECT_FALSE(watch.blames(now += milliseconds(1))) << "it was short";
}

TEST(TouchWatch, TellsAWaitFromBeingPreempted) {
    TouchWatch watch;
    watch.begin(seconds(1));
    block_for_a_moment();
    EXPECT_FALSE(watch.waited(seconds(1) + TouchWatch::kLate - nanoseconds(1)));
    EXPECT_TRUE(watch.waited(seconds(1) + TouchWatch::kLate));
    watch.begin(seconds(2));
    EXPECT_FALSE(watch.waited(seconds(3))) << "it was preempted";
}

TEST(TouchWatch, SuspicionEnds) {
    TouchWatch watch;
    watch.late_by(TouchWatch::kLate, seconds(1));
    watch.begin(seconds(1) + milliseconds(1));
    EXPECT_TRUE(watch.suspicious());
    watch.begin(seconds(1) + TouchWatch::kSuspicion);
    EXPECT_FALSE(watch.suspicious());
}

}  // namespace
}  // namespace vgpu
