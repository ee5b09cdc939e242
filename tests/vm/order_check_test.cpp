// SPDX-License-Identifier: MIT
//
// OrderCheck on hand-written streams: what it counts, rejects, and tolerates.
#include "vm/order_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vgpu::test {
namespace {

class Order : public testing::Test {
  protected:
    void event(const std::string& kind, int vm, int request, const std::string& priority,
               const std::string& pool = "A", int opcode = 1) {
        check_.line(R"({"time":"2026-11-27T12:00:00.000000Z","event":"request_)" + kind +
                    R"(","session":)" + std::to_string(vm) + R"(,"vm":)" + std::to_string(vm) +
                    R"(,"request_id":)" + std::to_string(request) + R"(,"pool":")" + pool +
                    R"(","priority":")" + priority + R"(","opcode":)" + std::to_string(opcode) +
                    R"(,"wait_us":1.000})");
    }
    [[nodiscard]] const OrderCheck::Figures& pool(char id = 'A') const {
        return check_.pools().at(id);
    }

    OrderCheck check_;
};

TEST_F(Order, TheHighestFirstIsRight) {
    event("accepted", 1, 1, "low");
    event("accepted", 2, 1, "high");
    event("accepted", 3, 1, "medium");
    event("started", 2, 1, "high");
    event("started", 3, 1, "medium");
    event("started", 1, 1, "low");
    EXPECT_EQ(pool().started, 3U);
    EXPECT_EQ(pool().contended, 2U);
    EXPECT_EQ(pool().overtaking, 2U);
    EXPECT_EQ(pool().contended_by, (OrderCheck::Levels{0, 1, 1}));
    EXPECT_EQ(pool().wrong_priority + pool().wrong_arrival, 0U);
    EXPECT_EQ(check_.first_violation(), "");
}

TEST_F(Order, ALowOneBeforeAHighOneIsWrong) {
    event("accepted", 1, 1, "low");
    event("accepted", 2, 7, "high");
    event("started", 1, 1, "low");
    EXPECT_EQ(pool().wrong_priority, 1U);
    EXPECT_THAT(check_.first_violation(), testing::HasSubstr("2/7/1"));
}

TEST_F(Order, TheLaterOfAPriorityFirstIsWrong) {
    event("accepted", 1, 1, "low");
    event("accepted", 2, 1, "low");
    event("started", 2, 1, "low");
    EXPECT_EQ(pool().wrong_priority, 0U);
    EXPECT_EQ(pool().wrong_arrival, 1U);
    EXPECT_EQ(pool().contended, 0U) << "arrival decides between requests of one priority";
}

TEST_F(Order, PoolsAreApart) {
    event("accepted", 1, 1, "high", "B");
    event("accepted", 2, 1, "low", "A");
    event("started", 2, 1, "low", "A");
    EXPECT_EQ(pool('A').wrong_priority + pool('A').contended, 0U);
}

TEST_F(Order, WhatWasDroppedDoesNotWait) {
    event("accepted", 1, 1, "high");
    event("accepted", 2, 1, "low");
    event("dropped", 1, 1, "high");
    event("started", 2, 1, "low");
    EXPECT_EQ(pool().wrong_priority, 0U);
}

TEST_F(Order, SynchronizeDoesNotWaitInTheScheduler) {
    event("accepted", 1, 1, "high", "A", 6);
    event("accepted", 2, 1, "low");
    event("started", 2, 1, "low");
    EXPECT_EQ(pool().wrong_priority, 0U);
}

TEST_F(Order, AfterALossOnlyWhatIsKnownToWaitCounts) {
    event("accepted", 1, 1, "high");
    check_.line(R"({"time":"2026-11-27T12:00:00.000000Z","event":"lost","count":12})");
    event("accepted", 2, 1, "low");
    event("started", 2, 1, "low");
    EXPECT_EQ(check_.lost(), 12U);
    EXPECT_EQ(pool().wrong_priority, 0U);
    event("accepted", 2, 2, "low");
    event("accepted", 1, 2, "high");
    event("started", 2, 2, "low");
    EXPECT_EQ(pool().wrong_priority, 1U);
}

TEST_F(Order, TwoRequestsMayBearTheSameNumber) {
    event("accepted", 1, 1, "low");
    event("accepted", 1, 1, "low");
    event("started", 1, 1, "low");
    event("started", 1, 1, "low");
    EXPECT_EQ(pool().started, 2U);
    EXPECT_EQ(pool().wrong_arrival, 0U);
}

TEST_F(Order, OtherLinesAreLeftAlone) {
    check_.line("");
    check_.line("no JSON");
    check_.line(R"({"event":"request_started","pool":"A"})");
    EXPECT_TRUE(check_.pools().empty());
}

}  // namespace
}  // namespace vgpu::test
