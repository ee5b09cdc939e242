// SPDX-License-Identifier: MIT
//
// Guarantees of the policies: shares of GPU time, no credit for idle time, no starvation. The test
// acts as the GPU: it advances a manual clock while it "runs" what was dequeued.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "sched/scheduler.h"
#include "sched/testing/manual_clock.h"

namespace vgpu {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr std::size_t kLow = 0;
constexpr std::size_t kMedium = 1;
constexpr std::size_t kHigh = 2;
constexpr milliseconds kNoAging{0};

// One GPU with one slot, and VMs that always have a request queued.
struct PolicyTest : testing::Test {
    struct Load {
        Scheduler::FlowIndex flow = 0;
        std::size_t priority = kMedium;
        nanoseconds shortest{0};  // minimum duration of a request
        nanoseconds longest{0};   // maximum duration
        bool active = true;
        nanoseconds used{0};
        nanoseconds longest_wait{0};
    };
    ManualClock clock;
    Scheduler scheduler{1, {.per_pool = 100000, .per_vm = 100000}, clock};
    std::map<std::uint32_t, Load> loads;
    std::mt19937 random{7};  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same steps each time
    Scheduler::Token token = 0;

    void use(Policy policy, milliseconds aging = kNoAging) {
        scheduler.set_policy(0, {.policy = policy, .aging = aging});
    }
    void add(std::uint32_t vm_id, nanoseconds shortest, nanoseconds longest, double weight = 1.0,
             std::size_t priority = kMedium) {
        const auto flow = scheduler.open_flow(vm_id);
        scheduler.set_share(vm_id, VmShare{.weight = weight, .queue_depth = 100000});
        loads[vm_id] = {
            .flow = flow, .priority = priority, .shortest = shortest, .longest = longest};
        ask(vm_id);
        ask(vm_id);
    }
    void ask(std::uint32_t vm_id) {
        const Load& load = loads.at(vm_id);
        ASSERT_EQ(scheduler.enqueue(0, load.flow, load.priority, token++),
                  Scheduler::Admission::kAccepted);
    }
    // Runs the next request; its VM, if still active, enqueues another.
    std::uint32_t step() {
        const auto entry = scheduler.dequeue(0);
        if (!entry) {
            ADD_FAILURE() << "nothing to run";
            return 0;
        }
        Load& load = loads.at(entry->vm_id);
        load.longest_wait = std::max(load.longest_wait, entry->waited);
        const auto spread = static_cast<std::uint64_t>((load.longest - load.shortest).count()) + 1;
        const nanoseconds took = load.shortest + nanoseconds(random() % spread);
        clock.time += took;
        load.used += took;
        scheduler.finished(entry->vm, took);
        if (load.active) {
            ask(entry->vm_id);
        }
        return entry->vm_id;
    }
    void run_for(nanoseconds duration) {
        const nanoseconds end = clock.time + duration;
        while (clock.time < end) {
            step();
        }
    }
    [[nodiscard]] double share(std::uint32_t vm_id) const {
        double all = 0;
        for (const auto& [id, load] : loads) {
            all += static_cast<double>(load.used.count());
        }
        return static_cast<double>(loads.at(vm_id).used.count()) / all;
    }
    // 1: equal shares; 1/n: one has everything.
    [[nodiscard]] double jain_index() const {
        double sum = 0;
        double squares = 0;
        for (const auto& [id, load] : loads) {
            const auto used = static_cast<double>(load.used.count());
            sum += used;
            squares += used * used;
        }
        return sum * sum / (static_cast<double>(loads.size()) * squares);
    }
};

TEST_F(PolicyTest, EqualVmsGetEqualTimeWhateverTheSizeOfTheirRequests) {
    use(Policy::kFair);
    for (std::uint32_t vm = 0; vm < 10; ++vm) {
        add(vm, microseconds(10 << vm), microseconds(30 << vm));
    }
    run_for(std::chrono::seconds(20));
    EXPECT_GE(jain_index(), 0.98);
}

// Same load without the policy, to prove that the test above does not pass trivially.
TEST_F(PolicyTest, UnderStrictTheLargestRequestsTakeMost) {
    use(Policy::kStrict);
    for (std::uint32_t vm = 0; vm < 10; ++vm) {
        add(vm, microseconds(10 << vm), microseconds(30 << vm));
    }
    run_for(std::chrono::seconds(20));
    EXPECT_LT(jain_index(), 0.5);
}

TEST_F(PolicyTest, WeightsShareTheTime) {
    use(Policy::kFair);
    add(1, microseconds(100), microseconds(900), 1);
    add(2, microseconds(10), microseconds(20), 2);
    add(4, microseconds(1000), microseconds(3000), 4);
    run_for(std::chrono::seconds(10));
    EXPECT_NEAR(share(1), 1.0 / 7, 0.05 / 7);
    EXPECT_NEAR(share(2), 2.0 / 7, 0.05 * 2 / 7);
    EXPECT_NEAR(share(4), 4.0 / 7, 0.05 * 4 / 7);
}

TEST_F(PolicyTest, PrioritiesAreWeightsOneTwoFour) {
    use(Policy::kFair);
    add(1, microseconds(100), microseconds(900), 1, kLow);
    add(2, microseconds(100), microseconds(200), 1, kMedium);
    add(4, microseconds(10), microseconds(20), 1, kHigh);
    run_for(std::chrono::seconds(10));
    EXPECT_NEAR(share(1), 1.0 / 7, 0.05 / 7);
    EXPECT_NEAR(share(2), 2.0 / 7, 0.05 * 2 / 7);
    EXPECT_NEAR(share(4), 4.0 / 7, 0.05 * 4 / 7);
}

TEST_F(PolicyTest, AWeightChangedAtRunTimeCountsFromThenOn) {
    use(Policy::kFair);
    add(1, microseconds(100), microseconds(100));
    add(2, microseconds(100), microseconds(100));
    run_for(std::chrono::seconds(1));
    scheduler.set_share(2, VmShare{.weight = 3, .queue_depth = 100});
    loads.at(1).used = loads.at(2).used = nanoseconds(0);
    run_for(std::chrono::seconds(1));
    EXPECT_NEAR(share(2), 0.75, 0.01);
}

TEST_F(PolicyTest, AbsenceEarnsNothing) {
    use(Policy::kFair);
    add(1, microseconds(100), microseconds(100));
    add(2, microseconds(100), microseconds(100));
    run_for(milliseconds(10));
    loads.at(2).active = false;
    run_for(std::chrono::seconds(1));
    loads.at(2).active = true;
    ask(2);
    ask(2);
    loads.at(1).used = loads.at(2).used = nanoseconds(0);
    // Both get half from the start: the VM that was idle gets no additional request.
    run_for(milliseconds(1));
    EXPECT_NEAR(share(2), 0.5, 0.11);
    run_for(std::chrono::seconds(1));
    EXPECT_NEAR(share(2), 0.5, 0.01);
}

TEST_F(PolicyTest, ConnectingAnewShedsNothing) {
    use(Policy::kFair);
    add(1, microseconds(100), microseconds(100));
    add(2, milliseconds(50), milliseconds(50));
    while (step() != 2) {
    }
    scheduler.close_flow(loads.at(2).flow);
    loads.at(2).flow = scheduler.open_flow(2);
    ask(2);
    loads.at(1).used = loads.at(2).used = nanoseconds(0);
    while (step() != 2) {
    }
    EXPECT_GE(loads.at(1).used, milliseconds(49));
}

TEST_F(PolicyTest, FreeRequestsDoNotKeepOthersOut) {
    use(Policy::kFair);
    add(1, nanoseconds(0), nanoseconds(0));
    add(2, microseconds(10), microseconds(10));
    std::size_t steps = 0;
    for (int done = 0; done < 100; ++steps) {
        done += step() == 2 ? 1 : 0;
    }
    EXPECT_LE(steps, 1200U);
}

TEST_F(PolicyTest, OneRequestOfAVmRunsAtATime) {
    for (const Policy policy : {Policy::kStrict, Policy::kFair}) {
        use(policy);
        const auto a = scheduler.open_flow(1);
        const auto b = scheduler.open_flow(2);
        scheduler.enqueue(0, a, kHigh, 1);
        scheduler.enqueue(0, a, kHigh, 2);
        scheduler.enqueue(0, b, kLow, 3);
        const auto first = scheduler.dequeue(0);
        EXPECT_EQ(first->token, 1U);
        const auto second = scheduler.dequeue(0);
        ASSERT_TRUE(second);
        EXPECT_EQ(second->token, 3U);
        EXPECT_FALSE(scheduler.dequeue(0));
        scheduler.finished(first->vm, microseconds(1));
        const auto third = scheduler.dequeue(0);
        ASSERT_TRUE(third);
        EXPECT_EQ(third->token, 2U);
        scheduler.finished(second->vm, microseconds(1));
        scheduler.finished(third->vm, microseconds(1));
        scheduler.close_flow(a);
        scheduler.close_flow(b);
    }
}

TEST_F(PolicyTest, OneRequestOfAVmRunsAtATimeInAllPools) {
    Scheduler two(2, {}, clock);
    const auto flow = two.open_flow(1);
    two.enqueue(0, flow, kLow, 1);
    two.enqueue(1, flow, kLow, 2);
    const auto first = two.dequeue(0);
    EXPECT_FALSE(two.dequeue(1));
    two.finished(first->vm, {});
    const auto second = two.dequeue(1);
    ASSERT_TRUE(second);
    EXPECT_EQ(second->token, 2U);
}

// The bound stated in scheduler.h: aging time, plus earlier requests, plus the running one.
TEST_F(PolicyTest, NothingWaitsForEver) {
    constexpr milliseconds kAging{50};
    constexpr milliseconds kExecution{1};
    for (const Policy policy : {Policy::kStrict, Policy::kFair}) {
        use(policy, kAging);
        loads.clear();
        // Three VMs with constant demand at high priority, and one at low with little weight.
        for (const std::uint32_t vm : {1U, 2U, 3U}) {
            add(vm, kExecution, kExecution, 1000, kHigh);
        }
        add(4, kExecution, kExecution, 0.001, kLow);
        run_for(std::chrono::seconds(5));
        // Each VM has two queued: at most seven came before, and one is running.
        EXPECT_LE(loads.at(4).longest_wait, kAging + 8 * kExecution);
        EXPECT_GT(loads.at(4).used.count(), 0);
        for (const auto& [id, load] : loads) {
            scheduler.close_flow(load.flow);
        }
    }
}

TEST_F(PolicyTest, WithoutAgingLowWaitsAsLongAsThereIsHigh) {
    use(Policy::kStrict);
    add(1, milliseconds(1), milliseconds(1), 1, kHigh);
    add(2, milliseconds(1), milliseconds(1), 1, kLow);
    run_for(std::chrono::seconds(5));
    EXPECT_EQ(loads.at(2).used.count(), 0);
}

TEST_F(PolicyTest, ThoseThatHaveWaitedTooLongGoOldestFirst) {
    use(Policy::kStrict, milliseconds(10));
    const auto a = scheduler.open_flow(1);
    const auto b = scheduler.open_flow(2);
    const auto c = scheduler.open_flow(3);
    scheduler.enqueue(0, a, kLow, 1);
    scheduler.enqueue(0, b, kHigh, 2);
    scheduler.enqueue(0, c, kMedium, 3);
    clock.time += milliseconds(10) + nanoseconds(1);
    scheduler.enqueue(0, b, kHigh, 4);
    std::vector<Scheduler::Token> order;
    while (const auto entry = scheduler.dequeue(0)) {
        order.push_back(entry->token);
        scheduler.finished(entry->vm, {});
    }
    EXPECT_EQ(order, (std::vector<Scheduler::Token>{1, 2, 3, 4}));
}

TEST_F(PolicyTest, APolicyChangedAtRunTimeLosesNothing) {
    use(Policy::kStrict);
    std::size_t queued = 0;
    std::vector<Scheduler::FlowIndex> flows;
    for (std::uint32_t vm = 0; vm < 8; ++vm) {
        flows.push_back(scheduler.open_flow(vm));
    }
    std::vector<Scheduler::VmIndex> running;
    std::size_t out = 0;
    for (int i = 0; i < 5000; ++i) {
        const auto pick = random() % 10;
        if (pick < 4) {
            scheduler.enqueue(0, flows[random() % 8], random() % 3, token++);
            ++queued;
        } else if (pick < 8) {
            if (const auto entry = scheduler.dequeue(0)) {
                running.push_back(entry->vm);
                ++out;
            }
        } else if (pick == 8 && !running.empty()) {
            scheduler.finished(running.back(), microseconds(random() % 1000));
            running.pop_back();
        } else {
            use(random() % 2 == 0 ? Policy::kStrict : Policy::kFair, milliseconds(random() % 2));
        }
        clock.time += microseconds(100);
        ASSERT_EQ(scheduler.depth(), queued - out);
    }
    for (const auto vm : running) {
        scheduler.finished(vm, {});
    }
    while (const auto entry = scheduler.dequeue(0)) {
        scheduler.finished(entry->vm, {});
        ++out;
    }
    EXPECT_EQ(out, queued);
}

TEST_F(PolicyTest, TakeAllTakesWhatIsQueuedAlsoOfAVmThatRuns) {
    use(Policy::kFair);
    const auto flow = scheduler.open_flow(1);
    for (Scheduler::Token i = 1; i <= 4; ++i) {
        scheduler.enqueue(0, flow, i % 3, i);
    }
    const auto entry = scheduler.dequeue(0);
    EXPECT_EQ(entry->token, 2U);  // the highest level first
    EXPECT_EQ(scheduler.take_all(), (std::vector<Scheduler::Token>{1, 3, 4}));
    EXPECT_EQ(scheduler.depth(), 0U);
    scheduler.finished(entry->vm, {});
    EXPECT_FALSE(scheduler.dequeue(0));
}

// More VMs come and go than are kept: nothing breaks, and the remaining ones still work.
TEST_F(PolicyTest, ManyVmsComeAndGo) {
    use(Policy::kFair);
    const auto stays = scheduler.open_flow(0);
    for (std::uint32_t vm = 1; vm < 5000; ++vm) {
        const auto flow = scheduler.open_flow(vm);
        scheduler.enqueue(0, flow, kLow, vm);
        const auto entry = scheduler.dequeue(0);
        ASSERT_TRUE(entry);
        EXPECT_EQ(entry->vm_id, vm);
        EXPECT_TRUE(scheduler.close_flow(flow).empty());
        scheduler.finished(entry->vm, microseconds(5));
    }
    scheduler.enqueue(0, stays, kLow, 1);
    EXPECT_EQ(scheduler.dequeue(0)->vm_id, 0U);
}

}  // namespace
}  // namespace vgpu
