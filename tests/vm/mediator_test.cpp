// SPDX-License-Identifier: MIT
//
// Guests whose mediator starts late, dies, and restarts; and several guests on one mediator.
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>

#include "vm/fixture.h"

namespace vgpu::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Mediator : public VmTest {};
class SeveralVms : public VmTest {};

TEST_F(Mediator, MayComeAfterTheVm) {
    const auto vm = boot({stub("vm_id=3,pool_id=A,priority=low")});
    ASSERT_NE(vm, nullptr);
    const std::string info = expect_status(*vm, 1, "vgpu info");
    EXPECT_THAT(info, HasSubstr("VM id           3\n")) << "what the device knows is shown";
    EXPECT_THAT(info, HasSubstr("the device has no connection to a mediator"));
    const json sum = json::parse(expect_status(*vm, 1, "vgpu add 1 2 --json"));
    EXPECT_EQ(sum["error"]["code"], "mediator-unavailable");
    EXPECT_EQ(sum["error"]["number"], 3);
    for (const char* group : {"registers", "buffers", "doorbell", "interrupt"}) {
        expect_status(*vm, 0, std::string("vgpu selftest --only ") + group);
    }
    EXPECT_THAT(expect_status(*vm, 1, "vgpu selftest --only requests"),
                HasSubstr("the device has no connection to a mediator"));

    ASSERT_NO_FATAL_FAILURE(start_mediator());
    EXPECT_TRUE(succeeds_in_time(*vm, "vgpu add 1 2")) << vm->log();
    EXPECT_THAT(expect_status(*vm, 0, "vgpu add 100 200"), HasSubstr("100 + 200 = 300"));
}

TEST_F(Mediator, MayDieWithARequestUnderWay) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    expect_status(*vm, 0, store_address());
    for (const char* wait : {"poll", "interrupt"}) {
        EXPECT_TRUE(succeeds_in_time(*vm, "vgpu add 1 1"));
        // A stopped mediator never replies, so the device stays BUSY.
        mediator().signal(SIGSTOP);
        vm->start(std::string("vgpu add 5 6 --json --wait ") + wait + " & " + until_busy() +
                  "echo 'it is busy' > /dev/ttyS1; wait $!");
        ASSERT_TRUE(vm->wait_for_output("it is busy")) << vm->log();
        ASSERT_NO_FATAL_FAILURE(kill_mediator());
        const auto died = vm->finish();
        EXPECT_EQ(died.status, 1) << died.output;
        const json error = json::parse(died.output.substr(died.output.find('{')));
        EXPECT_EQ(error["error"]["code"], "mediator-unavailable") << wait;

        ASSERT_NO_FATAL_FAILURE(start_mediator());
        EXPECT_TRUE(succeeds_in_time(*vm, "vgpu add 5 6"));
        EXPECT_THAT(expect_status(*vm, 0, "vgpu add 7 8"), HasSubstr("7 + 8 = 15"));
    }
}

TEST_F(Mediator, MayDieWhileItServes) {
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const auto vm = boot({stub("vm_id=1")});
    ASSERT_NE(vm, nullptr);
    // More round trips than the test has time for; the header line shows that the run has started.
    vm->start("vgpu bench --op add -n 10000000 --wait poll");
    ASSERT_TRUE(vm->wait_for_output("waits by")) << vm->log();
    ASSERT_NO_FATAL_FAILURE(kill_mediator());
    const auto died = vm->finish();
    EXPECT_EQ(died.status, 1);
    EXPECT_THAT(died.output, HasSubstr("mediator-unavailable"));
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    EXPECT_TRUE(succeeds_in_time(*vm, "vgpu add 1 2"));
    EXPECT_THAT(expect_status(*vm, 0, "vgpu bench --op add -n 100 --wait poll"),
                HasSubstr("add         poll"));
}

// Three guests, three priorities, two pools, concurrently. `vgpu bench` checks every sum against
// operands of its own VM, so a misrouted reply fails it.
TEST_F(SeveralVms, EachGetItsOwnAnswers) {
    constexpr int kRoundTrips = 1000;
    constexpr int kWarmUp = 20;
    ASSERT_NO_FATAL_FAILURE(start_mediator());
    const std::array<std::string, 3> properties{"pool_id=A,priority=high,vm_id=1",
                                                "pool_id=A,priority=medium,vm_id=2",
                                                "pool_id=B,priority=low,vm_id=3"};
    std::vector<std::unique_ptr<Vm>> vms;
    vms.reserve(properties.size());
    for (const auto& one : properties) {
        vms.push_back(std::make_unique<Vm>(std::vector{stub(one)}));
    }
    for (const auto& vm : vms) {
        ASSERT_TRUE(vm->wait_ready()) << vm->log();
    }
    for (const auto& vm : vms) {
        vm->start("vgpu bench --op add --path registers --json --wait poll -n " +
                  std::to_string(kRoundTrips));
    }
    for (const auto& vm : vms) {
        const auto result = vm->finish(std::chrono::seconds(90));
        EXPECT_EQ(result.status, 0) << result.output;
        EXPECT_EQ(json::parse(result.output)["lines"][0]["n"], kRoundTrips);
    }
    const std::array<std::string, 3> pools{"A", "A", "B"};
    const std::array<std::string, 3> priorities{"high", "medium", "low"};
    for (std::size_t i = 0; i < vms.size(); ++i) {
        const json device = json::parse(expect_status(*vms[i], 0, "vgpu info --json"))["device"];
        EXPECT_EQ(device["pool"], pools[i]);
        EXPECT_EQ(device["priority"], priorities[i]);
        EXPECT_EQ(device["vm_id"], i + 1);
    }

    // The mediator's counters per VM: the round trips and one GET_DEVICE_INFO each.
    const std::size_t before = mediator().output().size();
    mediator().signal(SIGUSR1);
    ASSERT_TRUE(mediator().wait_for_output("\n  total", std::chrono::seconds(10), before));
    const std::string counters = mediator().output().substr(before);
    const int each = kRoundTrips + kWarmUp + 1;
    const std::map<std::string, int> expected{
        {"vm 1", each},   {"vm 2", each},      {"vm 3", each},        {"pool A", 2 * each},
        {"pool B", each}, {"prio high", each}, {"prio medium", each}, {"prio low", each}};
    for (const auto& [name, count] : expected) {
        const std::regex line("\n *" + name + " +([0-9]+)");
        std::smatch match;
        ASSERT_TRUE(std::regex_search(counters, match, line)) << name << " in\n" << counters;
        EXPECT_EQ(std::stoi(match[1]), count) << name;
    }
}

}  // namespace
}  // namespace vgpu::test
