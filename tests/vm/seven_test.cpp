// SPDX-License-Identifier: MIT
//
// Seven guests on one mediator, in two pools with three priorities. Checks every result against the
// guest's own arithmetic, and the order of execution against the mediator's event stream; once
// without and once with an attacker among the guests.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>

#include "vm/event_reader.h"
#include "vm/fleet.h"

namespace vgpu::test {
namespace {

constexpr std::uint64_t kLeast = 1000;  // additions per path and VM
// Registers and queue at once, and matrix products, which keep the device busy while others queue.
constexpr const char* kWork =
    "vgpu stress --json --seconds 4 -n 1000 --in-flight 8 --matrix 96 --timeout 10";
constexpr auto kLimit = std::chrono::seconds(70);
// Contended decisions per pool below which the order check proves little.
constexpr std::uint64_t kLeastContended = 100;
constexpr std::size_t kAttacker = 6;  // the last of the fleet, low priority

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

class SevenVms : public testing::Test {
  protected:
    void SetUp() override {
        const std::string why = Fleet::missing();
        if (!why.empty()) {
            GTEST_SKIP() << why;
        }
        fleet_.start_mediator();
        const auto start = Clock::now();
        fleet_.boot_all();
        std::cout << "booted in " << seconds_since(start) << " s\n";
        events_.emplace(fleet_.admin_socket(), order_);
    }

    // Runs the first `count` VMs at once and checks their reports.
    void work(std::size_t count) {
        const auto start = Clock::now();
        for (std::size_t index = 0; index != count; ++index) {
            fleet_.vm(index).start(kWork);
        }
        std::vector<VmFigures> figures(count);
        for (std::size_t index = 0; index != count; ++index) {
            const auto result = fleet_.vm(index).finish(kLimit);
            EXPECT_EQ(result.status, 0) << "VM " << index + 1 << ": " << result.output;
            if (result.status >= 0) {
                Fleet::add_report(figures[index], result.output);
            }
        }
        std::cout << "worked for " << seconds_since(start) << " s\n" << fleet_.table(figures);
        for (std::size_t index = 0; index != count; ++index) {
            for (const auto& [name, path] : figures[index]) {
                EXPECT_EQ(path.wrong, 0U) << "VM " << index + 1 << ", " << path.first_wrong;
                EXPECT_THAT(path.errors, testing::IsEmpty()) << "VM " << index + 1 << ", " << name;
            }
            EXPECT_GE(figures[index]["registers"].done, kLeast) << "VM " << index + 1;
            EXPECT_GE(figures[index]["queue"].done, kLeast) << "VM " << index + 1;
        }
    }

    void expect_order() {
        events_->stop();
        for (const auto& [pool, figures] : order_.pools()) {
            std::cout << OrderCheck::text(pool, figures) << "\n";
            EXPECT_EQ(figures.wrong_priority, 0U) << order_.first_violation();
            EXPECT_EQ(figures.wrong_arrival, 0U) << order_.first_violation();
            // Lost events in a flood leave some decisions unverified.
            EXPECT_TRUE(figures.contended >= kLeastContended || order_.lost() != 0)
                << "pool " << pool << ": too few decisions to prove anything";
        }
        EXPECT_EQ(order_.pools().size(), 2U);
        std::cout << order_.lost() << " events lost\n";
    }

    Fleet fleet_{{kSeven.begin(), kSeven.end()}};
    OrderCheck order_;
    std::optional<EventReader> events_;
};

TEST_F(SevenVms, ComputeAtOnceInTheOrderOfTheirPriorities) {
    work(fleet_.size());
    expect_order();
}

TEST_F(SevenVms, ComputeBesideAnAttacker) {
    Vm& attacker = fleet_.vm(kAttacker);
    // Runs until its VM ends.
    attacker.start("vgpu-attacker mixed 64 1000");
    ASSERT_TRUE(attacker.wait_for_output("attacking")) << attacker.log();
    work(kAttacker);
    expect_order();
}

}  // namespace
}  // namespace vgpu::test
