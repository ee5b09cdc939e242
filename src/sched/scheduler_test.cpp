// SPDX-License-Identifier: MIT
#include "sched/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "sched/testing/manual_clock.h"

namespace vgpu {
namespace {

using Admission = Scheduler::Admission;
using Tokens = std::vector<Scheduler::Token>;

constexpr std::size_t kLow = 0;
constexpr std::size_t kMedium = 1;
constexpr std::size_t kHigh = 2;

Tokens drain(Scheduler& scheduler, Scheduler::PoolIndex pool) {
    Tokens tokens;
    // Each finishes before the next starts.
    while (const auto entry = scheduler.dequeue(pool)) {
        tokens.push_back(entry->token);
        scheduler.finished(entry->vm, std::chrono::nanoseconds(0));
    }
    return tokens;
}

struct SchedulerTest : testing::Test {
    ManualClock clock;
    Scheduler scheduler{2, {.per_pool = 100, .per_vm = 50}, clock};
};

TEST_F(SchedulerTest, EmptyGivesNothing) {
    EXPECT_FALSE(scheduler.dequeue(0));
    EXPECT_EQ(scheduler.depth(), 0U);
}

TEST_F(SchedulerTest, HighBeforeMediumBeforeLowAndFifoWithin) {
    const auto a = scheduler.open_flow(1);
    const auto b = scheduler.open_flow(2);
    scheduler.enqueue(0, a, kLow, 1);
    scheduler.enqueue(0, b, kMedium, 2);
    scheduler.enqueue(0, a, kHigh, 3);
    scheduler.enqueue(0, b, kLow, 4);
    scheduler.enqueue(0, a, kMedium, 5);
    scheduler.enqueue(0, b, kHigh, 6);
    EXPECT_EQ(drain(scheduler, 0), (Tokens{3, 6, 2, 5, 1, 4}));
}

TEST_F(SchedulerTest, ALateHighOvertakesWhatIsQueued) {
    const auto flow = scheduler.open_flow(1);
    scheduler.enqueue(0, flow, kLow, 1);
    scheduler.enqueue(0, flow, kLow, 2);
    const auto first = scheduler.dequeue(0);
    EXPECT_EQ(first->token, 1U);
    scheduler.enqueue(0, flow, kHigh, 3);
    EXPECT_FALSE(scheduler.dequeue(0));  // its VM is running
    scheduler.finished(first->vm, {});
    EXPECT_EQ(drain(scheduler, 0), (Tokens{3, 2}));
}

TEST_F(SchedulerTest, PoolsAreApart) {
    const auto flow = scheduler.open_flow(1);
    scheduler.enqueue(0, flow, kLow, 1);
    scheduler.enqueue(1, flow, kHigh, 2);
    EXPECT_EQ(scheduler.depth(0), 1U);
    EXPECT_EQ(scheduler.depth(1, kHigh), 1U);
    EXPECT_EQ(drain(scheduler, 0), Tokens{1});
    EXPECT_EQ(drain(scheduler, 1), Tokens{2});
}

TEST_F(SchedulerTest, SaysWhoseItIsAndHowLongItWaited) {
    const auto flow = scheduler.open_flow(77);
    clock.time = std::chrono::microseconds(10);
    scheduler.enqueue(0, flow, kMedium, 5);
    clock.time = std::chrono::microseconds(25);
    const auto entry = scheduler.dequeue(0);
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->vm_id, 77U);
    EXPECT_EQ(entry->priority, kMedium);
    EXPECT_EQ(entry->waited, std::chrono::microseconds(15));
}

TEST_F(SchedulerTest, ClosingAFlowTakesOutItsEntriesAndNoOthers) {
    const auto gone = scheduler.open_flow(1);
    const auto stays = scheduler.open_flow(2);
    scheduler.enqueue(0, gone, kLow, 1);
    scheduler.enqueue(0, stays, kLow, 2);
    scheduler.enqueue(0, gone, kHigh, 3);
    scheduler.enqueue(1, gone, kLow, 4);
    scheduler.enqueue(0, gone, kLow, 5);
    scheduler.enqueue(0, stays, kLow, 6);
    EXPECT_EQ(scheduler.close_flow(gone), (Tokens{1, 3, 4, 5}));
    EXPECT_EQ(scheduler.depth(), 2U);
    EXPECT_EQ(drain(scheduler, 0), (Tokens{2, 6}));
    EXPECT_TRUE(drain(scheduler, 1).empty());
}

TEST(SchedulerLimits, APoolHoldsSoManyAndNoMore) {
    const ManualClock clock;
    Scheduler scheduler(2, {.per_pool = 2, .per_vm = 100}, clock);
    const auto a = scheduler.open_flow(1);
    const auto b = scheduler.open_flow(2);
    EXPECT_EQ(scheduler.enqueue(0, a, kLow, 1), Admission::kAccepted);
    EXPECT_EQ(scheduler.enqueue(0, b, kHigh, 2), Admission::kAccepted);
    EXPECT_EQ(scheduler.enqueue(0, b, kHigh, 3), Admission::kPoolFull);
    EXPECT_EQ(scheduler.enqueue(1, b, kHigh, 4), Admission::kAccepted);
    scheduler.finished(scheduler.dequeue(0)->vm, {});
    EXPECT_EQ(scheduler.enqueue(0, a, kLow, 5), Admission::kAccepted);
    EXPECT_EQ(drain(scheduler, 0), (Tokens{1, 5}));
}

TEST(SchedulerLimits, AVmHoldsSoManyOverAllItsFlowsAndPools) {
    const ManualClock clock;
    Scheduler scheduler(2, {.per_pool = 100, .per_vm = 2}, clock);
    const auto first = scheduler.open_flow(1);
    const auto second = scheduler.open_flow(1);
    const auto other = scheduler.open_flow(2);
    EXPECT_EQ(scheduler.enqueue(0, first, kLow, 1), Admission::kAccepted);
    EXPECT_EQ(scheduler.enqueue(1, second, kLow, 2), Admission::kAccepted);
    EXPECT_EQ(scheduler.enqueue(0, first, kHigh, 3), Admission::kVmFull);
    EXPECT_EQ(scheduler.enqueue(0, other, kLow, 4), Admission::kAccepted);
    scheduler.close_flow(second);
    EXPECT_EQ(scheduler.enqueue(0, first, kHigh, 5), Admission::kAccepted);
    EXPECT_EQ(drain(scheduler, 0), (Tokens{5, 1, 4}));
}

// Compares with a slow but simple model: many random steps, the same result at each.
TEST(SchedulerModel, AgreesWithAPlainModelOverManyRandomSteps) {
    const ManualClock clock;
    constexpr std::size_t kPools = 3;
    constexpr Scheduler::Limits kLimits{.per_pool = 40, .per_vm = 25};
    Scheduler scheduler(kPools, kLimits, clock);
    struct Item {
        Scheduler::Token token;
        Scheduler::FlowIndex flow;
        std::uint32_t vm;
    };
    std::map<std::pair<std::size_t, std::size_t>, std::deque<Item>> model;  // pool, priority
    std::map<Scheduler::FlowIndex, std::uint32_t> flows;
    std::map<std::uint32_t, Scheduler::VmIndex> running;
    std::mt19937 random(12345);  // NOLINT(cert-msc51-cpp): the same steps each time
    const auto below = [&](std::size_t n) { return random() % n; };
    const auto count = [&](const auto& wanted) {
        std::size_t found = 0;
        for (const auto& [key, items] : model) {
            for (const Item& item : items) {
                found += wanted(key.first, item) ? 1 : 0;
            }
        }
        return found;
    };
    for (Scheduler::Token token = 0; token < 20000; ++token) {
        const std::size_t step = below(100);
        const std::size_t pool = below(kPools);
        if (flows.empty() || step < 3) {
            const auto vm = static_cast<std::uint32_t>(below(5));
            const auto flow = scheduler.open_flow(vm);
            ASSERT_FALSE(flows.contains(flow));
            flows[flow] = vm;
        } else if (step < 5) {
            const auto chosen = std::next(flows.begin(), static_cast<long>(below(flows.size())));
            Tokens expected;
            for (auto& [key, items] : model) {
                for (const Item& item : items) {
                    if (item.flow == chosen->first) {
                        expected.push_back(item.token);
                    }
                }
                std::erase_if(items, [&](const Item& i) { return i.flow == chosen->first; });
            }
            std::sort(expected.begin(), expected.end());
            ASSERT_EQ(scheduler.close_flow(chosen->first), expected);
            flows.erase(chosen);
        } else if (step < 65) {
            const auto chosen = std::next(flows.begin(), static_cast<long>(below(flows.size())));
            const std::size_t priority = below(3);
            const std::size_t in_pool = count([&](auto p, auto&) { return p == pool; });
            const std::size_t of_vm =
                count([&](auto, auto& item) { return item.vm == chosen->second; });
            const Admission expected = of_vm >= kLimits.per_vm       ? Admission::kVmFull
                                       : in_pool >= kLimits.per_pool ? Admission::kPoolFull
                                                                     : Admission::kAccepted;
            ASSERT_EQ(scheduler.enqueue(pool, chosen->first, priority, token), expected);
            if (expected == Admission::kAccepted) {
                model[{pool, priority}].push_back({token, chosen->first, chosen->second});
            }
        } else if (step < 80 && !running.empty()) {
            const auto chosen =
                std::next(running.begin(), static_cast<long>(below(running.size())));
            scheduler.finished(chosen->second, {});
            running.erase(chosen);
        } else {
            std::optional<Scheduler::Token> expected;
            for (std::size_t priority = 3; priority-- > 0 && !expected;) {
                auto& items = model[{pool, priority}];
                const auto next = std::find_if(items.begin(), items.end(), [&](const Item& item) {
                    return !running.contains(item.vm);
                });
                if (next != items.end()) {
                    expected = next->token;
                    items.erase(next);
                }
            }
            const auto entry = scheduler.dequeue(pool);
            ASSERT_EQ(entry.has_value(), expected.has_value());
            if (entry) {
                ASSERT_EQ(entry->token, *expected);
                running[entry->vm_id] = entry->vm;
            }
        }
        ASSERT_EQ(scheduler.depth(), count([](auto, auto&) { return true; }));
    }
}

}  // namespace
}  // namespace vgpu
